//! A device is a database and whoever has it open: it comes, crashes and starts again, and after a crash it is another host, with the same disk.

use std::collections::{BTreeSet, VecDeque};

use rtc_battery_core::node::Node;
use rtc_battery_core::replica::Replica;
use rtc_battery_proto::{Dot, ReplicaId, VersionVector};

use crate::ahead::Ahead;
use crate::chaos::Mend;
use crate::floors::Having;
use crate::net::{Disk, Fate, Fault, Host, HostClock, Member};
use crate::oracle::Picture;
use crate::properties::{Check, Property, Violation};
use crate::room::Room;

/// A database, and the process that has it open.
#[derive(Debug, Default)]
pub struct Device {
    /// Its replica's name.
    pub name: String,
    /// Its host, unless it has crashed.
    pub host: Option<usize>,
    /// Its disk, while nobody has it open.
    left: Option<(Disk, rusqlite::Connection)>,
    /// Whether what is left is older than what there was.
    is_put_back: bool,
    /// Whether its user left the room.
    pub away: bool,
    pub(crate) program: VecDeque<String>,
    /// How far its wall clock is ahead, while it is off.
    ahead_ms: i64,
    pub(crate) seen: Seen,
    /// What it has and must not show yet.
    pub(crate) ahead: Ahead,
    pub(crate) having: Having,
    /// The ids that its database has had.
    pub(crate) ids: BTreeSet<ReplicaId>,
    /// What it had written before its disk was put back to an older state, where that has not all of it.
    pub(crate) before: VersionVector,
}

/// What a database was when it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) version: u64,
    pub(crate) vector: VersionVector,
    pub(crate) commits: u64,
    pub(crate) notes: u64,
    pub(crate) picture: Picture,
}

impl Device {
    /// While it is off, its disk is put back to this.
    pub(crate) fn put_back(&mut self, older: (Disk, rusqlite::Connection)) {
        (self.left, self.is_put_back) = (Some(older), true);
    }
}

impl Room {
    /// Somebody new comes, with an empty database.
    pub(crate) fn join(&mut self) {
        let device = self.add_device(Disk::new());
        self.open(device);
        let host = self.net.hosts.len() - 1;
        if self.random.happens(self.rates.clocks_off) {
            self.net.hosts[host].clock.ahead_ms = self.random.between((0, 6 * 3_600_000)) as i64 - 3 * 3_600_000;
            self.net.faults.count(Fault::ClockOff);
        }
        // Newcomers find the tables, or make them before they have met anybody.
        let creates = self.devices.len() == 1 || self.random.happens(700);
        let program = self.creates().into_iter().filter(|_| creates).map(str::to_owned).collect();
        self.devices[device].program = program;
        if !self.random.happens(100) || self.devices.len() <= 2 {
            self.net.connect(host);
        } else {
            self.devices[device].away = true;
            self.mend_count += 1;
            let back_ms = self.net.now_ms + self.random.between((1_000, 60_000));
            self.mends.insert((back_ms, self.mend_count), Mend::Rejoin(device));
        }
    }

    /// Another device, which is off, with this disk.
    pub(crate) fn add_device(&mut self, left: (Disk, rusqlite::Connection)) -> usize {
        let name = format!("r{}", self.devices.len());
        self.devices.push(Device { name, left: Some(left), ..Device::default() });
        self.devices.len() - 1
    }

    /// Opens a device's database, in a process of its own.
    fn open(&mut self, device: usize) -> Option<usize> {
        let (disk, connection) = self.devices[device].left.take()?;
        let id = ReplicaId::new(&self.devices[device].name).unwrap();
        let mut replica = Replica::open(connection, "room", &id).unwrap();
        if !self.devices[device].ids.contains(replica.id()) {
            // A copy has the id of its original, and has it again where a crash lost that it took another.
            replica.take_new_id(&id).unwrap();
        }
        self.devices[device].ids.insert(replica.id().clone());
        let clock = HostClock { mono_zero_ms: self.net.now_ms, ahead_ms: self.devices[device].ahead_ms };
        let now = clock.read(self.net.wall_ms + self.net.now_ms, self.net.now_ms);
        let mut node = Node::new(self.net.config(), replica, now);
        self.floors.retention_ms.iter().for_each(|retention_ms| node.remember_deleted_for(*retention_ms));
        let mut opened = Host::new(Member::Node(Box::new(node)));
        self.devices[device].seen = Seen { version: opened.node.version(), commits: disk.commits(), ..Seen::default() };
        (opened.disk, opened.clock) = (Some(disk), clock);
        let host = self.net.add_host(opened);
        self.devices[device].host = Some(host);
        self.net.trace.note(self.net.now_ms, || format!("{} is host {host}", self.devices[device].name));
        Some(host)
    }

