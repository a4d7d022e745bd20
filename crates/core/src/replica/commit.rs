//! Makes a transaction of what was touched: the difference between each row's first old image and what is there at COMMIT.
//!
//! Runs inside the user's SQLite transaction, just before its COMMIT, so rows and log commit or vanish together. Nothing in memory changes here:
//! what the commit means for clock, vector and version is in [`Sealed`], which is adopted only after SQLite has committed.

use std::sync::Arc;

use rtc_battery_proto::{Columns, Dot, Hlc, Operation, OperationKind, ReplicaId, SqlValue, Tick, TransactionExtent};
use rusqlite::Connection;

use super::capture::{Slot, Touched, TouchedRows};
use super::error::StorageError;
use super::query::SqlError;
use super::record::Recorder;
use super::rows;
use super::schema::Tables;
use super::store::{self, Origins, Place, Tx};
use super::table::Table;

/// What a change weighs at least, in bytes.
const MIN_CHANGE_BYTES: usize = 64;

/// One change of one row.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) table: Arc<Table>,
    pub(super) kind: OperationKind,
    /// Where the row stands in the table, or stood.
    pub(super) slot: Slot,
    pub(super) old: Option<Vec<SqlValue>>,
    pub(super) new: New,
}

/// The row after the transaction.
#[derive(Debug)]
pub(super) enum New {
    Gone,
    Row(Vec<SqlValue>),
    /// It is there, whole and under a key of its own; what it holds was not read.
    Unread,
}

impl New {
    pub(super) fn is_unread(&self) -> bool {
        matches!(self, Self::Unread)
    }
}

/// A transaction that is written and waits for SQLite's COMMIT.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) dot: Dot,
    /// The clock after it.
    pub(super) last: Tick,
    /// Its operations, if they are few.
    pub(super) operations: Option<Vec<Operation>>,
}

/// What touched rows amount to. DELETEs come first, so that a key that moved to another row is inserted after it was deleted. Where the
/// operations will weigh more than `at_hand_bytes` anyway, rows that were only inserted are not read.
pub(super) fn changes(
    connection: &Connection,
    tables: &Tables,
    touched: &TouchedRows,
    at_hand_bytes: usize,
) -> Result<Vec<Change>, CommitError> {
    let (mut deletes, mut others) = (Vec::new(), Vec::new());
    let unread = !touched.undone && touched.rows.len() > at_hand_bytes / MIN_CHANGE_BYTES;
    for ((table, slot), Touched { old, deleted, stands }) in &touched.rows {
        // A table that the transaction created and dropped again.
        let Some(table) = tables.by_id(*table) else { continue };
        let change = |kind, old, new| Change { table: Arc::clone(table), kind, slot: slot.clone(), old, new };
        if unread && *stands && old.is_none() {
            others.push(change(OperationKind::Insert, None, New::Unread));
            continue;
        }
        let new = rows::read(connection, table, slot)?;
        match (old, new) {
            (None, None) => {}
            (None, Some(new)) => {
                require_key(table, &new)?;
                others.push(change(OperationKind::Insert, None, New::Row(new)));
            }
            (Some(old), None) => deletes.push(change(OperationKind::Delete, Some(old.clone()), New::Gone)),
            (Some(old), Some(new)) if deleted.is_some() && *old != new || !same_key(table, old, &new) => {
                require_key(table, &new)?;
                deletes.push(change(OperationKind::Delete, Some(old.clone()), New::Gone));
                others.push(change(OperationKind::Insert, None, New::Row(new)));
            }
            (Some(old), Some(new)) if *old != new => {
                require_key(table, &new)?;
                others.push(change(OperationKind::Update, Some(old.clone()), New::Row(new)));
            }
            (Some(_), Some(_)) => {}
        }
    }
    deletes.append(&mut others);
    Ok(deletes)
}

/// Whether two images are of the row of one key.
fn same_key(table: &Table, old: &[SqlValue], new: &[SqlValue]) -> bool {
    table.key.iter().all(|column| old[*column] == new[*column]) || table.key_of_row(old) == table.key_of_row(new)
}

/// A row without a key is the user's error.
fn require_key(table: &Table, row: &[SqlValue]) -> Result<(), CommitError> {
    if table.key.iter().all(|column| row[*column] != SqlValue::Null) {
        return Ok(());
    }
    let message = format!("NULL in the primary key of table {}: a row without a key cannot be replicated", table.name);
    Err(CommitError::Sql(SqlError { message, code: rusqlite::ffi::SQLITE_CONSTRAINT_NOTNULL }))
}

