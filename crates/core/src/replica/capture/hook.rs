//! What the user's statements touched, by SQLite's pre-update hook.
//!
//! The hook reports changes that a savepoint, a failed statement or OR FAIL later undoes, so it is not believed: it notes each touched row
//! with its *first* old image, and the commit compares that with what is there then. Where nothing was undone, the last new image is what is
//! there, and need not be read again; of many rows only a hash of it is kept. The hook stays installed from open to close, because SQLite
//! decides at prepare time whether `DELETE FROM t` may skip it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rtc_battery_proto::SqlValue;
use rusqlite::Connection;
use rusqlite::hooks::{Action, PreUpdateCase, PreUpdateNewValueAccessor, PreUpdateOldValueAccessor};
use rusqlite::types::ValueRef;

use crate::replica::log::digest::Content;
use crate::replica::log::store::SCHEMA_TABLE;
use crate::replica::schema::table::{Addressing, Table};
use crate::replica::sql;

/// Where a touched row stands: by rowid, or by canonical key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Rowid(i64),
    Key(String),
}

/// A row before the transaction, and its table as it was when the row was touched first: an ALTER TABLE may come later, and be undone.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    table: Arc<Table>,
    values: Vec<SqlValue>,
    /// Columns that the table got since, by identity, with their default. The image itself loses none: a column that was dropped is back after a
    /// ROLLBACK TO.
    added: Vec<(String, SqlValue)>,
}

/// A touched row.
#[derive(Debug, Clone)]
pub(crate) struct Touched {
    /// The row before the transaction; `None` if there was none.
    pub(crate) old: Option<Image>,
    /// When it was touched first.
    first: Moment,
    /// When the row was deleted first, if ever: what is there now is another row then, even under the same key (REPLACE).
    pub(crate) deleted: Option<Moment>,
    /// What the last report left here. True only where nothing was undone since.
    pub(crate) new: New,
}

/// The row after the transaction, as it was reported last.
#[derive(Debug, Clone, Default)]
pub(crate) enum New {
    /// There is none, or one that is to be read.
    #[default]
    Unknown,
    /// All of it, just as the table will show it.
    Image(Vec<SqlValue>),
    /// A row with a whole key; its content for the digest.
    Content(Content),
}

/// A count of what the hook has reported.
pub(crate) type Moment = u64;

/// Touched rows, by table and slot.
#[derive(Debug, Default)]
pub(crate) struct TouchedRows {
    pub(crate) rows: BTreeMap<(i64, Slot), Touched>,
    /// Whether something that was reported was undone, so that no report can be believed.
    pub(crate) undone: bool,
    /// Whether there are so many rows that their new images are not kept.
    pub(crate) many: bool,
    /// What the new images weigh, in bytes.
    image_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Synced tables by name as the hook says it; empty while nothing is to be captured.
    tables: BTreeMap<String, Arc<Table>>,
    touched: TouchedRows,
    reported: Moment,
    on: bool,
    /// Most bytes of new images that a transaction keeps.
    max_image_bytes: usize,
}

/// The installed hook's end that we hold.
#[derive(Debug, Clone)]
pub(crate) struct Capture(Arc<Mutex<State>>);

impl Capture {
    /// Installs the hook.
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Self> {
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
    pub(crate) fn watch<'a>(&self, tables: impl IntoIterator<Item = &'a Arc<Table>>) {
        let by_name = tables.into_iter().map(|table| (table.name.clone(), Arc::clone(table)));
        self.with(|state| state.tables = by_name.collect());
    }

    /// How much is kept of what stands, so that it need not be read again.
    pub(crate) fn keep_images(&self, max_bytes: usize) {
        self.with(|state| state.max_image_bytes = max_bytes);
    }

    /// Whether writes are noted: those of the user are, our own are not.
    pub(crate) fn switch(&self, on: bool) {
        self.with(|state| state.on = on);
    }

    /// What was touched since the last [`clear`](Self::clear). Taken out, since the hook must find its state free while the log is written;
    /// a transaction that goes on gets it [back](Self::put_back).
    pub(crate) fn take(&self) -> TouchedRows {
        self.with(|state| std::mem::take(&mut state.touched))
    }

