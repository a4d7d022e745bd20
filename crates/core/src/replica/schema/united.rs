//! Two definitions of one table: devices that created it by themselves, from different versions of an application, all get the columns of both.
//!
//! Of the texts of one table `rtc_schema` keeps the newest, which says how columns of both are [defined](super::redefined). Columns of it that the table lacks
//! here are added like any other; and columns of ours that it does not have, and no row of `rtc_schema` says, are told as rows of their own, as if they had been
//! added: by everybody who has them, under one id, so the rows are one.

use rusqlite::{Connection, params};

use super::alter;
use super::apart;
use super::columns;
use super::naming;
use super::table::Table;
use super::tables::Tables;
use crate::replica::error::StorageError;
use crate::replica::sql::{quoted, text_of};

/// A column of a CREATE TABLE.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// As ADD COLUMN takes it.
    pub(crate) definition: String,
}

/// The columns of the text that `rtc_schema` has of a table which the table lacks.
pub(crate) fn lacking(connection: &Connection, table: &Table) -> Result<Vec<Column>, StorageError> {
    let Some(theirs) = newest(connection, table)? else { return Ok(Vec::new()) };
    let theirs = described(&theirs);
    Ok(theirs.map(|theirs| columns_but(&theirs, |name| table.of_identity(name).is_some())).unwrap_or_default())
}

