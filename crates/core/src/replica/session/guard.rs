//! What the user's SQL may do, asked by SQLite at prepare time (the authorizer), and what a statement is about.
//!
//! `rtc_*` is readable and not writable. What would change the file under the VFS (journal mode, page size, attached files) is refused.
//! Schema changes that are not replicated yet are refused in `exec` with a word on what to do instead.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization, TransactionOperation};

use super::query::Scope;
use crate::replica::schema::objects::{Kind, Object};
use crate::replica::schema::table::Table;
use crate::replica::sql::is_internal;

/// What a prepared statement will do, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) control: Option<Control>,
    /// It inserts, updates or deletes rows.
    pub(crate) writes_rows: bool,
    /// The first table that it inserts into.
    pub(crate) inserts: Option<String>,
    /// It creates this table in the main schema.
    pub(crate) creates_table: Option<String>,
    /// It makes or drops this object of the main schema, everywhere.
    pub(crate) object: Option<Object>,
    /// It makes or drops an index on this table of the main schema.
    pub(crate) indexes_table: Option<String>,
    /// It drops this synced table.
    pub(crate) drops_table: Option<String>,
    /// It alters this synced table.
    pub(crate) alters_table: Option<String>,
    /// It drops this column of it, or gives it a constraint.
    pub(crate) alters_column: Option<String>,
    /// It changes the schema.
    pub(crate) changes_schema: bool,
    /// It may give a table or a column a new name, which SQLite does not tell.
    pub(crate) renames: bool,
    /// It must run outside of a transaction of ours (PRAGMA, ATTACH, DETACH).
    pub(crate) unwrapped: bool,
    /// Why it is refused.
    pub(crate) refused: Option<String>,
}

/// Statements that open and close transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
}

/// Whose statement is compiled.
#[derive(Debug, Clone, Default)]
enum Asks {
    /// Ours: everything is allowed.
    #[default]
    Replica,
    /// The user's.
    User(Scope),
    /// One by which a merge writes; `written` is a table that is not only this device's, and that a trigger in it writes.
    Merge { written: Option<String> },
}

#[derive(Debug, Default)]
struct State {
    asks: Asks,
    facts: Facts,
    /// Names of the synced tables, in lower case.
    synced: BTreeSet<String>,
}

/// The installed authorizer's end that we hold.
#[derive(Debug, Clone)]
pub(crate) struct Guard(Arc<Mutex<State>>);

impl Guard {
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let hook_state = Arc::clone(&state);
        connection.authorizer(Some(move |context: AuthContext<'_>| {
            let mut state = hook_state.lock().unwrap_or_else(PoisonError::into_inner);
            let State { asks, facts, synced } = &mut *state;
            match asks {
                Asks::Replica => Authorization::Allow,
                Asks::User(scope) => facts.judge(*scope, synced, &context),
                Asks::Merge { written } => {
                    if written.is_none() {
                        *written = written_by_trigger(synced, &context);
                    }
                    Authorization::Allow
                }
            }
        }))?;
        Ok(Self(state))
    }

    /// Which tables are synced from now on.
    pub(crate) fn watch<'a>(&self, tables: impl IntoIterator<Item = &'a Arc<Table>>) {
        let names = tables.into_iter().map(|table| table.name.to_ascii_lowercase()).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).synced = names;
    }

    /// Prepares something as the user's: every statement that `prepare` compiles is judged.
    pub(crate) fn prepare<T>(&self, scope: Scope, prepare: impl FnOnce() -> T) -> (T, Facts) {
        self.set(Asks::User(scope));
        let prepared = prepare();
        (prepared, self.set(Asks::Replica).1)
    }

    /// Compiles statements by which a merge writes. Gives a table that is not this device's alone, and that a trigger in them would write.
    pub(crate) fn compile_merge<T>(&self, compile: impl FnOnce() -> T) -> (T, Option<String>) {
        self.set(Asks::Merge { written: None });
        let compiled = compile();
        match self.set(Asks::Replica).0 {
            Asks::Merge { written } => (compiled, written),
            Asks::Replica | Asks::User(_) => (compiled, None),
        }
    }

    fn set(&self, asks: Asks) -> (Asks, Facts) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::replace(&mut state.asks, asks), std::mem::take(&mut state.facts))
    }
}

impl Facts {
    /// Whether it writes rows and does nothing else.
    pub(crate) fn changes_rows_only(&self) -> bool {
        *self == Self { writes_rows: true, inserts: self.inserts.clone(), ..Self::default() }
    }

    fn refuse(&mut self, why: impl Into<String>) -> Authorization {
        self.refused.get_or_insert(why.into());
        Authorization::Deny
    }

