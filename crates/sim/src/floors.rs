//! What devices forget of deleted rows: no sooner than they may, and so that everybody shows the same.
//!
//! What a row shows that somebody wrote to without knowing that others had forgotten it is not the oracle's to say: who comes back after too long keeps its
//! edits, whatever the clocks say. Such a row is *contested*. Everybody must come to show the same of it, and all other rows must be what the oracle says.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_proto::{ReplicaId, VersionVector};

use crate::ahead::row;
use crate::history::{Dot, History, Transaction, has};
use crate::oracle::{Kind, Picture, RowKey};
use crate::properties::{Check, Property, Violation};
use crate::room::Room;
use crate::workload::TABLES;

/// What the devices of a room have forgotten.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    /// For how long deleted rows are remembered here, in milliseconds. Where nothing is said, for longer than rooms last.
    pub(crate) retention_ms: Option<u64>,
    /// All floors that there have been.
    raised: Vec<VersionVector>,
    contested: BTreeSet<RowKey>,
}

/// What a device has, since when by its wall clock.
#[derive(Debug, Default, Clone)]
pub(crate) struct Having {
    since: BTreeMap<Dot, u64>,
    floor: VersionVector,
}

impl Floors {
    /// Nothing is forgotten yet.
    pub(crate) fn new(retention_ms: Option<u64>) -> Self {
        Self { retention_ms, ..Self::default() }
    }

    /// Whether the oracle does not know what a row shows. Where rows want one value, one that is contested may hide any other of its table.
    pub(crate) fn is_contested(&self, row: &RowKey) -> bool {
        let shares = TABLES.iter().any(|table| table.name == row.0 && !table.unique.is_empty());
        self.contested.contains(row) || shares && self.contested.iter().any(|(table, _)| *table == row.0)
    }

    /// Whether somebody has forgotten what a transaction deleted, and so tells no newcomer of it: who has it by name only need not be after it.
    pub(crate) fn has_forgotten(&self, dot: &Dot) -> bool {
        self.raised.iter().any(|floor| has(floor, dot))
    }

    /// Whether any row is contested.
    pub(crate) fn any_contested(&self) -> bool {
        !self.contested.is_empty()
    }

    /// The rows of a picture of which the oracle knows what they show.
    pub(crate) fn sure(&self, picture: &Picture) -> Picture {
        picture
            .iter()
            .filter(|(row, _)| !self.is_contested(row))
            .map(|(row, shown)| (row.clone(), shown.clone()))
            .collect()
    }

    /// Somebody has written.
    pub(crate) fn note_written(&mut self, dot: &Dot, written: &Transaction, history: &History) {
        let Self { raised, contested, .. } = self;
        raised.iter().for_each(|floor| contest(contested, floor, (dot, written), history));
    }

    fn note_raised(&mut self, floor: &VersionVector, history: &History) {
        if self.raised.contains(floor) {
            return;
        }
        self.raised.push(floor.clone());
        for written in history.all() {
            contest(&mut self.contested, floor, written, history);
        }
    }
}

/// Rows that were deleted below the floor, and written to above it by who did not know. Also those that were updated above it: they had been inserted again before, and who has
/// forgotten what was older shows the UPDATE alone until it hears of that INSERT.
fn contest(
    contested: &mut BTreeSet<RowKey>,
    floor: &VersionVector,
    (dot, written): (&Dot, &Transaction),
    history: &History,
) {
    if has(floor, dot) {
        return;
    }
    for (op, row) in written.ops.iter().filter_map(|op| Some((op, row(op)?))) {
        let is_unsure = history.all().any(|(dot, other)| {
            let unsure = op.kind == Kind::Update || !has(&written.seen, dot);
            has(floor, dot) && unsure && other.ops.iter().any(|op| deletes(op, &row))
        });
        if is_unsure {
            contested.insert(row);
        }
    }
}

fn deletes(op: &crate::oracle::Op, deleted: &RowKey) -> bool {
    op.kind == Kind::Delete && row(op).as_ref() == Some(deleted)
}

impl Room {
    /// Whether what a device has forgotten was here for long enough, or another had forgotten it.
    pub(crate) fn look_at_floor(&mut self, device: usize) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        let Some(retention_ms) = self.floors.retention_ms else { return Ok(()) };
        let (wall_ms, replica) = (self.net.now(host).wall_ms, self.net.hosts[host].node.replica());
        let (vector, floor) = (replica.vector().clone(), replica.floor().vector.clone());
        let name = self.devices[device].name.clone();
        if !vector.covers(&floor) {
            return Err(Violation::new(
                Property::Forgetting,
                format!("{name} has not what it has forgotten: {floor:?}"),
            ));
        }
        let having = &mut self.devices[device].having;
        having.since.retain(|dot, _| has(&vector, dot));
        // A clock that was put back notes again what it has.
        having.since.values_mut().for_each(|since_ms| *since_ms = wall_ms.min(*since_ms));
        for dot in dots(&vector) {
            having.since.entry(dot).or_insert(wall_ms);
        }
        let new = floor.minus(&having.floor);
        having.floor = floor.clone();
        if new.is_empty() {
            return Ok(());
        }
        for dot in dots(&new) {
            let since_ms = self.devices[device].having.since.get(&dot).copied().unwrap_or(u64::MAX);
            let is_old = since_ms.saturating_add(retention_ms) <= wall_ms;
            if !is_old && !self.floors.raised.iter().any(|floor| has(floor, &dot)) {
                let what = format!("{name} has had {dot:?} since {since_ms}, and forgets what it deleted at {wall_ms}");
                return Err(Violation::new(Property::Forgetting, what));
            }
        }
        self.net.trace.note(self.net.now_ms, || format!("{name} forgets up to {floor:?}"));
        self.floors.note_raised(&floor, &self.history);
        Ok(())
    }

    /// Everybody has everything: now they come to have one floor, and one content.
    pub(crate) fn forget_together(&mut self, within_ms: u64) -> Check {
        let deadline_ms = self.net.now_ms + within_ms;
        while !self.has_one_floor() {
            if !self.net.step(deadline_ms) {
                let what = format!("no one floor within {within_ms} ms:\n{}", self.net.picture());
                return Err(Violation::new(Property::Convergence, what));
            }
            self.look_at_touched()?;
        }
        Ok(())
    }

    fn has_one_floor(&self) -> bool {
        let replicas = self.devices.iter().filter_map(|device| Some(self.net.hosts[device.host?].node.replica()));
        let kept = replicas.map(|replica| (replica.vector(), replica.floor(), replica.digest().unwrap()));
        let mut kept = kept.collect::<Vec<_>>().into_iter();
        let first = kept.next();
        kept.all(|other| Some(other) == first)
    }

    /// The floors of all devices.
    pub(crate) fn floor_vectors(&self) -> Vec<VersionVector> {
        let replicas = self.devices.iter().filter_map(|device| Some(self.net.hosts[device.host?].node.replica()));
        replicas.map(|replica| replica.floor().vector.clone()).collect()
    }
}

fn dots(vector: &VersionVector) -> Vec<Dot> {
    let of = |(origin, seqs): (&ReplicaId, &rtc_battery_proto::SeqRanges)| {
        seqs.iter()
            .flat_map(|(first, last)| first..=last)
            .map(|seq| (origin.as_str().to_owned(), seq))
            .collect::<Vec<_>>()
    };
    vector.iter().flat_map(of).collect()
}
