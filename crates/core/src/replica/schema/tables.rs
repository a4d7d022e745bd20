//! Schema as data: a table created through `exec` is a row of the reserved synced table `rtc_schema`, and a row that comes from a peer
//! becomes a table.
//!
//! A row's id is the table's identity (name and key definition), so that the same CREATE TABLE on two devices is one row. A received text
//! is hostile until it has been tried [`apart`]. Columns that are added later are rows of their own, see [`alter`].

use std::collections::BTreeMap;
use std::sync::Arc;

use rtc_battery_proto::{Columns, Operation, OperationKind, SqlValue};
use rusqlite::{Connection, params};

use super::alter;
use super::apart;
use super::columns;
use super::naming;
use super::renames;
use super::table::Table;
use crate::replica::error::StorageError;
use crate::replica::log::store::{SCHEMA_TABLE, table_id};
use crate::replica::sql::{is_internal, quoted};
use crate::replica::unique::indexes;

/// The synced tables that exist here.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    by_name: BTreeMap<String, Arc<Table>>,
    by_identity: BTreeMap<String, Arc<Table>>,
    by_id: BTreeMap<i64, Arc<Table>>,
}

/// More columns than this in a primary key make a statement that SQLite does not compile.
const MAX_KEY_COLUMNS: usize = 64;

/// Whether all that an operation on the reserved table says can be read as texts, which is what its rows are read as ever after.
pub(crate) fn is_text(operation: &Operation) -> bool {
    let is_text = |value: &SqlValue| matches!(value, SqlValue::Text(bytes) if str::from_utf8(bytes).is_ok());
    operation.pk.values().chain(operation.values.iter().flat_map(Columns::values)).all(is_text)
}

/// Whether an operation of a peer on the reserved table is one that a replica of ours writes: a new row, all text, for a table, whose id
/// begins with its name, or a column, whose id ends with it. Or what is left of one, or its end.
pub(crate) fn is_sound(operation: &Operation) -> bool {
    let text = |name: &str| operation.values.as_ref()?.get(name)?.as_text();
    let is_definition = || {
        let (Some(id), Some(kind), Some(name), Some(sql)) = (text("id"), text("kind"), text("name"), text("sql"))
        else {
            return false;
        };
        // Without a text it is one that is not known whole.
        !sql.is_empty()
            && match &*kind {
                "table" => naming::made_by(&id).starts_with(&format!("{}(", name.to_ascii_lowercase())),
                "column" => alter::is_sound(&id, &name),
                _ => false,
            }
    };
    match operation.kind {
        OperationKind::Insert => is_overwritten(operation) || is_definition(),
        OperationKind::Delete => operation.pk.get("id").and_then(SqlValue::as_text).is_some_and(|id| is_id(&id)),
        OperationKind::Update => false,
    }
}

/// Lets SQLite say whether the text of a peer's definition makes what the row says. Of the texts of one table the newest stands, so one that makes none
/// would keep the table from all who come later.
pub(crate) fn check_text(operation: &Operation) -> Result<(), String> {
    let text = |name: &str| operation.values.as_ref()?.get(name)?.as_text();
    let (Some(id), Some(kind), Some(name), Some(sql)) = (text("id"), text("kind"), text("name"), text("sql")) else {
        return Ok(());
    };
    match &*kind {
        "table" => validate(&id, &name, &sql),
        "column" => alter::check_received(&name, &sql),
        _ => Ok(()),
    }
}

/// Whether a row of this id can be a table's or a column's.
fn is_id(id: &str) -> bool {
    !is_internal(naming::made_by(id)) && id.contains('(') && (id.ends_with(')') || id.contains(")."))
}

/// Whether the operation defines nothing any more: another device has created the same table later, and of this CREATE TABLE only its time counts.
pub(crate) fn is_overwritten(operation: &Operation) -> bool {
    operation.values.as_ref().is_none_or(Columns::is_empty)
}

