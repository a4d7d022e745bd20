//! The registers of rows, stored as the operations that still show: `rtc_operations`.
//!
//! Loading a row's operations gives its [`RowState`]; writing a state back keeps what the state needs and deletes the rest, so the log is
//! compacted by the very write that makes something in it obsolete.
//!
//! Invariant: a column's value stands in the user's table, or, where the table does not show it (the row is dead or parked, the cell is covered by
//! execLocal, affinity changed the value), in `vals` of its operation.

use std::collections::BTreeSet;

use rtc_battery_proto::{Hlc, OperationKind, ReplicaId, SqlValue, Tick};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, Null, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params};

use super::columns::ColumnSet;
use super::digest::Registers;
use super::runs::Runs;
use super::store::{self, Origins, Place, Tx};
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::merge::rules::RowState;
use crate::replica::schema::table::Table;
use crate::replica::unique::admission::Unsettled;
use crate::replica::unique::parked::Conflict;

/// One operation of a row, as stored.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) place: Place,
    pub(crate) hlc: Hlc,
    /// Whether its clock value is its writer's, not its transaction's.
    pub(crate) adopted: bool,
    pub(crate) kind: OperationKind,
    pub(crate) columns: ColumnSet,
    /// Values in order of `columns`, where the table does not show them.
    pub(crate) inline: Option<Vec<SqlValue>>,
    /// Where it is stored now; `None` for an operation that is not stored yet.
    pub(crate) stored_at: Option<Slot>,
}

impl ToSql for Slot {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Rowid(rowid) => rowid.to_sql(),
            Self::Key(key) => key.to_sql(),
        }
    }
}

impl FromSql for Slot {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(rowid) => Ok(Self::Rowid(rowid)),
            ValueRef::Text(_) => Ok(Self::Key(value.as_str()?.to_owned())),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}

/// Kinds as numbers in `rtc_operations.kind`.
pub(crate) fn kind_number(kind: OperationKind) -> i64 {
    match kind {
        OperationKind::Insert => 1,
        OperationKind::Update => 2,
        OperationKind::Delete => 3,
    }
}

pub(crate) fn kind_of_number(number: i64) -> Result<OperationKind, StorageError> {
    match number {
        1 => Ok(OperationKind::Insert),
        2 => Ok(OperationKind::Update),
        3 => Ok(OperationKind::Delete),
        _ => Err(StorageError::Corrupt("rtc_operations.kind")),
    }
}

pub(crate) fn parse_values(text: Option<String>) -> Result<Option<Vec<SqlValue>>, StorageError> {
    let parse = |text: String| serde_json::from_str(&text).map_err(|_| StorageError::Corrupt("rtc_operations.vals"));
    text.map(parse).transpose()
}

// `unlikely`: without it SQLite 3.54 guesses from the very values that are bound, and so compiles the statement anew for each row.
// The table stands in order of its rows, so that what is known of one row is one place to look at, and to write.
const LOAD: &str = "SELECT o.origin, o.seq, o.idx, o.kind, o.cols, o.vals, o.hlc, t.ts, t.counter
     FROM rtc_operations o JOIN rtc_transactions t ON t.origin = o.origin AND t.seq = o.seq
     WHERE unlikely(o.tbl = ?1) AND unlikely(o.row = ?2)";

/// Adds what is stored of a row at one place to `entries`.
pub(crate) fn load(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    slot: &Slot,
    entries: &mut Vec<Entry>,
) -> Result<(), StorageError> {
    let mut select = connection.prepare_cached(LOAD)?;
    let mut rows = select.query(params![table.id, slot])?;
    while let Some(row) = rows.next()? {
        let place = place(row)?;
        let first = Tick { ts: row.get(7)?, counter: row.get(8)? };
        let adopted: Option<String> = row.get(6)?;
        entries.push(Entry {
            place,
            adopted: adopted.is_some(),
            hlc: hlc(adopted, first, place.index, origins.node(place.tx.origin)?)?,
            kind: kind_of_number(row.get(3)?)?,
            columns: row.get(4)?,
            inline: parse_values(row.get(5)?)?,
            stored_at: Some(slot.clone()),
        });
    }
    Ok(())
}

/// The place that a row's first three columns tell.
pub(crate) fn place(row: &rusqlite::Row<'_>) -> rusqlite::Result<Place> {
    Ok(Place { tx: Tx { origin: row.get(0)?, seq: row.get(1)? }, index: row.get(2)? })
}