    /// The transaction was not committed and goes on.
    pub(crate) fn put_back(&self, touched: TouchedRows) {
        self.with(|state| state.touched = touched);
    }

    /// The rows of a table that were touched and were there before, as they were.
    pub(crate) fn first_images(&self, table: &Table) -> BTreeMap<Slot, Vec<SqlValue>> {
        self.with(|State { touched, .. }| {
            let of_table = touched.rows.iter().filter(|((other, _), _)| *other == table.id);
            let image = |((_, slot), row): (&(i64, Slot), &Touched)| {
                Some((slot.clone(), row.old.as_ref()?.of(table).into_owned()))
            };
            of_table.filter_map(image).collect()
        })
    }

    /// Whether nothing was touched.
    pub(crate) fn is_clean(&self) -> bool {
        self.with(|state| state.touched.rows.is_empty())
    }

    /// Now, for [`undo_since`](Self::undo_since).
    pub(crate) fn moment(&self) -> Moment {
        self.with(|state| state.reported)
    }

    /// What was reported since `moment` was undone. Rows touched since then show no difference; that they were deleted is forgotten.
    pub(crate) fn undo_since(&self, moment: Moment) {
        self.with(|state| {
            state.touched.undone = true;
            for touched in state.touched.rows.values_mut() {
                touched.deleted = touched.deleted.filter(|deleted| *deleted <= moment);
            }
        });
    }

    /// Everything since `moment` was undone by a savepoint: what was touched first since then was not touched.
    pub(crate) fn undo_all_since(&self, moment: Moment) {
        self.undo_since(moment);
        self.with(|state| state.touched.rows.retain(|_, row| row.first <= moment));
    }

    /// Rows that were touched before had the new column too, by its default.
    pub(crate) fn column_added(&self, table: i64, identity: &str, default: &SqlValue) {
        self.with(|State { touched, .. }| {
            for (_, row) in touched.rows.iter_mut().filter(|((other, _), _)| *other == table) {
                row.new = New::Unknown;
                if let Some(old) = &mut row.old {
                    old.added.retain(|(other, _)| !other.eq_ignore_ascii_case(identity));
                    old.added.push((identity.to_owned(), default.clone()));
                }
            }
        });
    }

    /// A table has lost a column: rows are to be read again.
    pub(crate) fn column_dropped(&self, table: i64) {
        self.with(|State { touched, .. }| {
            let of_table = touched.rows.iter_mut().filter(|((other, _), _)| *other == table);
            of_table.for_each(|(_, row)| row.new = New::Unknown);
        });
    }

    /// A table that the transaction made is another one now: of its rows only images of the same columns are right.
    pub(crate) fn made_anew(&self, table: i64, same_columns: bool) {
        self.with(|State { touched, .. }| {
            for (_, row) in touched.rows.iter_mut().filter(|((other, _), _)| *other == table) {
                if !(same_columns && matches!(row.new, New::Image(_))) {
                    row.new = New::Unknown;
                }
            }
        });
    }

    /// The transaction is over.
    pub(crate) fn clear(&self) {
        self.with(|state| state.touched = TouchedRows::default());
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn note(&mut self, table: &str, case: &PreUpdateCase) {
        let Self { tables, touched, reported, on, max_image_bytes } = self;
        let Some(table) = tables.get(table).filter(|_| *on) else { return };
        *reported += 1;
        match case {
            PreUpdateCase::Insert(new) => appeared(touched, table, new, *reported),
            PreUpdateCase::Delete(old) => disappeared(touched, table, old, (*reported, true)),
            PreUpdateCase::Update { old_value_accessor, new_value_accessor } => {
                disappeared(touched, table, old_value_accessor, (*reported, false));
                appeared(touched, table, new_value_accessor, *reported);
            }
            PreUpdateCase::Unknown => {}
        }
        if !touched.many && touched.image_bytes > *max_image_bytes {
            touched.many = true;
            touched.forget_images(|id| tables.values().find(|table| table.id == id));
        }
    }
}

impl Image {
    /// The row in the columns that the table has now.
    pub(crate) fn of(&self, table: &Table) -> Cow<'_, [SqlValue]> {
        let Self { table: then, values, added } = self;
        let is_same =
            || then.columns.iter().map(|column| &column.identity).eq(table.columns.iter().map(|c| &c.identity));
        if std::ptr::eq(Arc::as_ptr(then), table) || is_same() {
            return Cow::Borrowed(values);
        }
        let since = |identity: &str| {
            added.iter().find(|(other, _)| other.eq_ignore_ascii_case(identity)).map(|(_, value)| value)
        };
        let value = |identity: &str| match then.of_identity(identity) {
            Some(column) => values.get(column),
            None => since(identity),
        };
        let value_now = |identity: &str| value(identity).cloned().unwrap_or(SqlValue::Null);
        Cow::Owned(table.columns.iter().map(|column| value_now(&column.identity)).collect())
    }
}

