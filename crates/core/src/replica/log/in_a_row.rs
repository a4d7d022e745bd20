//! Rows that were inserted one after the other, into the log by one statement.
//!
//! `INSERT ... SELECT` of many rows gives them rowids in a row. So their operations differ in two numbers that go on together, and SQLite can
//! read both from the user's table, instead of being asked for each row.

use rtc_battery_proto::OperationKind;
use rusqlite::{Connection, params};

use super::columns::ColumnSet;
use super::rows;
use super::store::Place;
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::schema::table::Table;
use crate::replica::sql::quoted;

/// Fewer are written one by one: each table's rows are read by a statement of its own.
const MIN_ROWS: u32 = 16;

/// INSERTs of one transaction, of live rows that have no other operations.
#[derive(Debug)]
pub(crate) struct InARow<'a> {
    pub(crate) table: &'a Table,
    /// The rowid of the first one.
    pub(crate) first: i64,
    pub(crate) place: Place,
    /// How many there are.
    pub(crate) n: u32,
    /// Whether they are in the index by transaction.
    pub(crate) listed: bool,
}

impl InARow<'_> {
    /// Takes in the next one; `false` if it is not the next one.
    pub(crate) fn goes_on(&mut self, table: &Table, row: i64, place: Place) -> bool {
        let Place { tx, index } = self.place;
        let is_next = std::ptr::eq(self.table, table)
            && self.first.checked_add(self.n.into()) == Some(row)
            && place == Place { tx, index: index.saturating_add(self.n) };
        self.n += u32::from(is_next);
        is_next
    }

    /// Writes them.
    pub(crate) fn store(self, connection: &Connection) -> Result<(), StorageError> {
        if self.n < MIN_ROWS { self.store_each(connection) } else { self.store_all(connection) }
    }

    fn store_each(self, connection: &Connection) -> Result<(), StorageError> {
        let Self { table, first, place: Place { tx, index }, n, listed } = self;
        let columns = (0..table.columns.len()).collect();
        (0..n).try_for_each(|n| {
            let new = (Place { tx, index: index + n }, OperationKind::Insert);
            rows::insert_shown(connection, new, table, &Slot::Rowid(first + i64::from(n)), &columns, listed)
        })
    }

    fn store_all(self, connection: &Connection) -> Result<(), StorageError> {
        let Self { table, first, place: Place { tx, index }, n, listed } = self;
        let rowid = table.addressing.rowid().ok_or(StorageError::Corrupt("a rowid of a table without"))?;
        let insert = format!(
            "INSERT INTO rtc_operations SELECT ?1, {rowid}, ?2, ?3, {rowid} - ?4 + ?5, ?6, ?7, ?8, NULL, NULL
             FROM main.{} WHERE {rowid} BETWEEN ?4 AND ?4 + ?9",
            quoted(&table.name)
        );
        let columns: ColumnSet = (0..table.columns.len()).collect();
        let kind = rows::kind_number(OperationKind::Insert);
        let mut insert = connection.prepare_cached(&insert)?;
        let stored =
            insert.execute(params![table.id, tx.origin, tx.seq, first, index, listed, kind, columns, n - 1])?;
        if stored == n as usize { Ok(()) } else { Err(StorageError::Corrupt("an inserted row that is nowhere")) }
    }
}
