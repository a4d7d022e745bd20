//! [`Replica`]: the rooms put together.

use std::collections::VecDeque;
use std::sync::Arc;

use rtc_battery_proto::packed::Packed;
use rtc_battery_proto::{Digest, Dot, Operation, ReplicaId, VersionVector};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ffi};

use super::admission::{self, Unsettled};
use super::alter;
use super::answers::{self, Answer};
use super::apart;
use super::apply::{self, Applied};
use super::capture::{Capture, TouchedRows};
use super::clock::Clock;
use super::commit::{self, CommitError, Sealed};
use super::delta::{DeltaChunk, DeltaReader};
use super::digest::Registers;
use super::dropped::{self, Dropping, Floors};
use super::error::{OpenError, StorageError};
use super::exec::OpenTransaction;
use super::file::{self, ImportError};
use super::fresh::{self, Altering};
use super::functions::{self, WallClock};
use super::guard::Guard;
use super::limits;
use super::log_view;
use super::parked::{self, Conflict};
use super::prepared::Prepared;
use super::query::{Params, QueryResult, Scope, SqlError};
use super::schema::{self, Tables};
use super::staging;
use super::store::{self, Origins};
use super::table::{Affinity, Table};
use crate::Now;
use crate::planted::{Bug, planted};

/// A replicated SQLite database.
#[derive(Debug)]
pub struct Replica {
    connection: Connection,
    state: State,
}

/// What is known of the database without asking SQLite. Changed only after SQLite committed what it stands for.
#[derive(Debug)]
pub(super) struct State {
    pub(super) node: ReplicaId,
    pub(super) version: u64,
    pub(super) clock: Clock,
    /// The time as SQL functions see it.
    pub(super) wall_clock: WallClock,
    /// Commits of the user's statements since this was opened, also of those that changed nothing.
    pub(super) commits: u64,
    /// Operations that the user's transactions made since this was opened.
    pub(super) written: u64,
    pub(super) vector: VersionVector,
    /// The digest of all registers.
    pub(super) registers: Registers,
    pub(super) origins: Origins,
    pub(super) tables: Tables,
    /// When tables were dropped, if that is known.
    pub(super) floors: Option<Arc<Floors>>,
    pub(super) capture: Capture,
    pub(super) guard: Guard,
    pub(super) prepared: Prepared,
    /// Whether the schema has something that merges must not enforce, if that is known.
    pub(super) enforces: Option<bool>,
    pub(super) open: OpenTransaction,
    /// Whether the user created a table or column that operations may be waiting for.
    pub(super) table_created: bool,
    pub(super) committed: VecDeque<Committed>,
    /// Rows that cannot be shown since the host asked last.
    conflicts: Vec<Conflict>,
    /// Operations of a transaction that are kept at hand weigh at most this.
    pub(super) at_hand_bytes: usize,
}

/// What is kept at hand of a transaction that peers are to hear of; larger ones are read from the log again.
const AT_HAND_BYTES: usize = 256 * 1024;

