//! `SELECT * FROM rtc_log`: the operations of the log as a person can read them.
//!
//! A TEMP view over the `rtc_*` tables and the user's own, where the values stand; so it is in no file, and a rollback takes it back together
//! with the tables it is about. It is text made from the synced tables, made when somebody asks for it and made anew where that text has
//! changed: who never asks pays nothing.
//!
//! Invariant: it tells the same operations as [`delta`](super::delta) does from nothing. Nothing else reads it.

use std::sync::Arc;

use rtc_battery_proto::{Columns, SqlValue};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error, OptionalExtension as _};

use super::columns::ColumnSet;
use crate::replica::error::StorageError;
use crate::replica::schema::table::{Addressing, Column, Table};
use crate::replica::sql::{quoted, value_ref};

/// Its name.
const NAME: &str = "rtc_log";

/// Most text about single tables, a thousand tables or more. The operations of tables beyond it are shown as they are stored: whoever makes
/// tables on end must not make each CREATE TABLE slower than the last.
const MAX_TEXT_BYTES: usize = 1_000_000;

/// Members of one UNION ALL, each of which may be one itself. SQLite takes 500, a level of recursion for each; a browser's stack is small.
const MAX_MEMBERS: usize = 32;

/// Arguments of one call: SQLite takes 1,000 (127 in older builds).
const MAX_ARGUMENTS: usize = 100;

/// Makes what the view calls. No schema but a TEMP one can call them: an exported file needs nothing of ours.
pub(crate) fn create_functions(connection: &Connection) -> Result<(), StorageError> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("rtc_place", 2, flags, place)?;
    connection.create_scalar_function("rtc_value", 2, flags, value)?;
    Ok(())
}

/// Whether SQL may be about the view.
pub(crate) fn is_named_in(sql: &str) -> bool {
    sql.as_bytes().windows(NAME.len()).any(|part| part.eq_ignore_ascii_case(NAME.as_bytes()))
}

/// Makes the view of these tables, unless it is there.
pub(crate) fn create<'a>(
    connection: &Connection,
    tables: impl IntoIterator<Item = &'a Arc<Table>>,
) -> Result<(), StorageError> {
    let text = text(tables.into_iter().map(Arc::as_ref), MAX_TEXT_BYTES);
    let known = "SELECT sql FROM temp.sqlite_schema WHERE type = 'view' AND name = ?1";
    let known: Option<String> = connection.query_row(known, [NAME], |row| row.get(0)).optional()?;
    if known.is_none_or(|known| known.strip_prefix("CREATE VIEW ") != Some(text.as_str())) {
        connection.execute_batch(&format!("DROP VIEW IF EXISTS temp.{NAME}; CREATE TEMP VIEW {text}"))?;
    }
    Ok(())
}

/// Takes it away: what it names would stand in the way of an ALTER TABLE.
pub(crate) fn remove(connection: &Connection) -> Result<(), StorageError> {
    Ok(connection.execute_batch(&format!("DROP VIEW IF EXISTS temp.{NAME}"))?)
}

/// Makes it anew if it is there: a view of what is gone stands in the way of who renames something.
pub(crate) fn refresh<'a>(
    connection: &Connection,
    tables: impl IntoIterator<Item = &'a Arc<Table>>,
) -> Result<(), StorageError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM temp.sqlite_schema WHERE type = 'view' AND name = ?1)";
    if connection.prepare_cached(exists)?.query_row([NAME], |row| row.get(0))? {
        create(connection, tables)?;
    }
    Ok(())
}

/// The view's definition from its name on.
fn text<'a>(tables: impl Iterator<Item = &'a Table>, max_bytes: usize) -> String {
    let set_aside = WAITING.replace("rtc_waiting", "rtc_quarantine").replace("w.tbl", "w.operation ->> '$.table'");
    let (mut members, mut bytes, mut as_stored) = (vec![WAITING.to_owned(), set_aside], 0, Vec::new());
    for table in tables {
        let member = member(table);
        if bytes + member.len() > max_bytes {
            as_stored.push(table.id.to_string());
            continue;
        }
        bytes += member.len();
        members.push(member);
    }
    if !as_stored.is_empty() {
        members.push(format!("{AS_STORED} IN ({})", as_stored.join(", ")));
    }
    while members.len() > MAX_MEMBERS {
        let group = |group: &[String]| format!("SELECT * FROM ({})", group.join("\nUNION ALL "));
        members = members.chunks(MAX_MEMBERS).map(group).collect();
    }
    let members = members.join("\nUNION ALL ");
    format!("{NAME} {HEAD} FROM (\n{members}\n) l {JOINS}")
}

