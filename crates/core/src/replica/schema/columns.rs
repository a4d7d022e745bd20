//! `ALTER TABLE ... DROP COLUMN` and `RENAME COLUMN` as data: rows of `rtc_schema` beside those that define.
//!
//! A column that was dropped stays dropped: its identity is in a row for as long as its table is, and whatever anybody writes to it is written to
//! nothing. The rest of such an operation stands. A RENAME is a row that says what a column is called, the latest one counts; operations call the column by its
//! identity, so one that was written under the old name, whenever it comes, finds it. The row also keeps what the column was called before, so
//! that the migration which every device runs by itself is found to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rtc_battery_proto::{Operation, OperationKind, SqlValue};
use rusqlite::{Connection, params};

use super::apart;
use super::naming;
use super::renames::{self, Renamed};
use super::table::Table;
use super::tables::{NotSynced, Tables};
use crate::planted::{Bug, planted};
use crate::replica::capture::hook::Capture;
use crate::replica::error::StorageError;
use crate::replica::log::digest::Registers;
use crate::replica::log::narrow;
use crate::replica::log::store::Origins;
use crate::replica::sql::quoted;

const DROPPED: &str = "dropped column";

/// How the ids of their rows begin, before that of the column's own.
const DROPPED_PREFIX: &str = "rtc_gone ";

/// A column that the user is about to drop.
#[derive(Debug)]
pub(crate) struct Dropping {
    pub(crate) table: Arc<Table>,
    column: usize,
    registers: Registers,
}

/// The id of a column, as its row in `rtc_schema` has it where it was added.
pub(crate) fn id(table: &Table, identity: &str) -> String {
    format!("{}.{}", table.identity(), identity.to_ascii_lowercase())
}

/// Whether an operation of a peer is about a column that was dropped, or a column or table that was renamed, as a replica of ours writes it, or what is
/// left of one.
pub(crate) fn is_sound(operation: &Operation) -> bool {
    let id = operation.pk.get("id").and_then(SqlValue::as_text);
    let Some(id) = id.as_deref() else { return false };
    let of = id.strip_prefix(DROPPED_PREFIX).or_else(|| id.strip_prefix(renames::PREFIX));
    let Some(of) = of else { return false };
    let is_kind = |kind: &str| match id.starts_with(DROPPED_PREFIX) {
        true => kind == DROPPED,
        false => renames::Kind::ALL.iter().any(|known| known.word() == kind),
    };
    let is_right = |(column, value): (&str, &SqlValue)| {
        let Some(text) = value.as_text() else { return false };
        match column {
            "id" => id == text,
            "kind" => is_kind(&text),
            "name" => !naming::is_numbered(&text),
            "sql" => true,
            _ => false,
        }
    };
    let is_of_something = of.contains('(') && (of.ends_with(')') || of.contains(")."));
    is_of_something
        && match operation.kind {
            OperationKind::Delete => true,
            OperationKind::Insert => operation.values.iter().flatten().all(is_right),
            OperationKind::Update => false,
        }
}

/// The rows of a kind that are about a table's columns, by identity in lower case.
fn rows_of(
    connection: &Connection,
    table: &Table,
    (kind, prefix): (&str, &str),
) -> rusqlite::Result<BTreeMap<String, (String, String)>> {
    let mut select = connection.prepare_cached(
        "SELECT substr(id, 1 + length(?2)), name, sql FROM rtc_schema WHERE kind = ?1 AND substr(id, 1, length(?2)) = ?2",
    )?;
    let rows = select.query_map([kind, &format!("{prefix}{}.", table.identity())], |row| {
        Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))
    })?;
    rows.collect()
}

/// The table's columns that were dropped, by identity in lower case. Its key has no such column, whatever anybody says.
pub(crate) fn dropped(connection: &Connection, table: &Table) -> rusqlite::Result<BTreeSet<String>> {
    if planted(Bug::OldColumnsValues) {
        return Ok(BTreeSet::new());
    }
    let dropped = rows_of(connection, table, (DROPPED, DROPPED_PREFIX))?.into_keys();
    let is_key = |identity: &String| table.of_identity(identity).is_some_and(|column| table.key.contains(&column));
    Ok(dropped.filter(|identity| !is_key(identity)).collect())
}

