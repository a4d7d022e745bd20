//! Which rows a table with UNIQUE indexes shows, where two devices gave two rows one value.
//!
//! Rows are ordered by the newest write to a column that any of the table's UNIQUE indexes reads, then by key. The newest is shown; the next one
//! is, unless it wants a value of one that is shown already; and so on. Those left over are [`parked`]. That is a function of
//! the operations: which rows are shown depends neither on the order they came in nor on who looks.
//!
//! Nobody computes it from the start. A row that came and met nobody is shown. What is looked at again is a row that SQLite refused, and the rows
//! that a row kept out which changed, or left: newest first, so that when a row has its turn all newer ones have had theirs. What is in
//! its way and older leaves, and has its turn later.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rtc_battery_proto::{Hlc, SqlValue};
use rusqlite::Connection;

use super::parked::{self, Conflict, Reason};
use crate::planted::{Bug, planted};
use crate::replica::capture::hook::{Capture, Slot};
use crate::replica::error::StorageError;
use crate::replica::log::rows::{self, Entry, Tally};
use crate::replica::log::store::Origins;
use crate::replica::merge::rules::RowState;
use crate::replica::merge::show::{self, Refusal, Shown};
use crate::replica::schema::table::Table;
use crate::replica::schema::tables::Tables;

/// Rows that are to have a turn once the operations at hand are in.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// Parked rows of this table.
    rows: BTreeSet<(i64, String)>,
    /// Those that these rows keep out.
    blocked_by: BTreeSet<(i64, String)>,
    /// All parked rows: the table, or what its UNIQUE indexes are, has changed.
    tables: BTreeSet<i64>,
}

impl Unsettled {
    /// SQLite refused the row for another's sake.
    pub(crate) fn refused(&mut self, table: &Table, key: &str) {
        self.rows.insert((table.id, key.to_owned()));
    }

    /// A row that was shown has changed, or is gone.
    pub(crate) fn changed(&mut self, table: &Table, key: &str) {
        self.blocked_by.insert((table.id, key.to_owned()));
    }

    /// The table is another now: every parked row may fit.
    pub(crate) fn retry(&mut self, table: i64) {
        self.tables.insert(table);
    }

    /// Whether any row is to have a turn.
    pub(crate) fn concerns_anybody(&self, connection: &Connection) -> Result<bool, StorageError> {
        for table in self.touched() {
            if parked::any(connection, table)? {
                return Ok(true);
            }
        }
        Ok(!self.rows.is_empty())
    }

    fn touched(&self) -> BTreeSet<i64> {
        let of_rows = self.rows.iter().chain(&self.blocked_by).map(|(table, _)| *table);
        of_rows.chain(self.tables.iter().copied()).collect()
    }
}

/// How new a row is. The greater goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    newest: Option<Hlc>,
    key: Reverse<String>,
}

/// What is known of a row that is not in the table.
struct Row {
    entries: Vec<Entry>,
    state: RowState,
}

/// Gives every row that is unsettled its turn. Runs with the user's enforcement out of the way. Gives what is to be told.
pub(crate) fn settle(
    connection: &Connection,
    origins: &Origins,
    tables: &Tables,
    capture: &Capture,
    unsettled: Unsettled,
) -> Result<Vec<Conflict>, StorageError> {
    let touched = unsettled.touched();
    let Unsettled { rows, blocked_by, tables: reindexed } = unsettled;
    let of = |of: &BTreeSet<(i64, String)>, table: i64| -> Vec<String> {
        of.range((table, String::new())..).take_while(|(id, _)| *id == table).map(|(_, key)| key.clone()).collect()
    };
    let mut conflicts = Vec::new();
    for table in touched {
        let Some(known) = tables.by_id(table) else { continue };
        let mut admission = Admission {
            connection,
            origins,
            capture,
            table: known,
            turns: BTreeSet::new(),
            tally: Tally::default(),
            conflicts: Vec::new(),
        };
        of(&rows, table).into_iter().try_for_each(|key| admission.note_turn(key))?;
        if parked::any(connection, table)? {
            let keys = if reindexed.contains(&table) { parked::all(connection, table)? } else { Vec::new() };
            keys.into_iter().try_for_each(|key| admission.note_turn(key))?;
            of(&blocked_by, table).iter().try_for_each(|key| admission.note_blocked_by(key))?;
        }
        admission.run()?;
        admission.tally.forget_empty(connection)?;
        conflicts.append(&mut admission.conflicts);
    }
    Ok(conflicts)
}

/// Takes all rows of a table that peers know out of it, to be given their turns: an index comes that they do not fit.
pub(crate) fn make_room(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    for (slot, image) in rows::all(connection, table)? {
        if let Some((key, row)) = shown_row(connection, origins, table, &slot, &image)? {
            hide(connection, table, &slot, &key, &row, tally)?;
            tally.unsettled.refused(table, &key);
        }
    }
    Ok(())
}

/// A row of the table that peers know: its key, and what is known of it. `None` for one of this device only.
fn shown_row(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    slot: &Slot,
    image: &[SqlValue],
) -> Result<Option<(String, Row)>, StorageError> {
    let key = table.key_of_row(image).ok_or(StorageError::Corrupt("a row without a key"))?;
    let mut entries = Vec::new();
    let by_key = Slot::Key(key.clone());
    rows::load(connection, origins, table, &by_key, &mut entries)?;
    if *slot != by_key {
        rows::load(connection, origins, table, slot, &mut entries)?;
    }
    let state = rows::state(&entries, Some(image))?;
    Ok(state.exists().then_some((key, Row { entries, state })))
}

fn hide(
    connection: &Connection,
    table: &Table,
    slot: &Slot,
    key: &str,
    row: &Row,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    show::delete(connection, table, slot)?;
    rows::write(connection, table, &Slot::Key(key.to_owned()), &row.entries, &row.state, None, tally)
}

