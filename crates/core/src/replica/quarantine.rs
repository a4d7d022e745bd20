//! Transactions from the future: set aside, told to others like any other, and applied when time has caught up with them.
//!
//! A device whose clock is far ahead would win every register until the others catch up, and their clocks would follow it. So a transaction of which
//! something is stamped more than [`TOLERANCE_MS`] ahead of our wall clock is kept in `rtc_quarantine`: it is in the vector and in the log that others
//! are told, and shows nothing. Only the future is looked at, and only what others bring: a local write is never held up.
//!
//! Invariant: what is here is whole transactions, the clock has not seen them, and all of them together have at most [`MAX_BYTES`]. One that does not fit
//! is refused, and is not in the vector: who has it can be asked again when there is room.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_proto::{Dot, Operation, VersionVector};
use rusqlite::{Connection, params};

use super::clock::MAX_OPERATION_TS_MS;
use super::error::StorageError;
use super::log::rows;
use super::log::store::{self, Place};
use crate::planted::{Bug, planted};

/// How far ahead of the wall clock a stamp may be, in milliseconds.
pub(crate) const TOLERANCE_MS: u64 = 5 * 60_000;

/// What may be set aside, as JSON: nobody sees it, and whoever sends it need only lie about the time.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What is set aside, in sum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quarantine {
    bytes: u64,
    /// When the first of it is due, by the wall clock.
    due_ms: Option<u64>,
    /// When the first transaction that did not fit would not have to be set aside any more.
    retry_ms: Option<u64>,
}

/// What is to become of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Set aside until then.
    Aside(u64),
    /// Stamped beyond all time: nobody's.
    Beyond,
}

/// What a delta has that is not to be applied now.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) verdicts: BTreeMap<Dot, Verdict>,
    /// Transactions that do not fit. They are not here.
    pub(super) refused: VersionVector,
    /// How many those are.
    pub(super) refused_count: usize,
}

impl Quarantine {
    /// Looks at what is in the table.
    pub(super) fn open(connection: &Connection) -> Result<Self, StorageError> {
        if planted(Bug::QuarantineLost) {
            connection.execute_batch("DELETE FROM rtc_quarantine")?;
        }
        Self::count(connection)
    }

    /// Something of it was forgotten.
    pub(super) fn recount(&mut self, connection: &Connection) -> Result<(), StorageError> {
        *self = Self { retry_ms: self.retry_ms, ..Self::count(connection)? };
        Ok(())
    }

    fn count(connection: &Connection) -> Result<Self, StorageError> {
        let select = "SELECT coalesce(sum(octet_length(operation)), 0), min(until) FROM rtc_quarantine";
        let (bytes, due_ms) = connection.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self { bytes, due_ms, retry_ms: None })
    }

    /// When something has to be done, by the wall clock.
    pub(super) fn due_ms(self) -> Option<u64> {
        self.due_ms.into_iter().chain(self.retry_ms).min()
    }

    /// What did not fit is asked for again.
    pub(super) fn retried(&mut self) {
        self.retry_ms = None;
    }

    /// Whether nothing is set aside.
    pub(super) fn is_empty(self) -> bool {
        self.due_ms.is_none()
    }

    /// Looks for what of a delta is from the future.
    pub(super) fn judge(&mut self, operations: &[Operation], news: &VersionVector, wall_ms: u64) -> Judged {
        let latest_ms = wall_ms.saturating_add(TOLERANCE_MS).min(MAX_OPERATION_TS_MS);
        let mut judged = Judged::default();
        if operations.iter().all(|operation| newest_ms(operation) <= latest_ms) {
            return judged;
        }
        let mut ahead: BTreeMap<Dot, (u64, u64)> = BTreeMap::new();
        for operation in operations {
            if let Some((dot, ..)) = operation.place().filter(|(dot, ..)| news.contains(dot)) {
                let (newest, bytes) = ahead.entry(dot).or_default();
                *newest = newest_ms(operation).max(*newest);
                *bytes += size_bytes(operation);
            }
        }
        let mut free = MAX_BYTES.saturating_sub(self.bytes);
        for (dot, (newest, bytes)) in ahead {
            if newest > MAX_OPERATION_TS_MS {
                judged.verdicts.insert(dot, Verdict::Beyond);
            } else if newest > latest_ms && bytes <= free {
                free -= bytes;
                judged.verdicts.insert(dot, Verdict::Aside(newest - TOLERANCE_MS));
            } else if newest > latest_ms {
                let retry_ms = newest - TOLERANCE_MS;
                self.retry_ms = Some(self.retry_ms.map_or(retry_ms, |known| known.min(retry_ms)));
                judged.refused.insert(dot);
                judged.refused_count += 1;
            }
        }
        judged
    }

    /// An operation was set aside.
    fn grow(&mut self, bytes: usize, until_ms: u64) {
        self.bytes += bytes as u64;
        self.due_ms = Some(self.due_ms.map_or(until_ms, |due| due.min(until_ms)));
    }

    /// Sets an operation aside. `false` where the same one is set aside already, brought by another.
    pub(super) fn keep(
        &mut self,
        connection: &Connection,
        Place { tx, index }: Place,
        operation: &Operation,
        until_ms: u64,
    ) -> Result<bool, StorageError> {
        let hlc = operation.hlc.to_string();
        if operation.adopted.is_some() && is_kept(connection, &hlc, operation)? {
            return Ok(false);
        }
        let text = text(operation).ok_or(StorageError::Corrupt("an operation"))?;
        let mut insert = connection.prepare_cached("INSERT INTO rtc_quarantine VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        insert.execute(params![tx.origin, tx.seq, index, until_ms, hlc, text])?;
        self.grow(text.len(), until_ms);
        Ok(true)
    }

    /// Takes out what is due, and forgets that it was here. To be called in a transaction, which then applies it.
    pub(super) fn take_due(&mut self, connection: &Connection, wall_ms: u64) -> Result<Vec<Operation>, StorageError> {
        let due = "SELECT origin, seq, idx, operation FROM rtc_quarantine WHERE until <= ?1 ORDER BY origin, seq, idx";
        let mut select = connection.prepare(due)?;
        let rows = select.query_map([wall_ms], |row| Ok((rows::place(row)?.tx, row.get::<_, String>(3)?)))?;
        let (mut operations, mut transactions) = (Vec::new(), BTreeSet::new());
        for row in rows {
            let (tx, text) = row?;
            operations.push(parse(&text)?);
            transactions.insert(tx);
        }
        connection.execute("DELETE FROM rtc_quarantine WHERE until <= ?1", [wall_ms])?;
        for tx in transactions {
            store::forget_if_empty(connection, tx)?;
        }
        *self = Self::count(connection)?;
        Ok(operations)
    }
}

