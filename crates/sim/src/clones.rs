//! Disks that are copied, and disks that are put back to an older state.
//!
//! Who opens a copy knows that it is one, and takes a new id before anybody writes. A backup that is put back knows nothing: its peers know more of it than it does
//! itself, so its user is let write again only once it has found that out. It is put back only while everything of it is safe at others', so that nothing
//! is lost by it, and comes back when everything is mended, to a room without plain peers: to take in what a plain peer says is to write, and whoever meets one
//! first cannot know yet. What must not happen is that two transactions come to have one name.

use rtc_battery_proto::{ReplicaId, VersionVector};

use crate::chaos::Mend;
use crate::device::Device;
use crate::net::{Fate, Fault};
use crate::properties::{Check, Property, Violation};
use crate::room::Room;

/// Beyond the end of all trouble, in milliseconds.
const UNTIL_MENDED_MS: u64 = 1_000_000_000;

impl Room {
    /// A device's disk is copied to a new device.
    pub(crate) fn copy_disk(&mut self, host: usize) -> Check {
        let Some(backup) = self.net.hosts[host].disk.as_ref().map(|disk| disk.back_up()) else { return Ok(()) };
        let device = self.add_device(backup.restore());
        // What it has, it has had for as long as its original, and has not shown either.
        if let Some(of) = self.device_of(host) {
            let Device { having, ahead, .. } = &self.devices[of];
            (self.devices[device].having, self.devices[device].ahead) = (having.clone(), ahead.clone());
        }
        self.net.faults.count(Fault::Copied);
        let (from, name) = (self.name_of(host), self.devices[device].name.clone());
        self.net.trace.note(self.net.now_ms, || format!("{name} gets a copy of the disk of {from}"));
        self.restart(device)
    }

    /// A device's disk is put back to what it was when this was called for last, or only backed up.
    pub(crate) fn put_back(&mut self, host: usize) -> Check {
        let Some(device) = self.device_of(host) else { return Ok(()) };
        let backup = match &self.backup {
            Some((of, backup)) if *of == device => backup.clone(),
            Some(_) => return Ok(()),
            None => {
                let backup = self.net.hosts[host].disk.as_ref().map(|disk| disk.back_up());
                self.backup = backup.map(|backup| (device, backup));
                return Ok(());
            }
        };
        if self.was_put_back || !self.plains.is_empty() || !self.is_safe_at_others(device, host) {
            return Ok(());
        }
        self.was_put_back = true;
        let own = self.own_vector(device, host);
        self.crash(device, Fate::Lost)?;
        self.devices[device].put_back(backup.restore());
        self.devices[device].before = own;
        self.broken(Fault::PutBack, UNTIL_MENDED_MS, Mend::Restart(device));
        Ok(())
    }

    /// What a device has under its own ids.
    fn own_vector(&self, device: usize, host: usize) -> VersionVector {
        let vector = self.net.hosts[host].node.replica().vector();
        let mut own = VersionVector::default();
        for id in &self.devices[device].ids {
            if let Some(seqs) = vector.origin(id) {
                own.replace_origin(id.clone(), seqs.clone());
            }
        }
        own
    }

    /// Whether others have all that a device wrote, and will not lose it.
    fn is_safe_at_others(&self, device: usize, host: usize) -> bool {
        let others = self.devices.iter().filter_map(|device| device.host).filter(|other| *other != host);
        let mut theirs = VersionVector::default();
        for other in others.filter(|other| self.net.hosts[*other].is_saved()) {
            theirs.merge(self.net.hosts[other].node.replica().vector());
        }
        theirs.covers(&self.own_vector(device, host)) && self.net.hosts[host].is_saved()
    }

    /// A device starts with a disk that was put back, on which is what it has now.
    pub(crate) fn look_what_is_missing(&mut self, device: usize, found: &VersionVector) {
        let last = |vector: &VersionVector, id: &ReplicaId| vector.origin(id).and_then(|own| own.last());
        let before = &mut self.devices[device].before;
        if before.iter().all(|(id, _)| last(found, id) >= last(before, id)) {
            *before = VersionVector::default();
        }
    }

    /// Whether others know more of that id than the device did when its disk was put back.
    pub(crate) fn is_closed(&self, device: usize, id: &ReplicaId) -> bool {
        self.devices[device].before.origin(id).is_some()
    }

    /// Whether a device must not write: it has not found out yet.
    pub(crate) fn is_mute(&self, device: usize) -> bool {
        self.devices[device].host.is_some_and(|host| self.is_closed(device, self.net.hosts[host].node.replica().id()))
    }

    /// Everyone has met everyone: who was put back is another by now, unless nothing was missing.
    pub(crate) fn parted(&self, device: usize) -> Check {
        if !self.is_mute(device) {
            return Ok(());
        }
        let what = format!("{} goes on under an id of which others know more", self.devices[device].name);
        Err(Violation::new(Property::Dots, what))
    }
}
