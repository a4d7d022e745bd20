//! Takes in what other replicas did: a delta, in one SQLite transaction.
//!
//! Every operation is hostile until it has been read against the table it names. What is invalid is refused and told, and does not stop those
//! after it; what names a table or column that is not known yet waits in `rtc_waiting`, in the log like everything else. Merges run with
//! foreign keys off, CHECK ignored and main-schema triggers off: the writer's database enforced them, and the effects of its triggers are
//! operations of their own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rtc_battery_proto::{
    Adopted, Dot, MAX_ORIGINS, MAX_RANGES, Operation, OperationKind, Tick, TransactionExtent, VersionVector,
};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use super::admission;
use super::alter;
use super::bounds::within_bounds;
use super::dropped::{self, Floors};
use super::error::StorageError;
use super::join::{self, Outcome};
use super::log_view;
use super::objects;
use super::parked::{self, Conflict};
use super::quarantine::{self, Verdict};
use super::replica::{Committed, State};
use super::rows::{self, Tally};
use super::schema::{self, SCHEMA, Tables};
use super::sql::{is_internal, is_sqlites, run_or_undo};
use super::store::{self, Place, Progress, Tx};
use super::temp_triggers;
use crate::Now;
use crate::planted::{Bug, planted};

/// What [`Replica::apply`](super::Replica::apply) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// How many operations were new to this replica.
    pub operations: u32,
    /// How many more were set aside, being stamped more than five minutes ahead of the wall clock: they are applied when time has caught up.
    pub set_aside: u32,
    /// When the last of those is applied, in milliseconds since 1970.
    pub until_ms: u64,
    /// Whether something came under a dot of this replica's own that it did not write: there is another writer of its id.
    pub from_clone: bool,
    /// What was dropped because it is invalid, with the reason, for a person. The others were applied.
    pub refused: Vec<String>,
}

/// Most operations of a merged transaction that are kept at hand for other peers; larger ones are read from the log again.
const AT_HAND_OPERATIONS: usize = 1000;

/// Transactions of our own that a peer may have and we not (a device restored from an older copy), at most.
const MAX_OWN_AHEAD: u64 = 1_000_000;

/// Reasons that are told for one delta; a hostile one could have millions.
const MAX_REASONS: usize = 16;

impl Applied {
    /// Nothing was applied, for this reason.
    pub(super) fn nothing(why: String) -> Self {
        Self { refused: vec![why], ..Self::default() }
    }

    fn refuse(&mut self, operation: &Operation, why: &str) {
        if self.refused.len() < MAX_REASONS {
            let Operation { hlc, kind, table, .. } = operation;
            let table: String = table.chars().take(64).collect();
            self.refused.push(format!("{kind:?} {hlc} on table {table:?}: {why}"));
        }
    }

    /// Transactions from the future do not fit beside those that are set aside.
    fn refuse_for_room(&mut self, count: usize) {
        if count > 0 {
            self.refused.push(format!(
                "{count} transactions that are stamped ahead of this device's clock and do not fit beside what is set aside already; they are asked for \
                 again when time has caught up"
            ));
        }
    }

    /// Adds what another merge did.
    pub(super) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.set_aside += other.set_aside;
        self.until_ms = self.until_ms.max(other.until_ms);
        self.from_clone |= other.from_clone;
        self.refused.extend(other.refused);
    }
}