/// The newest stamp of an operation's transaction, as far as the operation tells, in milliseconds.
pub(super) fn newest_ms(operation: &Operation) -> u64 {
    let of_transaction = operation.tx.filter(|_| operation.adopted.is_none()).and_then(|extent| {
        let last = extent.first.checked_add(extent.n.saturating_sub(1).into())?;
        Some(last.ts)
    });
    operation.hlc.tick.ts.max(of_transaction.unwrap_or(0))
}

/// What a plain peer brings, by whether it can be applied now: such operations belong to no transaction. Those from the future are parted by their time,
/// so that none has to wait for another.
pub(super) fn part(operations: Vec<Operation>, wall_ms: u64) -> (Vec<Operation>, BTreeMap<u64, Vec<Operation>>) {
    let is_ahead = |operation: &Operation| {
        let ts = operation.hlc.tick.ts;
        ts > wall_ms.saturating_add(TOLERANCE_MS) && ts <= MAX_OPERATION_TS_MS
    };
    let (ahead, now): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_ahead);
    let mut by_time: BTreeMap<u64, Vec<Operation>> = BTreeMap::new();
    for operation in ahead {
        by_time.entry(operation.hlc.tick.ts).or_default().push(operation);
    }
    (now, by_time)
}

/// Whether an operation of this content is set aside, whoever brought it.
fn is_kept(connection: &Connection, hlc: &str, operation: &Operation) -> Result<bool, StorageError> {
    let mut select = connection.prepare_cached("SELECT operation FROM rtc_quarantine WHERE hlc = ?1")?;
    let texts = select.query_map([hlc], |row| row.get::<_, String>(0))?;
    // Who told it may know less of it: what is overwritten is left out.
    let is_part_of = |whole: &Operation| {
        let same = operation.kind == whole.kind && operation.table == whole.table && operation.pk == whole.pk;
        let mut written = operation.values.iter().flatten();
        same && written.all(|(name, value)| whole.values.as_ref().and_then(|values| values.get(name)) == Some(value))
    };
    for text in texts {
        if is_part_of(&parse(&text?)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parse(text: &str) -> Result<Operation, StorageError> {
    serde_json::from_str(text).map_err(|_| StorageError::Corrupt("rtc_quarantine.operation"))
}

/// What an operation is kept as. What it overwrote at its writer's decides nothing.
fn text(operation: &Operation) -> Option<String> {
    serde_json::to_string(&Operation { prev: None, ..operation.clone() }).ok()
}

fn size_bytes(operation: &Operation) -> u64 {
    text(operation).map_or(u64::MAX, |text| text.len() as u64)
}
