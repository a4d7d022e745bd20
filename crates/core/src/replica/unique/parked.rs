//! `rtc_parked`: rows that exist and that this database cannot show, because another row has their value of a UNIQUE index, or because SQLite
//! refuses them for a reason of their own.
//!
//! It is derived from the operations, and kept so that a row that was in the way can be asked whom it kept out. Users read it as `rtc_conflicts`. A
//! parked row's operations stand at its key and hold its values, like those of a dead one.

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::replica::error::StorageError;
use crate::replica::schema::table::Table;

/// A row that is not shown any more, or not shown though it came: a row of `rtc_conflicts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Its table.
    pub table: String,
    /// Its primary key: a JSON array of the key's values.
    pub pk: String,
    /// Why, as SQLite says it.
    pub reason: String,
    /// The primary key of the newer row that has its value, where that is the reason.
    pub with_pk: Option<String>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, pk, reason, with_pk } = self;
        write!(f, "the row {pk} of table {table} is kept and cannot be shown: {reason}")?;
        with_pk.as_ref().map_or(Ok(()), |other| write!(f, "; the row {other} has it"))
    }
}

/// Why a row is not shown.
#[derive(Debug)]
pub(crate) struct Reason<'a> {
    pub(crate) why: &'a str,
    /// The canonical key of the row in its way.
    pub(crate) blocker: Option<&'a str>,
}

/// Notes that a row is not shown. Gives what is to be told, if it was shown before, or is new.
pub(crate) fn note(
    connection: &Connection,
    table: &Table,
    key: &str,
    reason: &Reason<'_>,
) -> Result<Option<Conflict>, StorageError> {
    let Reason { why, blocker } = reason;
    let known = "SELECT 1 FROM rtc_parked WHERE tbl = ?1 AND row = ?2";
    let known: Option<i64> =
        connection.prepare_cached(known)?.query_row(params![table.id, key], |row| row.get(0)).optional()?;
    let replace = "REPLACE INTO rtc_parked (tbl, row, why, blocker) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(replace)?.execute(params![table.id, key, why, blocker])?;
    let told = || Conflict {
        table: table.name.clone(),
        pk: key.to_owned(),
        reason: (*why).to_owned(),
        with_pk: blocker.map(str::to_owned),
    };
    Ok(known.is_none().then(told))
}

/// The row is shown, or gone.
pub(crate) fn forget(connection: &Connection, table: &Table, key: &str) -> Result<(), StorageError> {
    let delete = "DELETE FROM rtc_parked WHERE tbl = ?1 AND row = ?2";
    connection.prepare_cached(delete)?.execute(params![table.id, key])?;
    Ok(())
}

/// The table is gone.
pub(crate) fn forget_table(connection: &Connection, table: i64) -> Result<(), StorageError> {
    connection.prepare_cached("DELETE FROM rtc_parked WHERE tbl = ?1")?.execute([table])?;
    Ok(())
}

/// Whether any row of the table is parked.
pub(crate) fn any(connection: &Connection, table: i64) -> Result<bool, StorageError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM rtc_parked WHERE tbl = ?1)";
    Ok(connection.prepare_cached(exists)?.query_row([table], |row| row.get(0))?)
}

/// The rows that a row keeps out.
pub(crate) fn blocked_by(connection: &Connection, table: i64, key: &str) -> Result<Vec<String>, StorageError> {
    let select = "SELECT row FROM rtc_parked WHERE tbl = ?1 AND blocker = ?2";
    let mut select = connection.prepare_cached(select)?;
    let rows = select.query_map(params![table, key], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The tables that have parked rows.
pub(crate) fn tables(connection: &Connection) -> Result<Vec<i64>, StorageError> {
    let mut select = connection.prepare_cached("SELECT DISTINCT tbl FROM rtc_parked")?;
    let tables = select.query_map([], |row| row.get(0))?;
    Ok(tables.collect::<rusqlite::Result<_>>()?)
}

/// All parked rows of a table.
pub(crate) fn all(connection: &Connection, table: i64) -> Result<Vec<String>, StorageError> {
    let mut select = connection.prepare_cached("SELECT row FROM rtc_parked WHERE tbl = ?1")?;
    let rows = select.query_map([table], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// What a careless restart would do.
pub(crate) fn forget_all(connection: &Connection) -> Result<(), StorageError> {
    Ok(connection.execute_batch("DELETE FROM rtc_parked")?)
}