/// Whether there are [untold](tell) columns.
pub(crate) fn any_untold(connection: &Connection, tables: &Tables) -> Result<bool, StorageError> {
    for table in tables.of_user() {
        if !untold(connection, table)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the rows of columns that are here and that `rtc_schema` does not have.
pub(crate) fn tell(connection: &Connection, tables: &Tables) -> Result<(), StorageError> {
    for table in tables.of_user() {
        for Column { name, definition } in untold(connection, table)? {
            let insert = "INSERT OR IGNORE INTO rtc_schema (id, kind, name, sql) VALUES (?1, 'column', ?2, ?3)";
            connection.prepare_cached(insert)?.execute(params![columns::id(table, &name), name, definition])?;
        }
    }
    Ok(())
}

/// The columns that are here, and that neither the text nor a row of `rtc_schema` says.
pub(super) fn untold(connection: &Connection, table: &Table) -> Result<Vec<Column>, StorageError> {
    let Some(theirs) = newest(connection, table)? else { return Ok(Vec::new()) };
    let theirs = names(&theirs).unwrap_or_default();
    let text = text_of(connection, "table", &table.name)?;
    let Some(ours) = text.and_then(|text| as_made(&text, table)) else { return Ok(Vec::new()) };
    let is_made_here = |name: &str| table.columns.iter().any(|column| *column.identity == *name);
    let is_told = |name: &str| theirs.iter().any(|theirs| theirs.eq_ignore_ascii_case(name)) || !is_made_here(name);
    let mut select = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM rtc_schema WHERE id = ?1)")?;
    let mut left = Vec::new();
    for column in columns_but(&ours, is_told) {
        if !select.query_row([columns::id(table, &column.name)], |row| row.get::<_, bool>(0))? {
            left.push(column);
        }
    }
    Ok(left)
}

/// The text that `rtc_schema` has of a table, where it is not the one that the table was made by.
pub(super) fn newest(connection: &Connection, table: &Table) -> rusqlite::Result<Option<String>> {
    let select = "SELECT r.sql FROM rtc_schema r JOIN main.sqlite_schema s ON s.type = 'table' AND s.name = ?2 COLLATE NOCASE WHERE r.id = ?1 AND r.sql <> s.sql";
    let mut select = connection.prepare_cached(select)?;
    let mut rows = select.query([&table.identity(), &table.name])?;
    rows.next()?.map(|row| row.get(0)).transpose()
}

/// The names of the columns that a text makes.
fn names(text: &str) -> Option<Vec<String>> {
    Some(described(text)?.1.columns.into_iter().map(|column| column.name).collect())
}

/// The columns that a table apart has beside its key and those of these names.
fn columns_but((apart, table): &(Connection, Table), is_left_out: impl Fn(&str) -> bool) -> Vec<Column> {
    let beside_key =
        table.columns.iter().enumerate().filter(|(n, column)| !table.key.contains(n) && !is_left_out(&column.name));
    let column = |name: &str| Some(Column { definition: definition(apart, &table.name, name)?, name: name.to_owned() });
    beside_key.filter_map(|(_, made)| column(&made.name)).collect()
}

/// The table of this text, in a database apart, its columns called as they were made.
fn as_made(text: &str, table: &Table) -> Option<(Connection, Table)> {
    let (apart, _) = described(text)?;
    let renamed = table.columns.iter().filter(|column| column.name != *column.identity);
    // All of them away first, since one may have the name of another.
    let away = |n: usize| format!("{} {n}", naming::MOVING);
    for (n, column) in renamed.clone().enumerate() {
        apart.execute_batch(&rename(&table.name, &column.name, &away(n))).ok()?;
    }
    for (n, column) in renamed.enumerate() {
        apart.execute_batch(&rename(&table.name, &away(n), &column.identity)).ok()?;
    }
    let made = Table::describe(&apart, 0, &table.name).ok()??;
    Some((apart, made))
}

fn rename(table: &str, from: &str, to: &str) -> String {
    format!("ALTER TABLE {} RENAME COLUMN {} TO {}", quoted(table), quoted(from), quoted(to))
}

/// The table of a text, in a database apart.
pub(super) fn described(text: &str) -> Option<(Connection, Table)> {
    let apart = apart::create_table(text).ok()?;
    let name = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'";
    let name: String = apart.query_row(name, [], |row| row.get(0)).ok()?;
    let table = Table::describe(&apart, 0, &name).ok()??;
    Some((apart, table))
}

/// A column's definition as it is written, which is what goes with its comma when the column is dropped. SQLite drops none that a constraint names, and the first
/// has no comma; then it is what can be added: type, NOT NULL and DEFAULT.
fn definition(apart: &Connection, table: &str, column: &str) -> Option<String> {
    let text = || text_of(apart, "table", table).ok()?;
    let whole = text()?;
    apart.execute_batch("SAVEPOINT rtc_without").ok()?;
    let drop = format!("ALTER TABLE {} DROP COLUMN {}", quoted(table), quoted(column));
    let written = apart.execute_batch(&drop).ok().and_then(|()| alter::inserted(&text()?, &whole).map(str::to_owned));
    apart.execute_batch("ROLLBACK TO rtc_without; RELEASE rtc_without").ok()?;
    let declared = || {
        let select = "SELECT type, \"notnull\", dflt_value FROM pragma_table_xinfo(?1) WHERE name = ?2";
        let read =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?));
        let (declared, not_null, default) = apart.query_row(select, [table, column], read).ok()?;
        let declared = if declared.is_empty() { declared } else { format!(" {declared}") };
        let not_null = if not_null { " NOT NULL" } else { "" };
        let default = default.map(|default| format!(" DEFAULT {default}")).unwrap_or_default();
        Some(format!("{}{declared}{not_null}{default}", quoted(column)))
    };
    written.or_else(declared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_defined_as_they_were_written() {
        let text = "CREATE TABLE \"a b\" (x TEXT DEFAULT ', (', id PRIMARY KEY, \"y, z\" INT NOT NULL DEFAULT 7 COLLATE nocase, u UNIQUE,
                    g INT AS (id), k CHECK (k > 0), c INT NOT NULL DEFAULT (1), l REFERENCES t (l), CHECK (c > 0))";
        let columns = columns_but(&described(text).unwrap(), |name| name == "k");
        let columns: Vec<_> = columns.iter().map(|column| (column.name.as_str(), column.definition.as_str())).collect();
        let expected = [
            ("x", "\"x\" TEXT DEFAULT ', ('"),
            ("y, z", "\"y, z\" INT NOT NULL DEFAULT 7 COLLATE nocase"),
            ("u", "\"u\""),
            ("c", "\"c\" INT NOT NULL DEFAULT 1"),
            ("l", "l REFERENCES t (l)"),
        ];
        assert_eq!(columns, expected);
        assert!(described("CREATE TABLE t AS SELECT 1").is_none());
    }
}
