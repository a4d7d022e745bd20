//! What must hold, each with a name: the checks that look at one database, and what a violation says.
//!
//! They know what users did (from [`History`]) and what a database shows, and nothing of how the core comes from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rtc_battery_core::Now;
use rtc_battery_core::node::Node;
use rtc_battery_core::replica::{Params, Scope};
use rtc_battery_proto::{Operation, VersionVector};

use crate::ahead::{Ahead, row};
use crate::floors::Floors;
use crate::history::{History, op, value};
use crate::oracle::{Clock, Kind, Op, Picture, RowKey, Value, fold};
use crate::shape::{CALLED, SHIFTING, Shape, picture};
use crate::workload::TABLES;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// A commit tells the difference between the rows before and after, and nothing else.
    Capture,
    /// A transaction's clock values are new, contiguous, after all that its writer has seen, and no later than they must be.
    Clock,
    /// No two transactions have one dot.
    Dots,
    /// What is acknowledged is in storage.
    Durability,
    /// Nobody hears of what is not saved.
    SavedBeforeTold,
    /// No operation that no user wrote.
    Echo,
    /// What is here already is not applied again.
    AppliedOnce,
    /// A deleted row is forgotten when everybody has known for long enough, and then by everybody.
    Forgetting,
    /// A reader sees the fold of whole transactions, always.
    WholeTransactions,
    /// The version only grows, also across restarts.
    Version,
    /// A late report about a link that is gone changes nothing.
    OldLink,
    /// Within bounded time after everything is mended, everyone has everything.
    Convergence,
    /// Everyone shows what the oracle says.
    Oracle,
    /// Registers are the same where rows are.
    Registers,
    /// Who has the same says nothing more.
    Silence,
    /// `PRAGMA integrity_check` is content.
    Integrity,
    /// What a node keeps is bounded by what its tables show.
    Memory,
    /// No panic, no error of our own storage.
    Soundness,
}

/// Something that must hold did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What.
    pub property: Property,
    /// On which device, in words.
    pub what: String,
    /// The row that it is about, if it is about one.
    pub row: Option<RowKey>,
}

impl Violation {
    /// One that is about no row.
    #[must_use]
    pub fn new(property: Property, what: impl Into<String>) -> Self {
        Self { property, what: what.into(), row: None }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.what)
    }
}

/// The outcome of a check.
pub type Check = Result<(), Violation>;

/// What a database shows, and which of the tables it has.
#[must_use]
pub fn look(node: &mut Node, now: Now) -> (Picture, Vec<&'static str>) {
    let (mut rows, mut tables) = (Picture::new(), Vec::new());
    for table in &TABLES {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let shifts = table.name == SHIFTING;
        let columns = if shifts { "*".to_owned() } else { columns.join(", ") };
        let called = if shifts { CALLED.to_vec() } else { vec![table.name] };
        for called in called {
            let sql = format!("SELECT {columns} FROM {called}");
            let Ok(result) = node.exec(&sql, &Params::None, Scope::Synced, now) else { continue };
            tables.push(table.name);
            for row in result.values {
                let mut row: Vec<Value> = row.iter().map(value).collect();
                if shifts {
                    let key = row.remove(0);
                    row = picture(called, key, result.columns[1..].iter().cloned().zip(row).collect());
                }
                rows.insert(table.key_of(&row), row);
            }
        }
    }
    (rows, tables)
}

/// The first row in which two pictures differ, in words.
#[must_use]
pub fn difference(shown: &Picture, expected: &Picture) -> Option<(RowKey, String)> {
    let keys = shown.keys().chain(expected.keys());
    let differs = keys.filter(|key| shown.get(*key) != expected.get(*key)).min()?;
    let text = |row: Option<&Vec<Value>>| row.map_or("no row".to_owned(), |row| format!("{row:?}"));
    let what = format!(
        "{} {:?}: shown {}, expected {}",
        differs.0,
        differs.1,
        text(shown.get(differs)),
        text(expected.get(differs))
    );
    Some((differs.clone(), what))
}

/// What is shown of it: the rows of tables that `rtc_schema` has. Others wait.
#[must_use]
pub fn of_tables_that_are(picture: &Picture) -> Picture {
    let schema = picture.iter().filter(|((table, _), row)| *table == "rtc_schema" && text(&row[1]) == "table");
    let names: BTreeSet<String> = schema.map(|(_, row)| text(&row[2])).collect();
    let shown = picture.iter().filter(|((table, _), _)| *table == "rtc_schema" || names.contains(*table));
    shown.map(|(key, row)| (key.clone(), row.clone())).collect()
}

