//! One of the user's statements: its parameters bound, stepped to its end, its rows taken as far as memory allows.

use rtc_battery_proto::SqlValue;
use rusqlite::{Connection, Statement, ffi};

use super::guard::Facts;
use super::query::{Params, QueryResult, SqlError};
use crate::replica::limits::{MAX_RESULT_BYTES, within_user_limit};
use crate::replica::sql::{Bind, value};

/// Steps a statement to its end.
pub(crate) fn step(
    statement: &mut Statement<'_>,
    facts: &Facts,
    connection: &Connection,
    result: &mut QueryResult,
) -> Result<(), SqlError> {
    let mut rows = || {
        let mut rows = statement.raw_query();
        let mut values = Vec::new();
        let mut left_bytes = MAX_RESULT_BYTES;
        while let Some(row) = rows.next()? {
            let columns = AsRef::<Statement<'_>>::as_ref(row).column_count();
            let row = (0..columns).map(|column| Ok(value(row.get_ref(column)?)));
            let row = row.collect::<rusqlite::Result<Vec<_>>>()?;
            left_bytes = left_bytes.checked_sub(row_bytes(&row)).ok_or_else(too_large)?;
            values.push(row);
        }
        Ok::<_, SqlError>(values)
    };
    // What is only read may be longer: the literal of a large blob, for example.
    let values = if facts.writes_rows { within_user_limit(connection, rows)? } else { rows()? };
    // Only now: where the schema has changed since it was compiled, SQLite has compiled it anew, and `SELECT *` has other columns.
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    if !columns.is_empty() {
        (result.columns, result.values) = (columns, values);
    }
    if facts.writes_rows && !facts.changes_schema {
        result.rows_affected += connection.changes();
    }
    Ok(())
}

/// What a row of a result takes in memory.
fn row_bytes(row: &[SqlValue]) -> usize {
    let outside = |value: &SqlValue| match value {
        SqlValue::Text(bytes) | SqlValue::Blob(bytes) => bytes.len(),
        SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) => 0,
    };
    size_of::<Vec<SqlValue>>() + size_of_val(row) + row.iter().map(outside).sum::<usize>()
}

fn too_large() -> SqlError {
    let message =
        format!("the result takes more than {MAX_RESULT_BYTES} bytes; ask for less of it, for example with LIMIT");
    SqlError { message, code: ffi::SQLITE_TOOBIG }
}

/// Binds one statement's parameters. `taken` counts the positional ones that statements before it used.
pub(crate) fn bind(statement: &mut Statement<'_>, params: &Params, taken: &mut usize) -> Result<(), SqlError> {
    let count = statement.parameter_count();
    let missing = |what: String| SqlError {
        message: format!("no value was given for parameter {what}"),
        code: ffi::SQLITE_RANGE,
    };
    match params {
        Params::None if count == 0 => {}
        Params::None => return Err(missing("1".to_owned())),
        Params::Positional(values) => {
            for n in 1..=count {
                let value = values.get(*taken + n - 1).ok_or_else(|| missing((*taken + n).to_string()))?;
                statement.raw_bind_parameter(n, Bind(value))?;
            }
            *taken += count;
        }
        Params::Named(values) => {
            for n in 1..=count {
                let name = statement.parameter_name(n).unwrap_or_default().to_owned();
                let bare = name.get(1..).unwrap_or_default();
                let given = |(given, _): &&(String, SqlValue)| *given == name || given == bare;
                let (_, value) = values.iter().find(given).ok_or_else(|| {
                    missing(if name.is_empty() { format!("{n}, which has no name") } else { name.clone() })
                })?;
                statement.raw_bind_parameter(n, Bind(value))?;
            }
        }
    }
    Ok(())
}
