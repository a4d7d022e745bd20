//! What goes into [`exec`](super::Replica::exec) and what comes out.

use rtc_battery_proto::SqlValue;
use serde::{Deserialize, Serialize};

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