impl State {
    /// Applies a delta.
    pub(super) fn apply(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        covers: &VersionVector,
        now: Now,
    ) -> Result<Applied, StorageError> {
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        let mut news = if planted(Bug::AppliedTwice) { covers.clone() } else { covers.minus(&self.vector) };
        let own_last = self.next_dot().seq;
        if news.origin(&self.node).and_then(|own| own.last()).is_some_and(|last| last > own_last + MAX_OWN_AHEAD) {
            // Nobody has so many transactions of ours that we lack; to believe it would end our numbers.
            news.replace_origin(self.node.clone(), Default::default());
        }
        let (news, left_out) = within_bounds(&self.vector, &news);
        let judged = self.quarantine.judge(&operations, &news, now.wall_ms);
        let news = news.minus(&judged.refused);
        let mut applied = Applied::default();
        if !news.is_empty() {
            let at_hand = whole_transaction(&self.tables, &operations, &news).then(|| operations.clone());
            (applied, _) = self.merge(connection, operations, &news, judged.verdicts, |_| true)?;
            self.note_merged(news, at_hand);
        }
        applied.refuse_for_room(judged.refused_count);
        if left_out > 0 {
            applied.refused.push(format!(
                "what {left_out} replicas wrote; {MAX_ORIGINS} replicas and {MAX_RANGES} gaps in what is known of them are the most"
            ));
        }
        Ok(applied)
    }

    /// Adopts operations that came without a dot, as one transaction of this replica. They keep their clock values; those that change nothing are
    /// dropped, and where all do, nothing is written. Those from the future are transactions of their own, so that nothing waits with them.
    pub(super) fn adopt(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        now: Now,
    ) -> Result<(Applied, VersionVector), StorageError> {
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        let (operations, ahead) = quarantine::part(operations, now.wall_ms);
        let (mut applied, mut covers) = self.adopt_transaction(connection, operations, now)?;
        for operations in ahead.into_values() {
            let (more, dot) = self.adopt_transaction(connection, operations, now)?;
            applied.add(more);
            covers.merge(&dot);
        }
        Ok((applied, covers))
    }

    fn adopt_transaction(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        now: Now,
    ) -> Result<(Applied, VersionVector), StorageError> {
        let dot = self.next_dot();
        // The transaction has no place on our clock: its operations have theirs on others'.
        let extent =
            TransactionExtent { first: Tick::default(), n: u32::try_from(operations.len()).unwrap_or(u32::MAX) };
        let adopted = (0..extent.n).zip(operations).map(|(index, operation)| Operation {
            seq: Some(dot.seq),
            tx: Some(extent),
            adopted: Some(Adopted { by: dot.origin.clone(), index }),
            ..operation
        });
        let adopted: Vec<Operation> = adopted.collect();
        let mut news = VersionVector::default();
        news.insert(dot.clone());
        let judged = self.quarantine.judge(&adopted, &news, now.wall_ms);
        if judged.refused_count > 0 {
            let mut applied = Applied::default();
            applied.refuse_for_room(judged.refused_count);
            return Ok((applied, VersionVector::default()));
        }
        let is_new = |applied: &Applied| applied.operations + applied.set_aside > 0;
        let (applied, fresh) = self.merge(connection, adopted, &news, judged.verdicts, is_new)?;
        if !is_new(&applied) {
            return Ok((applied, VersionVector::default()));
        }
        let at_hand = (fresh.len() <= AT_HAND_OPERATIONS).then_some(fresh);
        self.note_merged(news.clone(), at_hand);
        Ok((applied, news))
    }

    /// Merges operations in one SQLite transaction, which stands if `stands` says so. Gives the operations that were adopted, too.
    fn merge(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        news: &VersionVector,
        verdicts: BTreeMap<Dot, Verdict>,
        stands: impl FnOnce(&Applied) -> bool,
    ) -> Result<(Applied, Vec<Operation>), StorageError> {
        let concerns_tables = operations.iter().any(is_schema);
        self.in_merge(connection, concerns_tables, |state| {
            let mut merge = Merge::new(connection, state)?;
            merge.verdicts = verdicts;
            merge.run(operations, news)?;
            let Merge { applied, fresh, tally, .. } = merge;
            state.registers += tally.registers;
            state.save_news(connection, news)?;
            Ok((stands(&applied), ((applied, fresh), tally.conflicts)))
        })
    }

