//! Small things between us and rusqlite: binding, reading and quoting values, reading and running texts.

use rtc_battery_proto::SqlValue;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _};

/// Binds a [`SqlValue`] without copying it.
pub(super) struct Bind<'a>(pub(super) &'a SqlValue);

impl ToSql for Bind<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(value_ref(self.0)))
    }
}

/// A [`SqlValue`] as SQLite takes it.
pub(super) fn value_ref(value: &SqlValue) -> ValueRef<'_> {
    match value {
        SqlValue::Null => ValueRef::Null,
        SqlValue::Integer(i) => ValueRef::Integer(*i),
        SqlValue::Real(r) => ValueRef::Real(*r),
        SqlValue::Text(bytes) => ValueRef::Text(bytes),
        SqlValue::Blob(bytes) => ValueRef::Blob(bytes),
    }
}

/// Copies a value out of SQLite.
pub(super) fn value(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(i) => SqlValue::Integer(i),
        ValueRef::Real(r) => SqlValue::Real(r),
        ValueRef::Text(bytes) => SqlValue::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
    }
}

/// A name as a quoted SQL identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether a name is reserved for SQLite: no table of the user's ever has it.
pub(super) fn is_sqlites(name: &str) -> bool {
    name.get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("sqlite_"))
}

/// Whether a name is reserved for us. SQLite folds ASCII case in names.
pub(super) fn is_internal(name: &str) -> bool {
    name.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("rtc_"))
}

/// The text in the main schema of what is called so, if there is such a thing and it has one.
pub(super) fn text_of(connection: &Connection, kind: &str, name: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT sql FROM main.sqlite_schema WHERE type = ?1 AND name = ?2 COLLATE NOCASE";
    Ok(connection.query_row(select, [kind, name], |row| row.get(0)).optional()?.flatten())
}

/// Runs a text inside of a transaction, all of it or, where SQLite refuses it, nothing.
pub(super) fn run_or_undo(connection: &Connection, text: &str) -> rusqlite::Result<Result<(), String>> {
    connection.execute_batch("SAVEPOINT rtc_run")?;
    let run = connection.execute_batch(text);
    if run.is_err() {
        connection.execute_batch("ROLLBACK TO rtc_run")?;
    }
    connection.execute_batch("RELEASE rtc_run")?;
    Ok(run.map_err(|error| error.to_string()))
}
