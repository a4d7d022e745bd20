//! All rows of a table as their registers say them: what is gone when the table goes, or one of its columns.

use std::collections::BTreeMap;

use rtc_battery_proto::SqlValue;
use rusqlite::Connection;

use super::rows;
use super::store::Origins;
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::merge::rules::RowState;
use crate::replica::schema::table::Table;

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
        let mut entries = Vec::new();
        rows::load(connection, origins, table, &slot, &mut entries)?;
        let is_shown = matches!(slot, Slot::Rowid(_))
            || entries.iter().any(|entry| entry.inline.is_none() && !entry.columns.is_empty());
        let image = match first.get(&slot) {
            Some(image) => Some(image.clone()),
            None if is_shown => rows::read(connection, table, &slot)?,
            None => None,
        };
        let state = rows::state(&entries, image.as_deref())?;
        see(slot, image.as_deref(), &state)?;
    }
    Ok(())
}
