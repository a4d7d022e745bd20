//! Raises the floor: rows that were deleted, and of which nothing is newer than the floor, are forgotten.
//!
//! Of a row that was deleted below the floor and written to above it, by somebody who did not know that, others may have forgotten what is below. It is told again
//! as a whole, so that everybody shows the same: a DELETE that was beaten is kept for this (`RowState::needs`), until it is below the floor itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use rtc_battery_proto::{Dot, Floor, Operation, OperationKind, SqlValue, Tick, VersionVector};
use rusqlite::{Connection, params};

use super::history::{self, History};
use crate::Now;
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::log::again::{self, Again};
use crate::replica::log::rows::{self, Entry, Tally};
use crate::replica::log::store::{self, Origins, SCHEMA_TABLE, Tx};
use crate::replica::log::whole::{self, Row};
use crate::replica::merge::join;
use crate::replica::merge::rules::RowState;
use crate::replica::schema::table::Table;
use crate::replica::state::State;
use crate::replica::unique::parked;

/// What becomes of a row of which a DELETE is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The row is.
    Forgotten,
    /// The DELETE is: everybody shows what beat it.
    Beaten,
    /// What is below the floor is told again.
    ToldAgain,
}

/// Such a row.
struct Deleted {
    table: Arc<Table>,
    slot: Slot,
    row: Row,
    fate: Fate,
}

/// What raising the floor did.
pub(crate) struct Raised {
    floor: Floor,
    /// The dot under which something is told again.
    again: Option<Dot>,
}

/// The floor as it is stored.
fn load(connection: &Connection) -> Result<Floor, StorageError> {
    let mut select = connection.prepare("SELECT ts, counter, vector FROM rtc_floor")?;
    let mut rows = select.query([])?;
    let Some(row) = rows.next()? else { return Ok(Floor::default()) };
    let (clock, vector): (Tick, String) = (Tick { ts: row.get(0)?, counter: row.get(1)? }, row.get(2)?);
    let vector = serde_json::from_str(&vector).map_err(|_| StorageError::Corrupt("rtc_floor.vector"))?;
    Ok(Floor { vector, clock })
}

impl State {
    /// Reads how far this replica has forgotten, and what it knows of who was here.
    pub(crate) fn load_floor(&mut self, connection: &Connection) -> Result<(), StorageError> {
        self.floor = load(connection)?;
        self.history = History::load(connection, &self.floor)?;
        Ok(())
    }

    /// Notes what is here, and forgets what was deleted for long enough, in one SQLite transaction; nothing where it was done a moment ago.
    pub(crate) fn look_back(
        &mut self,
        connection: &Connection,
        retention_ms: u64,
        now: Now,
    ) -> Result<(), StorageError> {
        let wall_ms = now.wall_ms;
        if self.history.due_ms(retention_ms, wall_ms) > wall_ms {
            return Ok(());
        }
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        let (changed, raised) = self.in_merge(connection, false, |state| {
            let mut changed = state.history.save_members(connection, retention_ms, wall_ms)?;
            changed |= state.history.note(connection, &state.vector, &state.floor, wall_ms)?;
            let limit_ms = state.history.limit_ms(retention_ms, wall_ms);
            let mut floor = state.floor.clone();
            floor.vector.merge(&history::up_to(connection, limit_ms)?);
            let forgets = |deleted: &Deleted| deleted.fate != Fate::ToldAgain;
            if !state.deleted(connection, &floor)?.iter().any(forgets) {
                return Ok((changed, ((changed, None), Vec::new())));
            }
            history::forget(connection, limit_ms)?;
            let mut tally = Tally::default();
            let raised = state.raise(connection, floor, (state.next_dot(), VersionVector::default()), &mut tally)?;
            Ok((true, ((changed, Some(raised)), tally.conflicts)))
        })?;
        match raised {
            Some(raised) => self.note_raised(raised, VersionVector::default()),
            None => self.notes += u64::from(changed),
        }
        Ok(())
    }