    /// Applies what was set aside and is not ahead of time any more. Gives nothing where nothing was due.
    pub(super) fn release(&mut self, connection: &Connection, now: Now) -> Result<Option<Applied>, StorageError> {
        if self.quarantine.due_ms().is_none_or(|due_ms| due_ms > now.wall_ms) {
            return Ok(None);
        }
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        // What it is about is known only once it is read.
        let (released, applied) = self.in_merge(connection, true, |state| {
            let mut quarantine = state.quarantine;
            let operations = quarantine.take_due(connection, now.wall_ms)?;
            state.quarantine = quarantine;
            if operations.is_empty() {
                // Only something that had not fitted.
                return Ok((false, ((false, Applied::default()), Vec::new())));
            }
            let mut news = VersionVector::default();
            operations.iter().filter_map(Operation::place).for_each(|(dot, ..)| news.insert(dot));
            let mut merge = Merge::new(connection, state)?;
            merge.run(operations, &news)?;
            let Merge { applied, tally, .. } = merge;
            state.registers += tally.registers;
            // They are in the vector since they came; what is shown has changed all the same.
            state.version += 1;
            store::save_progress(connection, state.progress())?;
            Ok((true, ((true, applied), tally.conflicts)))
        })?;
        self.quarantine.retried();
        if released {
            self.note_merged(VersionVector::default(), None);
        }
        Ok(Some(applied))
    }

    /// Runs a merge in one SQLite transaction. Where it does not stand, nothing has happened in memory either.
    fn in_merge<T>(
        &mut self,
        connection: &Connection,
        concerns_tables: bool,
        merge: impl FnOnce(&mut Self) -> Result<(bool, (T, Vec<Conflict>)), StorageError>,
    ) -> Result<T, StorageError> {
        let before = (self.clock, self.version, self.registers, self.quarantine);
        let lift = concerns_tables || self.enforces(connection)?;
        if planted(Bug::Echo) {
            self.capture.switch(true);
        }
        let outcome = in_merge_transaction(connection, lift, || merge(self));
        if planted(Bug::Echo) {
            self.capture.switch(false);
        }
        if !matches!(outcome, Ok((true, _))) {
            (self.clock, self.version, self.registers, self.quarantine) = before;
            self.reload_origins(connection)?;
            if concerns_tables {
                self.reload_tables(connection)?;
            }
            // Dead rows that came back are dead again.
            self.tables.iter().for_each(|table| table.note_dead(true));
        }
        let (stood, (merged, conflicts)) = outcome?;
        if stood {
            self.note_conflicts(conflicts);
        }
        Ok(merged)
    }

    /// SQLite has committed a merge.
    pub(super) fn note_merged(&mut self, covers: VersionVector, operations: Option<Vec<Operation>>) {
        self.vector.merge(&covers);
        self.committed.push_back(Committed { version: self.version, covers, operations });
    }

    /// Applies what waited for tables that the user has created meanwhile.
    pub(super) fn release_waiting(&mut self, connection: &Connection) -> Result<(), StorageError> {
        let names: Vec<String> = self.tables.iter().map(|table| table.name.clone()).collect();
        let lift = self.enforces(connection)?;
        let outcome = in_merge_transaction(connection, lift, || {
            let mut merge = Merge::new(connection, self)?;
            names.iter().try_for_each(|name| merge.release(name))?;
            let objects = objects::rows(connection)?;
            objects::show(connection, (&merge.state.tables, &merge.state.origins), &objects, &mut merge.tally)?;
            merge.retry_parked()?;
            merge.settle()?;
            // Our newest transaction stays: the clock had seen what waited.
            merge.forget_empty()?;
            let mut registers = merge.state.registers;
            registers += merge.tally.registers;
            let conflicts = std::mem::take(&mut merge.tally.conflicts);
            store::save_progress(connection, Progress { registers, ..self.progress() })?;
            Ok((true, (registers, conflicts)))
        });
        self.schema_may_have_changed();
        match outcome {
            Ok((_, (registers, conflicts))) => {
                self.registers = registers;
                self.note_conflicts(conflicts);
                Ok(())
            }
            Err(error) => {
                self.reload_tables(connection)?;
                Err(error)
            }
        }
    }