/// Why a transaction cannot be committed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// The user's doing.
    Sql(SqlError),
    Storage(StorageError),
}

impl From<StorageError> for CommitError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Change {
    /// The row after the change, where it is there and was read.
    pub(super) fn new_row(&self) -> Option<&[SqlValue]> {
        match &self.new {
            New::Row(row) => Some(row),
            New::Gone | New::Unread => None,
        }
    }

    /// The row after the change, or, where it is gone, before.
    fn row(&self) -> &[SqlValue] {
        self.new_row().or(self.old.as_deref()).unwrap_or_default()
    }

    /// The columns that the operation carries.
    pub(super) fn written(&self) -> Vec<usize> {
        let Some(new) = self.new_row() else { return Vec::new() };
        let changed = |column: &usize| self.old.as_ref().is_none_or(|old| old[*column] != new[*column]);
        (0..new.len()).filter(changed).collect()
    }

    /// The operation in the specification's shape.
    fn operation(&self, hlc: Hlc, seq: u64, extent: TransactionExtent) -> Operation {
        let names = |columns: &[usize], row: &[SqlValue]| -> Columns {
            columns.iter().map(|column| (self.table.columns[*column].name.clone(), row[*column].clone())).collect()
        };
        let written = self.written();
        let update = self.kind == OperationKind::Update;
        Operation {
            hlc,
            kind: self.kind,
            table: self.table.name.clone(),
            pk: names(&self.table.key, self.row()),
            values: self.new_row().map(|new| names(&written, new)),
            prev: self.old.as_deref().filter(|_| update).map(|old| names(&written, old)),
            seq: Some(seq),
            tx: Some(extent),
            adopted: None,
        }
    }

    fn size_bytes(&self) -> usize {
        MIN_CHANGE_BYTES + self.row().iter().map(|value| value.size_bytes() + 16).sum::<usize>()
    }
}

/// Lets the registers keep what was replicated where `execLocal` wrote over it.
pub(super) fn record_local(connection: &Connection, origins: &Origins, changes: &[Change]) -> Result<(), StorageError> {
    let mut recorder = Recorder::new(connection, origins);
    changes.iter().try_for_each(|change| recorder.cover(change))?;
    recorder.finish()
}

/// Writes changes as one transaction of this replica, its first operation at `first`. Its operations are given if they weigh at most
/// `at_hand_bytes`.
pub(super) fn seal(
    connection: &Connection,
    origins: &mut Origins,
    dot: Dot,
    first: Tick,
    changes: &[Change],
    at_hand_bytes: usize,
) -> Result<Sealed, CommitError> {
    let too_many = || {
        let message = "the transaction has too many changes".to_owned();
        CommitError::Sql(SqlError { message, code: rusqlite::ffi::SQLITE_TOOBIG })
    };
    let n = u32::try_from(changes.len()).map_err(|_| too_many())?;
    let extent = TransactionExtent { first, n };
    let last = first.checked_add(u64::from(n.saturating_sub(1))).ok_or_else(too_many)?;
    let origin = origins.id(connection, &dot.origin)?;
    let tx = Tx { origin, seq: dot.seq };
    store::insert_transaction(connection, tx, extent)?;
    let weight = |change: &Change| if change.new.is_unread() { None } else { Some(change.size_bytes()) };
    let at_hand = changes.iter().map(weight).sum::<Option<usize>>().is_some_and(|bytes| bytes <= at_hand_bytes);
    let mut operations = Vec::new();
    let mut recorder = Recorder::new(connection, origins);
    for (index, change) in (0..n).zip(changes) {
        let hlc = hlc(first, index, &dot.origin).ok_or_else(too_many)?;
        if at_hand {
            operations.push(change.operation(hlc.clone(), dot.seq, extent));
        }
        recorder.record(change, Place { tx, index }, hlc)?;
    }
    recorder.finish()?;
    Ok(Sealed { dot, last, operations: at_hand.then_some(operations) })
}

fn hlc(first: Tick, index: u32, node: &ReplicaId) -> Option<Hlc> {
    Some(Hlc { tick: first.checked_add(index.into())?, node: node.clone() })
}
