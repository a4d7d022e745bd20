//! What the user's statements touched, by SQLite's pre-update hook.
//!
//! The hook reports changes that a savepoint, a failed statement or OR FAIL later undoes, so it is not believed: it notes each touched row
//! with its *first* old image, and the commit compares that with what is there then. It stays installed from open to close, because
//! SQLite decides at prepare time whether `DELETE FROM t` may skip it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rtc_battery_proto::SqlValue;
use rusqlite::Connection;
use rusqlite::hooks::{Action, PreUpdateCase, PreUpdateNewValueAccessor, PreUpdateOldValueAccessor};
use rusqlite::types::ValueRef;

use super::digest::Content;
use super::sql;
use super::table::{Addressing, Table};

/// Where a touched row stands: by rowid, or by canonical key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Rowid(i64),
    Key(String),
}

/// A touched row.
#[derive(Debug, Clone)]
pub(super) struct Touched {
    /// The row before the transaction; `None` if there was none.
    pub(super) old: Option<Vec<SqlValue>>,
    /// When the row was deleted first, if ever: what is there now is another row then, even under the same key (REPLACE).
    pub(super) deleted: Option<Moment>,
    /// Whether the last report left a row with a whole key here. True only where nothing was undone since.
    pub(super) stands: bool,
    /// The row that stands, for the digest; rows that were only inserted are not read again.
    pub(super) content: Content,
}

/// A count of what the hook has reported.
pub(super) type Moment = u64;

/// Touched rows, by table and slot.
#[derive(Debug, Default)]
pub(super) struct TouchedRows {
    pub(super) rows: BTreeMap<(i64, Slot), Touched>,
    /// Whether something that was reported was undone, so that no report can be believed.
    pub(super) undone: bool,
}

#[derive(Debug, Default)]
struct State {
    /// Synced tables by name as the hook says it; empty while nothing is to be captured.
    tables: BTreeMap<String, Arc<Table>>,
    touched: TouchedRows,
    reported: Moment,
    on: bool,
}

/// The installed hook's end that we hold.
#[derive(Debug, Clone)]
pub(super) struct Capture(Arc<Mutex<State>>);

impl Capture {
    /// Installs the hook.
    pub(super) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let hook_state = Arc::clone(&state);
        connection.preupdate_hook(Some(move |_: Action, schema: &str, table: &str, case: &PreUpdateCase| {
            if schema == "main" {
                hook_state.lock().unwrap_or_else(PoisonError::into_inner).note(table, case);
            }
        }))?;
        Ok(Self(state))
    }

    /// Which tables are captured from now on.
    pub(super) fn watch<'a>(&self, tables: impl IntoIterator<Item = &'a Arc<Table>>) {
        let by_name = tables.into_iter().map(|table| (table.name.clone(), Arc::clone(table)));
        self.with(|state| state.tables = by_name.collect());
    }

    /// Whether writes are noted: those of the user are, our own are not.
    pub(super) fn switch(&self, on: bool) {
        self.with(|state| state.on = on);
    }

    /// What was touched since the last [`clear`](Self::clear). Taken out, since the hook must find its state free while the log is written;
    /// a transaction that goes on gets it [back](Self::put_back).
    pub(super) fn take(&self) -> TouchedRows {
        self.with(|state| std::mem::take(&mut state.touched))
    }

    /// The transaction was not committed and goes on.
    pub(super) fn put_back(&self, touched: TouchedRows) {
        self.with(|state| state.touched = touched);
    }

    /// Whether nothing was touched.
    pub(super) fn is_clean(&self) -> bool {
        self.with(|state| state.touched.rows.is_empty())
    }

    /// Now, for [`undo_since`](Self::undo_since).
    pub(super) fn moment(&self) -> Moment {
        self.with(|state| state.reported)
    }

    /// What was reported since `moment` was undone. Rows touched since then show no difference; that they were deleted is forgotten.
    pub(super) fn undo_since(&self, moment: Moment) {
        self.with(|state| {
            state.touched.undone = true;
            for touched in state.touched.rows.values_mut() {
                touched.deleted = touched.deleted.filter(|deleted| *deleted <= moment);
            }
        });
    }

    /// Tables that were created since are gone: what was touched in those that are not watched never was.
    pub(super) fn forget_other_tables(&self) {
        self.with(|State { tables, touched, .. }| {
            let known: BTreeSet<i64> = tables.values().map(|table| table.id).collect();
            touched.rows.retain(|(table, _), _| known.contains(table));
        });
    }

    /// The transaction is over.
    pub(super) fn clear(&self) {
        self.with(|state| state.touched = TouchedRows::default());
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn note(&mut self, table: &str, case: &PreUpdateCase) {
        let Self { tables, touched, reported, on } = self;
        let Some(table) = tables.get(table).filter(|_| *on) else { return };
        *reported += 1;
        let rows = &mut touched.rows;
        match case {
            PreUpdateCase::Insert(new) => appeared(rows, table, new),
            PreUpdateCase::Delete(old) => disappeared(rows, table, old, Some(*reported)),
            PreUpdateCase::Update { old_value_accessor, new_value_accessor } => {
                disappeared(rows, table, old_value_accessor, None);
                appeared(rows, table, new_value_accessor);
            }
            PreUpdateCase::Unknown => {}
        }
    }
}

type Rows = BTreeMap<(i64, Slot), Touched>;

fn disappeared(rows: &mut Rows, table: &Table, row: &PreUpdateOldValueAccessor, deleted: Option<Moment>) {
    let read = || image(table, |index| row.get_old_column_value(index));
    let (slot, read_already) = match table.addressing {
        Addressing::Rowid(_) => (Slot::Rowid(row.get_old_row_id()), None),
        Addressing::Key => {
            let image = read();
            let Some(key) = table.key_of_row(&image) else { return };
            (Slot::Key(key), Some(image))
        }
    };
    let first = || Touched {
        old: Some(read_already.unwrap_or_else(read)),
        deleted: None,
        stands: false,
        content: Content::default(),
    };
    let touched = rows.entry((table.id, slot)).or_insert_with(first);
    touched.stands = false;
    touched.deleted = touched.deleted.or(deleted);
}

fn appeared(rows: &mut Rows, table: &Table, row: &PreUpdateNewValueAccessor) {
    let column = |index| row.get_new_column_value(index);
    let slot = match table.addressing {
        Addressing::Rowid(_) => Slot::Rowid(row.get_new_row_id()),
        Addressing::Key => {
            let Some(key) = table.key_of_row(&image(table, column)) else { return };
            Slot::Key(key)
        }
    };
    let is_null = |position: &usize| column(table.columns[*position].index).is_ok_and(|value| value == ValueRef::Null);
    let first = || Touched { old: None, deleted: None, stands: false, content: Content::default() };
    let touched = rows.entry((table.id, slot)).or_insert_with(first);
    touched.stands = !table.key.iter().any(is_null);
    touched.content = content(table, column);
}

/// The row as it will be read.
fn content<'a>(table: &Table, column: impl Fn(i32) -> rusqlite::Result<ValueRef<'a>>) -> Content {
    let values = table.columns.iter().map(|described| column(described.index).unwrap_or(ValueRef::Null));
    table.names.content(values.enumerate())
}

fn image<'a>(table: &Table, column: impl Fn(i32) -> rusqlite::Result<ValueRef<'a>>) -> Vec<SqlValue> {
    let value = |index| column(index).map_or(SqlValue::Null, sql::value);
    table.columns.iter().map(|c| value(c.index)).collect()
}
