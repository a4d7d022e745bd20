//! Whether a table is another than its newest text makes: devices that made it, or added a column to it, by themselves and from different versions of an
//! application. Of the texts of one table, and of one column, `rtc_schema` keeps the newest, which is what makes them on a device that comes later; who has
//! them by another text makes the table anew ([`dropped`](super::dropped)).
//!
//! Compared is what decides which rows are shown, and how: types, NOT NULL, DEFAULT and collations of columns, UNIQUE, STRICT and WITHOUT ROWID. CHECKs, foreign
//! keys and generated columns bind who writes here, and are what they were. A column that the table's text has is as that says, whatever a row of its own says.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::alter;
use super::table::{Affinity, Table};
use super::united;
use crate::replica::error::StorageError;
use crate::replica::sql::quoted;

/// What of a table decides what it shows.
#[derive(Debug)]
struct Form {
    strict: bool,
    without_rowid: bool,
    /// The columns of each UNIQUE constraint, with their collations.
    unique: BTreeSet<Vec<(String, String)>>,
    /// Those beside the key, by identity in lower case.
    columns: BTreeMap<String, Column>,
}

#[derive(Debug, PartialEq, Eq)]
struct Column {
    affinity: Affinity,
    /// As it is declared, in upper case, where a table is STRICT.
    strictly: Option<String>,
    not_null: bool,
    default: Option<String>,
    collation: Option<String>,
}

/// Whether its newest text, or the newest of a column, would make the table another than it is.
pub(crate) fn is_redefined(connection: &Connection, table: &Table) -> Result<bool, StorageError> {
    // By the text that it was made by, nothing is another.
    let newest = united::newest(connection, table)?;
    let Some((apart, described)) = newest.as_deref().and_then(united::described) else { return Ok(false) };
    let (ours, theirs) = (Form::of(connection, table)?, Form::of(&apart, &described)?);
    let differs = |identity: &String, theirs: &Column| ours.columns.get(identity).is_some_and(|ours| ours != theirs);
    if (ours.strict, ours.without_rowid, &ours.unique) != (theirs.strict, theirs.without_rowid, &theirs.unique)
        || theirs.columns.iter().any(|(identity, column)| differs(identity, column))
    {
        return Ok(true);
    }
    for (identity, definition) in alter::definitions(connection, table)? {
        if theirs.columns.contains_key(&identity) || !ours.columns.contains_key(&identity) {
            continue;
        }
        let added = alter::table_with(&definition, ours.strict).map(|(apart, table)| Form::of(&apart, &table));
        let added = added.transpose()?.and_then(|form| form.columns.into_values().next());
        if added.is_some_and(|added| differs(&identity, &added)) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Form {
    fn of(connection: &Connection, table: &Table) -> rusqlite::Result<Self> {
        let identity = |name: &str| {
            let column = table.column(name).map(|column| &*table.columns[column].identity);
            column.unwrap_or(name).to_ascii_lowercase()
        };
        let kind = format!("PRAGMA main.table_list({})", quoted(&table.name));
        let (strict, without_rowid) =
            connection.query_row(&kind, [], |row| Ok((row.get("strict")?, row.get("wr")?)))?;
        let mut columns = BTreeMap::new();
        let mut select = connection.prepare(
            "SELECT name, type, \"notnull\", dflt_value FROM pragma_table_xinfo(?1, 'main') WHERE hidden = 0 AND pk = 0",
        )?;
        let mut rows = select.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let (name, declared): (String, String) = (row.get(0)?, row.get(1)?);
            let (_, collation, ..) = connection.column_metadata(Some("main"), table.name.as_str(), name.as_str())?;
            let column = Column {
                affinity: Affinity::of_declared(&declared, strict),
                strictly: strict.then(|| declared.to_ascii_uppercase()),
                not_null: row.get(2)?,
                default: row.get(3)?,
                collation: collation.map(|collation| collation.to_string_lossy().to_ascii_uppercase()),
            };
            columns.insert(identity(&name), column);
        }
        let mut unique: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        let mut select = connection.prepare(
            "SELECT l.name, x.name, x.coll FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x
             WHERE l.origin = 'u' AND x.key ORDER BY l.name, x.seqno",
        )?;
        let mut rows = select.query([&table.name])?;
        while let Some(row) = rows.next()? {
            let (index, column, collation): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            unique.entry(index).or_default().push((identity(&column), collation.to_ascii_uppercase()));
        }
        Ok(Self { strict, without_rowid, unique: unique.into_values().collect(), columns })
    }
}
