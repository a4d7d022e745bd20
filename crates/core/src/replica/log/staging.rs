//! Deltas that come in parts wait here until their end, in a TEMP table: a reader of the user's tables never sees half of one.
//!
//! They wait as they came: [packed](rtc_battery_proto::packed) ones are not unpacked before the end, others are a JSON text.

use rtc_battery_proto::Operation;
use rtc_battery_proto::packed::{Packed, PackedError};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ToSql, params};

use crate::replica::error::StorageError;

pub(crate) fn create(connection: &Connection) -> Result<(), StorageError> {
    connection.execute_batch(
        "CREATE TEMP TABLE rtc_staged (key INTEGER, n INTEGER, part, PRIMARY KEY (key, n)) WITHOUT ROWID",
    )?;
    Ok(())
}

pub(crate) fn stage(connection: &Connection, key: u32, operations: &[Operation]) -> Result<(), StorageError> {
    let text = serde_json::to_string(operations).map_err(|_| StorageError::Corrupt("an operation"))?;
    insert(connection, key, &text)
}

pub(crate) fn stage_packed(connection: &Connection, key: u32, packed: &Packed) -> Result<(), StorageError> {
    insert(connection, key, &packed.bytes())
}

fn insert(connection: &Connection, key: u32, part: &dyn ToSql) -> Result<(), StorageError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO temp.rtc_staged
         VALUES (?1, (SELECT coalesce(max(n), 0) + 1 FROM temp.rtc_staged WHERE key = ?1), ?2)",
    )?;
    insert.execute(params![key, part])?;
    Ok(())
}

/// What was staged under `key`, in order; it is not staged any more. An error where a part of it cannot be unpacked.
pub(crate) fn take(connection: &Connection, key: u32) -> Result<Result<Vec<Operation>, PackedError>, StorageError> {
    let operations = read(connection, key)?;
    drop(connection, key)?;
    Ok(operations)
}

fn read(connection: &Connection, key: u32) -> Result<Result<Vec<Operation>, PackedError>, StorageError> {
    let mut select = connection.prepare_cached("SELECT part FROM temp.rtc_staged WHERE key = ?1 ORDER BY n")?;
    let (mut rows, mut operations) = (select.query([key])?, Vec::new());
    while let Some(row) = rows.next()? {
        let part = match row.get_ref(0)? {
            ValueRef::Blob(bytes) => Packed::read(bytes.to_vec()).and_then(|packed| packed.operations()),
            ValueRef::Text(text) => {
                Ok(serde_json::from_slice(text).map_err(|_| StorageError::Corrupt("rtc_staged.part"))?)
            }
            _ => return Err(StorageError::Corrupt("rtc_staged.part")),
        };
        match part {
            Ok(part) => operations.extend(part),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(operations))
}

pub(crate) fn drop(connection: &Connection, key: u32) -> Result<(), StorageError> {
    connection.prepare_cached("DELETE FROM temp.rtc_staged WHERE key = ?1")?.execute([key])?;
    Ok(())
}