/// Whether the definition that the operation is about is here, also one that was dropped.
pub(crate) fn is_known(connection: &Connection, tables: &Tables, operation: &Operation) -> rusqlite::Result<bool> {
    let id = operation.pk.get("id");
    let key = tables.by_name(SCHEMA).zip(id).and_then(|(schema, id)| schema.canonical_key([id]));
    let exists = "SELECT EXISTS (SELECT 1 FROM rtc_operations WHERE tbl = ?1 AND row = ?2 AND cols <> 0)";
    connection.prepare_cached(exists)?.query_row(params![SCHEMA_TABLE, key], |row| row.get(0))
}

/// The reserved table's name.
pub(crate) const SCHEMA: &str = "rtc_schema";

impl Tables {
    /// Reads which of the main schema's tables are synced.
    pub(crate) fn load(connection: &Connection) -> Result<Self, StorageError> {
        let mut tables = Self::default();
        tables.insert(Table::describe(connection, SCHEMA_TABLE, SCHEMA)?.ok_or(StorageError::Corrupt(SCHEMA))?);
        let mut select = connection.prepare("SELECT id, name FROM rtc_schema WHERE kind = 'table'")?;
        let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for row in rows.collect::<rusqlite::Result<Vec<_>>>()? {
            let made_by = made_by(&row.0, &row.1);
            let name = naming::table_called(connection, &made_by)?.unwrap_or(made_by);
            tables.add(connection, &row.0, &name)?;
        }
        Ok(tables)
    }

    /// Adds a table if it exists here, by this name, with this identity; tells whether it does.
    fn add(&mut self, connection: &Connection, identity: &str, name: &str) -> Result<bool, StorageError> {
        let Some(table) = describe(connection, table_id(connection, name)?, name)? else { return Ok(false) };
        let same = table.identity() == identity;
        if same {
            self.insert(table);
        }
        Ok(same)
    }

    /// The tables that have other UNIQUE indexes now than they had when they were described.
    pub(crate) fn reindexed(&self, connection: &Connection) -> Result<Vec<Arc<Table>>, StorageError> {
        let mut reindexed = Vec::new();
        for table in self.by_id.values().filter(|table| table.id != SCHEMA_TABLE) {
            if indexes::columns_read(connection, &table.name, &table.columns)? != table.unique {
                reindexed.push(Arc::clone(table));
            }
        }
        Ok(reindexed)
    }

    /// A table has other columns now.
    pub(crate) fn describe_again(&mut self, connection: &Connection, name: &str) -> Result<(), StorageError> {
        if let Some(known) = self.by_name(name)
            && let Some(table) = describe(connection, known.id, name)?
        {
            self.insert(table);
        }
        Ok(())
    }

    pub(crate) fn insert(&mut self, table: Table) {
        let table = Arc::new(table);
        self.by_name.insert(table.name.to_ascii_lowercase(), Arc::clone(&table));
        self.by_identity.insert(table.made_by.to_ascii_lowercase(), Arc::clone(&table));
        self.by_id.insert(table.id, table);
    }

    /// A table is gone.
    pub(crate) fn remove(&mut self, table: &Table) {
        self.by_name.remove(&table.name.to_ascii_lowercase());
        self.by_identity.remove(&table.made_by.to_ascii_lowercase());
        self.by_id.remove(&table.id);
    }

    /// A table by name, as SQLite compares names.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<Table>> {
        self.by_name.get(&name.to_ascii_lowercase())
    }

    /// A table as operations call it.
    pub(crate) fn of_identity(&self, made_by: &str) -> Option<&Arc<Table>> {
        self.by_identity.get(&made_by.to_ascii_lowercase())
    }

    /// A table by its number.
    pub(crate) fn by_id(&self, id: i64) -> Option<&Arc<Table>> {
        self.by_id.get(&id)
    }

    /// Those that users made.
    pub(crate) fn of_user(&self) -> impl Iterator<Item = &Table> {
        self.of_user_shared().map(Arc::as_ref)
    }

    /// The same, to keep.
    pub(crate) fn of_user_shared(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_id.values().filter(|table| table.id != SCHEMA_TABLE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_id.values()
    }
}