/// An operation's clock value: its own, if it was adopted, or its transaction's.
pub(crate) fn hlc(own: Option<String>, first: Tick, index: u32, origin: &ReplicaId) -> Result<Hlc, StorageError> {
    if let Some(own) = own {
        return own.parse().map_err(|_| StorageError::Corrupt("rtc_operations.hlc"));
    }
    let tick = first.checked_add(index.into()).ok_or(StorageError::Corrupt("rtc_transactions.ts"))?;
    Ok(Hlc { tick, node: origin.clone() })
}

/// The state that stored operations make, `image` being what the table shows of the row.
pub(crate) fn state(entries: &[Entry], image: Option<&[SqlValue]>) -> Result<RowState, StorageError> {
    let mut state = RowState::default();
    for entry in entries {
        let value = |(place, column): (usize, usize)| {
            let source = match &entry.inline {
                Some(values) => values.get(place),
                None => image.and_then(|image| image.get(column)),
            };
            let value = source.ok_or(StorageError::Corrupt("an operation whose value is nowhere"))?;
            Ok((column, value.clone()))
        };
        let written = entry.columns.iter().enumerate().map(value).collect::<Result<Vec<_>, StorageError>>()?;
        state.apply(&entry.hlc, entry.kind, written);
    }
    Ok(state)
}

/// What a SQLite transaction does to the log as a whole.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Transactions that lost an operation and may be empty now. Looked at once, at the end of the SQLite transaction: until then more of
    /// their operations may be on the way.
    pub(crate) thinned: BTreeSet<Tx>,
    /// By how much the digest of all registers changes.
    pub(crate) registers: Registers,
    /// Where new operations stand.
    pub(crate) runs: Runs,
    /// Rows whose place in the table is open.
    pub(crate) unsettled: Unsettled,
    /// What the user is to be told.
    pub(crate) conflicts: Vec<Conflict>,
}

impl Tally {
    /// Forgets the transactions that are empty.
    pub(crate) fn forget_empty(&mut self, connection: &Connection) -> Result<(), StorageError> {
        let mut thinned = std::mem::take(&mut self.thinned).into_iter();
        thinned.try_for_each(|tx| store::forget_if_empty(connection, tx))
    }
}

/// Writes a row's operations as `state` needs them, at `slot`. `shown` is the row as the table has it now, if it has it.
pub(crate) fn write(
    connection: &Connection,
    table: &Table,
    slot: &Slot,
    entries: &[Entry],
    state: &RowState,
    shown: Option<&[SqlValue]>,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    if matches!(slot, Slot::Key(_)) {
        table.note_dead(true);
    }
    for entry in entries {
        let columns: ColumnSet = state.columns_won_by(&entry.hlc).collect();
        if columns.is_empty() && !state.needs(&entry.hlc, entry.kind) {
            if let Some(stored_at) = &entry.stored_at {
                delete(connection, table, stored_at, entry.place)?;
                tally.thinned.insert(entry.place.tx);
            }
            continue;
        }
        let value = |column| state.cell(column).map(|cell| &cell.value);
        let is_shown = columns.iter().all(|column| shown.and_then(|shown| shown.get(column)) == value(column));
        let inline = (!is_shown).then(|| columns.iter().filter_map(value).collect::<Vec<_>>());
        save(connection, table, slot, entry, &columns, inline)?;
    }
    Ok(())
}

/// Stores an operation that the table shows all columns of; `own` is its clock value where that is not its transaction's.
pub(crate) fn insert(
    connection: &Connection,
    (place, kind): (Place, OperationKind),
    table: &Table,
    slot: &Slot,
    columns: &ColumnSet,
    own: Option<&Hlc>,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    let listed = tally.runs.lists(table, slot, place);
    let Some(own) = own else { return insert_shown(connection, (place, kind), table, slot, columns, listed) };
    let Place { tx, index } = place;
    let (kind, own) = (kind_number(kind), own.to_string());
    let adopted = params![table.id, slot, tx.origin, tx.seq, index, listed, kind, columns, Null, own];
    connection.prepare_cached(INSERT)?.execute(adopted)?;
    Ok(())
}

/// The same of one whose clock value is its transaction's; `listed` is whether it is in the index by transaction.
pub(crate) fn insert_shown(
    connection: &Connection,
    (Place { tx, index }, kind): (Place, OperationKind),
    table: &Table,
    slot: &Slot,
    columns: &ColumnSet,
    listed: bool,
) -> Result<(), StorageError> {
    // Fewer values to bind: this is half of what a commit writes.
    let insert = "INSERT INTO rtc_operations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, NULL)";
    let shown = params![table.id, slot, tx.origin, tx.seq, index, listed, kind_number(kind), columns];
    connection.prepare_cached(insert)?.execute(shown)?;
    Ok(())
}

