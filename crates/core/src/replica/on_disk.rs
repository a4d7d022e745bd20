//! A replica in a SQLite file, for native hosts: what a commit promises there, and that nobody else writes the file.
//!
//! The file is kept in WAL, where a commit is one append and a crash of the process loses none. What a power cut may take is the caller's to say,
//! in the words of the browser's hosts. A replica keeps in memory what its file says, so it has the file for itself for as long as it is open.

use std::path::Path;
use std::time::Duration;

use rtc_battery_proto::ReplicaId;
use rusqlite::{Connection, ErrorCode};

use super::error::{OpenError, StorageError};
use super::replica::Replica;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The operating system: a crash of the process loses nothing, a power cut may take the newest commits. It never leaves half of one.
    Relaxed,
    /// The disk.
    Strict,
}

impl Replica {
    /// Opens or makes the file, as [`open`](Self::open) does, for this replica alone.
    ///
    /// # Errors
    /// [`OpenError`]; the file is untouched then.
    pub fn open_file(path: &Path, durability: Durability, room: &str, fresh_id: &ReplicaId) -> Result<Self, OpenError> {
        let connection = connect(path, durability).map_err(refusal)?;
        let replica = Self::open(connection, room, fresh_id).map_err(|error| match error {
            OpenError::Storage(StorageError::Sqlite(error)) => refusal(error),
            other => other,
        })?;
        // Not before: this writes the header of a file that may be of a newer format.
        let keep = "PRAGMA main.journal_mode = WAL";
        let mode: String = replica.connection.query_row(keep, [], |row| row.get(0)).map_err(refusal)?;
        if mode == "wal" { Ok(replica) } else { Err(OpenError::NoWal(mode)) }
    }
}

/// The lock is not waited for: whoever has it keeps it. It is taken at the first read, so two that open the file at once do not both get in.
fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let synchronous = match durability {
        Durability::Relaxed => "NORMAL",
        Durability::Strict => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    Ok(connection)
}

fn refusal(error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Busy,
        _ => StorageError::Sqlite(error).into(),
    }
}
