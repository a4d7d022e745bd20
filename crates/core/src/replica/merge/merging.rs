//! One merge under way: each operation of a delta is read against what is here, definitions before rows, and joined into its row, kept until its table or its
//! time comes, or refused; at the end it is decided which rows are shown.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rtc_battery_proto::{Dot, Operation, OperationKind, Tick, TransactionExtent, VersionVector};
use rusqlite::{Connection, params};

use super::apply::{Applied, is_schema};
use super::join::{self, Outcome};
use crate::planted::{Bug, planted};
use crate::replica::error::StorageError;
use crate::replica::log::rows::{self, Tally};
use crate::replica::log::store::{self, Place, Tx};
use crate::replica::log::view;
use crate::replica::quarantine::Verdict;
use crate::replica::schema::columns;
use crate::replica::schema::dropped::{self, Floors, Gone};
use crate::replica::schema::naming;
use crate::replica::schema::objects;
use crate::replica::schema::tables::{self, SCHEMA};
use crate::replica::schema::temp_triggers;
use crate::replica::schema::united;
use crate::replica::sql::{is_internal, is_sqlites, run_or_undo};
use crate::replica::state::State;
use crate::replica::unique::admission;
use crate::replica::unique::parked;
use crate::replica::withdrawn::{self, Withdrawn};

