//! Takes in what other replicas did: a delta, in one SQLite transaction, which [`merging`](super::merging) fills.
//!
//! Every operation is hostile until it has been read against the table it names. What is invalid is refused and told, and does not stop those
//! after it; what names a table or column that is not known yet waits in `rtc_waiting`, in the log like everything else. Merges run with
//! foreign keys off, CHECK ignored and main-schema triggers off: the writer's database enforced them, and the effects of its triggers are
//! operations of their own.

use std::collections::BTreeMap;

use rtc_battery_proto::{
    Adopted, Dot, MAX_ORIGINS, MAX_RANGES, Operation, OperationKind, Tick, TransactionExtent, VersionVector,
};
use rusqlite::Connection;

use super::enforcement::lifted;
use super::merging::Merge;
use crate::Now;
use crate::planted::{Bug, planted};
use crate::replica::error::StorageError;
use crate::replica::log::bounds::within_bounds;
use crate::replica::log::store::{self, Progress};
use crate::replica::quarantine::{self, Verdict};
use crate::replica::replica::Committed;
use crate::replica::schema::dropped::Gone;
use crate::replica::schema::objects;
use crate::replica::schema::tables::{SCHEMA, Tables};
use crate::replica::state::State;
use crate::replica::unique::parked::Conflict;

/// What [`Replica::apply`](crate::replica::Replica::apply) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// How many operations were new to this replica.
    pub operations: u32,
    /// How many more were set aside, being stamped more than five minutes ahead of the wall clock: they are applied when time has caught up.
    pub set_aside: u32,
    /// When the last of those is applied, in milliseconds since 1970.
    pub until_ms: u64,
    /// Rows that the peer had forgotten and that are back, since they were edited here.
    pub brought_back: usize,
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
    pub(crate) fn nothing(why: String) -> Self {
        Self { refused: vec![why], ..Self::default() }
    }

    /// Something did not go in.
    pub(crate) fn tell(&mut self, why: impl FnOnce() -> String) {
        if self.refused.len() < MAX_REASONS {
            self.refused.push(why());
        }
    }

    /// An operation did not.
    pub(crate) fn refuse(&mut self, operation: &Operation, why: &str) {
        self.tell(|| {
            let Operation { hlc, kind, table, .. } = operation;
            let table: String = table.chars().take(64).collect();
            format!("{kind:?} {hlc} on table {table:?}: {why}")
        });
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
    pub(crate) fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.set_aside += other.set_aside;
        self.until_ms = self.until_ms.max(other.until_ms);
        self.brought_back += other.brought_back;
        self.from_clone |= other.from_clone;
        self.refused.extend(other.refused);
    }
}

/// What of a delta can be taken in.
pub(crate) struct Admitted {
    pub(crate) news: VersionVector,
    /// Replicas that are not among those that can be known.
    left_out: usize,
    /// Transactions from the future for which there is no room.
    refused_count: usize,
    pub(crate) verdicts: BTreeMap<Dot, Verdict>,
}

impl Admitted {
    /// Why it is not all of it, if it is not.
    pub(crate) fn why_not_all(&self) -> Option<String> {
        let mut applied = Applied::default();
        applied.refuse_for_room(self.refused_count);
        applied.refused.pop().or_else(|| (self.left_out > 0).then(|| too_many_replicas(self.left_out)))
    }
}

fn too_many_replicas(left_out: usize) -> String {
    format!(
        "what {left_out} replicas wrote; {MAX_ORIGINS} replicas and {MAX_RANGES} gaps in what is known of them are the most"
    )
}

impl State {
    /// Applies a delta.
    pub(crate) fn apply(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        covers: &VersionVector,
        now: Now,
    ) -> Result<Applied, StorageError> {
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        let admitted = self.admit(&operations, covers, now);
        let mut applied = Applied::default();
        let Admitted { news, refused_count, left_out, verdicts } = admitted;
        if !news.is_empty() {
            let at_hand = whole_transaction(&self.tables, &operations, &news).then(|| operations.clone());
            (applied, _) = self.merge(connection, operations, &news, (verdicts, Tick::default()), |_| true)?;
            self.note_merged(news, at_hand);
        }
        applied.refuse_for_room(refused_count);
        if left_out > 0 {
            applied.refused.push(too_many_replicas(left_out));
        }
        Ok(applied)
    }

    /// What of a delta can be taken in.
    pub(crate) fn admit(&mut self, operations: &[Operation], covers: &VersionVector, now: Now) -> Admitted {
        let mut news = if planted(Bug::AppliedTwice) { covers.clone() } else { covers.minus(&self.vector) };
        let own_last = self.next_dot().seq;
        if news.origin(&self.node).and_then(|own| own.last()).is_some_and(|last| last > own_last + MAX_OWN_AHEAD) {
            // Nobody has so many transactions of ours that we lack; to believe it would end our numbers.
            news.replace_origin(self.node.clone(), Default::default());
        }
        let (news, left_out) = within_bounds(&self.vector, &news);
        let judged = self.quarantine.judge(operations, &news, now.wall_ms);
        let news = news.minus(&judged.refused);
        Admitted { news, left_out, refused_count: judged.refused_count, verdicts: judged.verdicts }
    }

