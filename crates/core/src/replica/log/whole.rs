//! Rows as they are stored, with what the table shows of them: all of a table's, where it goes, or one of its columns.

use std::collections::BTreeMap;

use rtc_battery_proto::SqlValue;
use rusqlite::Connection;

use super::digest::Registers;
use super::rows::{self, Entry};
use super::store::Origins;
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::merge::rules::RowState;
use crate::replica::schema::table::Table;

/// A row as it is stored.
pub(crate) struct Row {
    pub(crate) entries: Vec<Entry>,
    /// What the table shows of it.
    pub(crate) image: Option<Vec<SqlValue>>,
}

/// Shows each row to `see`: where its operations stand, what the table shows of it, and its registers. `first` are the rows that the open transaction has touched, as
/// they were before.
pub(crate) fn each_row(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    first: &BTreeMap<Slot, Vec<SqlValue>>,
    mut see: impl FnMut(Slot, Option<&[SqlValue]>, &RowState) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut select = connection.prepare_cached("SELECT DISTINCT row FROM rtc_operations WHERE tbl = ?1")?;
    let slots = select.query_map([table.id], |row| row.get(0))?.collect::<rusqlite::Result<Vec<Slot>>>()?;
    for slot in slots {
        let Row { entries, image } = row(connection, origins, table, &slot, first.get(&slot))?;
        let state = rows::state(&entries, image.as_deref())?;
        see(slot, image.as_deref(), &state)?;
    }
    Ok(())
}

/// The digest of all registers of a table, `first` being the rows that the open transaction has touched as they were before.
pub(crate) fn registers(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    first: &BTreeMap<Slot, Vec<SqlValue>>,
) -> Result<Registers, StorageError> {
    let mut sum = Registers::default();
    each_row(connection, origins, table, first, |slot, image, state| {
        sum += table.names.row(state, &key(table, &slot, image)?);
        Ok(())
    })?;
    Ok(sum)
}

/// A row whose operations stand at one place; `before` is what the table showed of it, where that is not what it shows now.
pub(crate) fn row(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    slot: &Slot,
    before: Option<&Vec<SqlValue>>,
) -> Result<Row, StorageError> {
    let mut entries = Vec::new();
    rows::load(connection, origins, table, slot, &mut entries)?;
    let is_shown = matches!(slot, Slot::Rowid(_))
        || entries.iter().any(|entry| entry.inline.is_none() && !entry.columns.is_empty());
    let image = match before {
        Some(image) => Some(image.clone()),
        None if is_shown => rows::read(connection, table, slot)?,
        None => None,
    };
    Ok(Row { entries, image })
}

/// The canonical key of a row.
pub(crate) fn key(table: &Table, slot: &Slot, image: Option<&[SqlValue]>) -> Result<String, StorageError> {
    let key = match slot {
        Slot::Key(key) => Some(key.clone()),
        Slot::Rowid(_) => image.and_then(|image| table.key_of_row(image)),
    };
    key.ok_or(StorageError::Corrupt("an operation whose row is nowhere"))
}
