//! What a replica knows of its database without asking SQLite, and what a transaction of the user's changes of it.
//!
//! Invariant: it is changed only after SQLite committed what it stands for, and read again where SQLite undid something.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use rtc_battery_proto::{Dot, Floor, ReplicaId, VersionVector};
use rusqlite::{Connection, ffi};

use super::capture::commit::{self, CommitError, Sealed};
use super::capture::hook::{Capture, TouchedRows};
use super::clock::Clock;
use super::error::StorageError;
use super::floor::history::History;
use super::log::digest::Registers;
use super::log::store::Origins;
use super::log::view;
use super::merge::enforcement::lifted;
use super::quarantine::Quarantine;
use super::replica::Committed;
use super::schema::alter::{self, Added};
use super::schema::columns;
use super::schema::dropped::{self, Dropping, Floors};
use super::schema::fresh;
use super::schema::objects::{self, Object};
use super::schema::table::Table;
use super::schema::tables::{self, Tables};
use super::session::automatic::Automatic;
use super::session::exec::OpenTransaction;
use super::session::functions::WallClock;
use super::session::guard::Guard;
use super::session::prepared::Prepared;
use super::session::query::{SqlError, refused};
use super::unique::admission::{self, Unsettled};
use super::unique::parked::Conflict;
use super::withdrawn::Withdrawn;
use crate::Now;
use crate::planted::{Bug, planted};

/// Conflicts that are kept to be told; a hostile delta could have millions.
const MAX_CONFLICTS: usize = 64;

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
    /// How often it was written what was here and who was met, since this was opened.
    pub(super) notes: u64,
    /// Operations that the user's transactions made since this was opened.
    pub(super) written: u64,
    pub(super) vector: VersionVector,
    /// The digest of all registers.
    pub(super) registers: Registers,
    pub(super) quarantine: Quarantine,
    pub(super) origins: Origins,
    pub(super) tables: Tables,
    /// Up to where deleted rows are forgotten.
    pub(super) floor: Floor,
    /// How often something was forgotten since this was opened.
    pub(super) raises: u64,
    pub(super) history: History,
    /// When tables were dropped, if that is known.
    pub(super) floors: Option<Arc<Floors>>,
    /// What is void, if that is known.
    pub(super) withdrawn: Option<Arc<Withdrawn>>,
    pub(super) capture: Capture,
    pub(super) guard: Guard,
    pub(super) prepared: Prepared,
    pub(super) automatic: Automatic,
    /// Whether the schema has something that merges must not enforce, if that is known.
    pub(super) enforces: Option<bool>,
    /// Whether the user has TEMP objects, if that is known.
    pub(super) has_temporary: Cell<Option<bool>>,
    pub(super) open: OpenTransaction,
    /// Whether the user created a table or column that operations may be waiting for.
    pub(super) table_created: bool,
    /// Whether tables have columns here that nobody else can know of.
    pub(super) columns_due: bool,
    pub(super) committed: VecDeque<Committed>,
    /// Rows that cannot be shown since the host asked last.
    pub(super) conflicts: Vec<Conflict>,
    /// Operations of a transaction that are kept at hand weigh at most this.
    pub(super) at_hand_bytes: usize,
}

/// What is read once, until it is forgotten.
pub(super) fn once<T>(
    known: &mut Option<Arc<T>>,
    load: impl FnOnce() -> Result<T, StorageError>,
) -> Result<Arc<T>, StorageError> {
    match known {
        Some(known) => Ok(Arc::clone(known)),
        None => Ok(Arc::clone(known.insert(Arc::new(load()?)))),
    }
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
            self.open.conflicts = lifted(connection, lift, settle)?;
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
        tables::register_created(connection, &mut self.tables, name)?;
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
        let Added { identity, default } = alter::register_added(connection, &mut self.tables, table, before)?;
        if let Some(table) = self.tables.by_name(table) {
            self.capture.column_added(table.id, &identity, &default);
        }
        self.watch_tables();
        self.table_created = true;
        Ok(())
    }

    /// The user has dropped a column of a synced table.
    pub(super) fn note_column_dropped(
        &mut self,
        connection: &Connection,
        dropping: &columns::Dropping,
    ) -> Result<(), SqlError> {
        columns::register_dropped(connection, &self.origins, &mut self.tables, dropping)?;
        self.capture.column_dropped(dropping.table.id);
        self.watch_tables();
        self.table_created = true;
        Ok(())
    }

    /// The user has altered a synced table, and added and dropped nothing.
    pub(super) fn note_renamed(
        &mut self,
        connection: &Connection,
        (table, root): (&Table, i64),
        objects: &[(Object, String)],
    ) -> Result<bool, SqlError> {
        let renamed = tables::register_renamed(connection, &mut self.tables, table, root)?
            || columns::register_renamed(connection, &mut self.tables, table)?;
        if renamed {
            objects::register_rewritten(connection, objects)?.map_err(refused)?;
            self.watch_tables();
        }
        Ok(renamed)
    }

    /// The user has altered a table that the open transaction made.
    pub(super) fn note_made_anew(
        &mut self,
        connection: &Connection,
        (table, root): (&Table, i64),
        objects: &[(Object, String)],
        others: &fresh::Others,
    ) -> Result<(), SqlError> {
        fresh::register(connection, &mut self.tables, (table, root), objects, others)?;
        let Table { id, columns, .. } = table;
        let same_columns = self.tables.by_id(*id).is_some_and(|table| table.columns == *columns);
        self.capture.made_anew(*id, same_columns);
        self.watch_tables();
        self.table_created = true;
        Ok(view::refresh(connection, self.tables.iter())?)
    }

    /// The user has dropped a synced table.
    pub(super) fn note_dropped(&mut self, connection: &Connection, dropping: Dropping) -> Result<(), SqlError> {
        dropped::register(connection, &mut self.tables, dropping)?;
        self.floors = None;
        self.watch_tables();
        Ok(view::refresh(connection, self.tables.iter())?)
    }

    /// Reads again which tables are synced, after a rollback.
    pub(super) fn reload_tables(&mut self, connection: &Connection) -> Result<(), StorageError> {
        self.floors = None;
        self.withdrawn = None;
        self.tables = Tables::load(connection)?;
        self.watch_tables();
        Ok(())
    }

    /// Forgets what is known of the schema as a whole.
    pub(super) fn schema_may_have_changed(&mut self) {
        self.prepared.forget();
        self.enforces = None;
        self.has_temporary.set(None);
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