/// [`Property::WholeTransactions`]: what is shown is the fold of the transactions in the vector, each of them whole, but for those that are ahead of the
/// device's clock.
///
/// # Errors
/// It is not.
pub(crate) fn whole_transactions(
    device: &str,
    shown: &(Picture, Vec<&str>),
    vector: &VersionVector,
    history: &History,
    (ahead, floors): (&Ahead, &Floors),
) -> Check {
    let seen = history.within(vector).filter(|(dot, _)| !ahead.hides(dot));
    let mut expected = fold(&TABLES, seen.flat_map(|(_, transaction)| &transaction.ops));
    let mut shown_rows = shown.0.clone();
    let mut unsure = ahead.rows(history);
    unsure.extend(history.void_rows());
    if unsure.iter().any(|(table, _)| *table == "rtc_schema") {
        // Which tables there are is not sure, nor what a DROP TABLE has left of them.
        return Ok(());
    }
    // Where rows want one value, one that is not sure may hide any other of its table.
    let is_unsure = |row: &RowKey| {
        let shares = TABLES.iter().any(|table| table.name == row.0 && !table.unique.is_empty());
        floors.is_contested(row) || unsure.contains(row) || shares && unsure.iter().any(|(table, _)| *table == row.0)
    };
    // Rows wait for their table.
    expected.retain(|row, _| shown.1.contains(&row.0) && !is_unsure(row));
    shown_rows.retain(|row, _| !is_unsure(row));
    let Some((row, what)) = difference(&shown_rows, &expected) else { return Ok(()) };
    Err(Violation {
        property: Property::WholeTransactions,
        what: format!("{device} shows no fold of whole transactions: {what}"),
        row: Some(row),
    })
}

