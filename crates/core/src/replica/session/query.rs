//! What goes into [`exec`](crate::replica::Replica::exec) and what comes out.

use rtc_battery_proto::SqlValue;
use rusqlite::ffi;
use serde::{Deserialize, Serialize};

use crate::replica::error::StorageError;
use crate::replica::schema::tables::NotSynced;

/// Values for a statement's parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Params {
    /// None given.
    #[default]
    None,
    /// By position: `?`, `?2`. With several statements each takes as many as it has parameters, from where the one before stopped.
    Positional(Vec<SqlValue>),
    /// By name, with or without its prefix: `:a`, `@a`, `$a`.
    Named(Vec<(String, SqlValue)>),
}

/// Whether a statement's writes are replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// They are: `exec`.
    Synced,
    /// They stay on this device: `execLocal`.
    Local,
}

/// What statements returned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryResult {
    /// Column names of the last statement that returns rows.
    pub columns: Vec<String>,
    /// Its rows.
    pub values: Vec<Vec<SqlValue>>,
    /// Rows inserted, updated or deleted by all statements, triggers and cascades not counted.
    pub rows_affected: u64,
}

/// Why SQL failed. What the failing statement did is undone; what statements before it in the same text did stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct SqlError {
    /// What SQLite or RTC Battery says.
    pub message: String,
    /// SQLite's extended result code; `SQLITE_AUTH` (23) where RTC Battery refuses.
    pub code: i32,
}

/// What the user must not do.
pub(crate) fn refused(message: String) -> SqlError {
    SqlError { message, code: ffi::SQLITE_AUTH }
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        let code = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => failure.extended_code,
            rusqlite::Error::SqlInputError { error, .. } => error.extended_code,
            _ => ffi::SQLITE_ERROR,
        };
        let message = match error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message,
            rusqlite::Error::SqlInputError { msg, .. } => msg,
            other => other.to_string(),
        };
        Self { message, code }
    }
}

impl From<StorageError> for SqlError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Sqlite(error) => error.into(),
            StorageError::Corrupt(_) | StorageError::InTransaction => {
                Self { message: error.to_string(), code: ffi::SQLITE_CORRUPT }
            }
        }
    }
}

impl From<NotSynced> for SqlError {
    fn from(error: NotSynced) -> Self {
        match error {
            NotSynced::Refused(message) => refused(message),
            NotSynced::Storage(error) => error.into(),
        }
    }
}
