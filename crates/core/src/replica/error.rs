//! What can go wrong with our own storage. What is wrong with somebody else's bytes is never an error here.

/// Our own storage failed or holds what it must not; the replica cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A transaction of the user is open; try again when it is not.
    #[error("a transaction is open")]
    InTransaction,
    /// A table of ours holds what we never write.
    #[error("the database is damaged: {0}")]
    Corrupt(&'static str),
}

/// Why a database cannot be opened as a replica. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Our own storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It belongs to another room.
    #[error("this database belongs to another room; give this room a dbName of its own")]
    OtherRoom,
    /// It was written by a newer version.
    #[error("this database has format {0}, newer than this version understands; reload to get the newer version")]
    NewerFormat(i64),
    /// Another process has the file open, or this one has it open already.
    #[error("this database is open already, here or in another process; close it there")]
    Busy,
    /// SQLite keeps no write-ahead log of it, as of databases in memory.
    #[error("this database cannot be kept in WAL, its journal mode stays {0}: give it a file")]
    NoWal(String),
}
