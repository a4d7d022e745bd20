//! A column that SQLite adds to an empty table only: `NOT NULL` without a default, or a default that is a clock.
//!
//! On the device that added it the table was empty; here it has rows. They are moved to a table that has the column, by SQLite's twelve steps
//! (<https://www.sqlite.org/lang_altertable.html#otheralter>), each with what a column shows that nobody wrote: when the row was first inserted, or 0, '' or
//! x''. Rowids stay, so the log finds its rows where they were.

use rtc_battery_proto::SqlValue;
use rusqlite::Connection;

use super::apart;
use super::naming::MOVING;
use super::objects;
use super::table::{Addressing, Table};
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::log::rows;
use crate::replica::log::store::Origins;
use crate::replica::sql::{Bind, quoted, text_of, value};

/// Adds the column to a table that has rows. What stands on the table is gone with the old one. Gives the reason, and has done nothing, where SQLite refuses it.
pub(crate) fn add_column(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    definition: &str,
) -> Result<Result<(), String>, StorageError> {
    connection.execute_batch("SAVEPOINT rtc_refill")?;
    let done = refill(connection, origins, table, definition);
    if !matches!(done, Ok(Ok(()))) {
        connection.execute_batch("ROLLBACK TO rtc_refill")?;
    }
    connection.execute_batch("RELEASE rtc_refill")?;
    Ok(done.unwrap_or_else(|error| Err(error.to_string())))
}

fn refill(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    definition: &str,
) -> Result<Result<(), String>, StorageError> {
    connection.execute_batch(&wider(connection, table, definition)?)?;
    copy(connection, origins, table)?;
    let (name, moving) = (quoted(&table.name), quoted(MOVING));
    connection.execute_batch(&format!("DROP TABLE main.{name}"))?;
    objects::alter(connection, &format!("ALTER TABLE main.{moving} RENAME TO {name}"))
}

/// Copies the rows to the wider table.
fn copy(connection: &Connection, origins: &Origins, table: &Table) -> Result<(), StorageError> {
    let to = Table::describe(connection, table.id, MOVING)?.ok_or(StorageError::Corrupt("a table that is refilled"))?;
    let added = to.columns.last().ok_or(StorageError::Corrupt("a table without columns"))?;
    let names = to.columns.iter().map(|column| quoted(&column.name));
    let names: Vec<String> = table.addressing.rowid().map(str::to_owned).into_iter().chain(names).collect();
    let parameters: Vec<String> = (1..=names.len()).map(|n| format!("?{n}")).collect();
    let insert =
        format!("INSERT INTO main.{} ({}) VALUES ({})", quoted(MOVING), names.join(", "), parameters.join(", "));
    let mut insert = connection.prepare(&insert)?;
    let mut select = connection.prepare(&table.statements.all)?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let mut image = Vec::with_capacity(to.columns.len());
        for column in 1..=table.columns.len() {
            image.push(value(row.get_ref(column)?));
        }
        let slot = match table.addressing {
            Addressing::Rowid(_) => Slot::Rowid(row.get(0)?),
            Addressing::Key => Slot::Key(table.key_of_row(&image).ok_or(StorageError::Corrupt("a row without a key"))?),
        };
        let mut entries = Vec::new();
        rows::load(connection, origins, table, &slot, &mut entries)?;
        let born_ms = rows::state(&entries, Some(&image))?.born().map_or(0, |born| born.tick.ts);
        let unwritten = added.default.value(connection, born_ms)?;
        image.push(if added.not_null && unwritten == SqlValue::Null { added.affinity.zero() } else { unwritten });
        let mut place = 0;
        if let Slot::Rowid(rowid) = slot {
            place = 1;
            insert.raw_bind_parameter(1, rowid)?;
        }
        for (n, value) in image.iter().enumerate() {
            insert.raw_bind_parameter(place + n + 1, Bind(value))?;
        }
        insert.raw_execute()?;
    }
    Ok(())
}

/// The text of a table that has the column, as SQLite writes it, by another name.
fn wider(connection: &Connection, table: &Table, definition: &str) -> Result<String, StorageError> {
    let text = text_of(connection, "table", &table.name)?.ok_or(StorageError::Corrupt("a table without a text"))?;
    let (name, moving) = (quoted(&table.name), quoted(MOVING));
    let apart = apart::open()?;
    apart.execute_batch(&format!(
        "{text}; ALTER TABLE {name} ADD COLUMN {definition}; ALTER TABLE {name} RENAME TO {moving}"
    ))?;
    text_of(&apart, "table", MOVING)?.ok_or(StorageError::Corrupt("a table without a text"))
}
