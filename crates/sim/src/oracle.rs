//! What a database must show, said as naively as can be: all operations in the order of their clocks, one after the other.
//!
//! Written from `design.md` ("Merge rules") alone. It shares no type, no codec and no merge with the core: what both get wrong, both would
//! have to get wrong independently. Last writer wins for each column; a row lives if the last operation on it was no DELETE, and shows each
//! column's newest write, also one older than a DELETE that was beaten; a column that nobody wrote shows the table's DEFAULT. Of rows that want one
//! UNIQUE value the one is shown whose columns of that kind were written last. A DROP TABLE leaves nothing of what came
//! before it. What was withdrawn never was. A table whose columns change shows those that `rtc_schema` says, see [`shape`](crate::shape).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::shape::{SHIFTING, Shape};

/// A value, by type and bits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "SQLite's types")]
pub enum Value {
    Null,
    Integer(i64),
    /// The bits of a double.
    Real(u64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// `ts`, `counter`, `nodeId`: in the order that decides.
pub type Clock = (u64, u32, String);

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's words")]
pub enum Kind {
    Insert,
    Update,
    Delete,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// When.
    pub clock: Clock,
    /// What.
    pub kind: Kind,
    /// Where.
    pub table: String,
    /// Which row.
    pub pk: BTreeMap<String, Value>,
    /// What it wrote.
    pub values: BTreeMap<String, Value>,
}

impl Op {
    /// Whether it is that operation, perhaps without some of its columns.
    #[must_use]
    pub fn is_part_of(&self, whole: &Self) -> bool {
        let same =
            self.clock == whole.clock && self.kind == whole.kind && self.table == whole.table && self.pk == whole.pk;
        same && self.values.iter().all(|(name, value)| whole.values.get(name) == Some(value))
    }
}

impl Op {
    /// The id of the row of `rtc_schema` that it is about.
    fn definition(&self) -> Option<&str> {
        let Some(Value::Text(id)) = self.pk.get("id").filter(|_| self.table == "rtc_schema") else { return None };
        std::str::from_utf8(id).ok()
    }

    /// The table that it says was dropped.
    #[must_use]
    pub fn drops(&self) -> Option<&str> {
        self.definition()?.strip_prefix("rtc_dropped ")?.split('(').next()
    }

    /// What it says is void.
    #[must_use]
    pub fn withdraws(&self) -> Option<Void> {
        let writer = self.definition()?.strip_prefix("rtc_withdrawn ")?;
        let Some(Value::Text(span)) = self.values.get("sql") else { return None };
        let tick = |text: &str| {
            let (ts, counter) = text.split_once('-')?;
            Some((u64::from_str_radix(ts, 16).ok()?, u32::from_str_radix(counter, 16).ok()?))
        };
        let (after, last) = std::str::from_utf8(span).ok()?.split_once(' ')?;
        Some(Void { writer: writer.to_owned(), after: tick(after)?, last: tick(last)? })
    }

    /// The table that it makes.
    #[must_use]
    pub fn creates(&self) -> Option<&str> {
        let (kind, Some(Value::Text(name))) = (self.values.get("kind"), self.values.get("name")) else { return None };
        std::str::from_utf8(name).ok().filter(|_| kind == Some(&Value::Text(b"table".to_vec())))
    }
}

/// What one writer stamped after a time and up to another, and withdrew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    writer: String,
    after: (u64, u32),
    last: (u64, u32),
}

impl Void {
    /// Whether an operation is among it.
    #[must_use]
    pub fn has(&self, op: &Op) -> bool {
        let (ts, counter, writer) = &op.clock;
        *writer == self.writer && (*ts, *counter) > self.after && (*ts, *counter) <= self.last
    }
}

/// What the oracle knows of a table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Columns in order, each with its DEFAULT.
    pub columns: &'static [(&'static str, Default)],
    /// How many of the first columns are the primary key.
    pub key: usize,
    /// Whether texts of the key are compared by NOCASE.
    pub folds_case: bool,
    /// The columns of each UNIQUE constraint beyond the key. They hold whole numbers or NULL.
    pub unique: &'static [&'static [&'static str]],
}