/// Describes a table that is synced, or about to be.
pub(crate) fn describe(connection: &Connection, id: i64, name: &str) -> Result<Option<Table>, StorageError> {
    let Some(mut table) = Table::describe(connection, id, name)? else { return Ok(None) };
    naming::identify(connection, &mut table)?;
    table.dropped = columns::dropped(connection, &table)?;
    table.name_registers();
    Ok(Some(table))
}

/// After the user's CREATE TABLE ran: makes it a synced table by a row in `rtc_schema`. [`NotSynced::Refused`] says why it cannot be one.
pub(crate) fn register_created(connection: &Connection, tables: &mut Tables, name: &str) -> Result<(), NotSynced> {
    // CREATE TABLE IF NOT EXISTS of a table that execLocal made.
    let has_rows = format!("SELECT EXISTS (SELECT 1 FROM main.{})", quoted(name));
    if connection.query_row(&has_rows, [], |row| row.get(0)).map_err(StorageError::from)? {
        return Err(NotSynced::Refused(format!(
            "table {name} is on this device only and has rows, which nobody else would get; create another one and copy them"
        )));
    }
    register(connection, tables, name)
}

/// Makes a table that is here a synced one.
pub(crate) fn register(connection: &Connection, tables: &mut Tables, name: &str) -> Result<(), NotSynced> {
    let id = table_id(connection, name)?;
    let is_free = |made_by: &String| tables.of_identity(made_by).is_none_or(|table| table.id == id);
    let made_by = (1..).map(|n| naming::numbered(name, n)).find(is_free).unwrap_or_else(|| name.to_owned());
    naming::note_table(connection, id, &made_by, name).map_err(StorageError::from)?;
    let table = describe(connection, id, name)?;
    let table = table.ok_or_else(|| NotSynced::Refused(no_key(name)))?;
    table.columns.iter().try_for_each(|column| columns::check_name(&column.name))?;
    if table.key.len() > MAX_KEY_COLUMNS {
        let message = format!("the primary key of table {name} has more than {MAX_KEY_COLUMNS} columns");
        return Err(NotSynced::Refused(message));
    }
    let mut insert = connection
        .prepare_cached(
            "INSERT OR IGNORE INTO rtc_schema (id, kind, name, sql)
             SELECT ?1, 'table', name, sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?2 COLLATE NOCASE",
        )
        .map_err(StorageError::from)?;
    insert.execute(params![table.identity(), name]).map_err(StorageError::from)?;
    tables.insert(table);
    Ok(())
}

/// A table is no synced one any more.
pub(crate) fn forget(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    columns::forget(connection, table)?;
    renames::forget(connection, &table.identity())?;
    let (identity, columns) = (table.identity(), format!("{}.", table.identity()));
    let delete = "DELETE FROM rtc_schema WHERE id = ?1 OR kind = 'column' AND substr(id, 1, length(?2)) = ?2";
    connection.prepare_cached(delete)?.execute([&identity, &columns])?;
    Ok(())
}

/// What operations call a table, as it is spelled, by the id and the name of its row in `rtc_schema`.
pub(crate) fn made_by(id: &str, name: &str) -> String {
    match id.split_once(' ').filter(|_| naming::is_numbered(id)) {
        Some((number, _)) => format!("{number} {name}"),
        None => name.to_owned(),
    }
}

/// After the user's ALTER TABLE: the table is called otherwise now, if that is what it did. `root` is what stays when its name does not.
pub(crate) fn register_renamed(
    connection: &Connection,
    tables: &mut Tables,
    before: &Table,
    root: i64,
) -> Result<bool, StorageError> {
    let name = name_at(connection, root)?;
    if name == before.name {
        return Ok(false);
    }
    renames::write(connection, renames::Kind::Table, &before.identity(), &before.name, &name)?;
    call(connection, tables, before, &name)?;
    Ok(true)
}

/// A table is called otherwise now.
pub(crate) fn call(
    connection: &Connection,
    tables: &mut Tables,
    before: &Table,
    name: &str,
) -> Result<(), StorageError> {
    connection.execute("DELETE FROM rtc_tables WHERE name = ?1 AND id <> ?2", params![name, before.id])?;
    naming::note_table(connection, before.id, &before.made_by, name)?;
    tables.remove(before);
    let table = describe(connection, before.id, name)?.ok_or(StorageError::Corrupt("a table that was renamed"))?;
    tables.insert(table);
    Ok(())
}

