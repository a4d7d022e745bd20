//! What a statement of the user's that changes the schema has done: SQLite tells before only what it is about, so what it will change is looked at
//! before it runs, and what has become of it afterwards.

use std::sync::Arc;

use rusqlite::Connection;

use super::guard::Facts;
use super::query::SqlError;
use crate::replica::log::store;
use crate::replica::log::view;
use crate::replica::schema::alter;
use crate::replica::schema::columns;
use crate::replica::schema::dropped;
use crate::replica::schema::fresh;
use crate::replica::schema::objects::{self, Object};
use crate::replica::schema::table::Table;
use crate::replica::schema::tables::{self, Tables};
use crate::replica::sql::text_of;
use crate::replica::state::State;

/// Before a statement runs.
#[derive(Debug, Default)]
pub(crate) struct Before {
    altered: Option<Altered>,
    /// A synced table that it drops.
    dropping: Option<dropped::Dropping>,
}

/// A synced table that is altered.
#[derive(Debug)]
struct Altered {
    table: Arc<Table>,
    /// What stays when its name does not.
    root: i64,
    text: String,
    /// Where the open transaction made it: the texts of the other tables.
    fresh: Option<fresh::Others>,
    /// The column that goes.
    dropping: Option<columns::Dropping>,
    objects: Vec<(Object, String)>,
}

impl State {
    /// Looks at what the statement will change.
    pub(crate) fn look_before(&mut self, connection: &Connection, facts: &Facts) -> Result<Before, SqlError> {
        let mut before = Before::default();
        if facts.creates_table.is_some() && self.open.highest_before.is_none() {
            self.open.highest_before = Some(store::highest_table_id(connection)?);
        }
        if let Some(table) = facts.drops_table.as_ref().and_then(|name| self.tables.by_name(name)) {
            before.dropping = Some(dropped::look(connection, &self.origins, &self.capture, table)?);
        }
        if let Some(table) = facts.alters_table.as_ref().and_then(|name| self.tables.by_name(name))
            && let Some(text) = text_of(connection, "table", &table.name)?
        {
            let (table, known) = (Arc::clone(table), (&self.origins, &self.capture));
            let is_fresh = self.open.highest_before.is_some_and(|highest| table.id > highest);
            let fresh = is_fresh.then(|| fresh::others(connection, &self.tables, &table)).transpose()?;
            let column = facts.alters_column.as_ref().filter(|_| !is_fresh);
            let dropping = column.map(|column| columns::look(connection, known, &table, column)).transpose()?.flatten();
            view::remove(connection)?;
            let (root, objects) = (tables::root(connection, &table.name)?, objects::standing(connection)?);
            before.altered = Some(Altered { table, root, text, fresh, dropping, objects });
        }
        Ok(before)
    }

    /// Makes everybody's what it has changed.
    pub(crate) fn register_after(&mut self, connection: &Connection, before: Before) -> Result<(), SqlError> {
        let Before { altered, dropping } = before;
        if let Some(altered) = altered {
            self.register_altered(connection, &altered)?;
        }
        match dropping {
            Some(dropping) => self.note_dropped(connection, dropping),
            None => Ok(()),
        }
    }

    fn register_altered(&mut self, connection: &Connection, altered: &Altered) -> Result<(), SqlError> {
        let Altered { table, root, text, fresh, dropping, objects } = altered;
        if let Some(dropping) = dropping
            && dropping.is_done(connection)?
        {
            return self.note_column_dropped(connection, dropping);
        }
        match (self.make_column_synced(connection, &table.name, text), fresh) {
            (Err(_), Some(others)) => self.note_made_anew(connection, (table, *root), objects, others),
            (Err(error), None) => {
                if self.note_renamed(connection, (table, *root), objects)? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            (done, _) => done,
        }
    }
}

/// What is left of the user's text after its first statement, if that is a migration which another device has run already.
pub(crate) fn rest_after_done<'a>(
    connection: &Connection,
    tables: &Tables,
    sql: &'a str,
) -> rusqlite::Result<Option<&'a str>> {
    for rest_after_done in [alter::rest_after_done, columns::rest_after_done, tables::rest_after_done] {
        if let Some(rest) = rest_after_done(connection, tables, sql)? {
            return Ok(Some(rest));
        }
    }
    Ok(None)
}

/// Whether SQLite refuses an ALTER TABLE because there is a column of the name, or because there is none, or no table.
pub(crate) fn is_done_perhaps(sql: &str, error: &rusqlite::Error) -> bool {
    let why = error.to_string();
    let is_alter = sql.trim_start().get(..5).is_some_and(|word| word.eq_ignore_ascii_case("ALTER"));
    is_alter && ["duplicate column name", "no such column", "no such table"].iter().any(|known| why.contains(known))
}