    fn judge(&mut self, scope: Scope, synced: &BTreeSet<String>, context: &AuthContext<'_>) -> Authorization {
        use AuthAction as A;
        if let Some(name) = names(&context.action).into_iter().flatten().find(|name| is_internal(name)) {
            return self.refuse(internal(name));
        }
        let main = is_in_main(context);
        match context.action {
            A::Insert { table_name } | A::Delete { table_name } | A::Update { table_name, .. } => {
                let schema_table = table_name.starts_with("sqlite_");
                self.writes_rows |= !schema_table;
                if matches!(context.action, A::Insert { .. }) && !schema_table && self.inserts.is_none() {
                    self.inserts = Some(table_name.to_owned());
                }
                Authorization::Allow
            }
            A::Transaction { operation } => {
                self.control = Some(match operation {
                    TransactionOperation::Begin => Control::Begin,
                    TransactionOperation::Rollback => Control::Rollback,
                    _ => Control::Commit,
                });
                Authorization::Allow
            }
            A::Savepoint { operation, savepoint_name } => {
                let name = savepoint_name.to_owned();
                self.control = Some(match operation {
                    TransactionOperation::Begin => Control::Savepoint(name),
                    TransactionOperation::Rollback => Control::RollbackTo(name),
                    _ => Control::Release(name),
                });
                Authorization::Allow
            }
            A::Pragma { pragma_name, pragma_value } => self.judge_pragma(pragma_name, pragma_value),
            A::Attach { filename } if filename.is_empty() || filename == ":memory:" => self.allow_unwrapped(),
            A::Attach { .. } => self.refuse("only ':memory:' databases can be attached"),
            A::Detach { .. } => self.allow_unwrapped(),
            // SQLite's own, for AUTOINCREMENT and ANALYZE.
            A::CreateTable { table_name } if table_name.starts_with("sqlite_") => Authorization::Allow,
            A::CreateTable { table_name } => {
                self.changes_schema = true;
                if main && scope == Scope::Synced {
                    self.creates_table = Some(table_name.to_owned());
                }
                Authorization::Allow
            }
            ref other => {
                // What SQLite gives as the schema here is a column, where there is one.
                if let A::AlterTable { .. } = other {
                    self.alters_column = context.database_name.map(str::to_owned);
                }
                self.judge_schema_change(scope, synced, main, other)
            }
        }
    }

    fn allow_unwrapped(&mut self) -> Authorization {
        self.unwrapped = true;
        Authorization::Allow
    }

    fn judge_pragma(&mut self, name: &str, value: Option<&str>) -> Authorization {
        const FIXED: [&str; 15] = [
            "journal_mode",
            "page_size",
            "encoding",
            "auto_vacuum",
            "locking_mode",
            "writable_schema",
            "schema_version",
            "temp_store_directory",
            "data_store_directory",
            "ignore_check_constraints",
            "temp_store",
            "query_only",
            "max_page_count",
            "hard_heap_limit",
            "soft_heap_limit",
        ];
        if value.is_some() && FIXED.iter().any(|fixed| name.eq_ignore_ascii_case(fixed)) {
            return self.refuse(format!("PRAGMA {name} is RTC Battery's to set"));
        }
        self.allow_unwrapped()
    }

    fn judge_schema_change(
        &mut self,
        scope: Scope,
        synced: &BTreeSet<String>,
        main: bool,
        action: &AuthAction<'_>,
    ) -> Authorization {
        use AuthAction as A;
        let (what, table, can_be_local) = match *action {
            A::AlterTable { table_name, .. } => {
                self.renames = true;
                ("ALTER TABLE", table_name, false)
            }
            A::DropTable { table_name } => ("DROP TABLE", table_name, false),
            A::CreateIndex { table_name, .. } => ("CREATE INDEX", table_name, true),
            A::CreateTrigger { table_name, .. } => ("CREATE TRIGGER", table_name, true),
            A::CreateView { .. } => ("CREATE VIEW", "", true),
            A::DropIndex { table_name, .. } => ("DROP INDEX", table_name, true),
            A::DropTrigger { table_name, .. } => ("DROP TRIGGER", table_name, true),
            A::DropView { .. } => ("DROP VIEW", "", true),
            A::CreateVtable { table_name, .. } | A::DropVtable { table_name, .. } => {
                ("a virtual table", table_name, true)
            }
            A::CreateTempIndex { .. }
            | A::CreateTempTable { .. }
            | A::CreateTempTrigger { .. }
            | A::CreateTempView { .. }
            | A::DropTempIndex { .. }
            | A::DropTempTable { .. }
            | A::DropTempTrigger { .. }
            | A::DropTempView { .. } => ("", "", true),
            _ => return Authorization::Allow,
        };
        self.changes_schema = true;
        // An index that SQLite makes for a constraint of CREATE TABLE is part of that table.
        if !main || self.creates_table.is_some() {
            return Authorization::Allow;
        }
        let is_synced = synced.contains(&table.to_ascii_lowercase());
        match scope {
            // What it did is looked at afterwards: SQLite does not tell before.
            Scope::Synced if is_synced && matches!(action, A::AlterTable { .. }) => {
                self.alters_table = Some(table.to_owned());
                Authorization::Allow
            }
            Scope::Synced if is_synced && matches!(action, A::DropTable { .. }) => {
                self.drops_table = Some(table.to_owned());
                Authorization::Allow
            }
            // A dropped table's triggers go with it.
            Scope::Synced if self.drops_table.is_some() => Authorization::Allow,
            Scope::Local if is_synced && matches!(action, A::DropTable { .. }) => self.refuse(format!(
                "the table {table} is synced: exec drops it everywhere, and execLocal cannot drop it here"
            )),
            _ if can_be_local && (scope == Scope::Local || is_synced || is_of_no_table(action)) => {
                if let A::CreateIndex { .. } | A::DropIndex { .. } = action {
                    self.indexes_table = Some(table.to_owned());
                }
                if scope == Scope::Synced {
                    self.object = object(action);
                }
                Authorization::Allow
            }
            Scope::Local if !is_synced => Authorization::Allow,
            Scope::Synced if can_be_local || !is_synced => {
                self.refuse(format!("{what} is not replicated yet; do it on each device with execLocal"))
            }
            _ => self.refuse(format!("{what} on the synced table {table} is not replicated yet")),
        }
    }
}