/// What the table's columns were renamed to, by identity in lower case.
pub(crate) fn renamed(connection: &Connection, table: &Table) -> rusqlite::Result<BTreeMap<String, Renamed>> {
    let rows = rows_of(connection, table, (renames::Kind::Column.word(), renames::PREFIX))?.into_iter();
    Ok(rows.map(|(identity, (name, former))| (identity, Renamed::parse(name, &former))).collect())
}

/// The numbers of the tables of which columns were dropped or renamed.
pub(crate) fn tables_with_changes(connection: &Connection, tables: &Tables) -> rusqlite::Result<BTreeSet<i64>> {
    let mut select = connection.prepare_cached("SELECT id FROM rtc_schema WHERE kind IN (?1, ?2)")?;
    let ids = select
        .query_map([DROPPED, renames::Kind::Column.word()], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let mut changed = BTreeSet::new();
    for id in &ids {
        let column = id.strip_prefix(DROPPED_PREFIX).or_else(|| id.strip_prefix(renames::PREFIX)).unwrap_or_default();
        let of_it = |table: &&Table| column.strip_prefix(&table.identity()).is_some_and(|rest| rest.starts_with('.'));
        changed.extend(tables.of_user().filter(of_it).map(|table| table.id));
    }
    Ok(changed)
}

/// The identity that a column gets which is made by this name now.
pub(crate) fn new_identity(connection: &Connection, table: &Table, name: &str) -> rusqlite::Result<String> {
    let renamed = renamed(connection, table)?;
    let is_used = |identity: &String| {
        let folded = identity.to_ascii_lowercase();
        table.is_dropped(&folded)
            || renamed.contains_key(&folded)
            || table.columns.iter().any(|column| column.identity.eq_ignore_ascii_case(identity))
    };
    Ok((1..).map(|n| naming::numbered(name, n)).find(|identity| !is_used(identity)).unwrap_or_else(|| name.to_owned()))
}

/// Before the user's DROP COLUMN runs: what will be gone with it. Nothing where it is no stored column, which SQLite says.
pub(crate) fn look(
    connection: &Connection,
    (origins, capture): (&Origins, &Capture),
    table: &Arc<Table>,
    column: &str,
) -> Result<Option<Dropping>, StorageError> {
    let Some(column) = table.column(column).filter(|column| !table.key.contains(column)) else { return Ok(None) };
    let registers = narrow::registers(connection, origins, table, column, &capture.first_images(table))?;
    Ok(Some(Dropping { table: Arc::clone(table), column, registers }))
}

impl Dropping {
    /// Whether the column is gone: SQLite names one where it is given a constraint, too.
    pub(crate) fn is_done(&self, connection: &Connection) -> Result<bool, StorageError> {
        let after = Table::describe(connection, self.table.id, &self.table.name)?;
        Ok(after.is_some_and(|after| after.column(&self.table.columns[self.column].name).is_none()))
    }
}

/// After it ran: nobody will have the column again.
pub(crate) fn register_dropped(
    connection: &Connection,
    origins: &Origins,
    tables: &mut Tables,
    dropping: &Dropping,
) -> Result<(), StorageError> {
    let Dropping { table, column, registers } = dropping;
    let identity = &table.columns[*column].identity;
    let id = id(table, identity);
    connection.prepare_cached("DELETE FROM rtc_schema WHERE id = ?1")?.execute([&id])?;
    renames::forget(connection, &id)?;
    let insert = "INSERT INTO rtc_schema (id, kind, name, sql) VALUES (?1, ?2, ?3, '')";
    let row = params![format!("{DROPPED_PREFIX}{id}"), DROPPED, naming::made_by(identity)];
    connection.prepare_cached(insert)?.execute(row)?;
    let emptied = narrow::narrow(connection, origins, table, *column)?;
    narrow::keep(connection, *registers, &emptied)?;
    naming::forget(connection, table.id, identity)?;
    tables.describe_again(connection, &table.name)
}

/// After the user's ALTER TABLE, which added and dropped nothing: a column that is called otherwise now, if that is what it did.
pub(crate) fn register_renamed(
    connection: &Connection,
    tables: &mut Tables,
    before: &Table,
) -> Result<bool, NotSynced> {
    let after = Table::describe(connection, before.id, &before.name).map_err(StorageError::from)?;
    let Some(after) = after.filter(|after| after.columns.len() == before.columns.len() && after.key == before.key)
    else {
        return Ok(false);
    };
    let mut differing = before.columns.iter().zip(&after.columns).filter(|(before, after)| before.name != after.name);
    let (Some((column, called)), None) = (differing.next(), differing.next()) else { return Ok(false) };
    check_name(&called.name)?;
    check_addressing(before, &after)?;
    let mut register = || -> Result<(), StorageError> {
        let id = id(before, &column.identity);
        renames::write(connection, renames::Kind::Column, &id, &column.name, &called.name)?;
        naming::note(connection, before.id, &column.identity, &called.name)?;
        tables.describe_again(connection, &before.name)
    };
    register()?;
    Ok(true)
}

/// Refuses a name that looks like an identity with a number.
pub(crate) fn check_name(column: &str) -> Result<(), NotSynced> {
    if naming::is_numbered(column) {
        return Err(NotSynced::Refused(format!("{column:?} cannot be the name of a synced column")));
    }
    Ok(())
}

/// Refuses names of columns that leave none for the rowid, by which the log knows the rows.
pub(crate) fn check_addressing(before: &Table, after: &Table) -> Result<(), NotSynced> {
    if after.addressing != before.addressing && !after.addressing.is_by_rowid() {
        return Err(NotSynced::Refused(rowid_is_hidden(&before.name)));
    }
    Ok(())
}

/// Why a table cannot have its columns called so.
pub(crate) fn rowid_is_hidden(table: &str) -> String {
    format!(
        "table {table} would have columns of all three names of the rowid (rowid, oid, _rowid_): its rows could not be told apart any more"
    )
}

/// Forgets what is known of a table's columns.
pub(crate) fn forget(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    for prefix in [DROPPED_PREFIX, renames::PREFIX] {
        let delete = "DELETE FROM rtc_schema WHERE substr(id, 1, length(?1)) = ?1";
        connection.prepare_cached(delete)?.execute([format!("{prefix}{}.", table.identity())])?;
    }
    naming::forget_table(connection, table.id)
}

/// What is left of the user's text after its first statement, if that drops a column that was dropped, or renames one that was renamed.
pub(crate) fn rest_after_done<'a>(
    connection: &Connection,
    tables: &Tables,
    sql: &'a str,
) -> rusqlite::Result<Option<&'a str>> {
    for table in tables.of_user() {
        let renamed = renamed(connection, table)?;
        for identity in &table.dropped {
            let name = naming::made_by(identity);
            let is_done = |after: &[String]| matches!(after, [_]);
            if table.column(name).is_none()
                && let Some(rest) = rest_after(table, sql, name, is_done)
            {
                return Ok(Some(rest));
            }
        }
        for renamed in renamed.values() {
            for old in renamed.former.iter().filter(|old| table.column(old).is_none()) {
                let is_done = |after: &[String]| matches!(after, [_, to] if !to.eq_ignore_ascii_case(old) && renamed.was_called(to));
                if let Some(rest) = rest_after(table, sql, old, is_done) {
                    return Ok(Some(rest));
                }
            }
        }
    }
    Ok(None)
}

/// Runs the first statement of a text on a table apart that has this column beside a key, and asks whether it did it.
fn rest_after<'a>(table: &Table, sql: &'a str, column: &str, is_done: impl Fn(&[String]) -> bool) -> Option<&'a str> {
    let definitions = format!("rtc_key INTEGER PRIMARY KEY, {}", quoted(column));
    let columns_after = |text: &str| {
        let columns = apart::columns_after(&table.name, &definitions, text)?;
        Some(columns.into_iter().map(|column| column.name).collect::<Vec<_>>())
    };
    let after = apart::after_first_statement(sql, columns_after);
    after.filter(|(after, _)| is_done(after)).map(|(_, rest)| rest)
}