/// Whether a row of the table died, or is parked: its operations are at its key, which is a text and so above every rowid.
pub(crate) fn has_dead(connection: &Connection, table: &Table) -> Result<bool, StorageError> {
    if table.may_have_dead() {
        let exists = "SELECT EXISTS (SELECT 1 FROM rtc_operations WHERE tbl = ?1 AND row >= '')";
        table.note_dead(connection.prepare_cached(exists)?.query_row([table.id], |row| row.get(0))?);
    }
    Ok(table.may_have_dead())
}

/// Takes columns of a row that is there, and was `old`, away from its operations, for a newer UPDATE of them at `by`. `false`, and nothing is
/// done, where the order of the older operations matters: adopted ones have clock values of their own, of several INSERTs the oldest is kept, a
/// DELETE is of a row that only execLocal brought back, and of two contents under one clock value (a forger's) one is no register.
pub(crate) fn overwrite(
    connection: &Connection,
    origins: &Origins,
    table: &Table,
    slot: &Slot,
    written: &ColumnSet,
    (old, by): (&[SqlValue], &Hlc),
    tally: &mut Tally,
) -> Result<bool, StorageError> {
    let mut entries = Vec::new();
    load(connection, origins, table, slot, &mut entries)?;
    let is_insert = |entry: &Entry| entry.kind == OperationKind::Insert;
    let Some(live) = entries.iter().map(|entry| &entry.hlc).max() else { return Ok(false) };
    let is_delete = |entry: &Entry| entry.kind == OperationKind::Delete;
    let inserts = entries.iter().filter(|entry| is_insert(entry)).count();
    let clocks = entries.iter().map(|entry| &entry.hlc).collect::<BTreeSet<_>>().len();
    if inserts > 1 || clocks < entries.len() || entries.iter().any(|entry| entry.adopted || is_delete(entry)) {
        return Ok(false);
    }
    tally.registers.move_live(&table.names, live, by);
    for entry in &entries {
        let left = entry.columns.without(written);
        // An UPDATE of columns that were dropped has none, and was there for being the newest.
        if left == entry.columns && (!left.is_empty() || is_insert(entry)) {
            continue;
        }
        let values = entry.columns.iter().enumerate().map(|(place, column)| {
            let value = entry.inline.as_ref().map_or_else(|| old.get(column), |inline| inline.get(place));
            value.map(|value| (column, value)).ok_or(StorageError::Corrupt("an operation whose value is nowhere"))
        });
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let (lost, kept): (Vec<_>, Vec<_>) = values.into_iter().partition(|(column, _)| written.contains(*column));
        tally.registers.remove_cells(&entry.hlc, table.names.content_of(lost));
        if left.is_empty() && !is_insert(entry) {
            delete(connection, table, slot, entry.place)?;
            tally.thinned.insert(entry.place.tx);
            continue;
        }
        let kept = entry.inline.is_some().then(|| kept.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
        let kept = kept.map(|values| values_text(&values)).transpose()?;
        thin(connection, table, slot, entry.place, &left, kept)?;
    }
    Ok(true)
}

fn values_text(values: &[&SqlValue]) -> Result<String, StorageError> {
    serde_json::to_string(values).map_err(|_| StorageError::Corrupt("a value"))
}

const INSERT: &str = "INSERT INTO rtc_operations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

fn save(
    connection: &Connection,
    table: &Table,
    slot: &Slot,
    entry: &Entry,
    columns: &ColumnSet,
    inline: Option<Vec<&SqlValue>>,
) -> Result<(), StorageError> {
    let text = inline.map(|values| values_text(&values)).transpose()?;
    let Place { tx, index } = entry.place;
    let Some(stored_at) = &entry.stored_at else {
        let mut insert = connection.prepare_cached(INSERT)?;
        let hlc = entry.adopted.then(|| entry.hlc.to_string());
        let kind = kind_number(entry.kind);
        insert.execute(params![table.id, slot, tx.origin, tx.seq, index, true, kind, columns, text, hlc])?;
        return Ok(());
    };
    if stored_at != slot {
        let at = params![table.id, stored_at, tx.origin, tx.seq, index, columns, text, slot];
        connection.prepare_cached(MOVE)?.execute(at)?;
    } else if entry.columns != *columns || entry.inline.is_some() || text.is_some() {
        thin(connection, table, slot, entry.place, columns, text)?;
    }
    Ok(())
}

const MOVE: &str = "UPDATE rtc_operations SET cols = ?6, vals = ?7, row = ?8, listed = 1
     WHERE tbl = ?1 AND row = ?2 AND origin = ?3 AND seq = ?4 AND idx = ?5";

/// Stores what an operation still shows.
fn thin(
    connection: &Connection,
    table: &Table,
    slot: &Slot,
    Place { tx, index }: Place,
    columns: &ColumnSet,
    values: Option<String>,
) -> Result<(), StorageError> {
    let update = "UPDATE rtc_operations SET cols = ?6, vals = ?7
                  WHERE tbl = ?1 AND row = ?2 AND origin = ?3 AND seq = ?4 AND idx = ?5";
    let at = params![table.id, slot, tx.origin, tx.seq, index, columns, values];
    connection.prepare_cached(update)?.execute(at)?;
    Ok(())
}

pub(crate) fn delete(
    connection: &Connection,
    table: &Table,
    slot: &Slot,
    Place { tx, index }: Place,
) -> Result<(), StorageError> {
    let delete = "DELETE FROM rtc_operations WHERE tbl = ?1 AND row = ?2 AND origin = ?3 AND seq = ?4 AND idx = ?5";
    connection.prepare_cached(delete)?.execute(params![table.id, slot, tx.origin, tx.seq, index])?;
    Ok(())
}

/// Reads a row of the user's table by where it stands.
pub(crate) fn read(connection: &Connection, table: &Table, slot: &Slot) -> Result<Option<Vec<SqlValue>>, StorageError> {
    let mut select = connection.prepare_cached(&table.statements.select)?;
    bind_slot(&mut select, table, slot)?;
    let mut rows = select.raw_query();
    let Some(row) = rows.next()? else { return Ok(None) };
    let values = (0..table.columns.len()).map(|column| Ok(crate::replica::sql::value(row.get_ref(column)?)));
    Ok(Some(values.collect::<rusqlite::Result<_>>()?))
}

/// Finds a row of the user's table by its key's values as stored: where it stands, and the row.
pub(crate) fn find(
    connection: &Connection,
    table: &Table,
    key: &[SqlValue],
) -> Result<Option<(Slot, Vec<SqlValue>)>, StorageError> {
    let mut select = connection.prepare_cached(&table.statements.find)?;
    for (n, value) in key.iter().enumerate() {
        select.raw_bind_parameter(n + 1, crate::replica::sql::Bind(value))?;
    }
    let mut rows = select.raw_query();
    rows.next()?.map(|row| placed(table, row)).transpose()
}

/// All rows of the user's table.
pub(crate) fn all(connection: &Connection, table: &Table) -> Result<Vec<(Slot, Vec<SqlValue>)>, StorageError> {
    let mut select = connection.prepare(&table.statements.all)?;
    let (mut rows, mut found) = (select.query([])?, Vec::new());
    while let Some(row) = rows.next()? {
        found.push(placed(table, row)?);
    }
    Ok(found)
}

/// A row, and where it stands.
fn placed(table: &Table, row: &rusqlite::Row<'_>) -> Result<(Slot, Vec<SqlValue>), StorageError> {
    let values = (1..=table.columns.len()).map(|column| Ok(crate::replica::sql::value(row.get_ref(column)?)));
    let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
    let slot = match row.get(0)? {
        Some(rowid) => Slot::Rowid(rowid),
        None => Slot::Key(table.key_of_row(&values).ok_or(StorageError::Corrupt("a row without a key"))?),
    };
    Ok((slot, values))
}

/// Binds the parameters that `Statements::r#where` names; gives their number.
pub(crate) fn bind_slot(
    statement: &mut rusqlite::Statement<'_>,
    table: &Table,
    slot: &Slot,
) -> Result<usize, StorageError> {
    match slot {
        Slot::Rowid(rowid) => {
            statement.raw_bind_parameter(1, rowid)?;
            Ok(1)
        }
        Slot::Key(key) => {
            let values = table.key_values(key);
            for (n, value) in values.iter().enumerate() {
                statement.raw_bind_parameter(n + 1, crate::replica::sql::Bind(value))?;
            }
            Ok(values.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use rtc_battery_proto::ReplicaId;
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_rows_operations_are_found_by_index_and_by_a_statement_compiled_once() {
        let connection = Connection::open_in_memory().unwrap();
        store::initialize(&connection, "room", &ReplicaId::from_random(1)).unwrap();
        for row in 0..3 {
            connection.prepare_cached(LOAD).unwrap().query(params![row, row]).unwrap().next().unwrap();
        }
        assert_eq!(connection.prepare_cached(LOAD).unwrap().get_status(StatementStatus::RePrepare), 0);
        let plan = format!("EXPLAIN QUERY PLAN {LOAD}");
        let plan: String = connection.query_row(&plan, [1, 1], |row| row.get(3)).unwrap();
        assert!(plan.contains("PRIMARY KEY (tbl=? AND row=?)"), "{plan}");
    }
}
