//! `ALTER TABLE` of a table that the open transaction made itself: nobody has heard of it, so it can be altered in every way, and is told as what it
//! is at COMMIT.
//!
//! That is what SQLite's twelve steps need (<https://www.sqlite.org/lang_altertable.html#otheralter>): a new table, the rows copied, the old one
//! dropped, the new one renamed. To others the old table is dropped and another of its name is made, with all its rows.

use rusqlite::{Connection, params};

use super::objects::{self, Object};
use super::table::Table;
use super::tables::{self, NotSynced, Tables};
use crate::replica::error::StorageError;
use crate::replica::sql::text_of;

/// Names and texts of the synced tables beside one: SQLite rewrites what names a table that it renames.
pub(crate) type Others = Vec<(String, String)>;

/// Before the statement runs.
pub(crate) fn others(connection: &Connection, tables: &Tables, table: &Table) -> rusqlite::Result<Others> {
    let others = tables.of_user().filter(|other| other.id != table.id);
    let text = |other: &Table| Ok(text_of(connection, "table", &other.name)?.map(|text| (other.name.clone(), text)));
    others.filter_map(|other| text(other).transpose()).collect()
}

/// After it ran: the table, which stands at `root` whatever it is called, is told by the name and the text that it has now.
pub(crate) fn register(
    connection: &Connection,
    tables: &mut Tables,
    (old, root): (&Table, i64),
    objects: &[(Object, String)],
    others: &Others,
) -> Result<(), NotSynced> {
    for (name, text) in others {
        if text_of(connection, "table", name).map_err(StorageError::from)?.as_ref() != Some(text) {
            let message = format!("table {name} names {}, and would have another definition on each device", old.name);
            return Err(NotSynced::Refused(message));
        }
    }
    let name = tables::name_at(connection, root).map_err(StorageError::from)?;
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
