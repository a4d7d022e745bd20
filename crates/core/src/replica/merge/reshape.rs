//! Makes the tables that `rtc_schema` has, with the columns that it says they have, by the names it says: a state that is aimed at, not a list of
//! ALTERs to replay.
//!
//! Tables get their names, and those that are missing are made; of each, dropped columns go first, others get their names, and those that are missing come
//! last. What stands on a table and names it or its columns is taken away meanwhile, and made again from what its rows say now; what is this device's own,
//! where it still can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::merging::Merge;
use crate::replica::error::StorageError;
use crate::replica::log::narrow;
use crate::replica::schema::alter::{self, NotAdded};
use crate::replica::schema::columns;
use crate::replica::schema::dropped::local_objects;
use crate::replica::schema::naming;
use crate::replica::schema::objects;
use crate::replica::schema::refill;
use crate::replica::schema::renames;
use crate::replica::schema::table::{Column, Table};
use crate::replica::schema::tables;
use crate::replica::schema::united;
use crate::replica::sql::{is_internal, quoted};

/// A column that `rtc_schema` has and its table lacks.
#[derive(Debug)]
struct Missing {
    identity: String,
    name: String,
    definition: String,
}

/// A table that `rtc_schema` has.
#[derive(Debug)]
struct Defined {
    id: String,
    /// The name in its definition.
    name: String,
    definition: String,
    made_by: String,
    renamed: Option<String>,
}