    /// Adopts operations that came without a dot, as one transaction of this replica. They keep their clock values; those that change nothing are
    /// dropped, and where all do, nothing is written. Those from the future are transactions of their own, so that nothing waits with them.
    /// `old_too`: also those on rows that are not known here and were perhaps forgotten.
    pub(crate) fn adopt(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        old_too: bool,
        now: Now,
    ) -> Result<(Applied, VersionVector), StorageError> {
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        let (operations, ahead) = quarantine::part(operations, now.wall_ms);
        let forgotten = if old_too { Tick::default() } else { self.floor.clock };
        let (mut applied, mut covers) = self.adopt_transaction(connection, operations, forgotten, now)?;
        for operations in ahead.into_values() {
            let (more, dot) = self.adopt_transaction(connection, operations, forgotten, now)?;
            applied.add(more);
            covers.merge(&dot);
        }
        Ok((applied, covers))
    }

    fn adopt_transaction(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        forgotten: Tick,
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
        let (applied, fresh) = self.merge(connection, adopted, &news, (judged.verdicts, forgotten), is_new)?;
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
        (verdicts, forgotten): (BTreeMap<Dot, Verdict>, Tick),
        stands: impl FnOnce(&Applied) -> bool,
    ) -> Result<(Applied, Vec<Operation>), StorageError> {
        let concerns_tables = operations.iter().any(is_schema);
        self.in_merge(connection, concerns_tables, |state| {
            let mut merge = Merge::new(connection, state)?;
            (merge.verdicts, merge.forgotten) = (verdicts, forgotten);
            merge.run(operations, news)?;
            let Merge { applied, fresh, tally, .. } = merge;
            state.registers += tally.registers;
            state.save_news(connection, news)?;
            Ok((stands(&applied), ((applied, fresh), tally.conflicts)))
        })
    }

    /// Applies what was set aside and is not ahead of time any more. Gives nothing where nothing was due.
    pub(crate) fn release(&mut self, connection: &Connection, now: Now) -> Result<Option<Applied>, StorageError> {
        if self.quarantine.due_ms().is_none_or(|due_ms| due_ms > now.wall_ms) {
            return Ok(None);
        }
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        // What it is about is known only once it is read.
        let (raised, applied) = self.in_merge(connection, true, |state| {
            let mut quarantine = state.quarantine;
            let operations = quarantine.take_due(connection, now.wall_ms)?;
            state.quarantine = quarantine;
            if operations.is_empty() {
                // Only something that had not fitted.
                return Ok((false, ((None, Applied::default()), Vec::new())));
            }
            let mut news = VersionVector::default();
            operations.iter().filter_map(Operation::place).for_each(|(dot, ..)| news.insert(dot));
            let mut merge = Merge::new(connection, state)?;
            merge.run(operations, &news)?;
            let Merge { applied, mut tally, state, .. } = merge;
            // They are in the vector since they came, and may be below the floor; what is shown has changed all the same.
            let nothing_new = (state.next_dot(), VersionVector::default());
            let raised = state.raise(connection, state.floor.clone(), nothing_new, &mut tally)?;
            Ok((true, ((Some(raised), applied), tally.conflicts)))
        })?;
        self.quarantine.retried();
        if let Some(raised) = raised {
            self.note_raised(raised, VersionVector::default());
        }
        Ok(Some(applied))
    }

    /// Runs a merge in one SQLite transaction. Where it does not stand, nothing has happened in memory either.
    pub(crate) fn in_merge<T>(
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
    pub(crate) fn note_merged(&mut self, covers: VersionVector, operations: Option<Vec<Operation>>) {
        self.vector.merge(&covers);
        self.committed.push_back(Committed { version: self.version, covers, operations });
    }

    /// Applies what waited for tables that the user has created meanwhile.
    pub(crate) fn release_waiting(&mut self, connection: &Connection) -> Result<(), StorageError> {
        let names: Vec<String> = self.tables.iter().map(|table| table.made_by.clone()).collect();
        let lift = self.enforces(connection)?;
        let outcome = in_merge_transaction(connection, lift, || {
            let mut merge = Merge::new(connection, self)?;
            names.iter().try_for_each(|name| merge.release(name))?;
            // Columns may have been added to the table before it was here.
            merge.follow_schema(&[], &objects::rows(connection)?, Gone::default())?;
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

    /// Stores vector, version and clock as they are with the new dots. The vector in memory follows after the COMMIT.
    pub(crate) fn save_news(&mut self, connection: &Connection, news: &VersionVector) -> Result<(), StorageError> {
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
    pub(crate) fn progress(&self) -> Progress {
        let Self { version, registers, .. } = *self;
        Progress { version, last: self.clock.last(), seq: self.own_last(), registers }
    }
}

/// Whether the operation is about a table, not a row.
pub(crate) fn is_schema(operation: &Operation) -> bool {
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
            let table = tables.of_identity(&operation.table);
            values
                .zip(table)
                .is_some_and(|(values, table)| table.columns.iter().all(|c| values.contains_key(&c.identity)))
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
