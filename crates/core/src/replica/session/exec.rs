//! Runs the user's SQL, statement by statement, and puts our own work where SQLite would commit.
//!
//! A statement outside of a transaction runs inside a BEGIN of ours; COMMIT, and the RELEASE that ends a transaction, are preceded by the
//! writing of the log. Everything else is SQLite's.

use std::collections::BTreeSet;

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection, Statement, ffi};

use super::alteration;
use super::guard::{Control, Facts};
use super::query::{Params, QueryResult, Scope, SqlError, refused};
use super::step::{bind, step};
use crate::Now;
use crate::replica::capture::hook::Moment;
use crate::replica::error::StorageError;
use crate::replica::log::store;
use crate::replica::log::view;
use crate::replica::schema::objects;
use crate::replica::schema::temp_triggers::{self, Unfit};
use crate::replica::schema::united;
use crate::replica::state::State;
use crate::replica::unique::parked::{self, Conflict};

/// The user's open transaction.
#[derive(Debug, Default)]
pub(crate) struct OpenTransaction {
    /// Open savepoints, outermost first: name and moment.
    savepoints: Vec<(String, Moment)>,
    /// Whether a SAVEPOINT opened it, so that its RELEASE commits.
    by_savepoint: bool,
    /// What its writes are: all replicated, or all local.
    scope: Option<Scope>,
    /// Tables with higher numbers were made in it.
    pub(crate) highest_before: Option<i64>,
    /// Tables whose parked rows may fit, since it changed the schema.
    pub(crate) retried: BTreeSet<i64>,
    /// What is to be told once it is committed.
    pub(crate) conflicts: Vec<Conflict>,
}

impl OpenTransaction {
    pub(crate) fn is_local(&self) -> bool {
        self.scope == Some(Scope::Local)
    }
}

impl State {
    /// Runs one or several statements.
    pub(crate) fn exec(
        &mut self,
        connection: &Connection,
        sql: &str,
        params: &Params,
        scope: Scope,
        now: Now,
    ) -> Result<QueryResult, SqlError> {
        if sql.contains('\0') {
            let message = "the SQL has a NUL character in it, where SQLite would stop to read: give a text that has one as a parameter";
            return Err(SqlError { message: message.to_owned(), code: ffi::SQLITE_ERROR });
        }
        self.wall_clock.set(now.wall_ms);
        let mut result = QueryResult::default();
        let mut taken = 0;
        if let Some(facts) = self.prepared.facts(sql, scope) {
            let mut statement = connection.prepare_cached(sql)?;
            bind(&mut statement, params, &mut taken)?;
            self.exec_statement(connection, &mut statement, &facts, scope, now, &mut result)?;
            self.look_for_automatic_keys(connection, &statement, &facts, scope);
            return Ok(result);
        }
        let mut batch = Batch::new(connection, sql);
        let reads_log = view::is_named_in(sql);
        // The facts of the only statement, unless it may have changed what others do.
        let mut only = None;
        for count in 1.. {
            if reads_log {
                view::create(connection, self.tables.iter())?;
            }
            let (prepared, facts) = self.guard.prepare(scope, || batch.next());
            let prepared = match prepared {
                Ok(prepared) => prepared,
                // The migration that every device runs: another was first.
                Err(error) if count == 1 && alteration::is_done_perhaps(sql, &error) => {
                    let rest = alteration::rest_after_done(connection, &self.tables, sql)?;
                    return match rest {
                        Some(rest) => self.exec(connection, rest, params, scope, now),
                        None => Err(error.into()),
                    };
                }
                Err(error) => return Err(facts.refused.map_or_else(|| error.into(), refused)),
            };
            let Some(mut statement) = prepared else { break };
            bind(&mut statement, params, &mut taken)?;
            self.exec_statement(connection, &mut statement, &facts, scope, now, &mut result)?;
            self.look_for_automatic_keys(connection, &statement, &facts, scope);
            let again = facts.changes_rows_only() || statement.readonly() && !facts.unwrapped;
            only = (count == 1 && again && statement.is_explain() == 0).then_some(facts);
        }
        if let Some(facts) = only {
            self.prepared.note(sql, scope, &facts);
        }
        Ok(result)
    }

