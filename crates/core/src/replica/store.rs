//! The `rtc_*` tables: who this replica is, which transactions it has, and the numbers it gives to origins, tables and transactions.
//!
//! Readable by anyone with SQL, written only from here and [`rows`](super::rows). Written in the same SQLite transaction as the
//! user's rows, so that a write and its operation commit or vanish together.

use std::collections::BTreeMap;

use rtc_battery_proto::{ReplicaId, SeqRanges, Tick, TransactionExtent, VersionVector};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::{OpenError, StorageError};

/// Layout of the `rtc_*` tables. A newer one is refused untouched.
pub(super) const FORMAT: i64 = 1;

/// Number of the reserved synced table `rtc_schema` in `rtc_tables`: the lowest, so that within a transaction a table comes before its rows.
pub(super) const SCHEMA_TABLE: i64 = 1;

const LAYOUT: &str = "
CREATE TABLE rtc_replica (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  format INTEGER NOT NULL,
  room TEXT NOT NULL,
  node TEXT NOT NULL,
  version INTEGER NOT NULL,
  ts INTEGER NOT NULL,
  counter INTEGER NOT NULL,
  seq INTEGER NOT NULL
);
CREATE TABLE rtc_origins (id INTEGER PRIMARY KEY, node TEXT NOT NULL UNIQUE, have TEXT NOT NULL);
CREATE TABLE rtc_tables (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE);
CREATE TABLE rtc_transactions (
  id INTEGER PRIMARY KEY,
  origin INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  ts INTEGER NOT NULL,
  counter INTEGER NOT NULL,
  n INTEGER NOT NULL,
  UNIQUE (origin, seq)
);
CREATE TABLE rtc_operations (
  tx INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  tbl INTEGER NOT NULL,
  row NOT NULL,
  cols NOT NULL,
  vals TEXT,
  hlc TEXT,
  PRIMARY KEY (tx, idx)
) WITHOUT ROWID;
CREATE INDEX rtc_operations_of_row ON rtc_operations (tbl, row);
CREATE TABLE rtc_waiting (
  tx INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  tbl TEXT NOT NULL COLLATE NOCASE,
  hlc TEXT NOT NULL,
  operation TEXT NOT NULL,
  PRIMARY KEY (tx, idx)
) WITHOUT ROWID;
CREATE UNIQUE INDEX rtc_waiting_for_table ON rtc_waiting (tbl, hlc);
CREATE TABLE rtc_schema (id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, sql TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO rtc_tables (id, name) VALUES (1, 'rtc_schema');
";

/// What of the store is kept in memory. Changed only after the SQLite transaction that stored the change committed.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) node: ReplicaId,
    pub(super) version: u64,
    pub(super) last: Tick,
    /// Sequence number of its last transaction. What it wrote since its entry in `rtc_origins` was stored is all up to this.
    pub(super) seq: u64,
}

/// Creates the tables where there are none.
pub(super) fn initialize(connection: &Connection, room: &str, fresh_id: &ReplicaId) -> Result<Identity, OpenError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = 'rtc_replica')";
    if !connection.query_row(exists, [], |row| row.get::<_, bool>(0)).map_err(StorageError::from)? {
        let create = || {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            connection.execute_batch(LAYOUT)?;
            let insert = "INSERT INTO rtc_replica VALUES (1, ?1, ?2, ?3, 0, 0, 0, 0)";
            connection.execute(insert, params![FORMAT, room, fresh_id.as_str()])?;
            connection.execute_batch("COMMIT")
        };
        create().map_err(StorageError::from)?;
    }
    read_identity(connection, room)
}

fn read_identity(connection: &Connection, room: &str) -> Result<Identity, OpenError> {
    // The format alone first: a newer layout may have other columns.
    let format: i64 =
        connection.query_row("SELECT format FROM rtc_replica", [], |row| row.get(0)).map_err(StorageError::from)?;
    if format > FORMAT {
        return Err(OpenError::NewerFormat(format));
    }
    let select = "SELECT room, node, version, ts, counter, seq FROM rtc_replica";
    let row = connection.query_row(select, [], |row| {
        let last = Tick { ts: row.get(3)?, counter: row.get(4)? };
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, u64>(2)?, last, row.get::<_, u64>(5)?))
    });
    let (stored_room, node, version, last, seq) = row.map_err(StorageError::from)?;
    if stored_room != room {
        return Err(OpenError::OtherRoom);
    }
    let node = ReplicaId::new(&node).map_err(|_| StorageError::Corrupt("rtc_replica.node"))?;
    Ok(Identity { node, version, last, seq })
}

