//! The two that are compared: a replica, and the same SQLite as it is.

use anyhow::{Result, anyhow};
use rtc_battery_core::replica::{Params, Replica, Scope};
use rtc_battery_core::{Now, replica};
use rtc_battery_proto::{ReplicaId, SqlValue};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// The table of issue 4.
pub(crate) const SCHEMA: &str =
    "CREATE TABLE items (id TEXT PRIMARY KEY, title TEXT, body TEXT, done INTEGER, rank REAL)";

pub(crate) const NOW: Now = Now { wall_ms: 1_760_000_000_000, mono_ms: 0 };

/// SQL that is run and timed.
pub(crate) trait Engine: Sized {
    /// An empty database in memory.
    fn open() -> Result<Self>;
    /// Runs SQL with positional parameters.
    fn exec(&mut self, sql: &str, params: &[SqlValue]) -> Result<()>;
    /// Size of the database in bytes.
    fn size_bytes(&mut self) -> Result<i64>;
}

/// SQLite as it is, with the settings that a replica has.
pub(crate) struct Bare(pub(crate) Connection);

/// What `RTCBattery.exec` runs on.
pub(crate) struct Tracked(pub(crate) Replica);

impl Engine for Bare {
    fn open() -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY")?;
        Ok(Self(connection))
    }

    fn exec(&mut self, sql: &str, params: &[SqlValue]) -> Result<()> {
        let mut statement = self.0.prepare(sql)?;
        statement.execute(params_from_iter(params.iter().map(value)))?;
        Ok(())
    }

    fn size_bytes(&mut self) -> Result<i64> {
        Ok(self.0.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
            row.get(0)
        })?)
    }
}

impl Engine for Tracked {
    fn open() -> Result<Self> {
        let id = ReplicaId::from_random(1);
        let replica = Replica::open(Connection::open_in_memory()?, "bench", &id).map_err(|error| anyhow!(error))?;
        Ok(Self(replica))
    }

    fn exec(&mut self, sql: &str, params: &[SqlValue]) -> Result<()> {
        let params = if params.is_empty() { Params::None } else { Params::Positional(params.to_vec()) };
        self.0.exec(sql, &params, Scope::Synced, NOW).map_err(|error: replica::SqlError| anyhow!(error.message))?;
        self.0.take_committed(self.0.version());
        Ok(())
    }

    fn size_bytes(&mut self) -> Result<i64> {
        let rows = self.rows("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?;
        match rows.first().and_then(|row| row.first()) {
            Some(SqlValue::Integer(bytes)) => Ok(*bytes),
            other => Err(anyhow!("the size is {other:?}")),
        }
    }
}

impl Tracked {
    /// The rows of a query.
    pub(crate) fn rows(&mut self, sql: &str) -> Result<Vec<Vec<SqlValue>>> {
        let result = self.0.exec(sql, &Params::None, Scope::Synced, NOW);
        Ok(result.map_err(|error| anyhow!(error.message))?.values)
    }
}

fn value(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(integer) => Value::Integer(*integer),
        SqlValue::Real(real) => Value::Real(*real),
        SqlValue::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        SqlValue::Blob(blob) => Value::Blob(blob.clone()),
    }
}