    fn look_for_automatic_keys(
        &mut self,
        connection: &Connection,
        statement: &Statement<'_>,
        facts: &Facts,
        scope: Scope,
    ) {
        let table = facts.inserts.as_deref().filter(|_| scope == Scope::Synced && statement.is_explain() == 0);
        if let Some(table) = table.and_then(|name| self.tables.by_name(name)) {
            self.automatic.look(connection, statement, table);
        }
    }

    fn exec_statement(
        &mut self,
        connection: &Connection,
        statement: &mut Statement<'_>,
        facts: &Facts,
        scope: Scope,
        now: Now,
        result: &mut QueryResult,
    ) -> Result<(), SqlError> {
        let in_transaction = !connection.is_autocommit();
        let outcome = self.dispatch(connection, statement, facts, scope, now, result);
        if outcome.is_err() && in_transaction && connection.is_autocommit() {
            // SQLite rolled the whole transaction back (OR ROLLBACK, a full disk, at COMMIT too).
            self.rolled_back(connection)?;
        }
        outcome
    }

    fn dispatch(
        &mut self,
        connection: &Connection,
        statement: &mut Statement<'_>,
        facts: &Facts,
        scope: Scope,
        now: Now,
        result: &mut QueryResult,
    ) -> Result<(), SqlError> {
        if statement.is_explain() != 0 {
            return step(statement, &Facts::default(), connection, result);
        }
        let known = facts.control.is_some() || facts.changes_rows_only() || statement.readonly();
        if facts.unwrapped || !known {
            self.schema_may_have_changed();
        }
        if let Some(control) = &facts.control {
            return self.exec_control(connection, statement, control, now);
        }
        // A PRAGMA, ATTACH or VACUUM cannot run inside of a transaction of ours. (One that reads pragma_table_info() and the like can.)
        let on_its_own = !facts.writes_rows && !facts.changes_schema && (facts.unwrapped || is_vacuum(statement));
        if statement.readonly() || on_its_own {
            self.commits += u64::from(!statement.readonly());
            return step(statement, facts, connection, result);
        }
        if connection.is_autocommit() {
            return self.exec_alone(connection, statement, facts, scope, now, result);
        }
        self.check_scope(scope)?;
        // What turns out to be refused must go again, alone.
        let undo = facts.changes_schema || statement.column_count() > 0;
        if undo {
            connection.execute_batch("SAVEPOINT rtc_undo")?;
        }
        let before = self.capture.moment();
        let outcome = self.write(connection, statement, facts, scope, result);
        if undo && !connection.is_autocommit() {
            if outcome.is_err() {
                connection.execute_batch("ROLLBACK TO rtc_undo")?;
                self.undone_since(connection, before)?;
            }
            connection.execute_batch("RELEASE rtc_undo")?;
        }
        outcome
    }

    /// A writing statement outside of a transaction.
    fn exec_alone(
        &mut self,
        connection: &Connection,
        statement: &mut Statement<'_>,
        facts: &Facts,
        scope: Scope,
        now: Now,
        result: &mut QueryResult,
    ) -> Result<(), SqlError> {
        run_ours(connection, "BEGIN")?;
        let outcome = self.write(connection, statement, facts, scope, result);
        // What a failing statement left (OR FAIL keeps the rows before the failure) is committed, as SQLite would.
        let committed = match &outcome {
            _ if connection.is_autocommit() => Ok(()),
            Err(error) if matches!(error.code, ffi::SQLITE_AUTH | ffi::SQLITE_TOOBIG) => Err(error.clone()),
            _ => self.commit_alone(connection, now),
        };
        if committed.is_err() || connection.is_autocommit() && outcome.is_err() {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            self.rolled_back(connection)?;
        }
        outcome.and(committed)
    }