    /// Forgets what a peer has forgotten. Nothing where the vector does not cover its floor.
    pub(crate) fn join_floor(&mut self, connection: &Connection, theirs: &Floor) -> Result<(), StorageError> {
        if self.floor.covers(theirs) || !self.vector.covers(&theirs.vector) {
            return Ok(());
        }
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        let mut floor = self.floor.clone();
        floor.merge(theirs);
        let raised = self.in_merge(connection, false, |state| {
            let mut tally = Tally::default();
            let raised = state.raise(connection, floor, (state.next_dot(), VersionVector::default()), &mut tally)?;
            Ok((true, (raised, tally.conflicts)))
        })?;
        self.note_raised(raised, VersionVector::default());
        Ok(())
    }

    /// Forgets rows in the open merge, which has brought `news`, and stores that. What is told again gets this dot.
    pub(crate) fn raise(
        &mut self,
        connection: &Connection,
        floor: Floor,
        (dot, mut news): (Dot, VersionVector),
        tally: &mut Tally,
    ) -> Result<Raised, StorageError> {
        let raised = self.forget_rows(connection, floor, dot, tally)?;
        tally.forget_empty(connection)?;
        self.registers += tally.registers;
        raised.again.iter().for_each(|dot| news.insert(dot.clone()));
        if news.is_empty() {
            // Nothing came; what is kept has changed all the same.
            self.version += 1;
            store::save_progress(connection, self.progress())?;
        } else {
            self.save_news(connection, &news)?;
        }
        Ok(raised)
    }

    fn forget_rows(
        &mut self,
        connection: &Connection,
        mut floor: Floor,
        dot: Dot,
        tally: &mut Tally,
    ) -> Result<Raised, StorageError> {
        if floor.is_empty() {
            return Ok(Raised { floor, again: None });
        }
        let mut told_again = Vec::new();
        for Deleted { table, slot, row: Row { entries, image }, fate } in self.deleted(connection, &floor)? {
            if fate == Fate::Forgotten {
                floor.clock = entries.iter().map(|entry| entry.hlc.tick).fold(floor.clock, Tick::max);
                forget(connection, &table, &slot, &entries, image.as_deref(), tally)?;
                continue;
            }
            let exists = rows::state(&entries, image.as_deref())?.exists();
            for entry in entries {
                if exists && entry.kind == OperationKind::Delete {
                    // It is beaten, and was kept to be seen here.
                    rows::delete(connection, &table, &slot, entry.place)?;
                    tally.thinned.insert(entry.place.tx);
                } else if fate == Fate::ToldAgain && self.origins.is_in(&floor.vector, entry.place.tx)? {
                    told_again.push(Again { table: Arc::clone(&table), slot: slot.clone(), entry });
                }
            }
        }
        let vector = serde_json::to_string(&floor.vector).map_err(|_| StorageError::Corrupt("a version vector"))?;
        let replace = "REPLACE INTO rtc_floor VALUES (1, ?1, ?2, ?3)";
        connection.prepare_cached(replace)?.execute(params![floor.clock.ts, floor.clock.counter, vector])?;
        let again = (!told_again.is_empty()).then_some(dot);
        if let Some(dot) = &again {
            again::tell(connection, &mut self.origins, dot, &told_again, tally)?;
        }
        Ok(Raised { floor, again })
    }

    /// SQLite has committed it.
    pub(crate) fn note_raised(&mut self, raised: Raised, mut news: VersionVector) {
        let Raised { floor, again } = raised;
        self.floor = floor;
        self.raises += 1;
        again.into_iter().for_each(|dot| news.insert(dot));
        self.note_merged(news, None);
    }

