//! What a device must not show yet: transactions in its vector that were more than five minutes ahead of its clock when they came.
//!
//! Written from `design.md` ("Clock") alone: from who wrote what and what the device's clock says, not from what the device says that it set aside. Two
//! things nobody but the device knows. Of a plain peer's operations, which belong to no transaction, it says itself what it kept. And a crash may undo a
//! release that was not saved.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_core::replica::{Params, Scope};
use rtc_battery_proto::{Dot as ProtoDot, ReplicaId, VersionVector};

use crate::history::{Dot, History, has};
use crate::oracle::{Op, RowKey, Value};
use crate::properties::{Check, Property, Violation};
use crate::room::Room;
use crate::workload::TABLES;

/// How far ahead a stamp may be, in milliseconds.
const TOLERANCE_MS: u64 = 300_000;

/// What a device has and must not show, each with the time of its newest operation.
#[derive(Debug, Default, Clone)]
pub struct Ahead(BTreeMap<Dot, u64>);

impl Ahead {
    /// Whether the transaction is not to be seen.
    #[must_use]
    pub fn hides(&self, dot: &Dot) -> bool {
        self.0.contains_key(dot)
    }

    /// Whether nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is not to be seen.
    #[must_use]
    pub fn vector(&self) -> VersionVector {
        let mut vector = VersionVector::default();
        for (origin, seq) in self.0.keys() {
            vector.insert(ProtoDot { origin: ReplicaId::new(origin).unwrap(), seq: *seq });
        }
        vector
    }

    /// The rows that hidden transactions are about. What these overwrote at their writer's may be gone for good, and is missing until they are shown.
    #[must_use]
    pub fn rows(&self, history: &History) -> BTreeSet<RowKey> {
        let hidden = self.0.keys().filter_map(|dot| history.transaction(dot)).flat_map(|hidden| &hidden.ops);
        hidden.filter_map(row).collect()
    }

    /// What is shown now that the clock says this.
    pub(crate) fn release(&mut self, wall_ms: u64) {
        self.0.retain(|_, newest_ms| is_ahead(*newest_ms, wall_ms));
    }

    /// What a crash has left.
    pub(crate) fn survive(&mut self, vector: &VersionVector) {
        self.0.retain(|dot, _| has(vector, dot));
    }
}

/// The row that an operation is about.
#[must_use]
pub fn row(op: &Op) -> Option<RowKey> {
    TABLES.iter().find(|table| table.name == op.table).map(|table| table.row_key(&op.pk))
}

fn is_ahead(newest_ms: u64, wall_ms: u64) -> bool {
    newest_ms > wall_ms + TOLERANCE_MS
}

impl Room {
    /// A device has taken in these transactions.
    pub(crate) fn look_for_ahead(&mut self, device: usize, new: &VersionVector) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        let wall_ms = self.net.now(host).wall_ms;
        let mut kept = None;
        for (origin, seqs) in new.iter() {
            for seq in seqs.iter().flat_map(|(first, last)| first..=last) {
                let dot = (origin.as_str().to_owned(), seq);
                let Some(transaction) = self.history.transaction(&dot) else { continue };
                let newest_ms = transaction.ops.iter().map(|op| op.clock.0).max().unwrap_or(0);
                let mut hidden = is_ahead(newest_ms, wall_ms);
                if transaction.adopted {
                    let adopted = transaction.adopted;
                    let kept = kept.get_or_insert_with(|| self.set_aside(host));
                    if kept.contains(&dot) && adopted && !hidden {
                        let what = format!("{} keeps back {dot:?} of {newest_ms}, at {wall_ms}", self.name_of(host));
                        return Err(Violation::new(Property::Clock, what));
                    }
                    hidden = kept.contains(&dot);
                }
                if hidden {
                    self.devices[device].ahead.0.insert(dot, newest_ms);
                }
            }
        }
        Ok(())
    }

    /// A device has started again: what it has not shown before the crash, or not for good.
    pub(crate) fn look_for_ahead_again(&mut self, device: usize) {
        let Some(host) = self.devices[device].host else { return };
        for dot in self.set_aside(host) {
            let ops = self.history.transaction(&dot).into_iter().flat_map(|transaction| &transaction.ops);
            let newest_ms = ops.map(|op| op.clock.0).max().unwrap_or(0);
            self.devices[device].ahead.0.insert(dot, newest_ms);
        }
    }

    /// What a device says that it has set aside.
    fn set_aside(&mut self, host: usize) -> BTreeSet<Dot> {
        let now = self.net.now(host);
        let sql = "SELECT DISTINCT node, seq FROM rtc_quarantine JOIN rtc_origins ON id = origin";
        let result = self.net.hosts[host].node.node().exec(sql, &Params::None, Scope::Synced, now).unwrap();
        let dot = |row: &Vec<rtc_battery_proto::SqlValue>| match (
            crate::history::value(&row[0]),
            crate::history::value(&row[1]),
        ) {
            (Value::Text(node), Value::Integer(seq)) => Some((String::from_utf8(node).ok()?, u64::try_from(seq).ok()?)),
            _ => None,
        };
        result.values.iter().filter_map(dot).collect()
    }

    /// Everybody's clock goes on until nothing that was written is ahead of anybody's.
    pub(crate) fn let_time_catch_up(&mut self) {
        let newest_ms = self.history.everything().map(|op| op.clock.0).max().unwrap_or(0);
        let walls = (0..self.net.hosts.len()).filter(|host| !self.net.hosts[*host].dead);
        let slowest_ms = walls.map(|host| self.net.now(host).wall_ms).min().unwrap_or(newest_ms);
        self.net.wall_ms += newest_ms.saturating_sub(slowest_ms);
    }
}