/// Stores that the replica committed a transaction of its own. Its entry in `rtc_origins` follows when something else changes it.
pub(super) fn save_own(connection: &Connection, version: u64, last: Tick, seq: u64) -> Result<(), StorageError> {
    let sql = "UPDATE rtc_replica SET version = ?1, ts = ?2, counter = ?3, seq = ?4";
    connection.prepare_cached(sql)?.execute(params![version, last.ts, last.counter, seq])?;
    Ok(())
}

/// Stores version and clock.
pub(super) fn save_progress(connection: &Connection, version: u64, last: Tick) -> Result<(), StorageError> {
    let mut update = connection.prepare_cached("UPDATE rtc_replica SET version = ?1, ts = ?2, counter = ?3")?;
    update.execute(params![version, last.ts, last.counter])?;
    Ok(())
}

/// The numbers of origins.
#[derive(Debug, Default)]
pub(super) struct Origins {
    ids: BTreeMap<ReplicaId, i64>,
    nodes: BTreeMap<i64, ReplicaId>,
}

impl Origins {
    /// Reads them with the version vector.
    pub(super) fn load(connection: &Connection) -> Result<(Self, VersionVector), StorageError> {
        let (mut origins, mut vector) = (Self::default(), VersionVector::default());
        let mut select = connection.prepare("SELECT id, node, have FROM rtc_origins")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (id, node, have): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let node = ReplicaId::new(&node).map_err(|_| StorageError::Corrupt("rtc_origins.node"))?;
            let have: SeqRanges = serde_json::from_str(&have).map_err(|_| StorageError::Corrupt("rtc_origins.have"))?;
            vector.replace_origin(node.clone(), have);
            origins.ids.insert(node.clone(), id);
            origins.nodes.insert(id, node);
        }
        Ok((origins, vector))
    }

    /// The number of an origin, a new one if it was never seen.
    pub(super) fn id(&mut self, connection: &Connection, node: &ReplicaId) -> Result<i64, StorageError> {
        if let Some(id) = self.ids.get(node) {
            return Ok(*id);
        }
        let mut insert = connection.prepare_cached("INSERT INTO rtc_origins (node, have) VALUES (?1, '[]')")?;
        let id = insert.insert([node.as_str()])?;
        self.ids.insert(node.clone(), id);
        self.nodes.insert(id, node.clone());
        Ok(id)
    }

    pub(super) fn node(&self, id: i64) -> Result<&ReplicaId, StorageError> {
        self.nodes.get(&id).ok_or(StorageError::Corrupt("an origin that is not in rtc_origins"))
    }

    /// Stores which transactions of one origin are here.
    pub(super) fn save(
        &mut self,
        connection: &Connection,
        node: &ReplicaId,
        have: &SeqRanges,
    ) -> Result<(), StorageError> {
        let id = self.id(connection, node)?;
        let have = serde_json::to_string(have).map_err(|_| StorageError::Corrupt("a version vector"))?;
        connection.prepare_cached("UPDATE rtc_origins SET have = ?2 WHERE id = ?1")?.execute(params![id, have])?;
        Ok(())
    }
}

/// Numbers for transactions: they grow in order of commit and are not given twice while the database is open, so that a reader of
/// the log can go on from the last one it saw.
#[derive(Debug)]
pub(super) struct TransactionNumbers {
    next: i64,
}

impl TransactionNumbers {
    pub(super) fn load(connection: &Connection) -> Result<Self, StorageError> {
        let last = "SELECT coalesce(max(id), 0) FROM rtc_transactions";
        Ok(Self { next: connection.query_row(last, [], |row| row.get::<_, i64>(0))? + 1 })
    }

    /// The next number, which later transactions will be above.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Stores a transaction; gives its number.
    pub(super) fn insert(
        &mut self,
        connection: &Connection,
        origin: i64,
        seq: u64,
        extent: TransactionExtent,
    ) -> Result<i64, StorageError> {
        let mut insert = connection.prepare_cached("INSERT INTO rtc_transactions VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let TransactionExtent { first, n } = extent;
        let id = self.next;
        insert.execute(params![id, origin, seq, first.ts, first.counter, n])?;
        self.next += 1;
        Ok(id)
    }
}

/// Forgets a transaction none of whose operations is shown any more.
pub(super) fn forget_if_empty(connection: &Connection, tx: i64) -> Result<(), StorageError> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM rtc_transactions WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM rtc_operations WHERE tx = ?1)
         AND NOT EXISTS (SELECT 1 FROM rtc_waiting WHERE tx = ?1)",
    )?;
    delete.execute([tx])?;
    Ok(())
}

/// The number of a table name, a new one if it was never seen.
pub(super) fn table_id(connection: &Connection, name: &str) -> Result<i64, StorageError> {
    let mut select = connection.prepare_cached("SELECT id FROM rtc_tables WHERE name = ?1")?;
    if let Some(id) = select.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    Ok(connection.prepare_cached("INSERT INTO rtc_tables (name) VALUES (?1)")?.insert([name])?)
}
