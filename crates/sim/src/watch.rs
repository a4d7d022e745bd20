//! Looks at a device in the very step in which something happened to it: what it committed, what a reader of its database sees, what its version
//! is, and whether all that can be.

use rtc_battery_core::replica::Committed;
use rtc_battery_proto::{ReplicaId, SeqRanges, VersionVector};

use crate::device::Device;
use crate::history::{Transaction, op};
use crate::net::{Disk, Fault};
use crate::oracle::Op;
use crate::properties::{self, Check, Property, Violation, look};
use crate::room::Room;

/// Who says nothing for two seconds is taken for a plain peer, and these keep people silent.
const SILENT: [Fault; 9] = [
    Fault::Delay,
    Fault::RelayOnly,
    Fault::Split,
    Fault::OneWay,
    Fault::Flapping,
    Fault::Pause,
    Fault::Sleep,
    Fault::SlowReceiver,
    Fault::SlowStorage,
];

impl Room {
    pub(crate) fn look_at_touched(&mut self) -> Check {
        for host in self.net.take_touched() {
            if let Some(device) = self.device_of(host) {
                self.look(device)?;
            }
        }
        match self.net.disturbed.pop() {
            Some((host, what)) => Err(Violation::new(Property::OldLink, format!("{}: {what}", self.name_of(host)))),
            None => Ok(()),
        }
    }

    /// What a device has committed since it was last looked at.
    pub(crate) fn committed_since(&self, device: usize) -> Vec<Committed> {
        let Device { host: Some(host), seen, .. } = &self.devices[device] else { return Vec::new() };
        let committed = self.net.hosts[*host].node.replica().committed();
        committed.filter(|committed| committed.version > seen.version).cloned().collect()
    }

    /// A device's own transaction becomes history.
    pub(crate) fn remember(&mut self, device: usize, committed: &Committed, ops: Vec<Op>, adopted: bool) -> Check {
        let name = self.devices[device].name.clone();
        let dots: Vec<u64> =
            committed.covers.iter().flat_map(|(_, ranges)| ranges.iter()).flat_map(|(a, b)| a..=b).collect();
        let mut origins = committed.covers.iter().map(|(origin, _)| origin.clone());
        let own = origins.next().filter(|own| self.devices[device].ids.contains(own) && origins.next().is_none());
        let ([seq], Some(own)) = (dots.as_slice(), own) else {
            let what = format!("{name} sealed a transaction as {:?}", committed.covers);
            return Err(Violation::new(Property::Dots, what));
        };
        let (at_ms, version) = (self.net.now_ms, committed.version);
        let Device { seen, ahead, .. } = &self.devices[device];
        let seen = seen.vector.minus(&ahead.vector());
        let (dot, acknowledged) = ((own.as_str().to_owned(), *seq), false);
        let transaction = Transaction { ops, at_ms, version, acknowledged, adopted, seen };
        self.floors.note_written(&dot, &transaction, &self.history);
        if !self.history.add(dot, transaction) {
            let what = format!("{name} gave the dot or a clock value of its transaction {seq} before");
            return Err(Violation::new(Property::Dots, what));
        }
        Ok(())
    }

