//! A replica as a plain SQLite file, and a plain SQLite file as operations.
//!
//! What goes out has no `rtc_*` table and is opened by any SQLite. What comes in is hostile: it is opened apart, checked, read row by row
//! and never swapped in. Its rows carry no clock, so they enter at time 0, named by a hash of their content: they fill gaps and overwrite
//! nothing, and the same file imported anywhere makes the same operations.

use std::io::Cursor;

use rtc_battery_proto::{Columns, Hlc, Operation, OperationKind, ReplicaId, SqlValue, Tick, VersionVector};
use rusqlite::Connection;
use rusqlite::backup::Backup;
use rusqlite::config::DbConfig;
use sha2::{Digest as _, Sha256};

use super::Replica;
use super::error::StorageError;
use super::merge::apply::Applied;
use super::schema::apart;
use super::schema::table::{Affinity, Table};
use super::session::query::{Params, Scope, SqlError, refused};
use super::sql::{is_internal, quoted};
use crate::Now;

/// Why a file cannot be imported. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file cannot be imported: {0}")]
pub struct ImportError(pub(super) String);

impl Replica {
    /// The database as a plain SQLite file, without our tables.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open.
    pub fn export(&self) -> Result<Vec<u8>, StorageError> {
        export(&self.connection)
    }

    /// Takes in a plain SQLite file: creates the tables that are missing and fills gaps; what is here already stands. Gives the dot that the rows
    /// travel under, if any was new.
    ///
    /// # Errors
    /// [`ImportError`] where the file is no sound SQLite file, or storage failed, or a transaction is open. Tables that cannot be synced are left
    /// out and told in [`Applied`].
    pub fn import(&mut self, bytes: &[u8], now: Now) -> Result<(Applied, VersionVector), ImportError> {
        if self.in_transaction() {
            return Err(ImportError(StorageError::InTransaction.to_string()));
        }
        let (tables, mut left_out) = read(bytes)?;
        let mut operations = Vec::new();
        for table in tables {
            let known = self.state.tables.by_name(&table.name).is_some();
            match if known { Ok(()) } else { self.create_imported(&table.sql, now) } {
                Ok(()) => operations.extend(table.operations),
                Err(error) => left_out.push(format!("table {}: {error}", table.name)),
            }
        }
        let operations = operations.into_iter().map(|operation| self.by_identity(operation)).collect();
        let adopted = self.adopt(operations, now).map_err(|error| ImportError(error.to_string()))?;
        let (mut applied, covers) = adopted;
        applied.refused.append(&mut left_out);
        Ok((applied, covers))
    }

    /// A table that a file brings is created as the user would, once its text has shown that it does nothing else.
    fn create_imported(&mut self, sql: &str, now: Now) -> Result<(), SqlError> {
        apart::check_one_create_table(sql).map_err(refused)?;
        self.exec(sql, &Params::None, Scope::Synced, now).map(|_| ())
    }
}

/// A table of a file that can be synced.
#[derive(Debug)]
struct FileTable {
    name: String,
    sql: String,
    operations: Vec<Operation>,
}

/// Writes the database without our tables.
fn export(connection: &Connection) -> Result<Vec<u8>, StorageError> {
    if !connection.is_autocommit() {
        return Err(StorageError::InTransaction);
    }
    let mut plain = Connection::open_in_memory()?;
    Backup::new(connection, &mut plain)?.step(-1)?;
    // The schema was checked when it came into the replica; nothing of it runs here.
    plain.execute_batch("PRAGMA foreign_keys = OFF")?;
    plain.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    let ours = "SELECT type || ' \"' || name || '\"' FROM sqlite_schema
                WHERE type IN ('table', 'view') AND lower(name) GLOB 'rtc_*' ORDER BY type DESC";
    for name in names(&plain, ours)? {
        plain.execute_batch(&format!("DROP {name}"))?;
    }
    plain.execute_batch("VACUUM")?;
    Ok(plain.serialize("main")?.to_vec())
}

fn names(connection: &Connection, select: &str) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare(select)?;
    let names = select.query_map([], |row| row.get(0))?;
    names.collect()
}

/// The rows of a plain SQLite file as operations, and why some of its tables are left out.
///
/// # Errors
/// [`ImportError`] where the file is no sound SQLite file.
pub(crate) fn operations_of_file(bytes: &[u8]) -> Result<(Vec<Operation>, Vec<String>), ImportError> {
    let (tables, left_out) = read(bytes)?;
    Ok((tables.into_iter().flat_map(|table| table.operations).collect(), left_out))
}

/// Reads the tables of a file, and why some of them cannot be taken.
fn read(bytes: &[u8]) -> Result<(Vec<FileTable>, Vec<String>), ImportError> {
    read_file(bytes).map_err(|error| ImportError(error.to_string()))
}

fn read_file(bytes: &[u8]) -> rusqlite::Result<(Vec<FileTable>, Vec<String>)> {
    // What SQLite makes of a database in which nothing was made yet.
    if bytes.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut file = Connection::open_in_memory()?;
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    file.deserialize_read_exact("main", Cursor::new(bytes), bytes.len(), true)?;
    Affinity::create_oracle(&file)?;
    file.execute_batch("PRAGMA cell_size_check = ON")?;
    let check: String = file.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(rusqlite::Error::InvalidParameterName(check));
    }
    let (mut tables, mut left_out) = (Vec::new(), Vec::new());
    let plain_tables = "SELECT l.name FROM pragma_table_list l WHERE l.schema = 'main' AND l.type = 'table'
                        AND l.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY l.name";
    for name in names(&file, plain_tables)? {
        if is_internal(&name) {
            continue;
        }
        match Table::describe(&file, 0, &name)? {
            Some(table) => tables.push(read_table(&file, &table)?),
            None => left_out.push(format!("table {name} has no primary key and was left out")),
        }
    }
    Ok((tables, left_out))
}

fn read_table(file: &Connection, table: &Table) -> rusqlite::Result<FileTable> {
    let sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    let sql: String = file.query_row(sql, [&table.name], |row| row.get(0))?;
    let columns: Vec<String> = table.columns.iter().map(|column| column.name.clone()).collect();
    let list = columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let mut select = file.prepare(&format!("SELECT {list} FROM main.{}", quoted(&table.name)))?;
    let mut rows = select.query([])?;
    let mut operations = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|n| Ok(super::sql::value(row.get_ref(n)?)));
        let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
        operations.push(operation(table, columns.iter().cloned().zip(values).collect()));
    }
    Ok(FileTable { name: table.name.clone(), sql, operations })
}

fn operation(table: &Table, values: Columns) -> Operation {
    let key_column = |column: &usize| {
        let name = &table.columns[*column].name;
        (name.clone(), values.get(name).cloned().unwrap_or(SqlValue::Null))
    };
    let mut hash = Sha256::new_with_prefix(table.name.to_ascii_lowercase());
    hash.update([0]);
    hash.update(serde_json::to_vec(&values).unwrap_or_default());
    let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // 32 hexadecimal digits are an id; the fallback is never taken.
    let node = ReplicaId::new(&digest).unwrap_or_else(|_| ReplicaId::from_random(0));
    Operation {
        hlc: Hlc { tick: Tick::default(), node },
        kind: OperationKind::Insert,
        table: table.name.clone(),
        pk: table.key.iter().map(key_column).collect(),
        values: Some(values),
        prev: None,
        seq: None,
        tx: None,
        adopted: None,
    }
}