/// Who wrote when, from the transaction's clock or the operation's own. (JSON5 is the one place where SQLite reads a hexadecimal text.)
const HEAD: &str = r#"("when", counter, node, seq, idx, type, "table", pk, "values", adopted_by, waits) AS
SELECT strftime('%Y-%m-%dT%H:%M:%fZ',
    iif(hlc IS NULL, x.ts + ((x.counter + idx) >> 32), '0x' || substr(hlc, 1, 12) ->> '$') / 1000.0, 'unixepoch'),
  iif(hlc IS NULL, (x.counter + idx) & 4294967295, '0x' || substr(hlc, 14, 8) ->> '$'),
  iif(hlc IS NULL, n.node, substr(hlc, 23)), l.seq, idx, type, l.tbl, pk, vals, iif(adopted, n.node, NULL), waits"#;

const JOINS: &str = "CROSS JOIN main.rtc_transactions x ON x.origin = l.origin AND x.seq = l.seq
CROSS JOIN main.rtc_origins n ON n.id = l.origin";

/// What waits for its table or column is kept whole, as JSON, and so is what is set aside.
const WAITING: &str = r#"SELECT w.origin AS origin, w.seq AS seq, w.idx AS idx, w.operation ->> '$.type' AS type, w.tbl AS tbl,
  (SELECT group_concat(iif(key GLOB '[A-Za-z_]*' AND key NOT GLOB '*[^A-Za-z0-9_]*', key, format('"%w"', key)) || ' = '
    || quote(rtc_value(w.operation -> '$.pk', key)), ', ' ORDER BY key) FROM json_each(w.operation, '$.pk')) AS pk,
  iif(w.operation ->> '$.type' = 'DELETE', NULL, coalesce(
    (SELECT group_concat(iif(key GLOB '[A-Za-z_]*' AND key NOT GLOB '*[^A-Za-z0-9_]*', key, format('"%w"', key)) || ' = '
    || quote(rtc_value(w.operation -> '$.values', key)), ', ' ORDER BY key) FROM json_each(w.operation, '$.values')), '')) AS vals,
  w.hlc AS hlc, w.operation -> '$.adopted' IS NOT NULL AS adopted, 1 AS waits
FROM main.rtc_waiting w"#;

/// Operations of the tables that come after this text.
const AS_STORED: &str =
    "SELECT o.origin, o.seq, o.idx, CASE o.kind WHEN 1 THEN 'INSERT' WHEN 2 THEN 'UPDATE' ELSE 'DELETE' END,
  s.name, o.row, o.vals, o.hlc, o.hlc IS NOT NULL, 0
FROM main.rtc_operations o CROSS JOIN main.rtc_tables s ON s.id = o.tbl WHERE o.tbl";

/// The operations of one table. The row is looked at where `delta` does.
fn member(table: &Table) -> String {
    let key = |(n, column): (usize, &usize)| {
        let name = &table.columns[*column].name;
        let cell = quoted(name);
        labelled(name, &format!("quote(coalesce(t.{cell}, rtc_value(o.row, {n})))"))
    };
    let pk: Vec<String> = table.key.iter().enumerate().map(key).collect();
    let row = match &table.addressing {
        Addressing::Rowid(rowid) => format!("t.{rowid} = o.row"),
        Addressing::Key => {
            let equals = |(n, column): (usize, &usize)| {
                format!("t.{}", table.columns[*column].equals(&format!("rtc_value(o.row, {n})")))
            };
            let key: Vec<String> = table.key.iter().enumerate().map(equals).collect();
            format!("o.vals IS NULL AND o.cols <> 0 AND {}", key.join(" AND "))
        }
    };
    let written = |(n, column): (usize, &Column)| {
        let place = format!("rtc_place(o.cols, {n})");
        let cell = quoted(&column.name);
        let value =
            labelled(&column.name, &format!("quote(iif(o.vals IS NULL, t.{cell}, rtc_value(o.vals, {place})))"));
        format!("iif({place} IS NULL, NULL, {value})")
    };
    let values: Vec<String> = table.columns.iter().enumerate().map(written).collect();
    format!(
        "SELECT o.origin, o.seq, o.idx, CASE o.kind WHEN 1 THEN 'INSERT' WHEN 2 THEN 'UPDATE' ELSE 'DELETE' END,
  {name}, {pk}, iif(o.kind = 3, NULL, {values}), o.hlc, o.hlc IS NOT NULL, 0
FROM main.rtc_operations o LEFT JOIN main.{table} t ON {row} WHERE o.tbl = {id}",
        name = literal(&table.name),
        pk = list(&pk),
        values = list(&values),
        table = quoted(&table.name),
        id = table.id
    )
}

