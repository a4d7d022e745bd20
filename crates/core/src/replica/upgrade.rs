//! What the database of an earlier version needs, beyond the tables that it lacks, before anybody reads it.
//!
//! Format 2: the digest counts no births. A sum that was kept up to date with them would never again be what peers say, so it is made anew.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::error::StorageError;
use super::log::digest::Registers;
use super::log::store::{self, FORMAT};
use super::log::whole;
use super::state::State;

impl State {
    /// Brings the database up to this version's format, in one SQLite transaction.
    pub(crate) fn upgrade(&mut self, connection: &Connection) -> Result<(), StorageError> {
        let format: i64 = connection.query_row("SELECT format FROM rtc_replica", [], |row| row.get(0))?;
        if format >= FORMAT {
            return Ok(());
        }
        let mut registers = Registers::default();
        for table in self.tables.iter() {
            registers += whole::registers(connection, &self.origins, table, &BTreeMap::new())?;
        }
        self.registers = registers;
        let transaction = connection.unchecked_transaction()?;
        store::save_progress(connection, self.progress())?;
        connection.execute("UPDATE rtc_replica SET format = ?1", [FORMAT])?;
        Ok(transaction.commit()?)
    }
}
