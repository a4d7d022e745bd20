//! Joins one operation of another replica into its row: reads it against the table, finds the row by its key, merges, and shows the result.
//!
//! Most operations insert rows that are new here; they need no merge, and are written as they come.

use rtc_battery_proto::{Columns, Hlc, Operation, OperationKind, SqlValue};
use rusqlite::Connection;

use super::rules::RowState;
use super::show::{self, Refusal, Shown};
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::log::columns::ColumnSet;
use crate::replica::log::rows::{self, Entry, Tally};
use crate::replica::log::store::{Origins, Place};
use crate::replica::schema::table::{Addressing, Table};
use crate::replica::unique::parked::{self, Reason};

/// What became of an operation.
pub(crate) enum Outcome {
    Applied,
    /// It changes nothing: an adopted one that is known or beaten, or one of a row that a DROP TABLE has taken.
    Absorbed,
    /// Its table or one of its columns is not known yet.
    Waits,
    Refused(String),
}

/// Joins an operation into its row, as the one at this place in the log.
pub(crate) fn join(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    place: Place,
    operation: &Operation,
    tally: &mut Tally,
) -> Result<Outcome, StorageError> {
    let written = match written(table, operation) {
        Ok(written) => written,
        Err(outcome) => return Ok(outcome),
    };
    let key = match key(connection, table, operation, &written)? {
        Ok(key) => key,
        Err(why) => return Ok(Outcome::Refused(why.to_owned())),
    };
    let mut entries = Vec::new();
    if table.addressing == Addressing::Key || rows::has_dead(connection, table)? {
        rows::load(connection, origins, table, &by_key(table, &key)?, &mut entries)?;
    }
    let may_be_new = entries.is_empty() && operation.kind == OperationKind::Insert;
    if may_be_new && insert(connection, table, place, operation, (&key, &written), tally)? {
        let content = table.names.content_of(written);
        tally.registers.insert(&table.names, &operation.hlc, content);
        return Ok(Outcome::Applied);
    }
    let found = rows::find(connection, table, &key)?;
    let by_key = by_key(table, &key)?;
    if let Some((slot, _)) = found.as_ref().filter(|(slot, _)| *slot != by_key) {
        rows::load(connection, origins, table, slot, &mut entries)?;
    }
    merge(connection, table, place, operation, Known { by_key, found, entries }, written, tally)
}

/// What is known of a row.
pub(crate) struct Known {
    /// Its place in the log while it is not shown.
    pub(crate) by_key: Slot,
    /// What the table shows of it.
    pub(crate) found: Option<Shown>,
    pub(crate) entries: Vec<Entry>,
}

impl Known {
    /// What is known of the row of a key.
    pub(crate) fn of_key(
        connection: &Connection,
        origins: &Origins,
        table: &Table,
        key: &[SqlValue],
    ) -> Result<Self, StorageError> {
        let (by_key, mut entries) = (by_key(table, key)?, Vec::new());
        rows::load(connection, origins, table, &by_key, &mut entries)?;
        let found = rows::find(connection, table, key)?;
        if let Some((slot, _)) = found.as_ref().filter(|(slot, _)| *slot != by_key) {
            rows::load(connection, origins, table, slot, &mut entries)?;
        }
        Ok(Self { by_key, found, entries })
    }

    /// Its registers.
    pub(crate) fn state(&self) -> Result<RowState, StorageError> {
        rows::state(&self.entries, self.found.as_ref().map(|(_, image)| image.as_slice()))
    }

    /// Its canonical key.
    pub(crate) fn key(&self) -> Result<&str, StorageError> {
        match &self.by_key {
            Slot::Key(key) => Ok(key),
            Slot::Rowid(_) => Err(StorageError::Corrupt("a row without a key")),
        }
    }
}

/// Whether anything is known of the row that an operation is about; also where that cannot be said.
pub(crate) fn is_known(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    operation: &Operation,
) -> Result<bool, StorageError> {
    match key(connection, table, operation, &[])? {
        Ok(key) => Ok(!Known::of_key(connection, origins, table, &key)?.entries.is_empty()),
        Err(_) => Ok(true),
    }
}

