//! Makes the user's table show what a row's registers say.
//!
//! Merges never evaluate SQL that a schema holds: a column that nobody wrote shows a constant default, or what the row's own history says. A
//! row that SQLite refuses is parked: its operations stay, it is tried again when the row changes.

use rtc_battery_proto::{Hlc, SqlValue};
use rusqlite::{Connection, ffi};

use super::rules::RowState;
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::limits::within_user_limit;
use crate::replica::log::rows;
use crate::replica::schema::table::{Addressing, Table};
use crate::replica::sql::{Bind, quoted};

/// A row in the table: where it stands, and its stored columns.
pub(crate) type Shown = (Slot, Vec<SqlValue>);

/// Why SQLite does not take a row, in its words.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Another row has its value of a UNIQUE index.
    Taken(String),
    /// Something about the row itself.
    Other(String),
}

/// Writes the row. `found` is what the table shows of it now; `only` names the operation whose columns are written to a row that was there
/// already, and those that say when it was made if that is this operation (anything else may be covered by `execLocal` and stays). The inner
/// error is SQLite's refusal.
pub(crate) fn show(
    connection: &Connection,
    table: &Table,
    key: &Slot,
    state: &RowState,
    found: Option<Shown>,
    only: Option<&Hlc>,
) -> Result<Result<Option<Shown>, Refusal>, StorageError> {
    match (state.exists(), found) {
        (false, None) => Ok(Ok(None)),
        (false, Some((slot, _))) => {
            delete(connection, table, &slot)?;
            Ok(Ok(None))
        }
        (true, None) => {
            let row = target_of(connection, table, key, state)?;
            match within_user_limit(connection, || insert(connection, table, key, &row)) {
                Ok(slot) => reread(connection, table, slot, row).map(|shown| Ok(Some(shown))),
                Err(error) => refusal(error).map(Err),
            }
        }
        (true, Some((slot, image))) => {
            let row = target_of(connection, table, key, state)?;
            let columns: Vec<usize> = match only {
                Some(hlc) => state.columns_won_by(hlc).chain(columns_born_by(hlc, table, state)).collect(),
                None => (0..row.len()).collect(),
            };
            let mut shown = image;
            for column in &columns {
                shown[*column] = row[*column].clone();
            }
            match within_user_limit(connection, || update(connection, table, &slot, &columns, &shown)) {
                Ok(()) => reread(connection, table, slot, shown).map(|shown| Ok(Some(shown))),
                Err(error) => {
                    let why = refusal(error)?;
                    delete(connection, table, &slot)?;
                    Ok(Err(why))
                }
            }
        }
    }
}

/// The columns that nobody wrote and that say when the row was first inserted, where that is the operation at `hlc`.
fn columns_born_by<'a>(hlc: &Hlc, table: &'a Table, state: &'a RowState) -> impl Iterator<Item = usize> + 'a {
    let is_born = state.born() == Some(hlc);
    let of_birth = (0..table.columns.len()).filter(move |column| is_born && table.columns[*column].default.is_time());
    of_birth.filter(|column| state.cell(*column).is_none())
}

/// Whether SQLite refuses the row, which is the row's problem, or failed, which is ours.
fn refusal(error: StorageError) -> Result<Refusal, StorageError> {
    use rusqlite::ErrorCode as Code;
    let StorageError::Sqlite(rusqlite::Error::SqliteFailure(failure, message)) = &error else { return Err(error) };
    match failure.code {
        Code::ConstraintViolation | Code::TypeMismatch | Code::TooBig | Code::Unknown => {
            let why = message.clone().unwrap_or_else(|| failure.to_string());
            let is_taken = failure.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE;
            Ok(if is_taken { Refusal::Taken(why) } else { Refusal::Other(why) })
        }
        _ => Err(error),
    }
}

/// The whole row, of which `cell` says what was written, `key` the key, and `born_ms` when it was first inserted.
pub(crate) fn target<'a>(
    connection: &Connection,
    table: &Table,
    key: &[SqlValue],
    cell: impl Fn(usize) -> Option<&'a SqlValue>,
    born_ms: u64,
) -> Result<Vec<SqlValue>, StorageError> {
    let value = |(position, column): (usize, &crate::replica::schema::table::Column)| {
        let in_key = || table.key.iter().position(|key| *key == position).and_then(|n| key.get(n));
        let value = match cell(position).or_else(in_key) {
            Some(value) => value.clone(),
            None => column.default.value(connection, born_ms)?,
        };
        let must_not_be_null = column.not_null && value == SqlValue::Null;
        Ok(if must_not_be_null { column.affinity.zero() } else { value })
    };
    table.columns.iter().enumerate().map(value).collect()
}

