//! Deltas that come in parts wait here until their end, in a TEMP table: a reader of the user's tables never sees half of one.

use rtc_battery_proto::Operation;
use rusqlite::{Connection, params};

use super::error::StorageError;

pub(super) fn create(connection: &Connection) -> Result<(), StorageError> {
    connection.execute_batch(
        "CREATE TEMP TABLE rtc_staged (key INTEGER, n INTEGER, operation TEXT, PRIMARY KEY (key, n)) WITHOUT ROWID",
    )?;
    Ok(())
}

pub(super) fn stage(connection: &Connection, key: u32, operations: &[Operation]) -> Result<(), StorageError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO temp.rtc_staged
         VALUES (?1, (SELECT coalesce(max(n), 0) + 1 FROM temp.rtc_staged WHERE key = ?1), ?2)",
    )?;
    for operation in operations {
        let text = serde_json::to_string(operation).map_err(|_| StorageError::Corrupt("an operation"))?;
        insert.execute(params![key, text])?;
    }
    Ok(())
}

/// What was staged under `key`, in order; it is not staged any more.
pub(super) fn take(connection: &Connection, key: u32) -> Result<Vec<Operation>, StorageError> {
    let mut select = connection.prepare_cached("SELECT operation FROM temp.rtc_staged WHERE key = ?1 ORDER BY n")?;
    let texts = select.query_map([key], |row| row.get::<_, String>(0))?;
    let mut operations = Vec::new();
    for text in texts {
        operations.push(serde_json::from_str(&text?).map_err(|_| StorageError::Corrupt("rtc_staged.operation"))?);
    }
    drop(connection, key)?;
    Ok(operations)
}

pub(super) fn drop(connection: &Connection, key: u32) -> Result<(), StorageError> {
    connection.prepare_cached("DELETE FROM temp.rtc_staged WHERE key = ?1")?.execute([key])?;
    Ok(())
}