    /// The power goes at a device.
    pub(crate) fn crash(&mut self, device: usize, fate: Fate) -> Check {
        let Some(host) = self.devices[device].host.take() else { return Ok(()) };
        self.net.kill(host);
        self.devices[device].ahead_ms = self.net.hosts[host].clock.ahead_ms;
        let disk = self.net.hosts[host].disk.take();
        self.devices[device].left = disk.map(|disk| disk.crash(fate));
        self.devices[device].program.clear();
        self.net.trace.note(self.net.now_ms, || format!("{} crashes, unsaved: {fate:?}", self.devices[device].name));
        Ok(())
    }

    /// The device starts again: what was acknowledged is there, and what is not there nobody has heard of.
    pub(crate) fn restart(&mut self, device: usize) -> Check {
        let Some(host) = self.open(device) else { return Ok(()) };
        let replica = self.net.hosts[host].node.replica();
        let (vector, version) = (replica.vector().clone(), replica.version());
        let was_put_back = std::mem::take(&mut self.devices[device].is_put_back);
        if was_put_back {
            self.look_what_is_missing(device, &vector);
        } else {
            self.lose_what_is_not_in(device, &vector)?;
        }
        self.devices[device].ahead.survive(&vector);
        self.look_for_ahead_again(device);
        let device_name = self.devices[device].name.clone();
        let ids = self.devices[device].ids.iter().filter(|id| !self.is_closed(device, id));
        let own = ids.flat_map(|id| self.history.of(id.as_str())).filter(|(_, own)| own.acknowledged);
        let told = own.map(|(_, own)| own.version).max().unwrap_or_default();
        if version < told && !was_put_back {
            let what = format!("{device_name} had told version {told}, and has {version} after its restart");
            return Err(Violation::new(Property::Version, what));
        }
        self.devices[device].seen.vector = vector;
        // What is due meanwhile is shown, and told again if others have forgotten it.
        self.net.poll(host);
        for committed in &self.committed_since(device) {
            self.look_at_merged(device, committed)?;
        }
        let commits = self.net.hosts[host].disk.as_ref().map_or(0, Disk::commits);
        let seen = &mut self.devices[device].seen;
        (seen.version, seen.commits) = (self.net.hosts[host].node.version(), commits);
        seen.notes = self.net.hosts[host].node.replica().notes();
        self.look_again(device)?;
        if !self.devices[device].away {
            self.net.connect(host);
        }
        Ok(())
    }

    fn lose_what_is_not_in(&mut self, device: usize, vector: &VersionVector) -> Check {
        let name = self.devices[device].name.clone();
        let ids = self.devices[device].ids.iter().filter(|id| !self.is_closed(device, id));
        let own = ids.flat_map(|id| self.history.of(id.as_str()));
        let lost: Vec<_> = own.map(|(dot, own)| (dot.clone(), own.acknowledged)).collect();
        for (dot, acknowledged) in lost {
            let proto = Dot { origin: ReplicaId::new(&dot.0).unwrap(), seq: dot.1 };
            if vector.contains(&proto) {
                continue;
            }
            if acknowledged {
                let what = format!("{name} was told that its transaction {} is saved, and lost it", dot.1);
                return Err(Violation::new(Property::Durability, what));
            }
            let knows = |host: &&usize| {
                let node = &self.net.hosts[**host].node;
                node.has_replica() && node.replica().vector().contains(&proto)
            };
            if let Some(host) = self.living().iter().find(knows) {
                let what =
                    format!("{} knows transaction {} of {name}, which was never saved", self.name_of(*host), dot.1);
                return Err(Violation::new(Property::SavedBeforeTold, what));
            }
            self.net.trace.note(self.net.now_ms, || format!("{name} has lost its transaction {}", dot.1));
            self.history.lose(&dot);
            // Its dot will be given again.
            self.digests.clear();
        }
        Ok(())
    }
}
