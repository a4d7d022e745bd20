//! Makes a transaction of what was touched: the difference between each row's first old image and what is there at COMMIT.
//!
//! Runs inside the user's SQLite transaction, just before its COMMIT, so rows and log commit or vanish together. Nothing in memory changes here:
//! what the commit means for clock, vector and version is in [`Sealed`], which is adopted only after SQLite has committed.

use std::borrow::Cow;

use rtc_battery_proto::{Columns, Dot, Hlc, Operation, OperationKind, ReplicaId, SqlValue, Tick, TransactionExtent};
use rusqlite::Connection;

use super::hook::{New, Slot, Touched, TouchedRows};
use super::record::Recorder;
use crate::planted::{Bug, planted};
use crate::replica::clock::MAX_OPERATION_TS_MS;
use crate::replica::error::StorageError;
use crate::replica::log::digest::{Content, Registers};
use crate::replica::log::rows;
use crate::replica::log::store::{Origins, Place, SCHEMA_TABLE, Tx};
use crate::replica::schema::table::Table;
use crate::replica::schema::tables::Tables;
use crate::replica::session::query::SqlError;
use crate::replica::unique::admission::Unsettled;

/// What a change weighs at least, in bytes.
const MIN_CHANGE_BYTES: usize = 64;

/// What a transaction did.
#[derive(Debug)]
pub(crate) struct Changes<'a> {
    /// DELETEs first, so that a key that moved to another row is inserted after it was deleted.
    read: Vec<Change<'a>>,
    /// How many rows were inserted beside them and are not at hand.
    unread: usize,
    tables: &'a Tables,
    touched: &'a TouchedRows,
}

/// One change of one row.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) table: &'a Table,
    pub(crate) kind: OperationKind,
    /// Where the row stands in the table, or stood.
    pub(crate) slot: &'a Slot,
    pub(crate) old: Option<Cow<'a, [SqlValue]>>,
    pub(crate) new: Option<Cow<'a, [SqlValue]>>,
}

/// A transaction that is written and waits for SQLite's COMMIT.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) dot: Dot,
    /// The clock after it.
    pub(crate) last: Tick,
    /// The digest after it.
    pub(crate) registers: Registers,
    /// How many operations it has.
    pub(crate) n: u32,
    /// Them, if they are few.
    pub(crate) operations: Option<Vec<Operation>>,
}

impl<'a> Changes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.read.is_empty() && self.unread == 0
    }

    fn unread(&self) -> impl Iterator<Item = (&'a Table, &'a Slot, Content)> {
        inserted(self.tables, self.touched).take(self.unread)
    }
}

/// What touched rows amount to. Where they are many, those that were only inserted are not read.
pub(crate) fn changes<'a>(
    connection: &Connection,
    tables: &'a Tables,
    touched: &'a TouchedRows,
) -> Result<Changes<'a>, CommitError> {
    let (mut deletes, mut others) = (Vec::new(), Vec::new());
    let unread = inserted(tables, touched).count();
    for ((table, slot), row) in touched.rows.iter().filter(|(_, row)| content(touched, row).is_none()) {
        // A table that the transaction dropped.
        let Some(table) = tables.by_id(*table) else { continue };
        let change = |kind, old, new| Change { table, kind, slot, old, new };
        let new = match &row.new {
            New::Image(image) if !touched.undone => Some(Cow::Borrowed(image.as_slice())),
            _ => rows::read(connection, table, slot)?.map(Cow::Owned),
        };
        let old = row.old.as_ref().map(|old| old.of(table));
        if let Some(new) = &new {
            require_key(table, new)?;
        }
        match (old, new) {
            (None, None) => {}
            (None, new) => others.push(change(OperationKind::Insert, None, new)),
            (old @ Some(_), None) => deletes.push(change(OperationKind::Delete, old, None)),
            (Some(image), Some(new))
                if image == new
                    && !is_made_anew(table, row)
                    && !(planted(Bug::RolledBackSavepoint) && touched.undone) => {}
            (Some(image), Some(new)) if row.deleted.is_none() && same_key(table, &image, &new) => {
                others.push(change(OperationKind::Update, Some(image), Some(new)));
            }
            (old @ Some(_), Some(new)) => {
                deletes.push(change(OperationKind::Delete, old, None));
                others.push(change(OperationKind::Insert, None, Some(new)));
            }
        }
    }
    deletes.append(&mut others);
    Ok(Changes { read: deletes, unread, tables, touched })
}

/// Whether a definition was dropped and made again just as it was: it stands from now on, also against a DROP of somebody else's meanwhile, and comes
/// with the DROP that it survived.
fn is_made_anew(table: &Table, row: &Touched) -> bool {
    table.id == SCHEMA_TABLE && row.deleted.is_some()
}

