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
use super::rows::{self, Entry, Thinned};
use super::schema::Tables;
use super::store::{Origins, TransactionNumbers};
use super::table::Table;

/// One change of one row.
#[derive(Debug)]
pub(super) struct Change {
    table: Arc<Table>,
    kind: OperationKind,
    /// Canonical key of the row.
    key: String,
    /// Where the row stands in the table, or stood.
    slot: Slot,
    old: Option<Vec<SqlValue>>,
    new: Option<Vec<SqlValue>>,
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

/// What touched rows amount to. DELETEs come first, so that a key that moved to another row is inserted after it was deleted.
pub(super) fn changes(
    connection: &Connection,
    tables: &Tables,
    touched: &TouchedRows,
) -> Result<Vec<Change>, CommitError> {
    let (mut deletes, mut others) = (Vec::new(), Vec::new());
    for ((table, slot), Touched { old, deleted }) in touched {
        // A table that the transaction created and dropped again.
        let Some(table) = tables.by_id(*table) else { continue };
        let new = rows::read(connection, table, slot)?;
        let key = |row: &Option<Vec<SqlValue>>| row.as_deref().map(|row| table.key_of_row(row)).transpose_key(table);
        let (old_key, new_key) = (key(old)?, key(&new)?);
        let change = |kind, key, old, new| Change { table: Arc::clone(table), kind, key, slot: slot.clone(), old, new };
        match (old_key, new_key) {
            (None, None) => {}
            (None, Some(key)) => others.push(change(OperationKind::Insert, key, None, new)),
            (Some(key), None) => deletes.push(change(OperationKind::Delete, key, old.clone(), None)),
            (Some(old_key), Some(new_key)) if old_key != new_key || deleted.is_some() && *old != new => {
                deletes.push(change(OperationKind::Delete, old_key, old.clone(), None));
                others.push(change(OperationKind::Insert, new_key, None, new));
            }
            (Some(key), Some(_)) if *old != new => others.push(change(OperationKind::Update, key, old.clone(), new)),
            (Some(_), Some(_)) => {}
        }
    }
    deletes.append(&mut others);
    Ok(deletes)
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

trait TransposeKey {
    fn transpose_key(self, table: &Table) -> Result<Option<String>, CommitError>;
}

impl TransposeKey for Option<Option<String>> {
    /// A row without a key is the user's error.
    fn transpose_key(self, table: &Table) -> Result<Option<String>, CommitError> {
        match self {
            None => Ok(None),
            Some(Some(key)) => Ok(Some(key)),
            Some(None) => Err(CommitError::Sql(SqlError {
                message: format!(
                    "NULL in the primary key of table {}: a row without a key cannot be replicated",
                    table.name
                ),
                code: rusqlite::ffi::SQLITE_CONSTRAINT_NOTNULL,
            })),
        }
    }
}

impl Change {
    /// The columns that the operation carries, with their values.
    fn written(&self) -> Vec<(usize, SqlValue)> {
        let Some(new) = &self.new else { return Vec::new() };
        let changed = |column: usize| self.old.as_ref().is_none_or(|old| old[column] != new[column]);
        (0..new.len()).filter(|column| changed(*column)).map(|column| (column, new[column].clone())).collect()
    }

    /// The operation in the specification's shape.
    fn operation(&self, hlc: Hlc, seq: u64, extent: TransactionExtent) -> Operation {
        let names = |columns: &[usize], row: &[SqlValue]| -> Columns {
            columns.iter().map(|column| (self.table.columns[*column].name.clone(), row[*column].clone())).collect()
        };
        let written: Vec<usize> = self.written().into_iter().map(|(column, _)| column).collect();
        let row = self.new.as_deref().or(self.old.as_deref()).unwrap_or_default();
        let update = self.kind == OperationKind::Update;
        Operation {
            hlc,
            kind: self.kind,
            table: self.table.name.clone(),
            pk: names(&self.table.key, row),
            values: self.new.as_deref().map(|new| names(&written, new)),
            prev: self.old.as_deref().filter(|_| update).map(|old| names(&written, old)),
            seq: Some(seq),
            tx: Some(extent),
            adopted: None,
        }
    }

    fn size_bytes(&self) -> usize {
        let row = self.new.as_deref().or(self.old.as_deref()).unwrap_or_default();
        64 + row.iter().map(|value| value.size_bytes() + 16).sum::<usize>()
    }

    /// Writes the change into the registers: as an operation, or (`execLocal`) as nothing that anybody else hears of, so that the operations
    /// keep the values the table no longer shows.
    fn record(
        &self,
        connection: &Connection,
        origins: &Origins,
        operation: Option<(i64, u32, Hlc)>,
        thinned: &mut Thinned,
    ) -> Result<(), StorageError> {
        let mut entries = Vec::new();
        let by_key = Slot::Key(self.key.clone());
        rows::load(connection, origins, &self.table, &by_key, &mut entries)?;
        // A row that is inserted has nothing at its rowid yet: what stood there before was deleted first.
        if self.slot != by_key && self.kind != OperationKind::Insert {
            rows::load(connection, origins, &self.table, &self.slot, &mut entries)?;
        }
        let mut state = rows::state(&entries, self.old.as_deref())?;
        if let Some((tx, index, hlc)) = operation {
            state.apply(&hlc, self.kind, self.written());
            let columns = Default::default();
            let (kind, adopted) = (self.kind, false);
            entries.push(Entry { tx, index, hlc, adopted, kind, columns, inline: None, stored_at: None });
        }
        let slot = if self.new.is_some() { &self.slot } else { &by_key };
        rows::write(connection, &self.table, slot, &entries, &state, self.new.as_deref(), thinned)
    }
}

/// Lets the registers keep what was replicated where `execLocal` wrote over it.
pub(super) fn record_local(connection: &Connection, origins: &Origins, changes: &[Change]) -> Result<(), StorageError> {
    let mut thinned = Thinned::new();
    changes.iter().try_for_each(|change| change.record(connection, origins, None, &mut thinned))?;
    rows::forget_empty(connection, thinned)
}

/// Writes changes as one transaction of this replica, its first operation at `first`. Its operations are given if they weigh at most
/// `at_hand_bytes`.
pub(super) fn seal(
    connection: &Connection,
    origins: &mut Origins,
    numbers: &mut TransactionNumbers,
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
    let tx = numbers.insert(connection, origin, dot.seq, extent)?;
    let at_hand = changes.iter().map(Change::size_bytes).sum::<usize>() <= at_hand_bytes;
    let (mut operations, mut thinned) = (Vec::new(), Thinned::new());
    for (index, change) in (0..n).zip(changes) {
        let hlc = hlc(first, index, &dot.origin).ok_or_else(too_many)?;
        if at_hand {
            operations.push(change.operation(hlc.clone(), dot.seq, extent));
        }
        change.record(connection, origins, Some((tx, index, hlc)), &mut thinned)?;
    }
    rows::forget_empty(connection, thinned)?;
    Ok(Sealed { dot, last, operations: at_hand.then_some(operations) })
}

fn hlc(first: Tick, index: u32, node: &ReplicaId) -> Option<Hlc> {
    Some(Hlc { tick: first.checked_add(index.into())?, node: node.clone() })
}
