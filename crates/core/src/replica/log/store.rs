//! The `rtc_*` tables: who this replica is, which transactions it has, and the numbers it gives to origins and tables.
//!
//! Readable by anyone with SQL, written only from here and [`rows`](super::rows). Written in the same SQLite transaction as the
//! user's rows, so that a write and its operation commit or vanish together.

use std::collections::BTreeMap;

use rtc_battery_proto::{Operation, ReplicaId, SeqRanges, Tick, TransactionExtent, VersionVector};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::digest::Registers;
use super::runs::Run;
use crate::planted::{Bug, planted};
use crate::replica::error::{OpenError, StorageError};

/// Layout of the `rtc_*` tables. A newer one is refused untouched, an older one brought up to date (`upgrade`).
pub(crate) const FORMAT: i64 = 2;

/// Number of the reserved synced table `rtc_schema` in `rtc_tables`: the lowest, so that within a transaction a table comes before its rows.
pub(crate) const SCHEMA_TABLE: i64 = 1;

const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS rtc_replica (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  format INTEGER NOT NULL,
  room TEXT NOT NULL,
  node TEXT NOT NULL,
  version INTEGER NOT NULL,
  ts INTEGER NOT NULL,
  counter INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  registers INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS rtc_origins (id INTEGER PRIMARY KEY, node TEXT NOT NULL UNIQUE, have TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rtc_tables (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE);
CREATE TABLE IF NOT EXISTS rtc_renamed (tbl INTEGER PRIMARY KEY, made_by TEXT NOT NULL UNIQUE COLLATE NOCASE);
CREATE TABLE IF NOT EXISTS rtc_columns (
  tbl INTEGER NOT NULL,
  name TEXT NOT NULL COLLATE NOCASE,
  identity TEXT NOT NULL COLLATE NOCASE,
  PRIMARY KEY (tbl, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rtc_transactions (
  origin INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  ts INTEGER NOT NULL,
  counter INTEGER NOT NULL,
  n INTEGER NOT NULL,
  registers INTEGER,
  tbl INTEGER,
  row INTEGER,
  PRIMARY KEY (origin, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rtc_operations (
  tbl INTEGER NOT NULL,
  row NOT NULL,
  origin INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  listed INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  cols NOT NULL,
  vals TEXT,
  hlc TEXT,
  PRIMARY KEY (tbl, row, origin, seq, idx)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rtc_operations_of_transaction ON rtc_operations (origin, seq, idx) WHERE listed;
CREATE TABLE IF NOT EXISTS rtc_waiting (
  origin INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  tbl TEXT NOT NULL COLLATE NOCASE,
  hlc TEXT NOT NULL,
  operation TEXT NOT NULL,
  PRIMARY KEY (origin, seq, idx)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS rtc_waiting_for_table ON rtc_waiting (tbl, hlc);
CREATE TABLE IF NOT EXISTS rtc_quarantine (
  origin INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  until INTEGER NOT NULL,
  hlc TEXT NOT NULL,
  operation TEXT NOT NULL,
  PRIMARY KEY (origin, seq, idx)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rtc_quarantine_by_clock ON rtc_quarantine (hlc);
CREATE TABLE IF NOT EXISTS rtc_parked (
  tbl INTEGER NOT NULL,
  row TEXT NOT NULL,
  why TEXT NOT NULL,
  blocker TEXT,
  PRIMARY KEY (tbl, row)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rtc_parked_by_blocker ON rtc_parked (tbl, blocker);
CREATE VIEW IF NOT EXISTS rtc_conflicts (\"table\", pk, reason, with_pk) AS
  SELECT t.name, p.row, p.why, p.blocker FROM rtc_parked p JOIN rtc_tables t ON t.id = p.tbl;
CREATE TABLE IF NOT EXISTS rtc_history (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, news TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rtc_members (node TEXT PRIMARY KEY, met INTEGER NOT NULL, in_step INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rtc_floor (one INTEGER PRIMARY KEY CHECK (one = 1), ts INTEGER NOT NULL, counter INTEGER NOT NULL, vector TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rtc_answers (
  n INTEGER PRIMARY KEY,
  caller TEXT NOT NULL,
  call INTEGER NOT NULL,
  answer TEXT NOT NULL,
  UNIQUE (caller, call)
);
CREATE VIEW IF NOT EXISTS rtc_stats (name, value) AS
  SELECT 'log_bytes', (SELECT coalesce(sum(32 + octet_length(row) + octet_length(cols) + coalesce(octet_length(vals), 0) + coalesce(octet_length(hlc), 0)), 0)
                       FROM rtc_operations)
  UNION ALL SELECT 'operations', (SELECT count(*) FROM rtc_operations)
  UNION ALL SELECT 'transactions', (SELECT count(*) FROM rtc_transactions)
  UNION ALL SELECT 'deletes', (SELECT count(*) FROM rtc_operations WHERE kind = 3)
  UNION ALL SELECT 'waiting', (SELECT count(*) FROM rtc_waiting)
  UNION ALL SELECT 'set_aside', (SELECT count(*) FROM rtc_quarantine)
  UNION ALL SELECT 'conflicts', (SELECT count(*) FROM rtc_parked)
  UNION ALL SELECT 'replicas', (SELECT count(*) FROM rtc_origins)
  UNION ALL SELECT 'members', (SELECT count(*) FROM rtc_members)
  UNION ALL SELECT 'forgotten_up_to', (SELECT ts FROM rtc_floor);
CREATE TABLE IF NOT EXISTS rtc_schema (id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, sql TEXT NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO rtc_tables (id, name) VALUES (1, 'rtc_schema');
";

/// A transaction as the store names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tx {
    /// Number of its origin, in `rtc_origins`.
    pub(crate) origin: i64,
    /// Which of its origin's transactions.
    pub(crate) seq: u64,
}

/// An operation as the store names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) tx: Tx,
    pub(crate) index: u32,
}

/// What of the store is kept in memory. Changed only after the SQLite transaction that stored the change committed.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) node: ReplicaId,
    pub(crate) progress: Progress,
}

/// How far a replica has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) version: u64,
    /// The last clock value issued or seen.
    pub(crate) last: Tick,
    /// Sequence number of its last transaction.
    pub(crate) seq: u64,
    /// The digest of all registers.
    pub(crate) registers: Registers,
}

/// Creates the tables where there are none.
pub(crate) fn initialize(connection: &Connection, room: &str, fresh_id: &ReplicaId) -> Result<Identity, OpenError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = 'rtc_replica')";
    let exists: bool = connection.query_row(exists, [], |row| row.get(0)).map_err(StorageError::from)?;
    if exists {
        // What is refused is left as it is.
        read_identity(connection, room)?;
    }
    // Of an earlier version's database what it lacks.
    let create = || {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.execute_batch(LAYOUT)?;
        let insert = "INSERT OR IGNORE INTO rtc_replica VALUES (1, ?1, ?2, ?3, 0, 0, 0, 0, 0)";
        connection.execute(insert, params![FORMAT, room, fresh_id.as_str()])?;
        connection.execute_batch("COMMIT")
    };
    create().map_err(StorageError::from)?;
    read_identity(connection, room)
}

/// The same of a database that is damaged and never written again: as far as it can be read.
pub(crate) fn identity_of_damaged(connection: &Connection, room: &str) -> Result<Identity, OpenError> {
    let mut identity = read_stored_identity(connection, room)?;
    let Identity { node, progress } = &mut identity;
    // Where its newest transaction cannot be read the older ones still may be.
    let _unreadable = add_own_since(connection, node, progress);
    Ok(identity)
}

fn read_identity(connection: &Connection, room: &str) -> Result<Identity, OpenError> {
    let mut identity = read_stored_identity(connection, room)?;
    add_own_since(connection, &identity.node, &mut identity.progress)?;
    Ok(identity)
}

/// As of the last merge.
fn read_stored_identity(connection: &Connection, room: &str) -> Result<Identity, OpenError> {
    // The format alone first: a newer layout may have other columns.
    let format: i64 =
        connection.query_row("SELECT format FROM rtc_replica", [], |row| row.get(0)).map_err(StorageError::from)?;
    if format > FORMAT {
        return Err(OpenError::NewerFormat(format));
    }
    let select = "SELECT room, node, version, ts, counter, seq, registers FROM rtc_replica";
    let row = connection.query_row(select, [], |row| {
        let last = Tick { ts: row.get(3)?, counter: row.get(4)? };
        let progress = Progress { version: row.get(2)?, last, seq: row.get(5)?, registers: registers(row, 6)? };
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, progress))
    });
    let (stored_room, node, progress) = row.map_err(StorageError::from)?;
    if stored_room != room {
        return Err(OpenError::OtherRoom);
    }
    let node = ReplicaId::new(&node).map_err(|_| StorageError::Corrupt("rtc_replica.node"))?;
    Ok(Identity { node, progress })
}

/// A commit of its own does not write `rtc_replica`: what it has committed since then is read from its newest transaction, which is kept at
/// least until a merge, and so `rtc_replica`, is written.
fn add_own_since(connection: &Connection, node: &ReplicaId, progress: &mut Progress) -> Result<(), StorageError> {
    let newest = "SELECT t.seq, t.ts, t.counter, t.n, t.registers FROM rtc_transactions t, rtc_origins o
                  WHERE o.node = ?1 AND t.origin = o.id ORDER BY t.seq DESC LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| {
        let first = Tick { ts: row.get(1)?, counter: row.get(2)? };
        let registers = row.get::<_, Option<i64>>(4)?.map(Registers::from_stored);
        Ok((row.get::<_, u64>(0)?, first, row.get::<_, u64>(3)?, registers))
    };
    let newest = connection.query_row(newest, [node.as_str()], read).optional()?;
    if let Some((seq, first, n, registers)) = newest.filter(|(seq, ..)| *seq > progress.seq) {
        if !planted(Bug::VersionGoesBack) {
            progress.version += seq - progress.seq;
        }
        progress.seq = seq;
        progress.last = progress.last.max(first.checked_add(n.saturating_sub(1)).unwrap_or(first));
        progress.registers = registers.ok_or(StorageError::Corrupt("rtc_transactions.registers"))?;
    }
    Ok(())
}

fn registers(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Registers> {
    row.get(column).map(Registers::from_stored)
}

/// Stores how far the replica has come.
pub(crate) fn save_progress(connection: &Connection, progress: Progress) -> Result<(), StorageError> {
    let Progress { version, last, seq, registers } = progress;
    let sql = "UPDATE rtc_replica SET version = ?1, ts = ?2, counter = ?3, seq = ?4, registers = ?5";
    let progress = params![version, last.ts, last.counter, seq, registers.to_stored()];
    connection.prepare_cached(sql)?.execute(progress)?;
    Ok(())
}

/// Stores the digest after a transaction of the replica's own with it, where it is stored already.
pub(crate) fn note_registers(connection: &Connection, tx: Tx, registers: Registers) -> Result<(), StorageError> {
    let sql = "UPDATE rtc_transactions SET registers = ?3 WHERE origin = ?1 AND seq = ?2";
    connection.prepare_cached(sql)?.execute(params![tx.origin, tx.seq, registers.to_stored()])?;
    Ok(())
}

/// Keeps an operation until its table or column is known; `false` if it is waiting already.
pub(crate) fn wait(
    connection: &Connection,
    Place { tx, index }: Place,
    operation: &Operation,
) -> Result<bool, StorageError> {
    let text = serde_json::to_string(operation).map_err(|_| StorageError::Corrupt("an operation"))?;
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO rtc_waiting VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    Ok(insert.execute(params![tx.origin, tx.seq, index, operation.table, operation.hlc.to_string(), text])? > 0)
}

/// Whether operations wait for tables or columns that are not known here. What waits for a table that was dropped does so everywhere. And where something was
/// withdrawn, a definition of which the rest was taken out, and what waits for it, may wait in vain, unless it is found out that others have it.
pub(crate) fn anything_waits(connection: &Connection) -> Result<bool, StorageError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM rtc_waiting w WHERE
                    (EXISTS (SELECT 1 FROM rtc_schema WHERE kind = 'table' AND name = w.tbl COLLATE NOCASE)
                     OR NOT EXISTS (SELECT 1 FROM rtc_schema WHERE kind = 'dropped table' AND name = w.tbl COLLATE NOCASE))
                    AND NOT (EXISTS (SELECT 1 FROM rtc_schema WHERE kind = 'withdrawn')
                             AND (w.tbl = 'rtc_schema'
                                  OR EXISTS (SELECT 1 FROM rtc_waiting s WHERE s.tbl = 'rtc_schema'
                                             AND instr(s.operation ->> '$.pk.id', lower(w.tbl) || '(') = 1))))";
    Ok(connection.prepare_cached(exists)?.query_row([], |row| row.get(0))?)
}

/// The numbers of origins.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    ids: BTreeMap<ReplicaId, i64>,
    nodes: BTreeMap<i64, ReplicaId>,
}

impl Origins {
    /// Reads them with the version vector.
    pub(crate) fn load(connection: &Connection) -> Result<(Self, VersionVector), StorageError> {
        let (mut origins, mut vector) = (Self::default(), VersionVector::default());
        let mut select = connection.prepare("SELECT id, node, have FROM rtc_origins")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (id, node, have): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let node = ReplicaId::new(&node).map_err(|_| StorageError::Corrupt("rtc_origins.node"))?;
            let have: SeqRanges = serde_json::from_str(&have).map_err(|_| StorageError::Corrupt("rtc_origins.have"))?;
            // One that was only given a number is not in a vector.
            if !have.is_empty() {
                vector.replace_origin(node.clone(), have);
            }
            origins.ids.insert(node.clone(), id);
            origins.nodes.insert(id, node);
        }
        Ok((origins, vector))
    }

    /// The number of an origin, a new one if it was never seen.
    pub(crate) fn id(&mut self, connection: &Connection, node: &ReplicaId) -> Result<i64, StorageError> {
        if let Some(id) = self.ids.get(node) {
            return Ok(*id);
        }
        let mut insert = connection.prepare_cached("INSERT INTO rtc_origins (node, have) VALUES (?1, '[]')")?;
        let id = insert.insert([node.as_str()])?;
        self.ids.insert(node.clone(), id);
        self.nodes.insert(id, node.clone());
        Ok(id)
    }

    /// The number of an origin that was seen before.
    pub(crate) fn known(&self, node: &ReplicaId) -> Option<i64> {
        self.ids.get(node).copied()
    }

    pub(crate) fn node(&self, id: i64) -> Result<&ReplicaId, StorageError> {
        self.nodes.get(&id).ok_or(StorageError::Corrupt("an origin that is not in rtc_origins"))
    }

    /// Whether a vector has a transaction.
    pub(crate) fn is_in(&self, vector: &VersionVector, tx: Tx) -> Result<bool, StorageError> {
        let origin = vector.origin(self.node(tx.origin)?);
        Ok(origin.is_some_and(|ranges| ranges.contains(tx.seq)))
    }

    /// Stores which transactions of one origin are here.
    pub(crate) fn save(
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

/// Stores a transaction, which may be here already where a part of it was set aside. Tells whether it was not.
pub(crate) fn add_transaction(
    connection: &Connection,
    tx: Tx,
    extent: TransactionExtent,
    registers: Option<Registers>,
    run: Option<Run>,
) -> Result<bool, StorageError> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO rtc_transactions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    let TransactionExtent { first, n } = extent;
    let registers = registers.map(Registers::to_stored);
    let (table, row) = run.map(|run| (run.table, run.row)).unzip();
    Ok(insert.execute(params![tx.origin, tx.seq, first.ts, first.counter, n, registers, table, row])? > 0)
}

/// Stores a new transaction. One of the replica's own carries the digest after it, since a commit of its own does not write `rtc_replica`.
pub(crate) fn insert_transaction(
    connection: &Connection,
    tx: Tx,
    extent: TransactionExtent,
    registers: Option<Registers>,
    run: Option<Run>,
) -> Result<(), StorageError> {
    let is_new = add_transaction(connection, tx, extent, registers, run)?;
    if is_new { Ok(()) } else { Err(StorageError::Corrupt("rtc_transactions: a sequence number was given twice")) }
}

/// Forgets a transaction none of whose operations is shown any more.
pub(crate) fn forget_if_empty(connection: &Connection, tx: Tx) -> Result<(), StorageError> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM rtc_transactions AS t WHERE origin = ?1 AND seq = ?2
         AND NOT EXISTS (SELECT 1 FROM rtc_operations WHERE listed AND origin = ?1 AND seq = ?2)
         AND NOT EXISTS (SELECT 1 FROM rtc_operations o WHERE o.tbl = t.tbl AND o.row BETWEEN +t.row AND t.row + (t.n - 1)
                         AND o.origin = ?1 AND o.seq = ?2 AND NOT o.listed)
         AND NOT EXISTS (SELECT 1 FROM rtc_waiting WHERE origin = ?1 AND seq = ?2)
         AND NOT EXISTS (SELECT 1 FROM rtc_quarantine WHERE origin = ?1 AND seq = ?2)",
    )?;
    delete.execute(params![tx.origin, tx.seq])?;
    Ok(())
}

/// A table of a name like ours that is none of ours, if there is one.
pub(crate) fn foreign_internal_name(connection: &Connection) -> Result<Option<String>, StorageError> {
    // One of TEMP that is called as one of main stands before it.
    let select = "SELECT name FROM (SELECT 0 AS temp, * FROM main.sqlite_schema UNION ALL SELECT 1, * FROM temp.sqlite_schema)
                  WHERE type IN ('table', 'view') AND lower(substr(name, 1, 4)) = 'rtc_' AND (temp, lower(name)) NOT IN
                  (VALUES (0, 'rtc_replica'), (0, 'rtc_origins'), (0, 'rtc_tables'), (0, 'rtc_renamed'), (0, 'rtc_columns'), (0, 'rtc_transactions'), (0, 'rtc_operations'),
                   (0, 'rtc_waiting'), (0, 'rtc_quarantine'), (0, 'rtc_answers'), (0, 'rtc_schema'), (0, 'rtc_parked'), (0, 'rtc_conflicts'), (0, 'rtc_history'), (0, 'rtc_members'), (0, 'rtc_floor'), (0, 'rtc_stats'), (1, 'rtc_staged'), (1, 'rtc_affinity'), (1, 'rtc_log'),
                   (1, 'rtc_dropped'), (1, 'rtc_narrowed'), (1, 'rtc_emptied'))";
    Ok(connection.query_row(select, [], |row| row.get(0)).optional()?)
}

/// The highest number that a table has or had in this transaction.
pub(crate) fn highest_table_id(connection: &Connection) -> Result<i64, StorageError> {
    Ok(connection.prepare_cached("SELECT max(id) FROM rtc_tables")?.query_row([], |row| row.get(0))?)
}

/// The number of a table name, a new one if it was never seen.
pub(crate) fn table_id(connection: &Connection, name: &str) -> Result<i64, StorageError> {
    let mut select = connection.prepare_cached("SELECT id FROM rtc_tables WHERE name = ?1")?;
    if let Some(id) = select.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    Ok(connection.prepare_cached("INSERT INTO rtc_tables (name) VALUES (?1)")?.insert([name])?)
}