    /// Whether the schema has triggers, CHECKs or foreign keys. To lift them has a price: SQLite compiles every statement anew.
    pub(super) fn enforces(&mut self, connection: &Connection) -> Result<bool, StorageError> {
        // The words may stand in a comment or a name; that costs time only.
        // LIKE would heed PRAGMA case_sensitive_like.
        let select = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE lower(substr(name, 1, 4)) <> 'rtc_'
                      AND (type = 'trigger' OR type = 'table' AND (instr(lower(sql), 'check') OR instr(lower(sql), 'references'))))";
        if self.enforces.is_none() {
            self.enforces = Some(connection.query_row(select, [], |row| row.get(0))?);
        }
        Ok(self.enforces == Some(true))
    }

    /// Stores vector, version and clock as they are with the new dots. The vector in memory follows after the COMMIT.
    fn save_news(&mut self, connection: &Connection, news: &VersionVector) -> Result<(), StorageError> {
        for (origin, ranges) in news.iter() {
            self.save_dots(connection, origin, ranges.iter())?;
            let dots = ranges.iter().map(|(first, last)| last - first + 1).fold(0, u64::saturating_add);
            self.version = self.version.saturating_add(dots);
        }
        // More would not be a JavaScript number; nobody but a forger gets there.
        self.version = self.version.min(rtc_battery_proto::MAX_SEQ);
        // The merge may have forgotten our newest transaction, which told our last sequence number.
        let new = news.origin(&self.node).and_then(|own| own.last()).unwrap_or(0);
        let seq = self.own_last().max(new);
        store::save_progress(connection, Progress { seq, ..self.progress() })
    }

    /// The sequence number of our newest transaction.
    fn own_last(&self) -> u64 {
        self.next_dot().seq - 1
    }

    /// How far the replica has come.
    pub(super) fn progress(&self) -> Progress {
        let Self { version, registers, .. } = *self;
        Progress { version, last: self.clock.last(), seq: self.own_last(), registers }
    }
}

/// Whether the operation is about a table, not a row.
fn is_schema(operation: &Operation) -> bool {
    operation.table.eq_ignore_ascii_case(SCHEMA)
}

/// Whether the operations are one transaction as its writer committed it, few enough to keep at hand. What comes out of a log lacks what was
/// overwritten since by transactions that are here, and perhaps not at whom it would be passed on to.
fn whole_transaction(tables: &Tables, operations: &[Operation], news: &VersionVector) -> bool {
    let mut places = operations.iter().filter_map(Operation::place);
    let Some((dot, extent, _)) = places.next() else { return false };
    let mut only = VersionVector::default();
    only.insert(dot.clone());
    *news == only
        && extent.n as usize == operations.len()
        && operations.len() <= AT_HAND_OPERATIONS
        && places.all(|(other, _, _)| other == dot)
        && operations.iter().all(|operation| lacks_nothing(tables, operation))
}

/// Whether the operation is known to carry all that was written: an INSERT has every column, and only an UPDATE that is no older than its
/// transaction knows what was there before.
fn lacks_nothing(tables: &Tables, operation: &Operation) -> bool {
    let values = operation.values.as_ref();
    match operation.kind {
        OperationKind::Delete => true,
        OperationKind::Update => {
            let before = operation.prev.as_ref();
            values.zip(before).is_some_and(|(values, before)| values.keys().eq(before.keys()))
        }
        OperationKind::Insert => {
            let table = tables.by_name(&operation.table);
            values.zip(table).is_some_and(|(values, table)| table.columns.iter().all(|c| values.contains_key(&c.name)))
        }
    }
}