/// The canonical key of the row that an operation is about, if it says one.
pub(crate) fn canonical_key(
    connection: &Connection,
    table: &Table,
    operation: &Operation,
) -> Result<Option<String>, StorageError> {
    let key = key(connection, table, operation, &[])?.ok();
    Ok(key.and_then(|key| table.canonical_key(&key)))
}

fn by_key(table: &Table, key: &[SqlValue]) -> Result<Slot, StorageError> {
    table.canonical_key(key).map(Slot::Key).ok_or(StorageError::Corrupt("a row without a key"))
}

/// Inserts a row that nothing is known of. `false`, and nothing is done, where there is one of this key, or the table would not show just what
/// was written.
fn insert(
    connection: &Connection,
    table: &Table,
    place: Place,
    operation: &Operation,
    (key, written): (&[SqlValue], &[(usize, &SqlValue)]),
    tally: &mut Tally,
) -> Result<bool, StorageError> {
    let cell = |column| written.iter().find(|(written, _)| *written == column).map(|(_, value)| *value);
    if table.key.iter().any(|column| cell(*column).is_none()) {
        // A key that nobody wrote is shown in its canonical spelling, whichever of its operations came first.
        return Ok(false);
    }
    let row = show::target(connection, table, key, cell, operation.hlc.tick.ts)?;
    if !table.keeps(&row) || written.iter().any(|(column, value)| row[*column] != **value) {
        return Ok(false);
    }
    let Some(slot) = show::insert_if_new(connection, table, &row, || by_key(table, key))? else {
        return Ok(false);
    };
    let columns: ColumnSet = written.iter().map(|(column, _)| *column).collect();
    let own = operation.adopted.is_some().then_some(&operation.hlc);
    rows::insert(connection, (place, operation.kind), table, &slot, &columns, own, tally)?;
    Ok(true)
}

/// Merges the operation with all that is known of the row: where its operations are when it is dead, what is shown of it, and they.
fn merge(
    connection: &Connection,
    table: &Table,
    place: Place,
    operation: &Operation,
    mut known: Known,
    written: Vec<(usize, &SqlValue)>,
    tally: &mut Tally,
) -> Result<Outcome, StorageError> {
    let mut state = known.state()?;
    let was_there = state.exists();
    let (kind, hlc) = (operation.kind, operation.hlc.clone());
    let adopted = operation.adopted.is_some();
    let before = adopted.then(|| state.clone());
    let registers = table.names.row(&state, known.key()?);
    state.apply(&hlc, kind, written.into_iter().map(|(column, value)| (column, value.clone())));
    if before.is_some_and(|before| before.decides_as(&state)) {
        return Ok(Outcome::Absorbed);
    }
    tally.registers.change(registers, table.names.row(&state, known.key()?));
    let columns = ColumnSet::default();
    let only = was_there.then_some(&operation.hlc);
    known.entries.push(Entry { place, hlc: hlc.clone(), adopted, kind, columns, inline: None, stored_at: None });
    let ranks = table.ranks(kind, |column| state.columns_won_by(&hlc).any(|won| won == column));
    write(connection, table, known, &state, was_there, (only, ranks), tally)?;
    Ok(Outcome::Applied)
}