/// A column's DEFAULT.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "few and plain")]
pub enum Default {
    Null,
    Integer(i64),
    Text(&'static str),
}

impl From<Default> for Value {
    fn from(default: Default) -> Self {
        match default {
            Default::Null => Self::Null,
            Default::Integer(value) => Self::Integer(value),
            Default::Text(value) => Self::Text(value.as_bytes().to_vec()),
        }
    }
}

/// A table's name and a row's key.
pub type RowKey = (&'static str, Vec<Value>);

/// All rows of a database.
pub type Picture = BTreeMap<RowKey, Vec<Value>>;

#[derive(Default)]
struct Row {
    lives: bool,
    columns: BTreeMap<String, (Clock, Value)>,
}

/// What a database with these operations shows.
#[must_use]
pub fn fold<'a>(tables: &'static [Table], ops: impl IntoIterator<Item = &'a Op>) -> Picture {
    let mut ops: Vec<&Op> = ops.into_iter().collect();
    let void: Vec<Void> = ops.iter().filter_map(|op| op.withdraws()).collect();
    ops.retain(|op| !void.iter().any(|void| void.has(op)));
    ops.sort_by(|a, b| a.clock.cmp(&b.clock));
    let shape = Shape::of(&ops);
    // One that writes to a column which nobody has heard of waits for it.
    ops.retain(|op| op.table != SHIFTING || shape.knows(op));
    let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
    for op in ops {
        let Some(table) = tables.iter().find(|table| table.name == op.table) else { continue };
        if let Some(dropped) = op.drops() {
            rows.retain(|(table, _), _| *table != dropped);
        }
        let row = rows.entry(table.row_key(&op.pk)).or_default();
        row.lives = op.kind != Kind::Delete;
        row.columns.extend(op.values.iter().map(|(name, value)| (name.clone(), (op.clock.clone(), value.clone()))));
    }
    let shown = |tables: &'static [Table], key: &RowKey, row: &Row| match key.0 {
        SHIFTING => shape.show(key, |identity| row.columns.get(identity).map(|(_, value)| value)),
        _ => shown(tables, key, row),
    };
    let living = rows.into_iter().filter(|(_, row)| row.lives);
    let mut living: Vec<_> =
        living.map(|(key, row)| (age(tables, &key, &row), key.clone(), shown(tables, &key, &row))).collect();
    // The newest first, and of those nobody ever wrote such a column of, by key.
    living.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut taken = BTreeSet::new();
    let admitted = living.into_iter().filter_map(|(_, key, row)| {
        let wanted = wanted(tables, &key, &row);
        let is_free = wanted.iter().all(|value| !taken.contains(value));
        is_free.then(|| {
            taken.extend(wanted);
            (key, row)
        })
    });
    admitted.collect()
}

/// When a column that a UNIQUE constraint reads was written last.
fn age(tables: &'static [Table], key: &RowKey, row: &Row) -> Option<Clock> {
    let table = tables.iter().find(|table| table.name == key.0)?;
    let columns = table.unique.iter().copied().flatten();
    columns.filter_map(|column| row.columns.get(*column)).map(|(clock, _)| clock.clone()).max()
}

/// What a row wants for itself: values of the UNIQUE constraints, none of them NULL.
fn wanted(tables: &'static [Table], key: &RowKey, row: &[Value]) -> Vec<(&'static str, usize, Vec<Value>)> {
    let Some(table) = tables.iter().find(|table| table.name == key.0) else { return Vec::new() };
    let value = |name: &&str| {
        let column = table.columns.iter().position(|(column, _)| column == name)?;
        Some(row[column].clone()).filter(|value| *value != Value::Null)
    };
    let of = |(n, columns): (usize, &&[&str])| Some((table.name, n, columns.iter().map(value).collect::<Option<_>>()?));
    table.unique.iter().enumerate().filter_map(of).collect()
}

fn shown(tables: &'static [Table], key: &RowKey, row: &Row) -> Vec<Value> {
    let Some(table) = tables.iter().find(|table| table.name == key.0) else { return Vec::new() };
    let column = |(n, (name, default)): (usize, &(&str, Default))| {
        row.columns
            .get(*name)
            .map(|(_, value)| value.clone())
            .unwrap_or_else(|| if n < table.key { key.1[n].clone() } else { (*default).into() })
    };
    table.columns.iter().enumerate().map(column).collect()
}

impl Table {
    /// The row that a primary key names.
    #[must_use]
    pub fn row_key(&self, pk: &BTreeMap<String, Value>) -> RowKey {
        let named = |(name, _): &(&str, Default)| pk.get(*name).cloned().unwrap_or(Value::Null);
        (self.name, self.columns[..self.key].iter().map(named).map(|value| self.folded(value)).collect())
    }

    /// The row that stands at these columns.
    #[must_use]
    pub fn key_of(&self, row: &[Value]) -> RowKey {
        (self.name, row[..self.key].iter().cloned().map(|value| self.folded(value)).collect())
    }

    /// A value of the key, in the one spelling that stands for all that compare alike.
    #[must_use]
    pub fn folded(&self, value: Value) -> Value {
        match value {
            Value::Text(text) if self.folds_case => Value::Text(text.to_ascii_lowercase()),
            value => value,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "NULL"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Real(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Text(text) if text.len() > 60 => write!(f, "'…' of {} bytes", text.len()),
            Self::Text(text) => write!(f, "'{}'", String::from_utf8_lossy(text)),
            Self::Blob(bytes) if bytes.len() > 20 => write!(f, "a blob of {} bytes", bytes.len()),
            Self::Blob(bytes) => write!(f, "x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        }
    }
}