/// Conflicts that are kept to be told; a hostile delta could have millions.
const MAX_CONFLICTS: usize = 64;

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
    pub fn open(mut connection: Connection, room: &str, fresh_id: &ReplicaId) -> Result<Self, OpenError> {
        configure(&connection).map_err(StorageError::from)?;
        let identity = store::initialize(&connection, room, fresh_id)?;
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
        dropped::create(&connection).map_err(StorageError::from)?;
        Affinity::create_oracle(&connection).map_err(StorageError::from)?;
        let capture = Capture::install(&mut connection).map_err(StorageError::from)?;
        capture.watch(tables.iter());
        capture.keep_images(AT_HAND_BYTES);
        let guard = Guard::install(&mut connection).map_err(StorageError::from)?;
        guard.watch(tables.iter());
        log_view::create_functions(&connection)?;
        let wall_clock = functions::create(&connection)?;
        let state = State {
            node: identity.node,
            version: progress.version,
            clock: Clock::new(progress.last),
            wall_clock,
            commits: 0,
            written: 0,
            vector,
            registers: progress.registers,
            origins,
            tables,
            floors: None,
            capture,
            guard,
            prepared: Prepared::default(),
            enforces: None,
            open: OpenTransaction::default(),
            table_created: false,
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
    /// name. `None` while operations wait for tables or columns that are not known here: they are in the vector and show nothing yet.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn digest(&self) -> Result<Option<Digest>, StorageError> {
        let waits = store::anything_waits(&self.connection)?;
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

    /// The table of this name, if it is a synced one.
    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.state.tables.by_name(name).map(Arc::as_ref)
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
    pub fn apply(&mut self, operations: Vec<Operation>, covers: &VersionVector) -> Result<Applied, StorageError> {
        self.state.apply(&self.connection, operations, covers)
    }

    /// Adopts operations of a peer that speaks only the specification, or of a file: they have no dot, so they are applied as one transaction of this
    /// replica, keeping their clock values. Gives its dot, or nothing where all of them were known or beaten.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn adopt(&mut self, operations: Vec<Operation>) -> Result<(Applied, VersionVector), StorageError> {
        self.state.adopt(&self.connection, operations)
    }

    /// The database as a plain SQLite file, without our tables.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open.
    pub fn export(&self) -> Result<Vec<u8>, StorageError> {
        file::export(&self.connection)
    }

    /// Takes in a plain SQLite file: creates the tables that are missing and fills gaps; what is here already stands. Gives the dot that the rows
    /// travel under, if any was new.
    ///
    /// # Errors
    /// [`ImportError`] where the file is no sound SQLite file, or storage failed, or a transaction is open. Tables that cannot be synced are left
    /// out and told in [`Applied`].
    pub fn import(&mut self, bytes: &[u8], now: Now) -> Result<(Applied, VersionVector), ImportError> {
        if self.in_transaction() {
            return Err(ImportError(StorageError::InTransaction.to_string()));
        }
        let (tables, mut left_out) = file::read(bytes)?;
        let mut operations = Vec::new();
        for table in tables {
            let known = self.state.tables.by_name(&table.name).is_some();
            match if known { Ok(()) } else { self.create_imported(&table.sql, now) } {
                Ok(()) => operations.extend(table.operations),
                Err(error) => left_out.push(format!("table {}: {error}", table.name)),
            }
        }
        let adopted = self.adopt(operations).map_err(|error| ImportError(error.to_string()))?;
        let (mut applied, covers) = adopted;
        applied.refused.append(&mut left_out);
        Ok((applied, covers))
    }

    /// A table that a file brings is created as the user would, once its text has shown that it does nothing else.
    fn create_imported(&mut self, sql: &str, now: Now) -> Result<(), SqlError> {
        apart::check_one_create_table(sql).map_err(|message| SqlError { message, code: ffi::SQLITE_AUTH })?;
        self.exec(sql, &Params::None, Scope::Synced, now).map(|_| ())
    }

    /// Takes in everything that a peer has whose digest differs from ours though its vector does not. What is new is applied; of what came under
    /// a dot that is here already, whatever decides something here is adopted, so that both contents stand and everybody hears of it.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn reconcile(&mut self, operations: Vec<Operation>, covers: &VersionVector) -> Result<Applied, StorageError> {
        let is_known = |operation: &Operation| operation.place().is_some_and(|(dot, ..)| self.vector().contains(&dot));
        let (known, new): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_known);
        let mut applied = self.apply(new, covers)?;
        let (adopted, _) = self.adopt(known.into_iter().map(Operation::into_plain).collect())?;
        applied.operations += adopted.operations;
        applied.refused.extend(adopted.refused);
        Ok(applied)
    }

    /// The same of what was staged under `key`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn reconcile_staged(&mut self, key: u32, covers: &VersionVector) -> Result<Applied, StorageError> {
        match staging::take(&self.connection, key)? {
            Ok(operations) => self.reconcile(operations, covers),
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
    pub fn apply_staged(&mut self, key: u32, covers: &VersionVector) -> Result<Applied, StorageError> {
        match staging::take(&self.connection, key)? {
            Ok(operations) => self.state.apply(&self.connection, operations, covers),
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

impl State {
    /// Writes what the open transaction touched as one transaction of the log. `None` where nothing is to be told.
    pub(super) fn seal(
        &mut self,
        connection: &Connection,
        touched: &TouchedRows,
        now: Now,
    ) -> Result<Option<Sealed>, SqlError> {
        self.try_seal(connection, touched, now).map_err(|error| match error {
            CommitError::Sql(error) => error,
            CommitError::Storage(error) => error.into(),
        })
    }

    fn try_seal(
        &mut self,
        connection: &Connection,
        touched: &TouchedRows,
        now: Now,
    ) -> Result<Option<Sealed>, CommitError> {
        let changes = commit::changes(connection, &self.tables, touched)?;
        if changes.is_empty() {
            self.settle_own(connection, Unsettled::default())?;
            return Ok(None);
        }
        if self.open.is_local() {
            let unsettled = commit::record_local(connection, &self.origins, &changes)?;
            self.settle_own(connection, unsettled)?;
            return Ok(None);
        }
        let first = self.clock.next(now.wall_ms).ok_or_else(|| {
            let message = "the clock is at its end; set this device's date".to_owned();
            CommitError::Sql(SqlError { message, code: ffi::SQLITE_FULL })
        })?;
        if planted(Bug::ClockMovedByFailure) {
            self.clock.advance(first);
        }
        let dot = self.next_dot();
        let at = (dot, first);
        let (sealed, unsettled) =
            commit::seal(connection, &mut self.origins, at, self.registers, &changes, self.at_hand_bytes)?;
        self.settle_own(connection, unsettled)?;
        Ok(Some(sealed))
    }

    /// Shows the rows that the user's transaction made way for.
    fn settle_own(&mut self, connection: &Connection, mut unsettled: Unsettled) -> Result<(), StorageError> {
        self.open.retried.iter().for_each(|table| unsettled.retry(*table));
        if unsettled.concerns_anybody(connection)? {
            let lift = self.enforces(connection)?;
            let Self { origins, tables, capture, .. } = &*self;
            let settle = || admission::settle(connection, origins, tables, capture, unsettled);
            self.open.conflicts = apply::lifted(connection, lift, settle)?;
        }
        Ok(())
    }

    /// Keeps what is to be told until the host asks; what is beyond it is in `rtc_conflicts`.
    pub(super) fn note_conflicts(&mut self, conflicts: Vec<Conflict>) {
        let left = MAX_CONFLICTS.saturating_sub(self.conflicts.len());
        self.conflicts.extend(conflicts.into_iter().take(left));
    }

    /// Stores that these transactions of an origin are here too. The vector in memory follows after the COMMIT.
    pub(super) fn save_dots(
        &mut self,
        connection: &Connection,
        origin: &ReplicaId,
        dots: impl IntoIterator<Item = (u64, u64)>,
    ) -> Result<(), StorageError> {
        let mut have = self.vector.origin(origin).cloned().unwrap_or_default();
        dots.into_iter().for_each(|(first, last)| have.insert(first, last));
        self.origins.save(connection, origin, &have)
    }

    /// The dot of this replica's next transaction.
    pub(super) fn next_dot(&self) -> Dot {
        let seq = self.vector.origin(&self.node).and_then(|have| have.last()).unwrap_or(0) + 1;
        Dot { origin: self.node.clone(), seq }
    }

    /// SQLite has committed the user's transaction.
    pub(super) fn committed(&mut self, sealed: Option<Sealed>) {
        self.capture.clear();
        self.commits += 1;
        let open = std::mem::take(&mut self.open);
        self.note_conflicts(open.conflicts);
        let Some(Sealed { dot, last, registers, n, operations }) = sealed else { return };
        self.written += u64::from(n);
        self.clock.advance(last);
        self.registers = registers;
        self.version += 1;
        let mut covers = VersionVector::default();
        covers.insert(dot);
        self.vector.merge(&covers);
        self.committed.push_back(Committed { version: self.version, covers, operations });
    }

    /// Makes a created table a synced one.
    pub(super) fn make_synced(&mut self, connection: &Connection, name: &str) -> Result<(), SqlError> {
        let known = self.tables.by_name(name).is_some();
        if known {
            return Ok(());
        }
        schema::register_created(connection, &mut self.tables, name)?;
        self.watch_tables();
        self.table_created = true;
        Ok(())
    }

    /// Makes a column that was added a synced one; `before` is the text that its table had.
    pub(super) fn make_column_synced(
        &mut self,
        connection: &Connection,
        table: &str,
        before: &str,
    ) -> Result<(), SqlError> {
        let added = alter::register_added(connection, &mut self.tables, table, before)?;
        self.capture.column_added(&added);
        self.watch_tables();
        self.table_created = true;
        Ok(())
    }

    /// The user has altered a table that the open transaction made.
    pub(super) fn note_made_anew(&mut self, connection: &Connection, altering: &Altering) -> Result<(), SqlError> {
        fresh::register(connection, &mut self.tables, altering)?;
        let Table { id, columns, .. } = altering.table.as_ref();
        let same_columns = self.tables.by_id(*id).is_some_and(|table| table.columns == *columns);
        self.capture.made_anew(*id, same_columns);
        self.watch_tables();
        self.table_created = true;
        Ok(log_view::refresh(connection, self.tables.iter())?)
    }

    /// The user has dropped a synced table.
    pub(super) fn note_dropped(&mut self, connection: &Connection, dropping: Dropping) -> Result<(), SqlError> {
        dropped::register(connection, &mut self.tables, dropping)?;
        self.floors = None;
        self.watch_tables();
        Ok(log_view::refresh(connection, self.tables.iter())?)
    }

    /// Reads again which tables are synced, after a rollback.
    pub(super) fn reload_tables(&mut self, connection: &Connection) -> Result<(), StorageError> {
        self.floors = None;
        self.tables = Tables::load(connection)?;
        self.watch_tables();
        Ok(())
    }

    /// Forgets what is known of the schema as a whole.
    pub(super) fn schema_may_have_changed(&mut self) {
        self.prepared.forget();
        self.enforces = None;
    }

    /// The set of synced tables has changed.
    pub(super) fn watch_tables(&mut self) {
        self.schema_may_have_changed();
        self.capture.watch(self.tables.iter());
        self.guard.watch(self.tables.iter());
    }

    /// Reads the numbers of origins again, after a rollback: one given in the rolled-back transaction is not in the database.
    pub(super) fn reload_origins(&mut self, connection: &Connection) -> Result<(), StorageError> {
        self.origins = Origins::load(connection)?.0;
        Ok(())
    }
}