/// The turns of one table's rows.
struct Admission<'a> {
    connection: &'a Connection,
    origins: &'a Origins,
    capture: &'a Capture,
    table: &'a Table,
    turns: BTreeSet<Rank>,
    tally: Tally,
    conflicts: Vec<Conflict>,
}

impl Admission<'_> {
    fn run(&mut self) -> Result<(), StorageError> {
        while let Some(rank) = self.turns.pop_last() {
            self.admit(&rank)?;
        }
        Ok(())
    }

    fn rank(&self, key: &str, state: &RowState) -> Rank {
        let read = self.table.unique.iter().flat_map(|columns| columns.iter());
        let newest = read.filter_map(|column| Some(&state.cell(column)?.hlc)).max().cloned();
        Rank { newest, key: Reverse(key.to_owned()) }
    }

    fn load(&self, key: &str) -> Result<Row, StorageError> {
        let mut entries = Vec::new();
        rows::load(self.connection, self.origins, self.table, &Slot::Key(key.to_owned()), &mut entries)?;
        let state = rows::state(&entries, None)?;
        Ok(Row { entries, state })
    }

    fn note_turn(&mut self, key: String) -> Result<(), StorageError> {
        if rows::find(self.connection, self.table, &self.table.key_values(&key))?.is_some() {
            return parked::forget(self.connection, self.table, &key);
        }
        let row = self.load(&key)?;
        if !row.state.exists() {
            return parked::forget(self.connection, self.table, &key);
        }
        let rank = self.rank(&key, &row.state);
        self.turns.insert(rank);
        Ok(())
    }

    fn note_blocked_by(&mut self, key: &str) -> Result<(), StorageError> {
        let blocked = parked::blocked_by(self.connection, self.table.id, key)?;
        blocked.into_iter().try_for_each(|key| self.note_turn(key))
    }

    /// A row has its turn.
    fn admit(&mut self, rank: &Rank) -> Result<(), StorageError> {
        let key = rank.key.0.as_str();
        let row = self.load(key)?;
        let why = match self.show(key, &row)? {
            None => return Ok(()),
            Some(Refusal::Other(why)) => return self.park(key, &Reason { why: &why, blocker: None }),
            Some(Refusal::Taken(why)) => why,
        };
        let in_the_way = match self.in_the_way(key, &row)? {
            Ok(in_the_way) => in_the_way,
            Err(why) => return self.park(key, &Reason { why: &why, blocker: None }),
        };
        let (mut older, mut newest, mut local) = (Vec::new(), None, None);
        for (slot, image) in in_the_way {
            match shown_row(self.connection, self.origins, self.table, &slot, &image)? {
                Some((other, known)) => match self.rank(&other, &known.state) {
                    theirs if theirs < *rank && !planted(Bug::ArrivalWins) => older.push((slot, theirs, known)),
                    theirs => newest = newest.max(Some(theirs)),
                },
                // What only this device has is not taken away for another's sake.
                None => local = self.table.key_of_row(&image),
            }
        }
        let blocker = newest.map(|Rank { key, .. }| key.0).or(local);
        if blocker.is_some() {
            return self.park(key, &Reason { why: &why, blocker: blocker.as_deref() });
        }
        // It is kept out no longer, also not by one that now has to wait for its next turn.
        parked::forget(self.connection, self.table, key)?;
        for (slot, rank, known) in older {
            let other = &rank.key.0;
            hide(self.connection, self.table, &slot, other, &known, &mut self.tally)?;
            self.note_blocked_by(other)?;
            self.turns.insert(rank);
        }
        match self.show(key, &row)? {
            None => Ok(()),
            Some(Refusal::Taken(why) | Refusal::Other(why)) => self.park(key, &Reason { why: &why, blocker: None }),
        }
    }

    /// Shows the row; gives SQLite's refusal, if it refuses.
    fn show(&mut self, key: &str, row: &Row) -> Result<Option<Refusal>, StorageError> {
        let by_key = Slot::Key(key.to_owned());
        match show::show(self.connection, self.table, &by_key, &row.state, None, None)? {
            Ok(shown) => {
                let (slot, image) = shown.unzip();
                let slot = slot.unwrap_or(by_key);
                let Row { entries, state } = row;
                rows::write(self.connection, self.table, &slot, entries, state, image.as_deref(), &mut self.tally)?;
                parked::forget(self.connection, self.table, key)?;
                Ok(None)
            }
            Err(refusal) => Ok(Some(refusal)),
        }
    }

    fn park(&mut self, key: &str, reason: &Reason<'_>) -> Result<(), StorageError> {
        self.conflicts.extend(parked::note(self.connection, self.table, key, reason)?);
        Ok(())
    }

    /// The rows that are in a row's way: those that REPLACE would delete, which the pre-update hook tells. Or why SQLite refuses it
    /// even then.
    fn in_the_way(&mut self, key: &str, row: &Row) -> Result<Result<Vec<Shown>, String>, StorageError> {
        self.connection.execute_batch("SAVEPOINT rtc_probe")?;
        self.capture.switch(true);
        let replaced = show::replace(self.connection, self.table, key, &row.state);
        self.capture.switch(false);
        let touched = self.capture.take();
        self.connection.execute_batch("ROLLBACK TO rtc_probe; RELEASE rtc_probe")?;
        let of_table = touched.rows.into_iter().filter(|((table, _), _)| *table == self.table.id);
        let displaced = of_table
            .filter_map(|((_, slot), touched)| Some((slot, touched.old?.of(self.table).into_owned())))
            .collect();
        Ok(replaced?.map(|()| displaced))
    }
}
