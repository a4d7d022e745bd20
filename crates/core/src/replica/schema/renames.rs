//! A RENAME as a row of `rtc_schema`: what a table or a column is called, and what it was called before. The latest one counts.
//!
//! The row's id is that of what is renamed, so what defines it stays as it was told. The names it had before tell that the migration which every device
//! runs by itself is done.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::replica::error::StorageError;

/// How the rows' ids begin, before that of what is renamed.
pub(crate) const PREFIX: &str = "rtc_renamed ";

/// What was renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    Column,
}

/// What it was renamed to.
#[derive(Debug)]
pub(crate) struct Renamed {
    pub(crate) name: String,
    /// What it was called before, in lower case.
    pub(crate) former: BTreeSet<String>,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Table, Self::Column];

    /// As `rtc_schema.kind` says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Table => "renamed table",
            Self::Column => "renamed column",
        }
    }
}

impl Renamed {
    /// As the columns `name` and `sql` of its row say it.
    pub(crate) fn parse(name: String, former: &str) -> Self {
        Self { name, former: serde_json::from_str(former).unwrap_or_default() }
    }

    /// Whether a statement that calls it so, or called it so once, is done.
    pub(crate) fn was_called(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(&self.name) || self.former.contains(&name.to_ascii_lowercase())
    }
}

/// What the thing of this id was renamed to, if it was.
pub(crate) fn of(connection: &Connection, id: &str) -> rusqlite::Result<Option<Renamed>> {
    let mut select = connection.prepare_cached("SELECT name, sql FROM rtc_schema WHERE id = ?1")?;
    let renamed = |row: &rusqlite::Row<'_>| Ok(Renamed::parse(row.get(0)?, &row.get::<_, String>(1)?));
    select.query_row([format!("{PREFIX}{id}")], renamed).optional()
}

/// The user has renamed it.
pub(crate) fn write(connection: &Connection, kind: Kind, id: &str, from: &str, to: &str) -> Result<(), StorageError> {
    let mut former = of(connection, id)?.map(|known| known.former).unwrap_or_default();
    former.insert(from.to_ascii_lowercase());
    forget(connection, id)?;
    let former = serde_json::to_string(&former).map_err(|_| StorageError::Corrupt("the names of what was renamed"))?;
    let insert = "INSERT INTO rtc_schema (id, kind, name, sql) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(insert)?.execute(params![format!("{PREFIX}{id}"), kind.word(), to, former])?;
    Ok(())
}

/// It is gone.
pub(crate) fn forget(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM rtc_schema WHERE id = ?1")?.execute([format!("{PREFIX}{id}")])?;
    Ok(())
}