/// [`Property::Capture`]: the operations of a commit are the difference between the rows before and after.
///
/// # Errors
/// They are not.
pub fn capture(device: &str, mut before: Picture, mut after: Picture, operations: &[Operation]) -> Check {
    let mut by_row: BTreeMap<RowKey, Vec<Op>> = BTreeMap::new();
    let ops: Vec<Op> = operations.iter().map(op).collect();
    // A dropped table's rows go without an operation, and with a new one come those that waited for it; that they are right is looked at elsewhere.
    let defined = ops.iter().flat_map(|op| [op.drops(), op.creates()]).flatten();
    // Where columns come, go or are renamed, rows change by nobody's operation.
    let shifts = ops.iter().any(|op| op.table == "rtc_schema");
    let defined: BTreeSet<&str> = defined.chain(shifts.then_some(SHIFTING)).collect();
    let shape = shape(&after);
    [&mut before, &mut after].into_iter().for_each(|rows| rows.retain(|(table, _), _| !defined.contains(table)));
    for op in ops.iter().filter(|op| !defined.contains(op.table.as_str())).cloned() {
        let Some(table) = TABLES.iter().find(|table| table.name == op.table) else { continue };
        by_row.entry(table.row_key(&op.pk)).or_default().push(op);
    }
    let rows: Vec<RowKey> = before.keys().chain(after.keys()).chain(by_row.keys()).cloned().collect();
    for row in rows {
        let ops = by_row.get(&row).map_or(&[][..], Vec::as_slice);
        if !tells(&shape, &row, before.get(&row), after.get(&row), ops) {
            let what = format!(
                "{device}, {} {:?}: from {:?} to {:?} was captured as {ops:?}",
                row.0,
                row.1,
                before.get(&row),
                after.get(&row)
            );
            return Err(Violation { property: Property::Capture, what, row: Some(row) });
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    }
}

/// The shape that a picture's `rtc_schema` says.
fn shape(picture: &Picture) -> Shape {
    let rows = picture.iter().filter(|((table, _), _)| *table == "rtc_schema");
    let rows: Vec<_> = rows.map(|(_, row)| (text(&row[0]), text(&row[2]))).collect();
    Shape::of_rows(rows.iter().map(|(id, name)| (id.as_str(), name.as_str())))
}

/// Whether the operations lead from the one row to the other, and say nothing beside it.
fn tells(shape: &Shape, row: &RowKey, before: Option<&Vec<Value>>, after: Option<&Vec<Value>>, ops: &[Op]) -> bool {
    let Some(table) = TABLES.iter().find(|table| table.name == row.0) else { return false };
    let named = |row: &[Value]| -> BTreeMap<String, Value> {
        if table.name == SHIFTING {
            return shape.columns(row);
        }
        let columns = table.columns.iter().zip(row);
        columns.map(|((name, _), value)| ((*name).to_owned(), value.clone())).collect()
    };
    let kinds: Vec<Kind> = ops.iter().map(|op| op.kind).collect();
    match (kinds.as_slice(), before, after) {
        // A row that wants what another has goes, or comes back, by nobody's operation.
        ([], before, after) => before == after || !table.unique.is_empty() && (before.is_none() || after.is_none()),
        ([Kind::Insert], None, Some(after)) | ([Kind::Delete, Kind::Insert], Some(_), Some(after)) => {
            ops.last().is_some_and(|op| op.values == named(after))
        }
        ([Kind::Delete], Some(_), None) => true,
        ([Kind::Update], Some(before), Some(after)) => {
            let (before, mut changed) = (named(before), named(after));
            changed.retain(|name, value| before.get(name) != Some(value));
            !changed.is_empty() && ops[0].values == changed
        }
        _ => false,
    }
}

/// [`Property::Clock`]: the clock values of a commit at `wall_ms` by a writer who has seen what is in `vector` and not ahead of its clock; `relayed`: and
/// perhaps more, from plain peers.
///
/// # Errors
/// They are not what the rules say.
pub(crate) fn clock(
    device: &str,
    (wall_ms, relayed): (u64, bool),
    (vector, ahead, floors): (&VersionVector, &Ahead, &Floors),
    history: &History,
    ops: &[Op],
) -> Check {
    let clocks: Vec<&Clock> = ops.iter().map(|op| &op.clock).collect();
    let mut unsure = ahead.rows(history);
    unsure.extend(history.void_rows());
    let seen = history.within(vector).filter(|(dot, _)| !ahead.hides(dot) && !floors.has_forgotten(dot));
    let seen = seen.flat_map(|(_, transaction)| &transaction.ops);
    let seen = seen.filter(|op| !row(op).is_some_and(|row| unsure.contains(&row)));
    // Who steps back is after what it shows, and no more: what it had overwritten may be ahead of its clock.
    let steps_back = !history.void().is_empty();
    let seen = seen.filter(|op| !steps_back || op.clock.0 <= wall_ms);
    let seen = seen.map(|op| (op.clock.0, op.clock.1)).max();
    let Some(first) = clocks.first() else {
        return Err(Violation::new(Property::Clock, "a transaction without operations"));
    };
    let first = (first.0, first.1);
    let violated = |why: &str| {
        let what = format!("{device} at {wall_ms}, having seen {seen:?}, stamped a transaction {first:?}: {why}");
        Err(Violation::new(Property::Clock, what))
    };
    if clocks.windows(2).any(|pair| after((pair[0].0, pair[0].1)) != (pair[1].0, pair[1].1)) {
        return violated("it is not contiguous");
    }
    if seen.is_some_and(|seen| first <= seen) {
        return violated("it is not after what was seen");
    }
    let by_wall = first == (wall_ms, 0) && seen.is_none_or(|seen| seen.0 < wall_ms);
    let by_seen = seen.is_some_and(|seen| after(seen) == first && seen.0 >= wall_ms);
    // What a plain peer passes on may have been seen and beaten, so that it is in no transaction.
    let before = (first.0, first.1.wrapping_sub(1));
    let perhaps_more = relayed || !ahead.is_empty() || steps_back || floors.retention_ms.is_some();
    if by_wall || by_seen || (perhaps_more && first.1 > 0 && history.has_tick(before)) {
        return Ok(());
    }
    violated("nothing that happened asks for that")
}

fn after(tick: (u64, u32)) -> (u64, u32) {
    tick.1.checked_add(1).map_or((tick.0 + 1, 0), |counter| (tick.0, counter))
}

/// [`Property::Integrity`] and [`Property::Memory`]: SQLite's own check, and the log no longer than the registers.
///
/// # Errors
/// The file is broken, or more is kept than any register needs.
pub fn sound(device: &str, node: &mut Node, history: &History, now: Now) -> Check {
    let mut ask = |sql: &str| -> Result<Value, Violation> {
        let result = node.exec(sql, &Params::None, Scope::Synced, now);
        let result =
            result.map_err(|error| Violation::new(Property::Integrity, format!("{device}: {sql}: {error}")))?;
        Ok(result.values.first().and_then(|row| row.first()).map_or(Value::Null, value))
    };
    let integrity = ask("PRAGMA integrity_check")?;
    if integrity != Value::Text(b"ok".to_vec()) {
        return Err(Violation::new(Property::Integrity, format!("{device}: {integrity:?}")));
    }
    // A register for each column, the row's liveness and its DELETE, and its oldest INSERT.
    let mut rows: BTreeMap<RowKey, u64> = BTreeMap::new();
    for op in history.everything() {
        if let Some(table) = TABLES.iter().find(|table| table.name == op.table) {
            rows.insert(table.row_key(&op.pk), table.columns.len() as u64 + 3);
        }
    }
    let most: u64 = rows.values().sum();
    // What was written to a table that somebody had dropped waits for another of its name.
    let waiting = if history.everything().any(|op| op.drops().is_some()) { most } else { 0 };
    for (what, sql, most) in [
        ("operations", "SELECT count(*) FROM rtc_operations", most),
        ("transactions", "SELECT count(*) FROM rtc_transactions", most + 1),
        ("parked rows", "SELECT count(*) FROM rtc_parked", rows.len() as u64),
        ("waiting operations", "SELECT count(*) FROM rtc_waiting", waiting),
        ("operations from the future", "SELECT count(*) FROM rtc_quarantine", 0),
        ("staged operations", "SELECT count(*) FROM temp.rtc_staged", 0),
    ] {
        let kept = ask(sql)?;
        if !matches!(kept, Value::Integer(kept) if u64::try_from(kept).is_ok_and(|kept| kept <= most)) {
            return Err(Violation::new(
                Property::Memory,
                format!("{device} keeps {kept:?} {what}, at most {most} can matter"),
            ));
        }
    }
    Ok(())
}