/// Runs a merge in one transaction; `lift`: with the user's enforcement out of the way, and back afterwards. The merge says whether it stands.
fn in_merge_transaction<T>(
    connection: &Connection,
    lift: bool,
    merge: impl FnOnce() -> Result<(bool, T), StorageError>,
) -> Result<(bool, T), StorageError> {
    let run = |sql: &str| -> Result<(), StorageError> {
        connection.prepare_cached(sql)?.raw_execute()?;
        Ok(())
    };
    lifted(connection, lift, || {
        let outcome = run("BEGIN IMMEDIATE").and_then(|()| merge()).and_then(|done| {
            if done.0 {
                run("COMMIT")?;
            }
            Ok(done)
        });
        if !connection.is_autocommit() {
            run("ROLLBACK")?;
        }
        outcome
    })
}

/// Runs something, if `lift` says so with the user's enforcement (foreign keys, CHECKs, main-schema triggers) out of the way, and back afterwards.
pub(super) fn lifted<T>(
    connection: &Connection,
    lift: bool,
    run: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    if !lift {
        return run();
    }
    let foreign_keys = connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY)?;
    let enforce = |on: bool| -> Result<(), StorageError> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, on && foreign_keys)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, on)?;
        Ok(connection.pragma_update(None, "ignore_check_constraints", !on)?)
    };
    let outcome = enforce(false).and_then(|()| run());
    enforce(true)?;
    outcome
}

/// One merge transaction under way.
struct Merge<'a> {
    connection: &'a Connection,
    state: &'a mut State,
    floors: Arc<Floors>,
    /// The transactions met so far, and which of their operations.
    transactions: BTreeMap<Dot, (Tx, TransactionExtent, BTreeSet<u32>)>,
    tally: Tally,
    applied: Applied,
    /// Adopted operations that changed something or wait.
    fresh: Vec<Operation>,
    /// Transactions that are not to be applied now.
    verdicts: BTreeMap<Dot, Verdict>,
}

impl<'a> Merge<'a> {
    fn new(connection: &'a Connection, state: &'a mut State) -> Result<Self, StorageError> {
        let (transactions, tally, applied, fresh, verdicts) = Default::default();
        let floors = state.floors(connection)?;
        Ok(Self { connection, state, floors, transactions, tally, applied, fresh, verdicts })
    }

