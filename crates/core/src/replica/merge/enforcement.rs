//! The user's own enforcement (foreign keys, CHECKs, main-schema triggers), and how it is put out of the way of what others wrote: their databases enforced it.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::replica::error::StorageError;
use crate::replica::state::State;

impl State {
    /// Whether the schema has triggers, CHECKs or foreign keys. To lift them has a price: SQLite compiles every statement anew.
    pub(crate) fn enforces(&mut self, connection: &Connection) -> Result<bool, StorageError> {
        // The words may stand in a comment or a name; that costs time only.
        // LIKE would heed PRAGMA case_sensitive_like.
        let select = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE lower(substr(name, 1, 4)) <> 'rtc_'
                      AND (type = 'trigger' OR type = 'table' AND (instr(lower(sql), 'check') OR instr(lower(sql), 'references'))))";
        if self.enforces.is_none() {
            self.enforces = Some(connection.query_row(select, [], |row| row.get(0))?);
        }
        Ok(self.enforces == Some(true))
    }
}

/// Runs something, if `lift` says so with the user's enforcement (foreign keys, CHECKs, main-schema triggers) out of the way, and back afterwards.
pub(crate) fn lifted<T>(
    connection: &Connection,
    lift: bool,
    run: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    if !lift {
        return run();
    }
    let foreign_keys = connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY)?;
    let enforce = |on: bool| -> Result<(), StorageError> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, on && foreign_keys)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, on)?;
        Ok(connection.pragma_update(None, "ignore_check_constraints", !on)?)
    };
    let outcome = enforce(false).and_then(|()| run());
    enforce(true)?;
    outcome
}
