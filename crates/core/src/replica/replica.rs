//! [`Replica`]: the rooms put together.

use std::collections::VecDeque;
use std::sync::Arc;

use rtc_battery_proto::packed::Packed;
use rtc_battery_proto::{Digest, Floor, Operation, ReplicaId, VersionVector};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;

use super::capture::hook::Capture;
use super::clock::Clock;
use super::error::{OpenError, StorageError};
use super::floor::history::History;
use super::limits;
use super::log::delta::{DeltaChunk, DeltaReader};
use super::log::narrow;
use super::log::staging;
use super::log::store::{self, Identity, Origins};
use super::log::view;
use super::merge::apply::Applied;
use super::quarantine::Quarantine;
use super::schema::dropped::{self};
use super::schema::naming;
use super::schema::table::{Affinity, Table};
use super::schema::tables::Tables;
use super::session::answers::{self, Answer};
use super::session::automatic::Automatic;
use super::session::exec::OpenTransaction;
use super::session::functions::{self};
use super::session::guard::Guard;
use super::session::prepared::Prepared;
use super::session::query::{Params, QueryResult, Scope, SqlError};
use super::state::State;
use super::unique::parked::{self, Conflict};
use crate::Now;
use crate::planted::{Bug, planted};

/// A replicated SQLite database.
#[derive(Debug)]
pub struct Replica {
    pub(super) connection: Connection,
    pub(super) state: State,
}

/// What is kept at hand of a transaction that peers are to hear of; larger ones are read from the log again.
const AT_HAND_BYTES: usize = 256 * 1024;

/// A transaction, or a delta of several, that the replica committed; to be told to peers once it is saved.
#[derive(Debug, Clone)]
pub struct Committed {
    /// [`Replica::version`] right after it.
    pub version: u64,
    /// The dots it stands for.
    pub covers: VersionVector,
    /// Its operations, where they are few enough to keep at hand; otherwise they are read from the log.
    pub operations: Option<Vec<Operation>>,
}

impl Replica {
    /// Opens a database as a replica of a room, creating what is missing. `fresh_id` becomes the replica's id if it has none yet.
    ///
    /// # Errors
    /// [`OpenError`]; the database is untouched then.
    pub fn open(connection: Connection, room: &str, fresh_id: &ReplicaId) -> Result<Self, OpenError> {
        configure(&connection).map_err(StorageError::from)?;
        let identity = store::initialize(&connection, room, fresh_id)?;
        let mut replica = Self::assemble(connection, identity)?;
        replica.state.load_floor(&replica.connection)?;
        replica.state.upgrade(&replica.connection)?;
        Ok(replica)
    }

    /// Opens a damaged database, to read what can be read.
    pub(super) fn open_damaged(connection: Connection, room: &str) -> Result<Self, OpenError> {
        configure(&connection).map_err(StorageError::from)?;
        let identity = store::identity_of_damaged(&connection, room)?;
        Ok(Self::assemble(connection, identity)?)
    }

    fn assemble(mut connection: Connection, identity: Identity) -> Result<Self, StorageError> {
        let quarantine = Quarantine::open(&connection)?;
        let (origins, mut vector) = Origins::load(&connection)?;
        // What it committed itself since its entry was last stored.
        let mut own = vector.origin(&identity.node).cloned().unwrap_or_default();
        let progress = identity.progress;
        own.insert(own.last().map_or(1, |last| last + 1), progress.seq);
        if !own.is_empty() {
            vector.replace_origin(identity.node.clone(), own);
        }
        let tables = Tables::load(&connection)?;
        if planted(Bug::ParkedForgotten) {
            parked::forget_all(&connection)?;
        }
        staging::create(&connection)?;
        dropped::create(&connection)?;
        narrow::create(&connection)?;
        Affinity::create_oracle(&connection)?;
        let capture = Capture::install(&mut connection)?;
        capture.watch(tables.iter());
        capture.keep_images(AT_HAND_BYTES);
        let guard = Guard::install(&mut connection)?;
        guard.watch(tables.iter());
        view::create_functions(&connection)?;
        let wall_clock = functions::create(&connection)?;
        let state = State {
            node: identity.node,
            version: progress.version,
            clock: Clock::new(progress.last),
            wall_clock,
            commits: 0,
            notes: 0,
            written: 0,
            vector,
            registers: progress.registers,
            quarantine,
            origins,
            tables,
            raises: 0,
            history: History::default(),
            floor: Floor::default(),
            floors: None,
            withdrawn: None,
            capture,
            guard,
            prepared: Prepared::default(),
            automatic: Automatic::default(),
            enforces: None,
            has_temporary: Default::default(),
            open: OpenTransaction::default(),
            table_created: false,
            columns_due: false,
            committed: VecDeque::new(),
            conflicts: Vec::new(),
            at_hand_bytes: AT_HAND_BYTES,
        };
        Ok(Self { connection, state })
    }