/// Stores a row's registers and shows it. `was_there`: whether it existed before; `only` as in [`show::show`]; `ranks`: whether its turn among rows that want one value
/// may be another now.
pub(crate) fn write(
    connection: &Connection,
    table: &Table,
    known: Known,
    state: &RowState,
    was_there: bool,
    (only, ranks): (Option<&Hlc>, bool),
    tally: &mut Tally,
) -> Result<(), StorageError> {
    let Known { by_key, found, entries } = known;
    let Slot::Key(canonical) = &by_key else { return Err(StorageError::Corrupt("a row without a key")) };
    let was_shown = found.is_some();
    let shown = show::show(connection, table, &by_key, state, found, only)?;
    let (slot, image) = match &shown {
        Ok(Some((slot, image))) => (slot, Some(image.as_slice())),
        Ok(None) | Err(_) => (&by_key, None),
    };
    rows::write(connection, table, slot, &entries, state, image, tally)?;
    if was_shown && (shown.is_err() || ranks) {
        tally.unsettled.changed(table, canonical);
    }
    match shown {
        // Which of the two is shown is seen when all operations are in.
        Err(Refusal::Taken(_)) => tally.unsettled.refused(table, canonical),
        Err(Refusal::Other(why)) => {
            let reason = Reason { why: &why, blocker: None };
            tally.conflicts.extend(parked::note(connection, table, canonical, &reason)?);
        }
        Ok(_) if was_there && !was_shown => parked::forget(connection, table, canonical)?,
        Ok(_) => {}
    }
    Ok(())
}

/// Takes operations out of a row, which was `before` with them, and shows what is left of it.
pub(crate) fn take_out(
    connection: &Connection,
    table: &Table,
    known: Known,
    before: &RowState,
    out: Vec<Entry>,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    let (after, key) = (known.state()?, known.key()?);
    tally.registers.change(table.names.row(before, key), table.names.row(&after, key));
    for entry in out {
        rows::delete(connection, table, entry.stored_at.as_ref().unwrap_or(&known.by_key), entry.place)?;
        tally.thinned.insert(entry.place.tx);
    }
    write(connection, table, known, &after, before.exists(), (None, true), tally)
}

/// The written columns by position.
fn written<'a>(table: &Table, operation: &'a Operation) -> Result<Vec<(usize, &'a SqlValue)>, Outcome> {
    let twice = |columns: &Columns| names_a_column_twice(table, columns);
    if [Some(&operation.pk), operation.values.as_ref()].into_iter().flatten().any(twice) {
        return Err(Outcome::Refused("it names a column twice".to_owned()));
    }
    if operation.kind == OperationKind::Delete {
        return Ok(Vec::new());
    }
    // What is written to a column that was dropped is written to nothing.
    let values = operation.values.iter().flatten().filter(|(name, _)| !table.is_dropped(name));
    values.map(|(name, value)| Some((table.of_identity(name)?, value))).collect::<Option<_>>().ok_or(Outcome::Waits)
}

/// SQLite folds ASCII case in names.
fn names_a_column_twice(table: &Table, columns: &Columns) -> bool {
    let mut known = ColumnSet::default();
    let mut unknown = Vec::new();
    columns.keys().any(|name| match table.of_identity(name) {
        Some(column) => !known.insert(column),
        None => {
            let again = unknown.iter().any(|other: &&str| other.eq_ignore_ascii_case(name));
            unknown.push(name);
            again
        }
    })
}

/// The key that the operation names, as it is once stored. Its written columns must not say another one.
fn key(
    connection: &Connection,
    table: &Table,
    operation: &Operation,
    written: &[(usize, &SqlValue)],
) -> Result<Result<Vec<SqlValue>, &'static str>, StorageError> {
    let named = |column: &usize| {
        let name = &table.columns[*column].identity;
        let folded = || operation.pk.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        operation.pk.get(name).or_else(folded)
    };
    let Some(values) = table.key.iter().map(named).collect::<Option<Vec<_>>>() else {
        return Ok(Err("its pk lacks a column of the primary key"));
    };
    let stored = table.key_once_stored(connection, values.iter().copied())?;
    if stored.contains(&SqlValue::Null) {
        return Ok(Err("NULL in its pk"));
    }
    let spelled = |(column, value)| written.iter().find(|(w, _)| w == column).map_or(value, |(_, written)| *written);
    let respelled: Vec<&SqlValue> = table.key.iter().zip(values.iter().copied()).map(spelled).collect();
    let same = respelled == values || {
        let respelled = table.key_once_stored(connection, respelled)?;
        table.canonical_key(&respelled) == table.canonical_key(&stored)
    };
    Ok(if same { Ok(stored) } else { Err("its pk and its values name different rows") })
}