impl TouchedRows {
    /// Whether definitions were touched. They come before all rows.
    pub(crate) fn has_definitions(&self) -> bool {
        self.rows.keys().next().is_some_and(|(table, _)| *table == SCHEMA_TABLE)
    }

    /// Keeps of the images what the digest needs.
    fn forget_images<'a>(&mut self, table: impl Fn(i64) -> Option<&'a Arc<Table>>) {
        for ((id, _), touched) in &mut self.rows {
            let New::Image(image) = std::mem::take(&mut touched.new) else { continue };
            if let Some(table) = table(*id).filter(|_| touched.old.is_none()) {
                touched.new = content(table, &image);
            }
        }
    }
}

/// Where a reported row stands, and its image, if that had to be read to tell. `None` for one without a whole key.
fn place(
    table: &Table,
    rowid: impl FnOnce() -> i64,
    read: impl FnOnce() -> Vec<SqlValue>,
) -> Option<(Slot, Option<Vec<SqlValue>>)> {
    match table.addressing {
        Addressing::Rowid(_) => Some((Slot::Rowid(rowid()), None)),
        Addressing::Key => {
            let image = read();
            Some((Slot::Key(table.key_of_row(&image)?), Some(image)))
        }
    }
}

fn disappeared(
    touched: &mut TouchedRows,
    table: &Arc<Table>,
    row: &PreUpdateOldValueAccessor,
    (now, deleted): (Moment, bool),
) {
    let read = || image(table, |index| row.get_old_column_value(index));
    let Some((slot, read_already)) = place(table, || row.get_old_row_id(), read) else { return };
    let first = || {
        let values = read_already.unwrap_or_else(read);
        let old = Image { table: Arc::clone(table), values, added: Vec::new() };
        Touched { old: Some(old), first: now, deleted: None, new: New::Unknown }
    };
    let row = touched.rows.entry((table.id, slot)).or_insert_with(first);
    row.new = New::Unknown;
    row.deleted = row.deleted.or(deleted.then_some(now));
}

fn appeared(touched: &mut TouchedRows, table: &Table, row: &PreUpdateNewValueAccessor, now: Moment) {
    let read = || image(table, |index| row.get_new_column_value(index));
    let Some((slot, read_already)) = place(table, || row.get_new_row_id(), read) else { return };
    let TouchedRows { rows, many, image_bytes, .. } = touched;
    let first = || Touched { old: None, first: now, deleted: None, new: New::Unknown };
    let row = rows.entry((table.id, slot)).or_insert_with(first);
    if *many && row.old.is_some() {
        return;
    }
    let image = read_already.unwrap_or_else(read);
    if !table.keeps(&image) {
        // An UPDATE tells -0.0 where 0.0 will stand.
        return;
    }
    *image_bytes += image.iter().map(SqlValue::size_bytes).sum::<usize>();
    row.new = if *many { content(table, &image) } else { New::Image(image) };
}

/// What is kept of a row that was only inserted, where there are many. Definitions are read: they come before the rows, and a DROP kills what comes
/// before it.
fn content(table: &Table, image: &[SqlValue]) -> New {
    let is_whole = table.key.iter().all(|column| image[*column] != SqlValue::Null);
    if is_whole && table.id != SCHEMA_TABLE {
        New::Content(table.names.content_of(image.iter().enumerate()))
    } else {
        New::Unknown
    }
}

fn image<'a>(table: &Table, column: impl Fn(i32) -> rusqlite::Result<ValueRef<'a>>) -> Vec<SqlValue> {
    let value = |index| column(index).map_or(SqlValue::Null, sql::value);
    table.columns.iter().map(|c| value(c.index)).collect()
}