impl Merge<'_> {
    /// Makes the tables that are missing, gives all of them their names, and applies what waited for them.
    pub(crate) fn make_tables(&mut self, objects_before: &objects::Rows) -> Result<(), StorageError> {
        let defined = self.defined()?;
        let is_free = |table: &&Defined| {
            self.state.tables.of_identity(&table.made_by).is_none_or(|there| there.identity() == table.id)
        };
        let mut wished: Vec<_> =
            defined.iter().filter(is_free).map(|table| (table.made_by.as_str(), table.renamed.as_deref())).collect();
        // Of two definitions with other keys there is one table.
        wished.sort_by_cached_key(|(made_by, _)| made_by.to_ascii_lowercase());
        wished.dedup_by(|other, one| other.0.eq_ignore_ascii_case(one.0));
        let called = naming::called(&wished);
        let is_moved = |table: &Arc<Table>| called.get(table.made_by.as_str()).is_some_and(|name| *name != table.name);
        let moved: Vec<Arc<Table>> =
            self.state.tables.of_user_shared().filter(|table| is_moved(table)).cloned().collect();
        for table in moved {
            objects::lift(self.connection, objects_before, &table.name)?;
        }
        self.rename_tables(&called)?;
        for table in &defined {
            let there = self.state.tables.of_identity(&table.made_by);
            if let Some(there) = there {
                if there.identity() != table.id {
                    let why = format!(
                        "table {} has another primary key on another device ({}, here {}): each keeps its own, and rows are told apart by the key of whoever shows them; ship one definition",
                        table.name,
                        table.id,
                        there.identity()
                    );
                    self.applied.tell(|| why);
                }
                continue;
            }
            // Its definition says the name it was made by, which may be another's now.
            let other =
                self.state.tables.by_name(&table.name).filter(|other| called.contains_key(other.made_by.as_str()));
            if let Some(other) = other.cloned() {
                objects::lift(self.connection, objects_before, &other.name)?;
                self.rename_table(&other, naming::MOVING)?;
            }
            let Defined { id, name, definition, made_by, .. } = table;
            let made = tables::create_received(self.connection, &mut self.state.tables, id, name, definition)?;
            self.rename_tables(&called)?;
            match made {
                Ok(()) => self.release(made_by)?,
                Err(why) => self.applied.tell(|| why),
            }
        }
        Ok(())
    }

    fn defined(&self) -> Result<Vec<Defined>, StorageError> {
        let mut select =
            self.connection.prepare("SELECT id, name, sql FROM rtc_schema WHERE kind = 'table' ORDER BY id")?;
        let mut rows = select.query([])?;
        let mut defined = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, name, definition): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let renamed =
                renames::of(self.connection, &id)?.map(|renamed| renamed.name).filter(|name| !is_internal(name));
            defined.push(Defined { made_by: tables::made_by(&id, &name), id, name, definition, renamed });
        }
        Ok(defined)
    }

    fn rename_tables(&mut self, called: &BTreeMap<&str, String>) -> Result<(), StorageError> {
        loop {
            let tables: Vec<Arc<Table>> = self.state.tables.of_user_shared().cloned().collect();
            let wish = |table: &Arc<Table>| called.get(table.made_by.as_str()).unwrap_or(&table.name).clone();
            let wishes: Vec<String> = tables.iter().map(wish).collect();
            let names = tables.iter().zip(&wishes).map(|(table, wish)| (table.name.as_str(), wish.as_str()));
            let Some((table, to)) = naming::next_move(&names.collect::<Vec<_>>()) else { return Ok(()) };
            if !self.rename_table(&tables[table], to)? {
                return Ok(());
            }
        }
    }

    /// `false` where SQLite refuses it, which is told.
    fn rename_table(&mut self, table: &Table, to: &str) -> Result<bool, StorageError> {
        let from = &table.name;
        let text = format!("ALTER TABLE main.{} RENAME TO {}", quoted(from), quoted(to));
        if let Err(why) = objects::alter(self.connection, &text)? {
            self.applied.tell(|| format!("table {from} cannot be renamed to {to} here: {why}"));
            return Ok(false);
        }
        tables::call(self.connection, &mut self.state.tables, table, to)?;
        Ok(true)
    }

    /// Gives every table its columns. `in_order` are the ids of definitions that came now, in the order they came in, `objects_before` the objects as they
    /// were said to be before, `untold` columns of tables that were made anew. Gives the texts of what only this device had on the tables.
    pub(crate) fn reshape(
        &mut self,
        in_order: &[String],
        objects_before: &objects::Rows,
        untold: &BTreeMap<String, Vec<united::Column>>,
    ) -> Result<Vec<String>, StorageError> {
        let mut missing = self.missing(in_order, untold)?;
        let mut local = Vec::new();
        let mut concerned = columns::tables_with_changes(self.connection, &self.state.tables)?;
        concerned.extend(missing.keys());
        for id in concerned {
            let Some(before) = self.state.tables.by_id(id).cloned() else { continue };
            self.state.tables.describe_again(self.connection, &before.name)?;
            let table = self.table(&before.name)?;
            // What waited for a column that will never come goes on without it.
            let may_go_on = table.dropped != before.dropped;
            let reshaped = self.reshape_table(table, missing.remove(&id).unwrap_or_default(), objects_before)?;
            if may_go_on || reshaped.is_some() {
                self.release(&before.made_by)?;
            }
            local.extend(reshaped.into_iter().flatten());
        }
        Ok(local)
    }

    /// The columns that tables lack, by the tables' numbers.
    fn missing(
        &self,
        in_order: &[String],
        untold: &BTreeMap<String, Vec<united::Column>>,
    ) -> Result<BTreeMap<i64, Vec<Missing>>, StorageError> {
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
        for table in self.state.tables.of_user() {
            let missing = missing.entry(table.id).or_default();
            let lacking = united::lacking(self.connection, table)?.into_iter();
            for united::Column { name, definition } in
                lacking.chain(untold.get(&table.made_by).into_iter().flatten().cloned())
            {
                if missing.iter().all(|known| !known.identity.eq_ignore_ascii_case(&name)) {
                    missing.push(Missing { identity: name.clone(), name, definition });
                }
            }
        }
        missing.retain(|_, columns| !columns.is_empty());
        Ok(missing)
    }

    /// Gives a table its columns. Nothing where it has them, or cannot have them.
    fn reshape_table(
        &mut self,
        table: Arc<Table>,
        mut missing: Vec<Missing>,
        objects_before: &objects::Rows,
    ) -> Result<Option<Vec<String>>, StorageError> {
        missing.retain(|column| !table.is_dropped(&column.identity));
        let connection = self.connection;
        let gone: Vec<String> = table
            .columns
            .iter()
            .map(|c| c.identity.to_string())
            .filter(|identity| table.is_dropped(identity))
            .collect();
        let renamed = columns::renamed(connection, &table)?;
        let name = |identity: &str| renamed.get(&identity.to_ascii_lowercase()).map(|renamed| renamed.name.as_str());
        let identities = table.columns.iter().map(|c| &*c.identity).chain(missing.iter().map(|c| &*c.identity));
        let left = identities.filter(|identity| !gone.iter().any(|gone| gone == identity));
        let wished: Vec<(&str, Option<&str>)> = left.map(|identity| (identity, name(identity))).collect();
        let called = naming::called(&wished);
        let moves = table.columns.iter().any(|c| called.get(&*c.identity).is_some_and(|name| *name != c.name));
        if gone.is_empty() && missing.is_empty() && !moves {
            return Ok(None);
        }
        let names = called.values().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>();
        if table.addressing.is_by_rowid()
            && ["rowid", "oid", "_rowid_"].iter().all(|name| names.iter().any(|n| n == name))
        {
            self.applied.tell(|| columns::rowid_is_hidden(&table.name));
            return Ok(None);
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
            local.append(&mut self.add_column(&table.name, column, &called, objects_before)?);
        }
        Ok(Some(local))
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
        if let Err(why) = objects::alter(connection, &text)? {
            self.applied.tell(|| format!("column {called} of table {name} cannot be dropped here: {why}"));
            return Ok(());
        }
        self.tally.registers -= registers;
        self.tally.thinned.append(&mut narrow::narrow(connection, &self.state.origins, &table, column)?);
        naming::forget(connection, table.id, identity)?;
        self.state.tables.describe_again(connection, name)
    }

    /// Renames what is called otherwise.
    fn rename_columns(&mut self, name: &str, called: &BTreeMap<&str, String>) -> Result<(), StorageError> {
        loop {
            let table = self.table(name)?;
            let wish = |column: &'_ Column| called.get(&*column.identity).unwrap_or(&column.name).clone();
            let wishes: Vec<String> = table.columns.iter().map(wish).collect();
            let names = table.columns.iter().zip(&wishes).map(|(column, wish)| (column.name.as_str(), wish.as_str()));
            let Some((column, to)) = naming::next_move(&names.collect::<Vec<_>>()) else { return Ok(()) };
            if !self.rename_column(&table, column, to)? {
                return Ok(());
            }
        }
    }

    /// `false` where SQLite refuses it, which is told.
    fn rename_column(&mut self, table: &Table, column: usize, to: &str) -> Result<bool, StorageError> {
        let column = &table.columns[column];
        let (from, name) = (&column.name, &table.name);
        let text = format!("ALTER TABLE main.{} RENAME COLUMN {} TO {}", quoted(name), quoted(from), quoted(to));
        if let Err(why) = objects::alter(self.connection, &text)? {
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
        objects_before: &objects::Rows,
    ) -> Result<Vec<String>, StorageError> {
        let table = self.table(name)?;
        if let Some(other) = table.column(&missing.name)
            && !self.rename_column(&table, other, naming::MOVING)?
        {
            return Ok(Vec::new());
        }
        let Missing { identity, name: column, definition } = missing;
        let mut local = Vec::new();
        let mut added = alter::add_received(self.connection, name, column, definition)?;
        if added.as_ref().is_err_and(|not_added| not_added.for_rows) {
            objects::lift(self.connection, objects_before, name)?;
            local = local_objects(self.connection, name)?;
            let (table, origins) = (self.table(name)?, &self.state.origins);
            let refilled = refill::add_column(self.connection, origins, &table, definition)?;
            added = refilled.map_err(|why| NotAdded { why, for_rows: true });
        }
        match added {
            Ok(()) => {
                naming::note(self.connection, table.id, identity, column)?;
                self.state.tables.describe_again(self.connection, name)?;
            }
            Err(NotAdded { why, .. }) => self.applied.tell(|| why),
        }
        self.rename_columns(name, called)?;
        Ok(local)
    }
}