/// `column = value`, the name quoted where SQL would want it.
fn labelled(column: &str, value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_plain = column.chars().all(plain) && !column.starts_with(|c: char| c.is_ascii_digit());
    let name = if is_plain { column.to_owned() } else { quoted(column) };
    format!("{} || {value}", literal(&format!("{name} = ")))
}

/// Those that are not NULL, with commas between them.
fn list(items: &[String]) -> String {
    let join = |items: &[String]| format!("concat_ws(', ', {})", items.join(", "));
    if items.len() <= MAX_ARGUMENTS {
        return join(items);
    }
    let part = |items: &[String]| format!("nullif({}, '')", join(items));
    list(&items.chunks(MAX_ARGUMENTS).map(part).collect::<Vec<_>>())
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `rtc_place(cols, column)`: which of an operation's values is the column's; NULL if none is.
fn place(context: &Context<'_>) -> rusqlite::Result<Option<usize>> {
    let (columns, column): (ColumnSet, usize) = (context.get(0)?, context.get(1)?);
    Ok(columns.iter().position(|written| written == column))
}

/// `rtc_value(json, place)`: a value of an array by its place, or of an object by its name; NULL if there is none.
fn value(context: &Context<'_>) -> rusqlite::Result<Returned> {
    // An operation of a row that the user's open transaction deleted has no text here.
    let Ok(json) = context.get_raw(0).as_str() else { return Ok(Returned(SqlValue::Null)) };
    let wrong = |error: serde_json::Error| Error::UserFunctionError(error.into());
    let value = match context.get_raw(1) {
        ValueRef::Text(name) => {
            let columns: Columns = serde_json::from_str(json).map_err(wrong)?;
            columns.get(&String::from_utf8_lossy(name)).cloned()
        }
        ValueRef::Integer(place) => {
            let mut values: Vec<SqlValue> = serde_json::from_str(json).map_err(wrong)?;
            usize::try_from(place).ok().filter(|place| *place < values.len()).map(|place| values.swap_remove(place))
        }
        _ => None,
    };
    Ok(Returned(value.unwrap_or(SqlValue::Null)))
}

/// A value on its way back to SQLite.
struct Returned(SqlValue);

impl ToSql for Returned {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(value_ref(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use rtc_battery_proto::ReplicaId;

    use super::*;
    use crate::replica::log::store;

    /// A database of so many tables, each with one operation.
    fn database(count: i64) -> (Connection, Vec<Table>) {
        let connection = Connection::open_in_memory().unwrap();
        store::initialize(&connection, "room", &ReplicaId::from_random(1)).unwrap();
        create_functions(&connection).unwrap();
        let fill = "BEGIN; INSERT INTO rtc_origins VALUES (1, 'a', '[]'); INSERT INTO rtc_transactions VALUES (1, 1, 0, 0, 1, NULL, NULL, NULL)";
        connection.execute_batch(fill).unwrap();
        let describe = |n: i64| {
            let name = format!("t{n}");
            let fill = format!(
                "CREATE TABLE {name} (k PRIMARY KEY, v); INSERT INTO {name} VALUES (1, 2); INSERT INTO rtc_tables VALUES ({n}, '{name}');
                 INSERT INTO rtc_operations VALUES ({n}, 1, 1, 1, {n}, 1, 1, 3, NULL, NULL)"
            );
            connection.execute_batch(&fill).unwrap();
            Table::describe(&connection, n, &name).unwrap().unwrap()
        };
        let tables = (2..count + 2).map(describe).collect();
        connection.execute_batch("COMMIT").unwrap();
        (connection, tables)
    }

    fn count(connection: &Connection, text: &str, values: &str) -> i64 {
        connection.execute_batch(&format!("DROP VIEW IF EXISTS temp.rtc_log; CREATE TEMP VIEW {text}")).unwrap();
        let all = "SELECT * FROM rtc_log ORDER BY \"when\", counter";
        let count = format!("SELECT count(*) FROM ({all}) WHERE \"values\" IS {values}");
        connection.query_row(&count, [], |row| row.get(0)).unwrap()
    }

    /// On a stack as small as a browser's.
    #[test]
    fn any_number_of_tables_can_be_read() {
        let run = || {
            let (connection, tables) = database(1100);
            let text = text(tables.iter(), usize::MAX);
            assert_eq!(count(&connection, &text, "'k = 1, v = 2'"), 1100);
        };
        std::thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn tables_beyond_the_text_are_shown_as_stored() {
        let (connection, tables) = database(10);
        let text = text(tables.iter(), 3000);
        let whole = count(&connection, &text, "'k = 1, v = 2'");
        assert!((1..10).contains(&whole), "{whole}");
        assert_eq!(count(&connection, &text, "NULL"), 10 - whole);
    }
}
