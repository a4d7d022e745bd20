//! The specification's `SQLLayer` (section 3): a replica by itself, in memory, whose operations the caller carries.
//!
//! An operation is the specification's and nothing more: no dot, no transaction. So what comes in is adopted, deduplicated by its clock value.
//! Schema is data here too: CREATE TABLE comes out as an operation on `rtc_schema`, and a layer to which all operations of another were
//! applied, in whatever order, shows the same tables and rows.
//!
//! Invariant: every operation that was committed is given to the caller exactly once, by the call that committed it.

use rtc_battery_proto::{Columns, Operation, ReplicaId, SqlValue};
use rusqlite::Connection;

use super::error::{OpenError, StorageError};
use super::file::ImportError;
use super::limits::MAX_ROW_BYTES;
use super::replica::Replica;
use super::schema::table::Affinity;
use super::session::query::{Params, QueryResult, Scope, SqlError};
use super::unique::parked::Conflict;
use crate::Now;

/// A database in memory that tells what was written to it, and takes what was written to others.
#[derive(Debug)]
pub struct SqlLayer {
    replica: Replica,
}

/// What [`SqlLayer::execute`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// What the statements returned.
    pub result: QueryResult,
    /// Everything that the call committed, in order. What a transaction over several calls wrote comes with its COMMIT.
    pub operations: Vec<Operation>,
}

/// A statement failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct ExecuteError {
    /// Why.
    pub error: SqlError,
    /// What the call had committed before.
    pub operations: Vec<Operation>,
}

/// Why an operation was not applied. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It is invalid; the reason, for a person.
    #[error("{0}")]
    Refused(String),
    /// Our own storage failed, or a transaction is open.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl SqlLayer {
    /// An empty database. `id` names it in its operations' clocks: no other may have the same.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(id: &ReplicaId) -> Result<Self, OpenError> {
        let connection = Connection::open_in_memory().map_err(StorageError::from)?;
        // It belongs to no room: it never meets one.
        let mut replica = Replica::open(connection, "", id)?;
        replica.keep_at_hand(usize::MAX);
        Ok(Self { replica })
    }

    /// Runs SQL: one or several statements.
    ///
    /// # Errors
    /// [`ExecuteError`] of the first statement that fails.
    pub fn execute(&mut self, sql: &str, params: &Params, now: Now) -> Result<Executed, ExecuteError> {
        let released = if self.replica.in_transaction() { Ok(None) } else { self.replica.release(now) };
        let outcome = released.map_err(SqlError::from).and_then(|_| self.replica.exec(sql, params, Scope::Synced, now));
        let operations = self.take_operations();
        self.take_not_shown();
        match outcome {
            Ok(result) => Ok(Executed { result, operations }),
            Err(error) => Err(ExecuteError { error, operations }),
        }
    }

    /// Takes in an operation of another. One that is known or beaten changes nothing; one whose table or column is not known yet waits for it, and one from
    /// the future for its time: the first call then applies it.
    /// Gives what was taken and cannot be shown here, with the reason.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub fn apply(&mut self, operation: Operation, now: Now) -> Result<Vec<String>, ApplyError> {
        check_size(&operation)?;
        self.replica.release(now)?;
        let (mut applied, _) = self.replica.adopt(vec![operation], now)?;
        if applied.set_aside > 0 {
            return Ok(vec![
                "it is stamped ahead of this device's clock and is applied when time has caught up".to_owned(),
            ]);
        }
        // The caller has it.
        self.take_operations();
        let not_shown = self.take_not_shown();
        match applied.refused.pop() {
            Some(why) if applied.operations == 0 => Err(ApplyError::Refused(why)),
            why => Ok(applied.refused.into_iter().chain(why).chain(not_shown).collect()),
        }
    }

    /// Whether a transaction of the user is open.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.replica.in_transaction()
    }

    /// The database as a plain SQLite file, without our tables.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open.
    pub fn export(&self) -> Result<Vec<u8>, StorageError> {
        self.replica.export()
    }

    /// Takes in a plain SQLite file: creates the tables that are missing and fills gaps; what is here already stands. Gives what was left out and
    /// why. What it brings is nobody's operation: others take the same file.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn import(&mut self, file: &[u8], now: Now) -> Result<Vec<String>, ImportError> {
        let imported = self.replica.import(file, now);
        self.take_operations();
        let not_shown = self.take_not_shown();
        imported.map(|(applied, _)| applied.refused.into_iter().chain(not_shown).collect())
    }

    /// Whether a column makes a REAL of a whole number that it is given, so that a REAL may be written without its fraction.
    #[must_use]
    pub fn is_real(&self, table: &str, column: &str) -> bool {
        let table = self.replica.table(table);
        let column = table.and_then(|table| Some(&table.columns[table.of_identity(column)?]));
        column.is_some_and(|column| column.affinity == Affinity::Real)
    }

    /// Rows that cannot be shown since the last call, and why.
    fn take_not_shown(&mut self) -> Vec<String> {
        self.replica.take_conflicts().iter().map(Conflict::to_string).collect()
    }

    /// What was committed since the last call, as the specification has it.
    fn take_operations(&mut self) -> Vec<Operation> {
        let committed = self.replica.take_committed(u64::MAX);
        let operations = committed.into_iter().filter_map(|committed| committed.operations).flatten();
        operations.map(Operation::into_plain).collect()
    }
}

/// What no row can hold is refused before it takes room here.
fn check_size(operation: &Operation) -> Result<(), ApplyError> {
    let parts = [("pk", Some(&operation.pk)), ("values", operation.values.as_ref()), ("prev", operation.prev.as_ref())];
    for (name, columns) in parts {
        let bytes: usize = columns.into_iter().flat_map(Columns::values).map(SqlValue::size_bytes).sum();
        if bytes > MAX_ROW_BYTES.unsigned_abs() as usize {
            let why = format!("its {name} has {bytes} bytes; a row has at most {MAX_ROW_BYTES}");
            return Err(ApplyError::Refused(why));
        }
    }
    Ok(())
}