    /// Steps a writing statement while its writes are captured.
    fn write(
        &mut self,
        connection: &Connection,
        statement: &mut Statement<'_>,
        facts: &Facts,
        scope: Scope,
        result: &mut QueryResult,
    ) -> Result<(), SqlError> {
        self.open.scope.get_or_insert(scope);
        let before = self.capture.moment();
        let schema = self.look_before(connection, facts)?;
        self.capture.switch(true);
        let outcome = step(statement, facts, connection, result);
        if outcome.is_err() {
            self.capture.undo_since(before);
        }
        let outcome = outcome.and_then(|()| self.check_schema_change(connection, facts));
        let outcome = outcome.and_then(|()| self.register_after(connection, schema));
        self.capture.switch(false);
        outcome
    }

    /// A table that `exec` created becomes a synced one. Nothing new has a name of ours.
    fn check_schema_change(&mut self, connection: &Connection, facts: &Facts) -> Result<(), SqlError> {
        if facts.renames
            && let Some(name) = store::foreign_internal_name(connection)?
        {
            return Err(refused(format!("{name} cannot be the name of a table: names in rtc_* belong to RTC Battery")));
        }
        if let Some(name) = &facts.creates_table {
            self.make_synced(connection, name)?;
        }
        if facts.indexes_table.is_some() {
            self.reindex(connection)?;
        }
        if facts.changes_schema {
            if let Some(Unfit { table, why }) = temp_triggers::find_unfit(connection, &self.tables, &self.guard)? {
                return Err(refused(format!("a TEMP trigger on the synced table {table} runs on merges, and {why}")));
            }
            self.open.retried.extend(parked::tables(connection)?);
        }
        match &facts.object {
            Some(object) => objects::register(connection, object)?.map_err(refused),
            None => Ok(()),
        }
    }

    /// After an index came or went: rows that wanted one value may not do so any more, and the other way round.
    fn reindex(&mut self, connection: &Connection) -> Result<(), SqlError> {
        let reindexed = self.tables.reindexed(connection)?;
        if let Some(table) = reindexed.first().filter(|_| self.open.is_local()) {
            let name = &table.name;
            return Err(refused(format!(
                "a UNIQUE index on the synced table {name} is everybody's: use exec, not execLocal"
            )));
        }
        for table in reindexed {
            self.tables.describe_again(connection, &table.name)?;
        }
        self.watch_tables();
        Ok(())
    }

