//! `ALTER TABLE ... ADD COLUMN` as data: a row of `rtc_schema` for each added column, so that columns which two devices add at once both stand.
//!
//! A row's id is the table's identity and the column's, see [`naming`]: the migration that every device runs by itself is one row. Adding a column makes no
//! operation on any row of the table: a column that nobody wrote shows its constant default. One that SQLite takes for an empty table only (NOT NULL without a
//! default, a default that is a clock) is [filled](super::refill) where there are rows; one whose default is another expression is refused where it is
//! written, since it would have another value on each device.
//!
//! A received definition is hostile until SQLite, in a database apart, has added just this column by it.

use std::sync::Arc;

use rtc_battery_proto::SqlValue;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, params};

use super::apart;
use super::columns;
use super::naming;
use super::table::{Affinity, Column, Default, Table};
use super::tables::{self, NotSynced, Tables};
use crate::replica::error::StorageError;
use crate::replica::sql::{quoted, run_or_undo, text_of, value};

/// What an added column shows in rows that were there.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) identity: String,
    pub(crate) default: SqlValue,
}

/// The table whose column a row of `rtc_schema` is about, and the column's identity, which is the name that it was made by or that with a number.
pub(crate) fn column_of<'a, 'b>(tables: &'a Tables, row_id: &'b str, column: &str) -> Option<(&'a Table, &'b str)> {
    tables.of_user().find_map(|table| {
        let identity = row_id.strip_prefix(&table.identity())?.strip_prefix('.')?;
        naming::made_by(identity).eq_ignore_ascii_case(column).then_some((table, identity))
    })
}

/// Whether a row of `rtc_schema` can be one for an added column.
pub(crate) fn is_sound(row_id: &str, column: &str) -> bool {
    let column = column.to_ascii_lowercase();
    let ends = |at: usize| naming::made_by(&row_id[at + 2..]) == column;
    row_id.contains('(') && !naming::is_numbered(&column) && row_id.match_indices(").").any(|(at, _)| ends(at))
}

/// After the user's ALTER TABLE ran on a synced table that had the text `before`: makes the added column a synced one.
pub(crate) fn register_added(
    connection: &Connection,
    tables: &mut Tables,
    name: &str,
    before: &str,
) -> Result<Added, NotSynced> {
    let other = || {
        let message = format!(
            "this ALTER TABLE is not replicated yet, and {name} is a synced table; create another one, copy the rows, drop the old one \
             and rename the new one, all in one transaction"
        );
        NotSynced::Refused(message)
    };
    let known = Arc::clone(tables.by_name(name).ok_or_else(other)?);
    let after = text_of(connection, "table", name).map_err(StorageError::from)?.ok_or_else(other)?;
    let table = tables::describe(connection, known.id, name)?.ok_or_else(other)?;
    let column = match table.columns.split_last() {
        Some((added, rest)) if *rest == *known.columns && table.key == known.key && table.name == known.name => added,
        _ => return Err(other()),
    };
    let definition = inserted(before, &after).ok_or_else(other)?;
    columns::check_name(&column.name)?;
    columns::check_addressing(&known, &table)?;
    check_apart(&column.name, definition, true).map_err(|why| {
        NotSynced::Refused(format!("column {} cannot be added on devices that have rows in {name}: {why}", column.name))
    })?;
    let identity = columns::new_identity(connection, &known, &column.name).map_err(StorageError::from)?;
    let default = default_of(connection, column)?;
    let insert = "INSERT OR IGNORE INTO rtc_schema (id, kind, name, sql) VALUES (?1, 'column', ?2, ?3)";
    let row = params![columns::id(&known, &identity), column.name, definition];
    connection.prepare_cached(insert).and_then(|mut insert| insert.execute(row)).map_err(StorageError::from)?;
    naming::note(connection, known.id, &identity, &column.name).map_err(StorageError::from)?;
    tables.describe_again(connection, name)?;
    Ok(Added { identity, default })
}

