//! Notices that a synced table gives its rows numbers by itself: two devices that are offline would give the same, and so write one row.
//!
//! SQLite takes the next free number where an `INTEGER PRIMARY KEY` is given no value, and tells nobody. But its program does: with `EXPLAIN` the statement, its
//! parameters written out, shows whether it asks for a new rowid whatever comes. A NULL that a SELECT or an expression brings is not noticed.
//!
//! A warning, once for each table: so no more is spent on it than a few programs for each table.

use std::collections::BTreeMap;

use rusqlite::{Connection, Statement};

use crate::replica::error::StorageError;
use crate::replica::schema::table::{Addressing, Table};

/// Statements that are looked at for each table.
const LOOKS: u8 = 16;

/// A statement with larger values is not looked at.
const MAX_SQL_BYTES: usize = 1 << 20;

/// What is known of tables, since the database was opened.
#[derive(Debug, Default)]
pub(crate) struct Automatic {
    /// How many looks are left, by the name in lower case.
    looks: BTreeMap<String, u8>,
    /// Tables that nobody was told of yet.
    found: Vec<String>,
}

impl Automatic {
    /// Looks at a statement that has just run for everybody, `table` being the synced one that it inserts into. What cannot be looked at is not told: a warning
    /// makes no write fail.
    pub(crate) fn look(&mut self, connection: &Connection, statement: &Statement<'_>, table: &Table) {
        let looks = self.looks.entry(table.name.to_ascii_lowercase()).or_insert(LOOKS);
        if *looks == 0 {
            return;
        }
        let may_be_rowid = table.key.len() == 1 && table.addressing != Addressing::Key;
        if !may_be_rowid || !matches!(has_key_index(connection, table), Ok(false)) {
            *looks = 0;
            return;
        }
        *looks -= 1;
        let Some(sql) = statement.expanded_sql().filter(|sql| sql.len() <= MAX_SQL_BYTES) else { return };
        if matches!(asks_for_rowid(connection, &sql, table), Ok(true)) {
            *looks = 0;
            self.found.push(table.name.clone());
        }
    }

    /// Tables that take automatic keys and that were not told of yet.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }
}

/// Whether the primary key is an index of its own, so that it is not the rowid.
fn has_key_index(connection: &Connection, table: &Table) -> Result<bool, StorageError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')";
    Ok(connection.prepare_cached(exists)?.query_row([&table.name], |row| row.get(0))?)
}

/// Whether the program of a statement asks for a new rowid of the table without having looked for one that it was given (`NotNull`).
fn asks_for_rowid(connection: &Connection, sql: &str, table: &Table) -> Result<bool, StorageError> {
    let root = "SELECT rootpage FROM main.sqlite_schema WHERE type = 'table' AND name = ?1";
    let root: i64 = connection.prepare_cached(root)?.query_row([&table.name], |row| row.get(0))?;
    let mut explain = connection.prepare(&format!("EXPLAIN {sql}"))?;
    let mut rows = explain.raw_query();
    let (mut cursor, mut before) = (None, String::new());
    while let Some(row) = rows.next()? {
        let (opcode, p1, p2, p3): (String, i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        match opcode.as_str() {
            "OpenWrite" if (p2, p3) == (root, 0) => cursor = Some(p1),
            "NewRowid" if cursor == Some(p1) && before != "NotNull" => return Ok(true),
            _ => {}
        }
        before = opcode;
    }
    Ok(false)
}