    /// Looks at a device after something happened to it that its user did not do.
    pub(crate) fn look(&mut self, device: usize) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        let name = self.devices[device].name.clone();
        self.devices[device].ids.insert(self.net.hosts[host].node.replica().id().clone());
        for id in &self.devices[device].ids {
            self.history.acknowledge(id.as_str(), self.net.hosts[host].saved_version);
        }
        let (version, seen) = (self.net.hosts[host].node.version(), self.devices[device].seen.version);
        if version < seen {
            return Err(Violation::new(Property::Version, format!("{name} had version {seen} and has {version}")));
        }
        let commits = self.net.hosts[host].disk.as_ref().map_or(0, Disk::commits);
        let (new_commits, merged) = (commits - self.devices[device].seen.commits, self.committed_since(device));
        if version == seen && new_commits == 0 {
            return Ok(());
        }
        let notes = self.net.hosts[host].node.replica().notes();
        let new_notes = notes - self.devices[device].seen.notes;
        self.devices[device].seen.notes = notes;
        if new_commits > merged.len() as u64 + new_notes {
            let what = format!("{name} merged {} transactions or deltas in {new_commits} commits", merged.len());
            return Err(Violation::new(Property::WholeTransactions, what));
        }
        for committed in &merged {
            self.look_at_merged(device, committed)?;
        }
        self.devices[device].seen.version = version;
        self.devices[device].seen.commits = commits;
        self.look_again(device)
    }

    /// What a merge brought is new here, and somebody wrote it.
    pub(crate) fn look_at_merged(&mut self, device: usize, committed: &Committed) -> Check {
        let name = self.devices[device].name.clone();
        let seen = &self.devices[device].seen.vector;
        let new = committed.covers.minus(seen);
        if new != committed.covers {
            let what = format!("{name} had of {:?} already what {:?} does not say", committed.covers, new);
            return Err(Violation::new(Property::AppliedOnce, what));
        }
        let operations = committed.operations.iter().flatten();
        // What others know of a disk that was put back is theirs to tell.
        let is_known = |(origin, seqs): (&ReplicaId, &SeqRanges)| {
            let first = seqs.iter().next().map_or(0, |(first, _)| first);
            self.history.transaction(&(origin.as_str().to_owned(), first)).is_some()
        };
        let mut own = VersionVector::default();
        for (origin, seqs) in committed.covers.iter() {
            if self.devices[device].ids.contains(origin) && !is_known((origin, seqs)) {
                own.replace_origin(origin.clone(), seqs.clone());
            }
        }
        if !own.is_empty() && committed.operations.is_none() {
            // What others have forgotten is told again, or what was written in the future.
            let ops = self.told_again(device, &own);
            self.look_at_withdrawn(device, &ops)?;
            let committed = Committed { covers: own, operations: None, version: committed.version };
            self.remember(device, &committed, ops, true)?;
        } else if !own.is_empty() {
            let ops: Vec<Op> = operations.map(op).collect();
            // What is adopted comes from a plain peer, which wrote it itself or passes it on, or from one that was taken for one.
            let plain = self.may_be_taken_for_plain();
            let written = |op: &&Op| plain && self.history.is_written(op);
            if let Some(op) = ops.iter().find(|op| !written(op)) {
                let what = format!("{name} wrote by itself what no user and no plain peer wrote: {op:?}");
                return Err(Violation::new(Property::Echo, what));
            }
            self.remember(device, committed, ops, true)?;
        } else {
            for operation in operations {
                let Some((dot, ..)) = operation.place() else { continue };
                let told = op(operation);
                let written = self.history.transaction(&(dot.origin.as_str().to_owned(), dot.seq));
                let is_written = |written: &Transaction| {
                    written.ops.iter().any(|written| told.is_part_of(written))
                        // Who adopted it may not have known all of it: it is told with the columns that its writer's own dot brought.
                        || written.adopted && written.ops.iter().any(|op| op.clock == told.clock) && self.history.is_written(&told)
                };
                if !written.is_some_and(is_written) {
                    let what = format!("{name} took in {told:?} as of transaction {dot:?}, which nobody wrote there");
                    return Err(Violation::new(Property::Echo, what));
                }
            }
        }
        self.look_for_ahead(device, &new)?;
        let covers = committed.covers.clone();
        self.devices[device].seen.vector.merge(&covers);
        Ok(())
    }

    /// What a device tells again at its time is what it withdraws, and it sets aside what others wrote in the future.
    fn look_at_withdrawn(&mut self, device: usize, ops: &[Op]) -> Check {
        let Some((void, told)) = ops.split_first().and_then(|(first, told)| Some((first.withdraws()?, told))) else {
            return Ok(());
        };
        // Tables of others that are from the future are needed now.
        let of_tables = |op: &&Op| void.has(op) || op.table == "rtc_schema";
        let withdrawn: Vec<&Op> = self.history.everything().filter(of_tables).collect();
        let is_withdrawn = |told: &Op| {
            withdrawn.iter().any(|written| Op { clock: written.clock.clone(), ..told.clone() }.is_part_of(written))
        };
        if let Some(op) = told.iter().find(|op| !is_withdrawn(op)) {
            let what = format!("{} tells again what it had not written: {op:?}", self.devices[device].name);
            return Err(Violation::new(Property::Echo, what));
        }
        self.net.faults.count(Fault::SteppedBack);
        self.look_for_ahead_again(device);
        Ok(())
    }

    /// The operations of a device's transaction, as its log has them.
    fn told_again(&self, device: usize, own: &VersionVector) -> Vec<Op> {
        let Some(host) = self.devices[device].host else { return Vec::new() };
        let replica = self.net.hosts[host].node.replica();
        let mut reader = replica.delta(&replica.vector().minus(own)).unwrap();
        let mut ops = Vec::new();
        loop {
            let part = replica.read_delta(&mut reader, usize::MAX).unwrap();
            ops.extend(part.operations.iter().map(op));
            if part.end.is_some() {
                return ops;
            }
        }
    }

    pub(crate) fn may_be_taken_for_plain(&self) -> bool {
        !self.plains.is_empty() || SILENT.iter().any(|fault| self.net.faults.of(*fault) > 0)
    }

    /// What a reader of a device's database sees is the fold of whole transactions.
    pub(crate) fn look_again(&mut self, device: usize) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        if self.is_in_transaction(device) {
            return Ok(());
        }
        let now = self.net.now(host);
        self.devices[device].ahead.release(now.wall_ms);
        let shown = look(self.net.hosts[host].node.node(), now);
        let vector = self.net.hosts[host].node.replica().vector().clone();
        let name = self.devices[device].name.clone();
        for (origin, ranges) in vector.iter() {
            let unknown = |seq: &u64| self.history.transaction(&(origin.as_str().to_owned(), *seq)).is_none();
            if let Some(seq) = ranges.iter().flat_map(|(first, last)| first..=last).find(unknown) {
                let what =
                    format!("{name} knows transaction {seq} of {origin}, which nobody committed or which was lost");
                return Err(Violation::new(Property::SavedBeforeTold, what));
            }
        }
        self.look_at_floor(device)?;
        let unsure = (&self.devices[device].ahead, &self.floors);
        properties::whole_transactions(&name, &shown, &vector, &self.history, unsure)?;
        self.compare_registers(device, &vector)?;
        self.devices[device].seen.picture = shown.0;
        self.devices[device].seen.vector = vector;
        Ok(())
    }

    /// Whether what one has is told by its transactions. Not where rows are contested, or something was withdrawn that one had applied and another had not: that is so
    /// only in the end.
    pub(crate) fn is_one_content(&self) -> bool {
        !self.floors.any_contested() && self.history.void().is_empty()
    }

    /// Who has the same transactions has the same registers, and so the same digest.
    fn compare_registers(&mut self, device: usize, vector: &VersionVector) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        let replica = self.net.hosts[host].node.replica();
        let Some(digest) = replica.digest().unwrap().filter(|_| self.is_one_content()) else { return Ok(()) };
        let kept = format!("{vector:?} {:?}", replica.floor().vector);
        let (name, digest) = (self.devices[device].name.clone(), digest.to_string());
        let (known, whose) = self.digests.entry(kept).or_insert((digest.clone(), name.clone()));
        if *known == digest {
            return Ok(());
        }
        let what = format!("{name} has the transactions of {whose} and other registers: {digest}, not {known}");
        Err(Violation::new(Property::Registers, what))
    }
}
