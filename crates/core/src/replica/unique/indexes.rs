//! What a table's UNIQUE indexes beyond its key read: the columns whose newest write says how new a row is when two rows want one value.
//!
//! Plain columns are named by SQLite's pragmas. What an expression, a WHERE or a generated column reads is not; so the texts run once more in a
//! database apart, and SQLite tells its authorizer what they read. A generated column counts for every column that the table's own text reads
//! (those of its CHECKs too, which cannot be told apart there): a rank that more columns raise is the same on every device all the same.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::replica::log::columns::ColumnSet;
use crate::replica::schema::apart;
use crate::replica::schema::table::Column;
use crate::replica::sql::text_of;

/// The stored columns that UNIQUE indexes of the table read, the key's own apart; `None` where there is no such index.
pub(crate) fn columns_read(
    connection: &Connection,
    table: &str,
    columns: &[Column],
) -> rusqlite::Result<Option<ColumnSet>> {
    let mut select = connection.prepare(
        "SELECT l.name, l.partial, x.cid FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x
         WHERE l.\"unique\" AND l.origin <> 'pk' AND x.key",
    )?;
    let mut rows = select.query([table])?;
    let (mut read, mut any) = (ColumnSet::default(), false);
    let mut unclear = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let (index, partial, cid): (String, bool, i32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        any = true;
        let column = columns.iter().position(|column| column.index == cid);
        if let Some(column) = column {
            read.insert(column);
        }
        if partial || column.is_none() {
            unclear.insert(index);
        }
    }
    if !unclear.is_empty() {
        let names = names_read(connection, table, &unclear)?;
        let is_generated = |name: &String| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let counts = names.by_indexes.iter().any(is_generated).then_some(&names.by_table);
        for name in names.by_indexes.iter().chain(counts.into_iter().flatten()) {
            if let Some(column) = columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)) {
                read.insert(column);
            }
        }
    }
    Ok(any.then_some(read))
}

/// Columns by name.
struct NamesRead {
    by_table: BTreeSet<String>,
    by_indexes: BTreeSet<String>,
}

fn names_read(connection: &Connection, table: &str, indexes: &BTreeSet<String>) -> rusqlite::Result<NamesRead> {
    let read = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&read);
    let mut apart = apart::open()?;
    let of_table = table.to_owned();
    apart.authorizer(Some(move |context: AuthContext<'_>| {
        if let AuthAction::Read { table_name, column_name } = context.action
            && table_name.eq_ignore_ascii_case(&of_table)
        {
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(column_name.to_owned());
        }
        Authorization::Allow
    }))?;
    let take = || std::mem::take(&mut *read.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(text) = text_of(connection, "table", table)? {
        apart.execute_batch(&text)?;
    }
    let by_table = take();
    let mut by_indexes = BTreeSet::new();
    for index in indexes {
        match text_of(connection, "index", index)? {
            Some(text) => {
                apart.execute_batch(&text)?;
                by_indexes.append(&mut take());
            }
            // Of a constraint in the table's text, with a generated column in it.
            None => by_indexes.extend(generated_columns(connection, index)?),
        }
    }
    Ok(NamesRead { by_table, by_indexes })
}

fn generated_columns(connection: &Connection, index: &str) -> rusqlite::Result<Vec<String>> {
    let mut select =
        connection.prepare("SELECT name FROM pragma_index_xinfo(?1, 'main') WHERE key AND name NOT NULL")?;
    select.query_map([index], |row| row.get(0))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::schema::table::Table;

    #[test]
    fn what_indexes_read_counts_and_nothing_else() {
        for (columns, index, read) in [
            ("a", "", None),
            ("a UNIQUE, b", "", Some("a")),
            ("a, b, c, UNIQUE (c, A)", "", Some("a c")),
            ("a, b", "CREATE INDEX i ON t (a)", None),
            ("a, b", "CREATE UNIQUE INDEX i ON t (b COLLATE NOCASE)", Some("b")),
            ("a, b, c", "CREATE UNIQUE INDEX i ON t (b) WHERE c > 1", Some("b c")),
            ("a, b, c", "CREATE UNIQUE INDEX i ON t (lower(\"B\")); CREATE UNIQUE INDEX j ON t (a)", Some("a b")),
            ("a, b, g AS (a || '') STORED UNIQUE", "", Some("id a")),
            ("a, g AS (a || ''), b", "CREATE UNIQUE INDEX i ON t (g || 'x')", Some("id a")),
        ] {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(&format!("CREATE TABLE t (id PRIMARY KEY, {columns}); {index}")).unwrap();
            let table = Table::describe(&connection, 1, "t").unwrap().unwrap();
            let name = |column: usize| table.columns[column].name.as_str();
            let found = table.unique.as_ref().map(|read| read.iter().map(name).collect::<Vec<_>>().join(" "));
            assert_eq!(found.as_deref(), read, "{columns} {index}");
        }
    }
}