/// Where a table stands in the file.
pub(crate) fn root(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    let root = "SELECT rootpage FROM main.sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    connection.query_row(root, [name], |row| row.get(0))
}

/// The name of the table that stands there.
pub(crate) fn name_at(connection: &Connection, root: i64) -> rusqlite::Result<String> {
    let name = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage = ?1";
    connection.query_row(name, [root], |row| row.get(0))
}

/// What is left of the user's text after its first statement, if that renames a table that was renamed.
pub(crate) fn rest_after_done<'a>(
    connection: &Connection,
    tables: &Tables,
    sql: &'a str,
) -> rusqlite::Result<Option<&'a str>> {
    for table in tables.of_user() {
        let Some(renamed) = renames::of(connection, &table.identity())? else { continue };
        for old in renamed.former.iter().filter(|old| tables.by_name(old).is_none()) {
            let called_after = |text: &str| {
                let apart = apart::open().ok()?;
                apart.execute_batch(&format!("CREATE TABLE {} (rtc_key)", quoted(old))).ok()?;
                apart::run_one_statement(&apart, text).ok()?;
                apart.query_row("SELECT name FROM sqlite_schema", [], |row| row.get::<_, String>(0)).ok()
            };
            if let Some((name, rest)) = apart::after_first_statement(sql, called_after)
                && !name.eq_ignore_ascii_case(old)
                && renamed.was_called(&name)
            {
                return Ok(Some(rest));
            }
        }
    }
    Ok(None)
}

/// Why a created table is not synced.
#[derive(Debug)]
pub(crate) enum NotSynced {
    Refused(String),
    Storage(StorageError),
}

impl From<StorageError> for NotSynced {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

fn no_key(name: &str) -> String {
    format!(
        "table {name} has no primary key, so its rows cannot be told apart between devices; \
         add one, for example: id TEXT PRIMARY KEY"
    )
}

/// A table that a peer created: makes it here, if its text is what it must be. Gives the reason if it is not.
pub(crate) fn create_received(
    connection: &Connection,
    tables: &mut Tables,
    identity: &str,
    name: &str,
    sql: &str,
) -> Result<Result<(), String>, StorageError> {
    let taken = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE)";
    if connection.query_row(taken, [name], |row| row.get::<_, bool>(0))? {
        return Ok(Err(format!("the name {name} is taken on this device by something else")));
    }
    if let Err(why) = validate(identity, name, sql) {
        return Ok(Err(format!("the definition of table {name} was refused: {why}")));
    }
    connection.execute_batch(sql)?;
    naming::note_table(connection, table_id(connection, name)?, &made_by(identity, name), name)?;
    if !tables.add(connection, identity, name)? {
        connection.execute_batch(&format!("DROP TABLE main.{}", quoted(name)))?;
        return Ok(Err(format!("the definition of table {name} means something else here")));
    }
    Ok(Ok(()))
}

/// Lets SQLite say whether a text is one CREATE TABLE of this name and identity and nothing else.
fn validate(identity: &str, name: &str, sql: &str) -> Result<(), String> {
    if is_internal(name) {
        return Err("rtc_* is reserved".to_owned());
    }
    let apart = apart::create_table(sql)?;
    match Table::describe(&apart, 0, name).map_err(|error| error.to_string())? {
        None => Err("it has no primary key, or another name".to_owned()),
        Some(table) if table.identity() != naming::made_by(identity) || table.name != name => {
            Err("its name or key is not what its id says".to_owned())
        }
        Some(table) if table.key.len() > MAX_KEY_COLUMNS => Err("its key has too many columns".to_owned()),
        Some(table) if table.columns.iter().any(|column| naming::is_numbered(&column.name)) => {
            Err("a column has a name of RTC Battery's".to_owned())
        }
        Some(_) => Ok(()),
    }
}
