//! What the user's statements touched, by SQLite's pre-update hook.
//!
//! The hook reports changes that a savepoint, a failed statement or OR FAIL later undoes, so it is not believed: it notes each touched row
//! with its *first* old image, and the commit compares that with what is there then. It stays installed from open to close, because
//! SQLite decides at prepare time whether `DELETE FROM t` may skip it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rtc_battery_proto::SqlValue;
use rusqlite::Connection;
use rusqlite::hooks::{Action, PreUpdateCase, PreUpdateNewValueAccessor, PreUpdateOldValueAccessor};
use rusqlite::types::ValueRef;

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
}

/// A count of what the hook has reported.
pub(super) type Moment = u64;

/// Touched rows, by table and slot.
pub(super) type TouchedRows = BTreeMap<(i64, Slot), Touched>;

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

    /// A copy of what was touched since the last [`clear`](Self::clear).
    pub(super) fn touched(&self) -> TouchedRows {
        self.with(|state| state.touched.clone())
    }

    /// Whether nothing was touched.
    pub(super) fn is_clean(&self) -> bool {
        self.with(|state| state.touched.is_empty())
    }

    /// Now, for [`undo_since`](Self::undo_since).
    pub(super) fn moment(&self) -> Moment {
        self.with(|state| state.reported)
    }

    /// What was reported since `moment` was undone. Rows touched since then show no difference; that they were deleted is forgotten.
    pub(super) fn undo_since(&self, moment: Moment) {
        self.with(|state| {
            for touched in state.touched.values_mut() {
                touched.deleted = touched.deleted.filter(|deleted| *deleted <= moment);
            }
        });
    }

    /// The transaction is over.
    pub(super) fn clear(&self) {
        self.with(|state| state.touched.clear());
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn note(&mut self, table: &str, case: &PreUpdateCase) {
        let Some(table) = self.tables.get(table).filter(|_| self.on).cloned() else { return };
        self.reported += 1;
        match case {
            PreUpdateCase::Insert(new) => self.appeared(&table, new),
            PreUpdateCase::Delete(old) => self.disappeared(&table, old, true),
            PreUpdateCase::Update { old_value_accessor, new_value_accessor } => {
                self.disappeared(&table, old_value_accessor, false);
                self.appeared(&table, new_value_accessor);
            }
            PreUpdateCase::Unknown => {}
        }
    }

    fn disappeared(&mut self, table: &Table, row: &PreUpdateOldValueAccessor, deleted: bool) {
        let image = image(table, |index| row.get_old_column_value(index));
        let slot = slot(table, row.get_old_row_id(), || table.key_of_row(&image));
        let Some(slot) = slot else { return };
        let touched = self.touched.entry((table.id, slot)).or_insert(Touched { old: Some(image), deleted: None });
        if deleted {
            touched.deleted.get_or_insert(self.reported);
        }
    }

    fn appeared(&mut self, table: &Table, row: &PreUpdateNewValueAccessor) {
        let slot = slot(table, row.get_new_row_id(), || {
            table.key_of_row(&image(table, |index| row.get_new_column_value(index)))
        });
        let Some(slot) = slot else { return };
        self.touched.entry((table.id, slot)).or_insert(Touched { old: None, deleted: None });
    }
}

fn slot(table: &Table, rowid: i64, key: impl FnOnce() -> Option<String>) -> Option<Slot> {
    match table.addressing {
        Addressing::Rowid(_) => Some(Slot::Rowid(rowid)),
        Addressing::Key => key().map(Slot::Key),
    }
}

fn image<'a>(table: &Table, column: impl Fn(i32) -> rusqlite::Result<ValueRef<'a>>) -> Vec<SqlValue> {
    let value = |index| column(index).map_or(SqlValue::Null, sql::value);
    table.columns.iter().map(|c| value(c.index)).collect()
}
