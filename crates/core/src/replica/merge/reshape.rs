//! Gives tables the columns that `rtc_schema` says they have, by the names it says: a state that is aimed at, not a list of ALTERs to replay.
//!
//! Dropped columns go first, others get their names, and those that are missing come last. What stands on a table and names its columns is taken away
//! meanwhile, and made again from what its rows say now; what is this device's own, where it still can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::merging::Merge;
use crate::replica::error::StorageError;
use crate::replica::log::narrow;
use crate::replica::schema::alter;
use crate::replica::schema::columns;
use crate::replica::schema::dropped::local_objects;
use crate::replica::schema::naming;
use crate::replica::schema::objects;
use crate::replica::schema::table::{Column, Table};
use crate::replica::sql::{quoted, run_or_undo};

/// What a column is called while its name is another's: nobody's name.
const MOVING: &str = "rtc_0 moving";

/// A column that `rtc_schema` has and its table lacks.
#[derive(Debug, Clone)]
struct Missing {
    identity: String,
    name: String,
    definition: String,
}

impl Merge<'_> {
    /// Gives every table its columns. `in_order` are the ids of definitions that came now, in the order they came in, `objects_before` the objects as they
    /// were said to be before. Gives the texts of what only this device had on the tables.
    pub(crate) fn reshape(
        &mut self,
        in_order: &[String],
        objects_before: &objects::Rows,
    ) -> Result<Vec<String>, StorageError> {
        let mut missing = self.missing(in_order)?;
        let mut local = Vec::new();
        let mut concerned = columns::tables_with_changes(self.connection, &self.state.tables)?;
        concerned.extend(missing.keys());
        for id in concerned {
            let Some(before) = self.state.tables.by_id(id).cloned() else { continue };
            self.state.tables.describe_again(self.connection, &before.name)?;
            let table = self.table(&before.name)?;
            let (missing, may_go_on) = (missing.remove(&id).unwrap_or_default(), table.dropped != before.dropped);
            local.append(&mut self.reshape_table(table, missing, objects_before)?);
            if may_go_on {
                // What waited for a column that will never come.
                self.release(&before.name)?;
            }
        }
        Ok(local)
    }

    /// The columns that tables lack, by the tables' numbers.
    fn missing(&self, in_order: &[String]) -> Result<BTreeMap<i64, Vec<Missing>>, StorageError> {
        let mut select =
            self.connection.prepare("SELECT id, name, sql FROM rtc_schema WHERE kind = 'column' ORDER BY id")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let mut rows = rows.collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
        rows.sort_by_cached_key(|(id, ..)| in_order.iter().position(|came| came == id));
        let mut missing: BTreeMap<i64, Vec<Missing>> = BTreeMap::new();
        for (id, name, definition) in rows {
            let Some((table, identity)) = alter::column_of(&self.state.tables, &id, &name) else { continue };
            if table.of_identity(identity).is_none() {
                // As it is spelled.
                let identity = if naming::is_numbered(identity) { identity } else { &name };
                let identity = identity.to_owned();
                missing.entry(table.id).or_default().push(Missing { identity, name, definition });
            }
        }
        Ok(missing)
    }

    fn reshape_table(
        &mut self,
        table: Arc<Table>,
        mut missing: Vec<Missing>,
        objects_before: &objects::Rows,
    ) -> Result<Vec<String>, StorageError> {
        missing.retain(|column| !table.is_dropped(&column.identity));
        let connection = self.connection;
        let gone: Vec<String> =
            table.columns.iter().map(|c| c.identity.clone()).filter(|identity| table.is_dropped(identity)).collect();
        let renamed = columns::renamed(connection, &table)?;
        let wish = |identity: &String| {
            (!gone.contains(identity)).then(|| {
                (identity.clone(), renamed.get(&identity.to_ascii_lowercase()).map(|renamed| renamed.name.clone()))
            })
        };
        let identities = table.columns.iter().map(|c| &c.identity).chain(missing.iter().map(|c| &c.identity));
        let wished: Vec<(String, Option<String>)> = identities.filter_map(wish).collect();
        let wished: Vec<(&str, Option<&str>)> = wished.iter().map(|(i, n)| (i.as_str(), n.as_deref())).collect();
        let called = naming::called(&wished);
        let moves = table.columns.iter().any(|c| called.get(c.identity.as_str()).is_some_and(|name| *name != c.name));
        if gone.is_empty() && missing.is_empty() && !moves {
            return Ok(Vec::new());
        }
        let names = called.values().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>();
        if table.addressing.is_by_rowid()
            && ["rowid", "oid", "_rowid_"].iter().all(|name| names.iter().any(|n| n == name))
        {
            self.applied.tell(|| columns::rowid_is_hidden(&table.name));
            return Ok(Vec::new());
        }
        let mut local = Vec::new();
        if !gone.is_empty() || moves {
            objects::lift(connection, objects_before, &table.name)?;
        }
        if !gone.is_empty() {
            local = local_objects(connection, &table.name)?;
            objects::clear(connection, &table.name)?;
            gone.iter().try_for_each(|identity| self.drop_column(&table.name, identity))?;
        }
        self.rename_columns(&table.name, &called)?;
        for column in &missing {
            self.add_column(&table.name, column, &called)?;
        }
        self.release(&table.name)?;
        Ok(local)
    }

    fn table(&self, name: &str) -> Result<Arc<Table>, StorageError> {
        self.state.tables.by_name(name).cloned().ok_or(StorageError::Corrupt("a table that is altered"))
    }

    fn drop_column(&mut self, name: &str, identity: &str) -> Result<(), StorageError> {
        let (connection, table) = (self.connection, self.table(name)?);
        let Some(column) = table.of_identity(identity) else { return Ok(()) };
        let called = &table.columns[column].name;
        let registers = narrow::registers(connection, &self.state.origins, &table, column, &BTreeMap::new())?;
        let text = format!("ALTER TABLE main.{} DROP COLUMN {}", quoted(name), quoted(called));
        if let Err(why) = run_or_undo(connection, &text)? {
            self.applied.tell(|| format!("column {called} of table {name} cannot be dropped here: {why}"));
            return Ok(());
        }
        self.tally.registers -= registers;
        self.tally.thinned.append(&mut narrow::narrow(connection, &table, column)?);
        naming::forget(connection, table.id, identity)?;
        self.state.tables.describe_again(connection, name)
    }

    /// Renames what is called otherwise. Where a name is another's that is yet to be renamed, that one is called something else meanwhile.
    fn rename_columns(&mut self, name: &str, called: &BTreeMap<&str, String>) -> Result<(), StorageError> {
        loop {
            let table = self.table(name)?;
            let wish =
                |column: &Column| called.get(column.identity.as_str()).filter(|wish| **wish != column.name).cloned();
            let wishes: Vec<(usize, String)> =
                table.columns.iter().enumerate().filter_map(|(n, column)| Some((n, wish(column)?))).collect();
            let is_free = |(n, wish): &&(usize, String)| table.column(wish).is_none_or(|other| other == *n);
            let (column, to) = match (wishes.iter().find(is_free), wishes.first()) {
                (Some((column, wish)), _) => (*column, wish.clone()),
                (None, Some((column, _))) => (*column, MOVING.to_owned()),
                (None, None) => return Ok(()),
            };
            if !self.rename_column(&table, column, &to)? {
                return Ok(());
            }
        }
    }

    /// `false` where SQLite refuses it, which is told.
    fn rename_column(&mut self, table: &Table, column: usize, to: &str) -> Result<bool, StorageError> {
        let column = &table.columns[column];
        let (from, name) = (&column.name, &table.name);
        let text = format!("ALTER TABLE main.{} RENAME COLUMN {} TO {}", quoted(name), quoted(from), quoted(to));
        if let Err(why) = run_or_undo(self.connection, &text)? {
            self.applied.tell(|| format!("column {from} of table {name} cannot be renamed to {to} here: {why}"));
            return Ok(false);
        }
        naming::note(self.connection, table.id, &column.identity, to)?;
        self.state.tables.describe_again(self.connection, name)?;
        Ok(true)
    }

    /// Adds a column by the name it was made by, and gives it the one it has now.
    fn add_column(
        &mut self,
        name: &str,
        missing: &Missing,
        called: &BTreeMap<&str, String>,
    ) -> Result<(), StorageError> {
        let table = self.table(name)?;
        if let Some(other) = table.column(&missing.name)
            && !self.rename_column(&table, other, MOVING)?
        {
            return Ok(());
        }
        let Missing { identity, name: column, definition } = missing;
        match alter::add_received(self.connection, name, column, definition)? {
            Ok(()) => {
                naming::note(self.connection, table.id, identity, column)?;
                self.state.tables.describe_again(self.connection, name)?;
            }
            Err(why) => self.applied.tell(|| why),
        }
        self.rename_columns(name, called)
    }
}