    /// The replica's id (`nodeId`).
    #[must_use]
    pub fn id(&self) -> &ReplicaId {
        &self.state.node
    }

    /// How many transactions this replica has committed or applied. Only grows, also across restarts.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.state.version
    }

    /// Which transactions this replica has, saved or not.
    #[must_use]
    pub fn vector(&self) -> &VersionVector {
        &self.state.vector
    }

    /// A digest of what the replica holds, in sum and without order: two with equal vectors have equal ones, or somebody wrote two things under one
    /// name. `None` while operations wait for tables or columns that are not known here, or for their time: they are in the vector and show nothing yet.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn digest(&self) -> Result<Option<Digest>, StorageError> {
        let waits = !self.state.quarantine.is_empty() || store::anything_waits(&self.connection)?;
        Ok((!waits).then(|| self.state.registers.digest()))
    }

    /// Whether a transaction of the user (BEGIN, SAVEPOINT) is open. [`apply`](Self::apply) must wait until it is not.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// Runs SQL: one or several statements.
    ///
    /// # Errors
    /// [`SqlError`] of the first statement that fails.
    pub fn exec(&mut self, sql: &str, params: &Params, scope: Scope, now: Now) -> Result<QueryResult, SqlError> {
        let outcome = self.state.exec(&self.connection, sql, params, scope, now);
        if self.connection.is_autocommit() && std::mem::take(&mut self.state.table_created) {
            self.state.release_waiting(&self.connection)?;
        }
        outcome
    }

    /// Whether there are TEMP tables, views or triggers of the user's: they are this connection's, and nobody who opens the database later has them.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn has_temporary(&self) -> Result<bool, StorageError> {
        // Asked after each call.
        if let Some(known) = self.state.has_temporary.get() {
            return Ok(known);
        }
        let exists = "SELECT EXISTS (SELECT 1 FROM temp.sqlite_schema WHERE lower(substr(tbl_name, 1, 4)) <> 'rtc_')";
        let has = self.connection.prepare_cached(exists)?.query_row([], |row| row.get(0))?;
        self.state.has_temporary.set(Some(has));
        Ok(has)
    }

    /// Undoes the transaction of the user that is open.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn roll_back(&mut self) -> Result<(), StorageError> {
        self.connection.execute_batch("ROLLBACK")?;
        self.state.rolled_back(&self.connection)
    }

    /// How often [`exec`](Self::exec) has committed since this was opened, whatever it was and on this device only too.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state.commits
    }

    /// How many operations [`exec`](Self::exec) has made since this was opened.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.state.written
    }

    /// What a call was answered, if it wrote and its answer was [kept](Self::keep_answers).
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn answer(&self, caller: &str, call: u64) -> Result<Option<Answer>, StorageError> {
        answers::find(&self.connection, caller, call)
    }

    /// Keeps the answers to calls of one caller, on this device, to be found by who opens the database next; forgets those to calls before `heard`.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open.
    pub fn keep_answers(&mut self, caller: &str, answers: &[(u64, Answer)], heard: u64) -> Result<(), StorageError> {
        answers::keep(&self.connection, caller, answers, heard)
    }

    /// Forgets what was kept for a caller.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn forget_caller(&mut self, caller: &str) -> Result<(), StorageError> {
        answers::forget(&self.connection, caller)
    }

    /// How much is kept at hand of each transaction of [`exec`](Self::exec) until [`take_committed`](Self::take_committed), in bytes of its
    /// operations. Those of larger ones are read from the log when a peer asks.
    pub fn keep_at_hand(&mut self, max_bytes: usize) {
        self.state.at_hand_bytes = max_bytes;
        self.state.capture.keep_images(max_bytes);
    }

    /// Synced tables whose INTEGER PRIMARY KEY was given no value, so that other devices give the same numbers: each once, since this was opened.
    pub fn take_automatic_keys(&mut self) -> Vec<String> {
        self.state.automatic.take()
    }

    /// The table that operations call so, if there is one here.
    pub(super) fn table(&self, made_by: &str) -> Option<&Table> {
        self.state.tables.of_identity(made_by).map(Arc::as_ref)
    }

    /// An operation as somebody means it who knows no columns but by what they are called here.
    #[must_use]
    pub fn by_identity(&self, operation: Operation) -> Operation {
        match self.state.tables.by_name(&operation.table) {
            // One of ours takes us for such a one.
            _ if operation.tx.is_some() => operation,
            Some(table) => naming::by_identity(table, operation),
            None => operation,
        }
    }

    /// An operation for somebody who knows columns by what they are called here. What was written to one that was dropped is left out.
    #[must_use]
    pub fn by_name(&self, operation: Operation) -> Operation {
        match self.table(&operation.table) {
            Some(table) => naming::by_name(table, operation),
            None => operation,
        }
    }

    /// What was committed and not [taken](Self::take_committed) yet, in order.
    pub fn committed(&self) -> impl Iterator<Item = &Committed> {
        self.state.committed.iter()
    }

    /// What was committed up to `version` and not taken yet, in order.
    pub fn take_committed(&mut self, version: u64) -> Vec<Committed> {
        let committed = &mut self.state.committed;
        let up_to = committed.partition_point(|committed| committed.version <= version);
        committed.drain(..up_to).collect()
    }

    /// Rows that this database cannot show any more, or could not when they came, since this was asked last: some of `rtc_conflicts`.
    pub fn take_conflicts(&mut self) -> Vec<Conflict> {
        std::mem::take(&mut self.state.conflicts)
    }

    /// Applies a delta in one SQLite transaction. What the replica has already is skipped; a delta with nothing new writes nothing.
    ///
    /// # Errors
    /// [`StorageError`] only for our own storage, and while [`in_transaction`](Self::in_transaction): a bad operation is refused and told in
    /// [`Applied`].
    pub fn apply(
        &mut self,
        operations: Vec<Operation>,
        covers: &VersionVector,
        now: Now,
    ) -> Result<Applied, StorageError> {
        let applied = self.state.apply(&self.connection, operations, covers, now);
        self.told_columns(applied, now)
    }

    /// A merge has brought what it did; what it made necessary to tell is told.
    pub(super) fn told_columns<T>(&mut self, merged: Result<T, StorageError>, now: Now) -> Result<T, StorageError> {
        let merged = merged?;
        self.state.tell_columns(&self.connection, now)?;
        Ok(merged)
    }

    /// When [`release`](Self::release) has something to do, by the wall clock, in milliseconds since 1970.
    #[must_use]
    pub fn release_at_ms(&self) -> Option<u64> {
        self.state.quarantine.due_ms()
    }

    /// Applies what was [set aside](Applied::set_aside) and is not ahead of time any more, in one SQLite transaction. Gives nothing where nothing was due;
    /// otherwise there may be room for what did not fit.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open and something is due.
    pub fn release(&mut self, now: Now) -> Result<Option<Applied>, StorageError> {
        let released = self.state.release(&self.connection, now);
        self.told_columns(released, now)
    }

    /// Adopts operations of somebody who speaks only the specification, with columns [by identity](Self::by_identity): they have no dot, so they are applied as one transaction of this
    /// replica, keeping their clock values. Gives its dot, or nothing where all of them were known or beaten.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn adopt(&mut self, operations: Vec<Operation>, now: Now) -> Result<(Applied, VersionVector), StorageError> {
        self.state.adopt(&self.connection, operations, false, now)
    }

    /// Takes in everything that a peer has whose digest differs from ours though its vector does not. What is new is applied; of what came under
    /// a dot that is here already, whatever decides something here is adopted, so that both contents stand and everybody hears of it.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn reconcile(
        &mut self,
        operations: Vec<Operation>,
        covers: &VersionVector,
        now: Now,
    ) -> Result<Applied, StorageError> {
        let is_known = |operation: &Operation| operation.place().is_some_and(|(dot, ..)| self.vector().contains(&dot));
        let (known, new): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_known);
        let mut applied = self.apply(new, covers, now)?;
        let is_own = |operation: &Operation| operation.place().is_some_and(|(dot, ..)| dot.origin == *self.id());
        let (own, others): (Vec<_>, Vec<_>) = known.into_iter().partition(is_own);
        let adopt = |state: &mut State, operations: Vec<Operation>| {
            let operations = operations.into_iter().map(Operation::into_plain).collect();
            state.adopt(&self.connection, operations, true, now)
        };
        let (adopted, _) = adopt(&mut self.state, own)?;
        applied.from_clone = adopted.operations > 0;
        applied.add(adopted);
        let (adopted, _) = adopt(&mut self.state, others)?;
        applied.add(adopted);
        Ok(applied)
    }

    /// The same of what was staged under `key`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn reconcile_staged(&mut self, key: u32, covers: &VersionVector, now: Now) -> Result<Applied, StorageError> {
        match staging::take(&self.connection, key)? {
            Ok(operations) => self.reconcile(operations, covers, now),
            Err(error) => Ok(Applied::nothing(error.to_string())),
        }
    }

    /// Keeps operations of a delta that comes in parts, under a key of the caller's choice, without applying them.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn stage(&mut self, key: u32, operations: &[Operation]) -> Result<(), StorageError> {
        staging::stage(&self.connection, key, operations)
    }

    /// The same of operations that are packed. They are unpacked at the end.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn stage_packed(&mut self, key: u32, packed: &Packed) -> Result<(), StorageError> {
        staging::stage_packed(&self.connection, key, packed)
    }

    /// Applies what was staged under `key`, as [`apply`](Self::apply) does. Where some of it cannot be unpacked, nothing is applied.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn apply_staged(&mut self, key: u32, covers: &VersionVector, now: Now) -> Result<Applied, StorageError> {
        match staging::take(&self.connection, key)? {
            Ok(operations) => self.apply(operations, covers, now),
            Err(error) => Ok(Applied::nothing(error.to_string())),
        }
    }

    /// Forgets what was staged under `key`.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn drop_staged(&mut self, key: u32) -> Result<(), StorageError> {
        staging::drop(&self.connection, key)
    }

    /// Begins to read what a replica that has `since` lacks. Read it with [`read_delta`](Self::read_delta).
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn delta(&self, since: &VersionVector) -> Result<DeltaReader, StorageError> {
        self.state.delta(&self.connection, since)
    }

    /// Whether the delta cannot be read to its end, since something was forgotten meanwhile.
    #[must_use]
    pub fn is_cut(&self, reader: &DeltaReader) -> bool {
        self.state.is_cut(reader)
    }

    /// About how many operations of a delta are not read yet: those that were overwritten since are counted too.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn rest_of_delta(&self, reader: &DeltaReader) -> Result<u64, StorageError> {
        State::rest_of_delta(&self.connection, reader)
    }

    /// The next part of a delta, of about `max_bytes` of JSON. What is committed meanwhile is added to the end, so that the whole is
    /// the fold of whole transactions.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn read_delta(&self, reader: &mut DeltaReader, max_bytes: usize) -> Result<DeltaChunk, StorageError> {
        self.state.read_delta(&self.connection, reader, max_bytes)
    }
}

/// One behaviour on every host, whatever the build's defaults are.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(128);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, limits::OUR_ROW_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, limits::MAX_PATTERN_BYTES)?;
    // Double-quoted strings stay allowed: what sql.js runs, runs.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, true)?;
    // A received schema must not call what is not innocuous.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA recursive_triggers = OFF")
}