/// One merge transaction under way.
pub(crate) struct Merge<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) state: &'a mut State,
    floors: Arc<Floors>,
    pub(crate) withdrawn: Arc<Withdrawn>,
    /// The transactions met so far, and which of their operations.
    transactions: BTreeMap<Dot, (Tx, TransactionExtent, BTreeSet<u32>)>,
    pub(crate) tally: Tally,
    pub(crate) applied: Applied,
    /// Adopted operations that changed something or wait.
    pub(crate) fresh: Vec<Operation>,
    /// Transactions that are not to be applied now.
    pub(crate) verdicts: BTreeMap<Dot, Verdict>,
    /// What is adopted and no newer than this, on rows of which nothing is known, was perhaps forgotten and stays so.
    pub(crate) forgotten: Tick,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(connection: &'a Connection, state: &'a mut State) -> Result<Self, StorageError> {
        let (transactions, tally, applied, fresh, verdicts) = Default::default();
        let (floors, withdrawn) = (state.floors(connection)?, state.withdrawn(connection)?);
        Ok(Self {
            connection,
            state,
            floors,
            withdrawn,
            transactions,
            tally,
            applied,
            fresh,
            verdicts,
            forgotten: Tick::default(),
        })
    }

    pub(crate) fn run(&mut self, operations: Vec<Operation>, news: &VersionVector) -> Result<(), StorageError> {
        let (schema, rows) = operations.into_iter().partition(is_schema);
        self.take_schema(schema, news)?;
        self.take_rows(rows, news)?;
        self.settle()?;
        self.forget_empty()
    }

    /// The delta's definitions: before its rows, whatever the order they came in.
    pub(crate) fn take_schema(&mut self, schema: Vec<Operation>, news: &VersionVector) -> Result<(), StorageError> {
        if schema.is_empty() {
            return Ok(());
        }
        let in_order: Vec<_> =
            schema.iter().filter_map(|operation| operation.pk.get("id")?.as_text().map(Cow::into_owned)).collect();
        let objects_before = objects::rows(self.connection)?;
        let floors_before = Arc::clone(&self.floors);
        // What is void goes first: what is told in its place says the same.
        let (withdrawals, schema): (Vec<_>, Vec<_>) = schema.into_iter().partition(withdrawn::is_sound);
        if !withdrawals.is_empty() {
            withdrawals.into_iter().try_for_each(|operation| self.take(operation, news))?;
            self.withdraw()?;
        }
        for operation in schema {
            self.take(operation, news)?;
        }
        self.release(SCHEMA)?;
        view::remove(self.connection)?;
        let gone = self.state.drop_received(self.connection, &floors_before, &in_order, &mut self.tally)?;
        self.floors = self.state.floors(self.connection)?;
        self.make_tables(&objects_before)?;
        self.follow_schema(&in_order, &objects_before, gone)
    }

    /// The delta's rows.
    pub(crate) fn take_rows(&mut self, rows: Vec<Operation>, news: &VersionVector) -> Result<(), StorageError> {
        let half = rows.len() / 2;
        for (n, operation) in rows.into_iter().enumerate() {
            if planted(Bug::TwoCommits) && n > 0 && n == half {
                self.connection.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
            }
            self.take(operation, news)?;
        }
        Ok(())
    }

    /// Makes of the tables that are here, and of what stands on them, what `rtc_schema` says; `gone` is what went with tables that were
    /// dropped. See [`reshape`](Self::reshape).
    pub(crate) fn follow_schema(
        &mut self,
        in_order: &[String],
        objects_before: &objects::Rows,
        gone: Gone,
    ) -> Result<(), StorageError> {
        let Gone { mut local, untold } = gone;
        local.append(&mut self.reshape(in_order, objects_before, &untold)?);
        self.state.columns_due = united::any_untold(self.connection, &self.state.tables)?;
        let State { origins, tables, .. } = &*self.state;
        let parked = objects::show(self.connection, (tables, origins), objects_before, &mut self.tally)?;
        parked.into_iter().for_each(|why| self.applied.tell(|| why));
        for text in local {
            // Without its table, or a column that it names, it cannot come back.
            let _ = run_or_undo(self.connection, &text)?;
        }
        self.retry_parked()?;
        self.state.watch_tables();
        let State { tables, guard, .. } = &*self.state;
        let dropped = temp_triggers::drop_unfit(self.connection, tables, guard)?;
        dropped.into_iter().for_each(|why| self.applied.tell(|| why));
        Ok(())
    }

    /// Decides which rows are shown, where two want one value.
    pub(crate) fn settle(&mut self) -> Result<(), StorageError> {
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
    pub(crate) fn forget_empty(&mut self) -> Result<(), StorageError> {
        self.tally.thinned.extend(self.transactions.values().map(|(tx, ..)| *tx));
        self.tally.runs.store(self.connection)?;
        self.tally.forget_empty(self.connection)
    }

    /// One operation of the delta.
    pub(crate) fn take(&mut self, operation: Operation, news: &VersionVector) -> Result<(), StorageError> {
        let Some((dot, extent, index)) = operation.place() else {
            self.applied.refuse(&operation, "it does not say which transaction it belongs to");
            return Ok(());
        };
        if !news.contains(&dot) || self.withdrawn.has(&operation.hlc) {
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

    /// Joins an operation of this delta into its row again, after what had beaten it was taken out, where it is not among those that are `here`.
    pub(crate) fn take_once_more(
        &mut self,
        operation: &Operation,
        here: &mut BTreeSet<Place>,
    ) -> Result<(), StorageError> {
        let Some((dot, extent, index)) = operation.place() else { return Ok(()) };
        let tx = self.transactions.get(&dot).filter(|(_, known, _)| *known == extent).map(|(tx, ..)| *tx);
        if let Some(place) = tx.map(|tx| Place { tx, index })
            && here.insert(place)
        {
            self.apply(place, operation)?;
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
        if store::add_transaction(self.connection, tx, extent, None, None)? {
            self.tally.runs.begin(tx);
        }
        self.transactions.insert(dot, (tx, extent, BTreeSet::from([index])));
        Ok(Some(tx))
    }

    fn apply(&mut self, place: Place, operation: &Operation) -> Result<Outcome, StorageError> {
        if is_internal(naming::made_by(&operation.table)) && !operation.table.eq_ignore_ascii_case(SCHEMA) {
            return Ok(Outcome::Refused("the table belongs to RTC Battery".to_owned()));
        }
        if is_sqlites(&operation.table) {
            return Ok(Outcome::Refused("the table belongs to SQLite".to_owned()));
        }
        if self.floors.kill(operation) {
            return Ok(Outcome::Absorbed);
        }
        if is_schema(operation) && !tables::is_text(operation) {
            return Ok(Outcome::Refused("it is no definition: those are text in UTF-8 throughout".to_owned()));
        }
        if is_schema(operation) && !objects::is_sound(operation) {
            let is_sound = [tables::is_sound, dropped::is_sound, columns::is_sound, withdrawn::is_sound];
            if !is_sound.iter().any(|is_sound| is_sound(operation)) {
                return Ok(Outcome::Refused("it is no definition".to_owned()));
            }
            if let Err(why) = tables::check_text(operation) {
                return Ok(Outcome::Refused(format!("it is no definition: {why}")));
            }
            let is_rest = operation.kind == OperationKind::Insert && tables::is_overwritten(operation);
            if is_rest && !tables::is_known(self.connection, &self.state.tables, operation)? {
                return Ok(Outcome::Waits);
            }
        }
        let Some(table) = self.state.tables.of_identity(&operation.table).cloned() else { return Ok(Outcome::Waits) };
        // What stands at the beginning of time (files have no clock) fills gaps.
        let tick = operation.hlc.tick;
        let is_old = operation.adopted.is_some() && tick <= self.forgotten && tick != Tick::default();
        if is_old && !is_schema(operation) && !join::is_known(self.connection, &self.state.origins, &table, operation)?
        {
            return Ok(Outcome::Absorbed);
        }
        join::join(self.connection, &self.state.origins, &table, place, operation, &mut self.tally)
    }

    /// Applies what waited for a table.
    pub(crate) fn release(&mut self, name: &str) -> Result<(), StorageError> {
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
                // Rows that it was about were not forgotten while it waited.
                self.state.history.look_again();
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