/// The whole row as the registers say it.
fn target_of(
    connection: &Connection,
    table: &Table,
    key: &Slot,
    state: &RowState,
) -> Result<Vec<SqlValue>, StorageError> {
    let born_ms = state.born().map_or(0, |born| born.tick.ts);
    let key = match key {
        Slot::Key(key) => table.key_values(key),
        Slot::Rowid(_) => Vec::new(),
    };
    target(connection, table, &key, |column| Some(&state.cell(column)?.value), born_ms)
}

/// Inserts a row; `None`, and nothing is done, if there is one of this key, or SQLite refuses it. `key` is asked for where the row is addressed
/// by it.
pub(crate) fn insert_if_new(
    connection: &Connection,
    table: &Table,
    row: &[SqlValue],
    key: impl FnOnce() -> Result<Slot, StorageError>,
) -> Result<Option<Slot>, StorageError> {
    let inserted = within_user_limit(connection, || bind_and_insert(connection, &table.statements.insert_if_new, row));
    match inserted {
        Ok(true) => inserted_at(connection, table, key).map(Some),
        Ok(false) => Ok(None),
        Err(error) => refusal(error).map(|_| None),
    }
}

/// Inserts a row that is not there, and deletes what is in its way. Gives why SQLite refuses it even so, if it does.
pub(crate) fn replace(
    connection: &Connection,
    table: &Table,
    key: &str,
    state: &RowState,
) -> Result<Result<(), String>, StorageError> {
    let row = target_of(connection, table, &Slot::Key(key.to_owned()), state)?;
    match within_user_limit(connection, || bind_and_insert(connection, &table.statements.replace, &row)) {
        Ok(_) => Ok(Ok(())),
        Err(error) => refusal(error).map(|(Refusal::Taken(why) | Refusal::Other(why))| Err(why)),
    }
}

fn insert(connection: &Connection, table: &Table, key: &Slot, row: &[SqlValue]) -> Result<Slot, StorageError> {
    bind_and_insert(connection, &table.statements.insert, row)?;
    inserted_at(connection, table, || Ok(key.clone()))
}

fn bind_and_insert(connection: &Connection, insert: &str, row: &[SqlValue]) -> Result<bool, StorageError> {
    let mut insert = connection.prepare_cached(insert)?;
    for (n, value) in row.iter().enumerate() {
        insert.raw_bind_parameter(n + 1, Bind(value))?;
    }
    Ok(insert.raw_execute()? > 0)
}

fn inserted_at(
    connection: &Connection,
    table: &Table,
    key: impl FnOnce() -> Result<Slot, StorageError>,
) -> Result<Slot, StorageError> {
    match table.addressing {
        Addressing::Rowid(_) => Ok(Slot::Rowid(connection.last_insert_rowid())),
        Addressing::Key => key(),
    }
}

fn update(
    connection: &Connection,
    table: &Table,
    slot: &Slot,
    columns: &[usize],
    row: &[SqlValue],
) -> Result<(), StorageError> {
    if columns.is_empty() {
        return Ok(());
    }
    let first = match slot {
        Slot::Rowid(_) => 2,
        Slot::Key(_) => table.key.len() + 1,
    };
    let set = |(n, column): (usize, &usize)| format!("{} = ?{}", quoted(&table.columns[*column].name), first + n);
    let set = columns.iter().enumerate().map(set).collect::<Vec<_>>().join(", ");
    let sql = format!("UPDATE OR ABORT main.{} SET {set} WHERE {}", quoted(&table.name), table.statements.r#where);
    let mut update = connection.prepare_cached(&sql)?;
    rows::bind_slot(&mut update, table, slot)?;
    for (n, column) in columns.iter().enumerate() {
        update.raw_bind_parameter(first + n, Bind(&row[*column]))?;
    }
    update.raw_execute()?;
    Ok(())
}

pub(crate) fn delete(connection: &Connection, table: &Table, slot: &Slot) -> Result<(), StorageError> {
    let mut delete = connection.prepare_cached(&table.statements.delete)?;
    rows::bind_slot(&mut delete, table, slot)?;
    delete.raw_execute()?;
    Ok(())
}

/// What the table really shows: affinity may have changed a value.
fn reread(connection: &Connection, table: &Table, slot: Slot, written: Vec<SqlValue>) -> Result<Shown, StorageError> {
    if table.keeps(&written) {
        return Ok((slot, written));
    }
    let row = rows::read(connection, table, &slot)?.ok_or(StorageError::Corrupt("a row that was just written"))?;
    Ok((slot, row))
}