/// What the column shows where nobody wrote it. Where a row says it, there was none when it was added.
fn default_of(connection: &Connection, column: &Column) -> Result<SqlValue, StorageError> {
    match &column.default {
        Default::Constant(value) => Ok(column.affinity.stored(connection, value)?),
        Default::CurrentTime | Default::CurrentDate | Default::CurrentTimestamp => Ok(SqlValue::Null),
    }
}

/// What SQLite inserted into a table's text: the column's definition, as it was written.
pub(super) fn inserted<'a>(before: &str, after: &'a str) -> Option<&'a str> {
    let length = after.len().checked_sub(before.len())?;
    let common = before.bytes().zip(after.bytes()).take_while(|(before, after)| before == after).count();
    // What was inserted may begin as what follows it does.
    let at = (0..=common).rev().find(|at| {
        after.get(at + length..) == before.get(*at..) && after.get(*at..).is_some_and(|rest| rest.starts_with(','))
    })?;
    Some(after.get(at + 1..at + length)?.trim())
}

/// What is left of the user's text after its first statement, if that adds a column that is there already, by the same definition.
pub(crate) fn rest_after_done<'a>(
    connection: &Connection,
    tables: &Tables,
    sql: &'a str,
) -> rusqlite::Result<Option<&'a str>> {
    let mut select = connection.prepare("SELECT id, name, sql FROM rtc_schema WHERE kind = 'column'")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (row_id, name, definition): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let Some((table, _)) = column_of(tables, &row_id, &name) else { continue };
        let columns_after = |text: &str| apart::columns_after(&table.name, APART, text);
        let Some(by_row) = columns_after(&alter(&table.name, &definition)) else { continue };
        let statement = apart::after_first_statement(sql, columns_after);
        if let Some((_, rest)) = statement.filter(|(by_user, _)| *by_user == by_row) {
            return Ok(Some(rest));
        }
    }
    Ok(None)
}

/// The key of the table that stands for a table in a database apart.
const APART: &str = "rtc_key INTEGER PRIMARY KEY";

fn alter(table: &str, definition: &str) -> String {
    format!("ALTER TABLE {} ADD COLUMN {definition}", quoted(table))
}

/// A column that a peer added: adds it here by the name it was made by, if its definition is what it must be. Gives the reason if it is not, and
/// whether only the rows are in its way.
pub(crate) fn add_received(
    connection: &Connection,
    table: &str,
    column: &str,
    definition: &str,
) -> Result<Result<(), NotAdded>, StorageError> {
    let fits = match check_apart(column, definition, false) {
        Ok(fits) => fits,
        Err(why) => {
            let why = format!("the definition of column {column} of table {table} was refused: {why}");
            return Ok(Err(NotAdded { why, for_rows: false }));
        }
    };
    let text = format!("ALTER TABLE main.{} ADD COLUMN {definition}", quoted(table));
    let run = run_or_undo(connection, &text)?;
    let why = |why: String| format!("column {column} cannot be added to table {table} here: {why}");
    Ok(run.map_err(|error| NotAdded { why: why(error), for_rows: fits == Fits::Empty }))
}

/// Whether a peer's definition of a column is one.
pub(crate) fn check_received(column: &str, definition: &str) -> Result<(), String> {
    check_apart(column, definition, false).map(|_| ())
}

