//! Takes a column out of all that is known of a table's rows: what was written to one that was dropped is nothing any more.
//!
//! `rtc_operations.cols` says columns by their place in the table, and `vals` has them in that order, so a column that goes makes the others
//! move. An UPDATE that wrote nothing else is kept only where it is what its row lives by.
//!
//! A transaction of the user's may be rolled back to a savepoint before the DROP: what it does to the digest and to transactions that are empty now is kept
//! in TEMP tables, which savepoints undo, until it is committed.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_proto::{OperationKind, SqlValue};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, Error, params};

use super::columns::ColumnSet;
use super::digest::Registers;
use super::rows::{self, Tally};
use super::store::{Origins, Tx};
use super::whole;
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::merge::rules::RowState;
use crate::replica::schema::table::Table;

/// Makes what [`narrow`] calls, and where [`keep`] keeps.
pub(crate) fn create(connection: &Connection) -> Result<(), StorageError> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("rtc_columns_without", 2, flags, columns_without)?;
    connection.create_scalar_function("rtc_values_without", 3, flags, values_without)?;
    connection.execute_batch(
        "CREATE TEMP TABLE rtc_narrowed (registers INTEGER NOT NULL);
         CREATE TEMP TABLE rtc_emptied (origin INTEGER NOT NULL, seq INTEGER NOT NULL)",
    )?;
    Ok(())
}

/// The digest of a column's registers, `first` being the rows that the open transaction has touched as they were before.
pub(crate) fn registers(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    column: usize,
    first: &BTreeMap<Slot, Vec<SqlValue>>,
) -> Result<Registers, StorageError> {
    let mut sum = Registers::default();
    whole::each_row(connection, origins, table, first, |_, _, state| {
        if let Some(cell) = state.cell(column) {
            sum.add_cells(&cell.hlc, table.names.content_of([(column, &cell.value)]));
        }
        Ok(())
    })?;
    Ok(sum)
}

/// Takes the column out of the log. Gives the transactions that lost an operation.
pub(crate) fn narrow(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    column: usize,
) -> Result<BTreeSet<Tx>, StorageError> {
    let update = "UPDATE rtc_operations SET vals = rtc_values_without(vals, cols, ?2), cols = rtc_columns_without(cols, ?2) WHERE tbl = ?1";
    connection.prepare_cached(update)?.execute(params![table.id, column])?;
    let idle = "SELECT DISTINCT row FROM rtc_operations WHERE tbl = ?1 AND kind = ?2 AND cols = 0";
    let mut select = connection.prepare_cached(idle)?;
    let update = rows::kind_number(OperationKind::Update);
    let slots = select.query_map(params![table.id, update], |row| row.get(0))?;
    let slots = slots.collect::<rusqlite::Result<Vec<Slot>>>()?;
    let mut emptied = BTreeSet::new();
    for slot in slots {
        emptied.append(&mut forget_idle(connection, origins, table, &slot)?);
    }
    Ok(emptied)
}

/// Forgets the UPDATEs of a row that show nothing and are not what it lives by.
fn forget_idle(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    slot: &Slot,
) -> Result<BTreeSet<Tx>, StorageError> {
    let mut entries = Vec::new();
    rows::load(connection, origins, table, slot, &mut entries)?;
    let mut state = RowState::default();
    entries.iter().for_each(|entry| state.apply(&entry.hlc, entry.kind, []));
    let mut emptied = BTreeSet::new();
    for entry in entries {
        if entry.columns.is_empty() && !state.needs(&entry.hlc, entry.kind) {
            rows::delete(connection, table, slot, entry.place)?;
            emptied.insert(entry.place.tx);
        }
    }
    Ok(emptied)
}

/// Keeps for the end of the user's transaction what the DROP does.
pub(crate) fn keep(connection: &Connection, registers: Registers, emptied: &BTreeSet<Tx>) -> Result<(), StorageError> {
    connection.prepare_cached("INSERT INTO temp.rtc_narrowed VALUES (?1)")?.execute([registers.to_stored()])?;
    let mut insert = connection.prepare_cached("INSERT INTO temp.rtc_emptied VALUES (?1, ?2)")?;
    emptied.iter().try_for_each(|tx| insert.execute(params![tx.origin, tx.seq]).map(|_| ()))?;
    Ok(())
}

/// The end of the transaction.
pub(crate) fn take_kept(connection: &Connection, tally: &mut Tally) -> Result<(), StorageError> {
    let mut select = connection.prepare_cached("SELECT registers FROM temp.rtc_narrowed")?;
    let kept = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    if kept.is_empty() {
        return Ok(());
    }
    kept.into_iter().for_each(|registers| tally.registers -= Registers::from_stored(registers));
    let mut select = connection.prepare_cached("SELECT origin, seq FROM temp.rtc_emptied")?;
    let emptied = select.query_map([], |row| Ok(Tx { origin: row.get(0)?, seq: row.get(1)? }))?;
    tally.thinned.extend(emptied.collect::<rusqlite::Result<Vec<_>>>()?);
    connection.execute_batch("DELETE FROM temp.rtc_narrowed; DELETE FROM temp.rtc_emptied")?;
    Ok(())
}

/// `rtc_columns_without(cols, column)`
fn columns_without(context: &Context<'_>) -> rusqlite::Result<ColumnSet> {
    let (columns, column): (ColumnSet, usize) = (context.get(0)?, context.get(1)?);
    let others = columns.iter().filter(|other| *other != column);
    Ok(others.map(|other| if other > column { other - 1 } else { other }).collect())
}

/// `rtc_values_without(vals, cols, column)`: NULL where none are left.
fn values_without(context: &Context<'_>) -> rusqlite::Result<Option<String>> {
    let (values, columns, column): (Option<String>, ColumnSet, usize) =
        (context.get(0)?, context.get(1)?, context.get(2)?);
    let failed = |error: serde_json::Error| Error::UserFunctionError(error.into());
    let Some(text) = values else { return Ok(None) };
    let mut values: Vec<SqlValue> = serde_json::from_str(&text).map_err(failed)?;
    if let Some(place) = columns.iter().position(|other| other == column).filter(|place| *place < values.len()) {
        values.remove(place);
    }
    if values.is_empty() { Ok(None) } else { serde_json::to_string(&values).map(Some).map_err(failed) }
}