/// The table that a trigger writes, unless it is this device's alone.
fn written_by_trigger(synced: &BTreeSet<String>, context: &AuthContext<'_>) -> Option<String> {
    use AuthAction as A;
    context.accessor?;
    let (A::Insert { table_name } | A::Update { table_name, .. } | A::Delete { table_name }) = context.action else {
        return None;
    };
    let in_main = context.database_name == Some("main");
    let is_ours = is_internal(table_name) || in_main && synced.contains(&table_name.to_ascii_lowercase());
    is_ours.then(|| table_name.to_owned())
}

/// Whether the action makes or drops what stands on no table, or SQLite does not say on which.
fn is_of_no_table(action: &AuthAction<'_>) -> bool {
    matches!(action, AuthAction::CreateView { .. } | AuthAction::DropView { .. })
}

/// What the action makes or drops.
fn object(action: &AuthAction<'_>) -> Option<Object> {
    use AuthAction as A;
    let (kind, name) = match *action {
        A::CreateIndex { index_name: name, .. } | A::DropIndex { index_name: name, .. } => (Kind::Index, name),
        A::CreateTrigger { trigger_name: name, .. } | A::DropTrigger { trigger_name: name, .. } => {
            (Kind::Trigger, name)
        }
        A::CreateView { view_name: name } | A::DropView { view_name: name } => (Kind::View, name),
        _ => return None,
    };
    Some(Object { kind, name: name.to_owned() })
}

/// Whether the action is about the main schema.
fn is_in_main(context: &AuthContext<'_>) -> bool {
    use AuthAction as A;
    let schema = match context.action {
        // What SQLite gives as the schema here is a column, where there is one.
        A::AlterTable { database_name, .. } => Some(database_name),
        A::CreateTempIndex { .. }
        | A::CreateTempTable { .. }
        | A::CreateTempTrigger { .. }
        | A::CreateTempView { .. }
        | A::DropTempIndex { .. }
        | A::DropTempTable { .. }
        | A::DropTempTrigger { .. }
        | A::DropTempView { .. } => return false,
        _ => context.database_name,
    };
    schema.is_none_or(|name| name.eq_ignore_ascii_case("main"))
}

/// Everything that the action would write, make, change or drop. A TEMP table of one of our names would stand before ours.
fn names<'a>(action: &AuthAction<'a>) -> [Option<&'a str>; 2] {
    use AuthAction as A;
    match *action {
        A::Insert { table_name }
        | A::Update { table_name, .. }
        | A::Delete { table_name }
        | A::AlterTable { table_name, .. }
        | A::CreateTable { table_name }
        | A::CreateTempTable { table_name }
        | A::DropTable { table_name }
        | A::DropTempTable { table_name }
        | A::CreateVtable { table_name, .. }
        | A::DropVtable { table_name, .. } => [Some(table_name), None],
        A::CreateIndex { index_name: name, table_name }
        | A::CreateTempIndex { index_name: name, table_name }
        | A::DropIndex { index_name: name, table_name }
        | A::DropTempIndex { index_name: name, table_name }
        | A::CreateTrigger { trigger_name: name, table_name }
        | A::CreateTempTrigger { trigger_name: name, table_name }
        | A::DropTrigger { trigger_name: name, table_name }
        | A::DropTempTrigger { trigger_name: name, table_name } => [Some(name), Some(table_name)],
        A::CreateView { view_name: name }
        | A::CreateTempView { view_name: name }
        | A::DropView { view_name: name }
        | A::DropTempView { view_name: name } => [Some(name), None],
        _ => [None, None],
    }
}

fn internal(name: &str) -> String {
    format!("{name} belongs to RTC Battery: what is named rtc_* can be read, not made, changed or dropped")
}
