//! TEMP triggers on synced tables: what a device does when a row changes, whoever wrote it.
//!
//! Triggers of the main schema are everybody's and run where a statement runs; TEMP ones are of this connection and run on merges too, which is what
//! an index of one's own (FTS5) needs. What they write must stay on this device: a synced table would get on every device what each device's
//! trigger writes. SQLite compiles a trigger with the statements that fire it, so that is looked at there: the statements by which a merge writes
//! are compiled once more, and the authorizer is told what triggers in them write.

use rusqlite::Connection;

use super::table::Table;
use super::tables::Tables;
use crate::replica::error::StorageError;
use crate::replica::merge::enforcement::lifted;
use crate::replica::session::guard::Guard;
use crate::replica::sql::quoted;

/// A TEMP trigger that cannot stay.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// The table that it is on.
    pub(crate) table: String,
    /// Why, for a person.
    pub(crate) why: String,
}

/// The first TEMP trigger on a synced table that does not compile, or writes what is synced; those of each table as a whole.
pub(crate) fn find_unfit(
    connection: &Connection,
    tables: &Tables,
    guard: &Guard,
) -> Result<Option<Unfit>, StorageError> {
    let any = "SELECT EXISTS (SELECT 1 FROM temp.sqlite_schema WHERE type = 'trigger')";
    if !connection.prepare_cached(any)?.query_row([], |row| row.get::<_, bool>(0))? {
        return Ok(None);
    }
    lifted(connection, true, || {
        for table in tables.of_user() {
            let compiled = guard.compile_merge(|| compile(connection, table));
            let why = match compiled {
                (_, Some(written)) => format!("it writes the synced table {written}, on this device alone"),
                (Err(error), None) => format!("it does not compile: {error}"),
                (Ok(()), None) => continue,
            };
            return Ok(Some(Unfit { table: table.name.clone(), why }));
        }
        Ok(None)
    })
}

/// Drops the TEMP triggers that a merge has made unfit. Gives what is to be told.
pub(crate) fn drop_unfit(connection: &Connection, tables: &Tables, guard: &Guard) -> Result<Vec<String>, StorageError> {
    let mut told = Vec::new();
    while let Some(Unfit { table, why }) = find_unfit(connection, tables, guard)? {
        let select = "SELECT name FROM temp.sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE";
        let mut select = connection.prepare(select)?;
        let names = select.query_map([&table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        if names.is_empty() {
            return Err(StorageError::Corrupt("a table that cannot be written"));
        }
        for name in names {
            connection.execute_batch(&format!("DROP TRIGGER temp.{}", quoted(&name)))?;
            told.push(format!("the TEMP trigger {name} was dropped, since the schema changed: {why}"));
        }
    }
    Ok(told)
}

/// Compiles every kind of statement by which a merge writes a table.
fn compile(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    let name = quoted(&table.name);
    let columns: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let set: Vec<String> = columns.iter().map(|column| format!("{column} = {column}")).collect();
    let update = format!("UPDATE OR ABORT main.{name} SET {} WHERE 0", set.join(", "));
    for sql in [&table.statements.insert, &update, &table.statements.delete] {
        connection.prepare(sql)?;
    }
    Ok(())
}