    fn check_scope(&self, scope: Scope) -> Result<(), SqlError> {
        match (self.open.scope, scope) {
            (Some(Scope::Synced), Scope::Local) | (Some(Scope::Local), Scope::Synced) => Err(refused(
                "exec and execLocal cannot write in the same transaction; COMMIT or ROLLBACK first".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    fn exec_control(
        &mut self,
        connection: &Connection,
        statement: &mut Statement<'_>,
        control: &Control,
        now: Now,
    ) -> Result<(), SqlError> {
        let alone = connection.is_autocommit();
        match control {
            Control::Commit if !alone => return self.commit_with(connection, now, |_| run(statement)),
            Control::Savepoint(name) => {
                if alone {
                    connection.execute_batch("BEGIN")?;
                    self.open.by_savepoint = true;
                }
                run(statement)?;
                self.open.savepoints.push((name.clone(), self.capture.moment()));
            }
            Control::Release(name) => {
                let depth = self.savepoint(name);
                if depth == Some(0) && self.open.by_savepoint {
                    // COMMIT releases every savepoint, and where it fails leaves them all, as this RELEASE would.
                    return self.commit_with(connection, now, |connection| run_ours(connection, "COMMIT"));
                }
                run(statement)?;
                self.open.savepoints.truncate(depth.unwrap_or_default());
            }
            Control::RollbackTo(name) => {
                run(statement)?;
                if let Some(depth) = self.savepoint(name) {
                    let (_, since) = self.open.savepoints[depth];
                    self.open.savepoints.truncate(depth + 1);
                    self.undone_since(connection, since)?;
                }
            }
            Control::Rollback => {
                run(statement)?;
                self.rolled_back(connection)?;
            }
            Control::Begin | Control::Commit => run(statement)?,
        }
        Ok(())
    }

    /// A part of the open transaction was undone.
    fn undone_since(&mut self, connection: &Connection, since: Moment) -> Result<(), StorageError> {
        self.schema_may_have_changed();
        self.capture.undo_all_since(since);
        // A table created since may be gone, and its number is given again.
        self.reload_tables(connection)
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.open.savepoints.iter().rposition(|(open, _)| open.eq_ignore_ascii_case(name))
    }

    /// Tells the columns that only this device has, as if the user had added them. Where that fails they stay due.
    pub(crate) fn tell_columns(&mut self, connection: &Connection, now: Now) -> Result<(), StorageError> {
        if !self.columns_due {
            return Ok(());
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        self.capture.switch(true);
        let told = united::tell(connection, &self.tables);
        self.capture.switch(false);
        let told = told.map_err(SqlError::from).and_then(|()| self.commit_alone(connection, now));
        self.columns_due = told.is_err();
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
            self.rolled_back(connection)?;
        }
        Ok(())
    }

    /// Commits the transaction that a single statement runs in. One that fails is rolled back as a whole, so that nothing need be saved.
    fn commit_alone(&mut self, connection: &Connection, now: Now) -> Result<(), SqlError> {
        let touched = self.capture.take();
        let sealed = self.seal(connection, &touched, now)?;
        run_ours(connection, "COMMIT")?;
        self.committed(sealed);
        Ok(())
    }

    /// Writes the log, lets SQLite commit, and only then believes it. A COMMIT that fails (a deferred constraint) leaves the transaction
    /// open and without our log, as SQLite does.
    fn commit_with(
        &mut self,
        connection: &Connection,
        now: Now,
        commit: impl FnOnce(&Connection) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        if self.capture.is_clean() && self.open.retried.is_empty() {
            commit(connection)?;
            self.committed(None);
            return Ok(());
        }
        run_ours(connection, "SAVEPOINT rtc_seal")?;
        let touched = self.capture.take();
        let sealed = self.seal(connection, &touched, now).and_then(|sealed| commit(connection).map(|()| sealed));
        match sealed {
            Ok(sealed) => {
                self.committed(sealed);
                Ok(())
            }
            Err(error) if connection.is_autocommit() => Err(error),
            Err(error) => {
                connection.execute_batch("ROLLBACK TO rtc_seal; RELEASE rtc_seal")?;
                self.capture.put_back(touched);
                self.reload_origins(connection)?;
                self.reload_tables(connection)?;
                Err(error)
            }
        }
    }

    /// The user's transaction is gone.
    pub(crate) fn rolled_back(&mut self, connection: &Connection) -> Result<(), StorageError> {
        self.schema_may_have_changed();
        self.capture.clear();
        self.open = OpenTransaction::default();
        self.reload_origins(connection)?;
        self.reload_tables(connection)
    }
}

/// SQLite does not say which statement is a VACUUM, and VACUUM cannot run inside a transaction.
fn is_vacuum(statement: &Statement<'_>) -> bool {
    let sql = statement.expanded_sql().unwrap_or_default();
    let mut rest = sql.trim_start();
    loop {
        rest = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n').map_or("", |(_, rest)| rest),
            (_, Some(comment)) => comment.split_once("*/").map_or("", |(_, rest)| rest),
            (None, None) => break,
        }
        .trim_start();
    }
    rest.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("VACUUM"))
}

/// A statement of ours that begins or ends something.
fn run_ours(connection: &Connection, sql: &str) -> Result<(), SqlError> {
    connection.prepare_cached(sql)?.raw_execute()?;
    Ok(())
}

fn run(statement: &mut Statement<'_>) -> Result<(), SqlError> {
    statement.raw_execute()?;
    Ok(())
}
