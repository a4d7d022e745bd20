//! `ALTER TABLE` of a table that the open transaction made itself: nobody has heard of it, so it can be altered in every way, and is told as what it
//! is at COMMIT.
//!
//! That is what SQLite's twelve steps need (<https://www.sqlite.org/lang_altertable.html#otheralter>): a new table, the rows copied, the old one
//! dropped, the new one renamed. To others the old table is dropped and another of its name is made, with all its rows.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::objects::{self, Object};
use super::table::Table;
use super::tables::{self, NotSynced, Tables};
use crate::replica::error::StorageError;
use crate::replica::sql::text_of;

/// A table that is about to be altered, and what stands beside it: SQLite rewrites what names a table that it renames.
#[derive(Debug)]
pub(crate) struct Altering {
    pub(crate) table: Arc<Table>,
    /// What stays when its name does not.
    root: i64,
    objects: Vec<(Object, String)>,
    others: Vec<(String, String)>,
}

/// Before the statement runs.
pub(crate) fn look(connection: &Connection, tables: &Tables, table: &Arc<Table>) -> Result<Altering, StorageError> {
    let root = tables::root(connection, &table.name)?;
    let objects = objects::standing(connection)?;
    let others = tables.of_user().filter(|other| other.id != table.id);
    let text = |other: &Table| Ok(text_of(connection, "table", &other.name)?.map(|text| (other.name.clone(), text)));
    let others = others.filter_map(|other| text(other).transpose()).collect::<rusqlite::Result<_>>()?;
    Ok(Altering { table: Arc::clone(table), root, objects, others })
}

/// After it ran: the table is told by the name and the text that it has now.
pub(crate) fn register(connection: &Connection, tables: &mut Tables, altering: &Altering) -> Result<(), NotSynced> {
    let Altering { table: old, root, objects, others } = altering;
    for (name, text) in others {
        if text_of(connection, "table", name).map_err(StorageError::from)?.as_ref() != Some(text) {
            let message = format!("table {name} names {}, and would have another definition on each device", old.name);
            return Err(NotSynced::Refused(message));
        }
    }
    let name = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage = ?1";
    let name: String = connection.query_row(name, [root], |row| row.get(0)).map_err(StorageError::from)?;
    let renumber = || -> rusqlite::Result<()> {
        tables::forget(connection, old)?;
        connection.execute("DELETE FROM rtc_tables WHERE name = ?1 AND id <> ?2", params![name, old.id])?;
        connection.execute("UPDATE rtc_tables SET name = ?1 WHERE id = ?2", params![name, old.id])?;
        Ok(())
    };
    renumber().map_err(StorageError::from)?;
    tables.remove(old);
    tables::register(connection, tables, &name)?;
    objects::register_rewritten(connection, objects)?.map_err(NotSynced::Refused)
}