    /// The rows of which a DELETE is kept that do not stay as they are at this floor.
    fn deleted(&self, connection: &Connection, floor: &Floor) -> Result<Vec<Deleted>, StorageError> {
        let select = "SELECT tbl, row, origin, seq FROM rtc_operations WHERE kind = ?1 AND tbl <> ?2";
        let mut select = connection.prepare_cached(select)?;
        let delete = rows::kind_number(OperationKind::Delete);
        let mut found = select.query(params![delete, SCHEMA_TABLE])?;
        let (unseen, mut deleted) = (self.rows_of_unseen(connection)?, Vec::new());
        while let Some(row) = found.next()? {
            let (table, slot, tx): (i64, Slot, _) =
                (row.get(0)?, row.get(1)?, Tx { origin: row.get(2)?, seq: row.get(3)? });
            if !self.origins.is_in(&floor.vector, tx)? {
                continue;
            }
            let table = self.tables.by_id(table).ok_or(StorageError::Corrupt("rtc_operations.tbl"))?;
            let row = whole::row(connection, &self.origins, table, &slot, None)?;
            if !unseen.is_empty() && unseen.contains(&(table.id, whole::key(table, &slot, row.image.as_deref())?)) {
                continue;
            }
            if let Some(fate) = fate(&self.origins, &row, floor)? {
                deleted.push(Deleted { table: Arc::clone(table), slot, row, fate });
            }
        }
        Ok(deleted)
    }
}

impl State {
    /// The rows, by table and canonical key, that operations are about which are set aside, or wait for a column. For who has merged them the row may be there, with what is
    /// older than its DELETE: it stays as it is until they are merged here.
    fn rows_of_unseen(&self, connection: &Connection) -> Result<BTreeSet<(i64, String)>, StorageError> {
        let select = "SELECT operation FROM rtc_quarantine UNION ALL SELECT operation FROM rtc_waiting";
        let mut select = connection.prepare_cached(select)?;
        let mut found = select.query([])?;
        let mut rows = BTreeSet::new();
        while let Some(row) = found.next()? {
            let text: String = row.get(0)?;
            let operation: Operation = serde_json::from_str(&text)
                .map_err(|_| StorageError::Corrupt("an operation that is not merged yet"))?;
            if let Some(table) = self.tables.of_identity(&operation.table)
                && let Some(key) = join::canonical_key(connection, table, &operation)?
            {
                rows.insert((table.id, key));
            }
        }
        Ok(rows)
    }
}

/// What becomes of a row at a floor, if it does not stay as it is.
fn fate(origins: &Origins, row: &Row, floor: &Floor) -> Result<Option<Fate>, StorageError> {
    let Row { entries, image } = row;
    // What everybody has who has this floor.
    let mut below = Vec::new();
    for entry in entries {
        if origins.is_in(&floor.vector, entry.place.tx)? {
            below.push(entry);
        }
    }
    if !below.iter().any(|entry| entry.kind == OperationKind::Delete) {
        return Ok(None);
    }
    let mut known = RowState::default();
    below.iter().for_each(|entry| known.apply(&entry.hlc, entry.kind, []));
    if known.exists() {
        return Ok(Some(Fate::Beaten));
    }
    if below.len() == entries.len() {
        return Ok(Some(Fate::Forgotten));
    }
    let exists = rows::state(entries, image.as_deref())?.exists();
    let shows_below = below.iter().any(|entry| !entry.columns.is_empty());
    Ok(Some(if exists && !shows_below { Fate::Beaten } else { Fate::ToldAgain }))
}

fn forget(
    connection: &Connection,
    table: &Table,
    slot: &Slot,
    entries: &[Entry],
    image: Option<&[SqlValue]>,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    let key = whole::key(table, slot, image)?;
    tally.registers -= table.names.row(&rows::state(entries, image)?, &key);
    for entry in entries {
        rows::delete(connection, table, slot, entry.place)?;
        tally.thinned.insert(entry.place.tx);
    }
    parked::forget(connection, table, &key)
}