/// Rows that were inserted and nothing else, of which only the content is at hand.
fn inserted<'a>(tables: &'a Tables, touched: &'a TouchedRows) -> impl Iterator<Item = (&'a Table, &'a Slot, Content)> {
    let of_row = |((table, slot), row): (&'a (i64, Slot), &'a Touched)| {
        Some((tables.by_id(*table)?.as_ref(), slot, content(touched, row)?))
    };
    touched.rows.iter().filter_map(of_row)
}

fn content(touched: &TouchedRows, row: &Touched) -> Option<Content> {
    match row.new {
        New::Content(content) if !touched.undone => Some(content),
        _ => None,
    }
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
pub(crate) enum CommitError {
    /// The user's doing.
    Sql(SqlError),
    Storage(StorageError),
}

impl From<StorageError> for CommitError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Change<'_> {
    /// The row after the change, or, where it is gone, before.
    fn row(&self) -> &[SqlValue] {
        self.new.as_deref().or(self.old.as_deref()).unwrap_or_default()
    }

    /// The columns that the operation carries.
    pub(crate) fn written(&self) -> Vec<usize> {
        match (self.old.as_deref(), self.new.as_deref()) {
            (_, None) => Vec::new(),
            (None, Some(new)) => (0..new.len()).collect(),
            (Some(old), Some(new)) => (0..new.len()).filter(|column| old[*column] != new[*column]).collect(),
        }
    }

    /// The operation in the specification's shape.
    fn operation(&self, hlc: Hlc, seq: u64, extent: TransactionExtent) -> Operation {
        let names = |columns: &[usize], row: &[SqlValue]| -> Columns {
            columns.iter().map(|column| (self.table.columns[*column].identity.clone(), row[*column].clone())).collect()
        };
        let written = self.written();
        let update = self.kind == OperationKind::Update;
        Operation {
            hlc,
            kind: self.kind,
            table: self.table.made_by.clone(),
            pk: names(&self.table.key, self.row()),
            values: self.new.as_deref().map(|new| names(&written, new)),
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
pub(crate) fn record_local(
    connection: &Connection,
    origins: &Origins,
    changes: &Changes<'_>,
) -> Result<Unsettled, StorageError> {
    let mut recorder = Recorder::new(connection, origins, None);
    changes.read.iter().try_for_each(|change| recorder.cover(change))?;
    changes.unread().try_for_each(|(table, slot, _)| recorder.cover_unread(table, slot))?;
    recorder.finish_local()
}

/// Writes changes as one transaction of this replica, its first operation at `first`; `registers` is the digest before. Its operations are given if they weigh at most
/// `at_hand_bytes`.
pub(crate) fn seal(
    connection: &Connection,
    origins: &mut Origins,
    (dot, first): (Dot, Tick),
    registers: Registers,
    changes: &Changes<'_>,
    at_hand_bytes: usize,
) -> Result<(Sealed, Unsettled), CommitError> {
    let too_many = || {
        let message = "the transaction has too many changes".to_owned();
        CommitError::Sql(SqlError { message, code: rusqlite::ffi::SQLITE_TOOBIG })
    };
    let n = u32::try_from(changes.read.len() + changes.unread).map_err(|_| too_many())?;
    let extent = TransactionExtent { first, n };
    let last = first.checked_add(u64::from(n.saturating_sub(1)));
    let last = last.filter(|last| last.ts <= MAX_OPERATION_TS_MS).ok_or_else(too_many)?;
    let origin = origins.id(connection, &dot.origin)?;
    let tx = Tx { origin, seq: dot.seq };
    let at_hand = changes.unread == 0 && changes.read.iter().map(Change::size_bytes).sum::<usize>() <= at_hand_bytes;
    let mut operations = Vec::new();
    let mut recorder = Recorder::new(connection, origins, Some((tx, extent)));
    let mut places = (0..n).map(|index| (Place { tx, index }, hlc(first, index, &dot.origin)));
    for (change, (place, hlc)) in changes.read.iter().zip(&mut places) {
        let hlc = hlc.ok_or_else(too_many)?;
        if at_hand {
            operations.push(change.operation(hlc.clone(), dot.seq, extent));
        }
        recorder.record(change, place, hlc)?;
    }
    for ((table, slot, content), (place, hlc)) in changes.unread().zip(places) {
        recorder.record_unread(table, slot, content, (place, hlc.ok_or_else(too_many)?))?;
    }
    // What is dropped is a definition that goes.
    if changes.touched.has_definitions() {
        recorder.bury()?;
    }
    let (registers, unsettled) = recorder.finish(tx, registers)?;
    Ok((Sealed { dot, last, registers, n, operations: at_hand.then_some(operations) }, unsettled))
}

fn hlc(first: Tick, index: u32, node: &ReplicaId) -> Option<Hlc> {
    Some(Hlc { tick: first.checked_add(index.into())?, node: node.clone() })
}