    fn run(&mut self, operations: Vec<Operation>, news: &VersionVector) -> Result<(), StorageError> {
        // Tables before their rows, whatever the order they came in.
        let (schema, rows): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_schema);
        let schema_changed = !schema.is_empty();
        let in_order: Vec<_> =
            schema.iter().filter_map(|operation| operation.pk.get("id")?.as_text().map(Cow::into_owned)).collect();
        let objects_before = if schema_changed { objects::rows(self.connection)? } else { Default::default() };
        let floors_before = Arc::clone(&self.floors);
        for operation in schema {
            self.take(operation, news)?;
        }
        if schema_changed {
            self.release(SCHEMA)?;
            let local = self.state.drop_received(self.connection, &floors_before, &mut self.tally)?;
            self.floors = self.state.floors(self.connection)?;
            self.create_tables()?;
            self.add_columns(&in_order)?;
            let State { origins, tables, .. } = &*self.state;
            let parked = objects::show(self.connection, (tables, origins), &objects_before, &mut self.tally)?;
            parked.into_iter().for_each(|why| self.tell(why));
            for text in local {
                // Without its table, or a column that it names, it cannot come back.
                let _ = run_or_undo(self.connection, &text)?;
            }
            self.retry_parked()?;
            self.state.watch_tables();
            let State { tables, guard, .. } = &*self.state;
            let dropped = temp_triggers::drop_unfit(self.connection, tables, guard)?;
            dropped.into_iter().for_each(|why| self.tell(why));
            log_view::refresh(self.connection, self.state.tables.iter())?;
        }
        let half = rows.len() / 2;
        for (n, operation) in rows.into_iter().enumerate() {
            if planted(Bug::TwoCommits) && n > 0 && n == half {
                self.connection.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
            }
            self.take(operation, news)?;
        }
        self.settle()?;
        self.forget_empty()
    }

    /// Decides which rows are shown, where two want one value.
    fn settle(&mut self) -> Result<(), StorageError> {
        let Self { connection, state, tally, .. } = self;
        let unsettled = std::mem::take(&mut tally.unsettled);
        let State { origins, tables, capture, .. } = &**state;
        tally.conflicts.extend(admission::settle(connection, origins, tables, capture, unsettled)?);
        Ok(())
    }

    /// After the schema has changed: tables may show other rows, and rows that SQLite refused may fit.
    fn retry_parked(&mut self) -> Result<(), StorageError> {
        for table in self.state.tables.reindexed(self.connection)? {
            self.state.tables.describe_again(self.connection, &table.name)?;
            self.tally.unsettled.retry(table.id);
        }
        parked::tables(self.connection)?.into_iter().for_each(|table| self.tally.unsettled.retry(table));
        Ok(())
    }

    /// Transactions none of whose operations shows, the new ones among them.
    fn forget_empty(&mut self) -> Result<(), StorageError> {
        self.tally.thinned.extend(self.transactions.values().map(|(tx, ..)| *tx));
        self.tally.runs.store(self.connection)?;
        self.tally.forget_empty(self.connection)
    }

    /// One operation of the delta.
    fn take(&mut self, operation: Operation, news: &VersionVector) -> Result<(), StorageError> {
        let Some((dot, extent, index)) = operation.place() else {
            self.applied.refuse(&operation, "it does not say which transaction it belongs to");
            return Ok(());
        };
        if !news.contains(&dot) {
            return Ok(());
        }
        let verdict = self.verdicts.get(&dot).copied();
        if verdict == Some(Verdict::Beyond) {
            self.applied.refuse(&operation, "its clock is beyond all time");
            return Ok(());
        }
        let Some(tx) = self.place(dot, extent, index)? else {
            self.applied.refuse(&operation, "it contradicts another operation of its transaction");
            return Ok(());
        };
        let place = Place { tx, index };
        if let Some(Verdict::Aside(until_ms)) = verdict {
            return self.set_aside(place, operation, until_ms);
        }
        self.state.clock.advance(operation.hlc.tick);
        let mut outcome = self.apply(place, &operation)?;
        if matches!(outcome, Outcome::Waits) && !store::wait(self.connection, place, &operation)? {
            outcome = Outcome::Absorbed;
        }
        match outcome {
            Outcome::Refused(why) => self.applied.refuse(&operation, &why),
            Outcome::Absorbed => {}
            Outcome::Applied | Outcome::Waits => {
                self.applied.operations += 1;
                if operation.adopted.is_some() {
                    self.fresh.push(operation);
                }
            }
        }
        Ok(())
    }

    /// Keeps an operation until its time has come.
    fn set_aside(&mut self, place: Place, operation: Operation, until_ms: u64) -> Result<(), StorageError> {
        if self.state.quarantine.keep(self.connection, place, &operation, until_ms)? {
            self.applied.set_aside += 1;
            self.applied.until_ms = self.applied.until_ms.max(until_ms);
            if operation.adopted.is_some() {
                self.fresh.push(operation);
            }
        }
        Ok(())
    }

    /// The transaction's number, once for each of its operations.
    fn place(&mut self, dot: Dot, extent: TransactionExtent, index: u32) -> Result<Option<Tx>, StorageError> {
        if let Some((tx, known, indices)) = self.transactions.get_mut(&dot) {
            return Ok((*known == extent && indices.insert(index)).then_some(*tx));
        }
        let origin = self.state.origins.id(self.connection, &dot.origin)?;
        let tx = Tx { origin, seq: dot.seq };
        store::insert_transaction(self.connection, tx, extent, None, None)?;
        self.tally.runs.begin(tx);
        self.transactions.insert(dot, (tx, extent, BTreeSet::from([index])));
        Ok(Some(tx))
    }

    fn apply(&mut self, place: Place, operation: &Operation) -> Result<Outcome, StorageError> {
        if is_internal(&operation.table) && !operation.table.eq_ignore_ascii_case(SCHEMA) {
            return Ok(Outcome::Refused("the table belongs to RTC Battery".to_owned()));
        }
        if is_sqlites(&operation.table) {
            return Ok(Outcome::Refused("the table belongs to SQLite".to_owned()));
        }
        if self.floors.kill(operation) {
            return Ok(Outcome::Absorbed);
        }
        if is_schema(operation) && !objects::is_sound(operation) {
            if !schema::is_sound(operation) && !dropped::is_sound(operation) {
                return Ok(Outcome::Refused("it is no definition".to_owned()));
            }
            let is_rest = operation.kind == OperationKind::Insert && schema::is_overwritten(operation);
            if is_rest && !schema::is_known(self.connection, &self.state.tables, operation)? {
                return Ok(Outcome::Waits);
            }
        }
        let Some(table) = self.state.tables.by_name(&operation.table).cloned() else { return Ok(Outcome::Waits) };
        join::join(self.connection, &self.state.origins, &table, place, operation, &mut self.tally)
    }

    /// Makes tables of the rows of `rtc_schema` that have none yet, and applies what waited for them.
    fn create_tables(&mut self) -> Result<(), StorageError> {
        let mut select =
            self.connection.prepare("SELECT id, name, sql FROM rtc_schema WHERE kind = 'table' ORDER BY id")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let rows = rows.collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
        for (identity, name, sql) in rows {
            if self.state.tables.by_name(&name).is_some_and(|table| table.identity() == identity) {
                continue;
            }
            match schema::create_received(self.connection, &mut self.state.tables, &identity, &name, &sql)? {
                Ok(()) => self.release(&name)?,
                Err(why) => self.tell(why),
            }
        }
        Ok(())
    }

    /// Adds the columns that `rtc_schema` has and their tables have not, those that came now in the order they came in, and applies what waited for
    /// them.
    fn add_columns(&mut self, in_order: &[String]) -> Result<(), StorageError> {
        let mut select =
            self.connection.prepare("SELECT id, name, sql FROM rtc_schema WHERE kind = 'column' ORDER BY id")?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let mut rows = rows.collect::<rusqlite::Result<Vec<(String, String, String)>>>()?;
        rows.sort_by_cached_key(|(id, ..)| in_order.iter().position(|came| came == id));
        for (id, column, definition) in rows {
            let Some(table) = alter::table_of(&self.state.tables, &id, &column) else { continue };
            if table.column(&column).is_some() {
                continue;
            }
            let table = table.name.clone();
            match alter::add_received(self.connection, &mut self.state.tables, &table, &column, &definition)? {
                Ok(()) => self.release(&table)?,
                Err(why) => self.tell(why),
            }
        }
        Ok(())
    }

    fn tell(&mut self, why: String) {
        if self.applied.refused.len() < MAX_REASONS {
            self.applied.refused.push(why);
        }
    }

    /// Applies what waited for a table.
    fn release(&mut self, name: &str) -> Result<(), StorageError> {
        let mut select =
            self.connection.prepare_cached("SELECT origin, seq, idx, operation FROM rtc_waiting WHERE tbl = ?1")?;
        let rows = select.query_map([name], |row| Ok((rows::place(row)?, row.get(3)?)))?;
        let rows = rows.collect::<rusqlite::Result<Vec<(Place, String)>>>()?;
        for (place, text) in rows {
            let operation: Operation =
                serde_json::from_str(&text).map_err(|_| StorageError::Corrupt("rtc_waiting.operation"))?;
            let outcome = self.apply(place, &operation)?;
            if let Outcome::Refused(why) = &outcome {
                self.applied.refuse(&operation, why);
            }
            if !matches!(outcome, Outcome::Waits) {
                let mut delete = self
                    .connection
                    .prepare_cached("DELETE FROM rtc_waiting WHERE origin = ?1 AND seq = ?2 AND idx = ?3")?;
                delete.execute(params![place.tx.origin, place.tx.seq, place.index])?;
                self.tally.thinned.insert(place.tx);
            }
        }
        Ok(())
    }
}
