//! What was stamped late: where it is in the log, and how it is taken out of its rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use rtc_battery_proto::{Hlc, Tick};
use rusqlite::{Connection, params};

use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::log::rows::{self, Entry};
use crate::replica::log::store::{self, Place, SCHEMA_TABLE};
use crate::replica::log::whole::{self, Row};
use crate::replica::merge::join::{self, Known};
use crate::replica::merge::merging::Merge;
use crate::replica::merge::rules::RowState;
use crate::replica::schema::table::Table;
use crate::replica::state::State;

/// An operation that was stamped late.
pub(super) struct Late {
    pub(super) place: Place,
    pub(super) hlc: Hlc,
    pub(super) at: At,
}

/// Where it is.
pub(super) enum At {
    /// In the log, of a row of this table.
    Row(i64, Slot),
    /// It waits.
    Waiting(String),
}

impl Late {
    pub(super) fn row(&self) -> Option<(i64, &Slot)> {
        match &self.at {
            At::Row(table, slot) => Some((*table, slot)),
            At::Waiting(_) => None,
        }
    }
}

const LATE: &str = "SELECT o.origin, o.seq, o.idx, o.tbl, o.row, o.hlc, t.ts, t.counter FROM rtc_operations o
     JOIN rtc_transactions t ON t.origin = o.origin AND t.seq = o.seq WHERE iif(o.hlc IS NULL, t.ts >= ?1, o.hlc >= ?2)";

const LATE_AND_WAITING: &str = "SELECT origin, seq, idx, hlc, operation FROM rtc_waiting WHERE hlc >= ?1";

impl State {
    /// What is here, shown or not, and was stamped in this millisecond or later, in the order of clock values.
    pub(super) fn stamped_since(&self, connection: &Connection, ts: u64) -> Result<Vec<Late>, StorageError> {
        let mut select = connection.prepare(LATE)?;
        let mut found = select.query(params![ts, format!("{ts:012x}")])?;
        let mut late = Vec::new();
        while let Some(row) = found.next()? {
            let place = rows::place(row)?;
            let first = Tick { ts: row.get(6)?, counter: row.get(7)? };
            let hlc = rows::hlc(row.get(5)?, first, place.index, self.origins.node(place.tx.origin)?)?;
            late.push(Late { place, hlc, at: At::Row(row.get(3)?, row.get(4)?) });
        }
        let mut select = connection.prepare(LATE_AND_WAITING)?;
        let mut found = select.query([format!("{ts:012x}")])?;
        while let Some(row) = found.next()? {
            let hlc: String = row.get(3)?;
            let hlc = hlc.parse().map_err(|_| StorageError::Corrupt("rtc_waiting.hlc"))?;
            late.push(Late { place: rows::place(row)?, hlc, at: At::Waiting(row.get(4)?) });
        }
        late.sort_by(|one, other| one.hlc.cmp(&other.hlc));
        Ok(late)
    }
}

/// Whether a row of `rtc_schema` lacks a column.
fn is_half_known(schema: &Table, state: &RowState) -> bool {
    state.exists() && (0..schema.columns.len()).any(|column| state.cell(column).is_none())
}

impl Merge<'_> {
    /// Takes operations out of their rows, and shows what is left of these.
    pub(super) fn take_out<'b>(&mut self, late: impl IntoIterator<Item = &'b Late>) -> Result<(), StorageError> {
        // By key, since a row that changes may stand elsewhere then. Definitions first: they have the lowest number.
        let mut by_row: BTreeMap<(i64, String), Vec<Place>> = BTreeMap::new();
        for late in late {
            let Some((table, slot)) = late.row() else { continue };
            let (table, key) = self.key_at(table, slot)?;
            by_row.entry((table.id, key)).or_default().push(late.place);
        }
        for ((table, key), places) in by_row {
            let table = self.table_of(table)?;
            let mut known = self.known(&table, &key)?;
            let before = known.state()?;
            let entries = std::mem::take(&mut known.entries).into_iter();
            let (mut out, rest): (Vec<Entry>, Vec<Entry>) = entries.partition(|entry| places.contains(&entry.place));
            known.entries = rest;
            if table.id == SCHEMA_TABLE && is_half_known(&table, &known.state()?) {
                // What it says is told by others, and is still to come: so the rest waits for it.
                for entry in std::mem::take(&mut known.entries) {
                    let slot = entry.stored_at.as_ref().unwrap_or(&known.by_key);
                    let operation = self.state.read_stored(self.connection, (table.id, slot), entry.place)?;
                    store::wait(self.connection, entry.place, &operation)?;
                    out.push(entry);
                }
            }
            join::take_out(self.connection, &table, known, &before, out, &mut self.tally)?;
        }
        Ok(())
    }

    fn table_of(&self, id: i64) -> Result<Arc<Table>, StorageError> {
        self.state.tables.by_id(id).cloned().ok_or(StorageError::Corrupt("rtc_operations.tbl"))
    }

    /// The canonical key of the row that has operations at this place.
    pub(super) fn key_at(&self, table: i64, slot: &Slot) -> Result<(Arc<Table>, String), StorageError> {
        let table = self.table_of(table)?;
        let Row { image, .. } = whole::row(self.connection, &self.state.origins, &table, slot, None)?;
        let key = whole::key(&table, slot, image.as_deref())?;
        Ok((table, key))
    }

    pub(super) fn known(&self, table: &Table, key: &str) -> Result<Known, StorageError> {
        Known::of_key(self.connection, &self.state.origins, table, &table.key_values(key))
    }
}