/// The definitions of the columns that were added to a table, by identity in lower case.
pub(super) fn definitions(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<(String, String)>> {
    let select = "SELECT substr(id, 1 + length(?1)), sql FROM rtc_schema WHERE kind = 'column' AND substr(id, 1, length(?1)) = ?1";
    let mut select = connection.prepare_cached(select)?;
    let rows = select.query_map([columns::id(table, "")], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// A table apart that has a key and this column.
pub(super) fn table_with(definition: &str, strict: bool) -> Option<(Connection, Table)> {
    let strict = if strict { " STRICT" } else { "" };
    let apart = add_apart(definition, false, &format!("CREATE TABLE t ({APART}){strict}")).ok()?;
    let table = Table::describe(&apart, 0, "t").ok()??;
    Some((apart, table))
}

/// Why a column was not added.
#[derive(Debug)]
pub(crate) struct NotAdded {
    pub(crate) why: String,
    /// Whether an empty table would take it.
    pub(crate) for_rows: bool,
}

/// Which tables take a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fits {
    Any,
    Empty,
}

/// Lets SQLite say whether a text defines one column of this name and nothing else.
fn check_apart(column: &str, definition: &str, own: bool) -> Result<Fits, String> {
    let added = add_apart(definition, own, &format!("CREATE TABLE t ({APART}); INSERT INTO t VALUES (1)"));
    let (apart, fits) = match added {
        Ok(apart) => (apart, Fits::Any),
        Err(why) => match add_apart(definition, own, &format!("CREATE TABLE t ({APART})")) {
            Ok(apart) => (apart, Fits::Empty),
            Err(_) => return Err(why),
        },
    };
    let told = |error: rusqlite::Error| error.to_string();
    let table = Table::describe(&apart, 0, "t").map_err(told)?;
    let columns = table.map(|table| table.columns).unwrap_or_default();
    let [_, added] = columns.as_slice() else { return Err("it is not one stored column".to_owned()) };
    if added.name != column {
        return Err("it is a column of another name".to_owned());
    }
    let is_known = match fits {
        Fits::Any => {
            Affinity::create_oracle(&apart).map_err(told)?;
            let select = format!("SELECT {} FROM t", quoted(column));
            let shown = apart.query_row(&select, [], |row| Ok(value(row.get_ref(0)?))).map_err(told)?;
            shown == default_of(&apart, added).map_err(|error| error.to_string())?
        }
        Fits::Empty => {
            let default = "SELECT dflt_value FROM pragma_table_xinfo('t') WHERE name = ?1";
            let default = apart.query_row(default, [column], |row| row.get::<_, Option<String>>(0)).map_err(told)?;
            !matches!(added.default, Default::Constant(_)) || default.is_none()
        }
    };
    if is_known { Ok(fits) } else { Err("its default is an expression".to_owned()) }
}

fn add_apart(definition: &str, own: bool, table: &str) -> Result<Connection, String> {
    let told = |error: rusqlite::Error| error.to_string();
    let mut apart = apart::open().map_err(told)?;
    apart.execute_batch(table).map_err(told)?;
    if !own {
        apart.authorizer(Some(only_add_column)).map_err(told)?;
    }
    apart::run_one_statement(&apart, &alter("t", definition))?;
    apart.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(told)?;
    Ok(apart)
}

fn only_add_column(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::AlterTable { .. }
        | AuthAction::Read { .. }
        | AuthAction::Select
        | AuthAction::Function { .. }
        | AuthAction::Reindex { .. } => Authorization::Allow,
        // How SQLite looks whether the rows that are there fit a CHECK.
        AuthAction::Pragma { pragma_name: "quick_check", .. } => Authorization::Allow,
        ref action if apart::writes_schema(action) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_columns_definition_is_what_was_inserted() {
        let cases = [
            ("CREATE TABLE t (a)", "c TEXT DEFAULT ', ('"),
            ("CREATE TABLE t (a, b)", "b2"),
            ("CREATE TABLE t (a PRIMARY KEY, b) WITHOUT ROWID", "c CHECK (c > 0)"),
            ("CREATE TABLE t (a, b INT, PRIMARY KEY (a))", "\"x, y\" INT"),
            ("CREATE TABLE t (a /* , */ )", "b /* so */"),
        ];
        for (before, definition) in cases {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(before).unwrap();
            let before = text_of(&connection, "table", "t").unwrap().unwrap();
            connection.execute_batch(&alter("t", definition)).unwrap();
            let after = text_of(&connection, "table", "T").unwrap().unwrap();
            assert_eq!(inserted(&before, &after), Some(definition), "{after}");
        }
    }
}
