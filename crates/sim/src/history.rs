//! Who wrote what: every transaction that a user's COMMIT sealed, and every operation of a plain peer, as the tap saw them.
//!
//! Invariant: what a crash lost is taken out again, and nothing else ever is. All that is in a history at the end must be in every database.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_proto::{Operation, OperationKind, SqlValue, VersionVector};
use serde_json::Value as Json;

use crate::ahead::row;
use crate::oracle::{Clock, Kind, Op, RowKey, Value, Void};
use crate::workload::TABLES;

/// A replica's name and a sequence number.
pub type Dot = (String, u64);

/// A transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its operations.
    pub ops: Vec<Op>,
    /// When it was committed, in virtual milliseconds.
    pub at_ms: u64,
    /// The writer's version right after it.
    pub version: u64,
    /// Whether the user was told that it is saved.
    pub acknowledged: bool,
    /// Whether it brings operations of others: a plain peer's, or what is told again.
    pub adopted: bool,
    /// What its writer had.
    pub seen: VersionVector,
}

/// All that was written and not lost.
#[derive(Debug, Default)]
pub struct History {
    transactions: BTreeMap<Dot, Transaction>,
    /// What plain peers wrote, by clock.
    plain: BTreeMap<Clock, Op>,
    clocks: BTreeSet<Clock>,
    /// What was withdrawn.
    void: Vec<Void>,
}

/// Whether a vector has a transaction.
pub(crate) fn has(vector: &VersionVector, dot: &Dot) -> bool {
    vector.iter().any(|(origin, seqs)| origin.as_str() == dot.0 && seqs.contains(dot.1))
}

impl History {
    /// Adds a transaction; `false` where its dot or one of its clock values was given before.
    #[must_use]
    pub fn add(&mut self, dot: Dot, transaction: Transaction) -> bool {
        let before = self.void.len();
        self.void.extend(transaction.ops.iter().filter_map(Op::withdraws));
        // What is told again at its time has clock values of its own.
        let is_stamped = !transaction.adopted || self.void.len() > before;
        let unique = !is_stamped || transaction.ops.iter().all(|op| self.clocks.insert(op.clock.clone()));
        self.transactions.insert(dot, transaction).is_none() && unique
    }

    /// What was withdrawn by anybody, also where a crash lost that.
    #[must_use]
    pub fn void(&self) -> &[Void] {
        &self.void
    }

    /// The rows that withdrawn operations are about. What these overwrote may be gone where they had been applied, and is missing until what was told in
    /// their place is there.
    pub fn void_rows(&self) -> impl Iterator<Item = RowKey> {
        let void = self.everything().filter(|op| self.void.iter().any(|void| void.has(op)));
        void.filter_map(row)
    }

    /// Adds what a plain peer wrote.
    pub fn add_plain(&mut self, op: Op) {
        self.plain.insert(op.clock.clone(), op);
    }

    /// A transaction.
    #[must_use]
    pub fn transaction(&self, dot: &Dot) -> Option<&Transaction> {
        self.transactions.get(dot)
    }

    /// Whether somebody wrote that, or more of it: columns that no longer show are left out of what is told.
    #[must_use]
    pub fn is_written(&self, op: &Op) -> bool {
        let mut own = self.transactions.values().flat_map(|transaction| &transaction.ops);
        self.plain.get(&op.clock).is_some_and(|written| op.is_part_of(written))
            || own.any(|written| op.is_part_of(written))
    }

    /// Whether somebody wrote at that time.
    #[must_use]
    pub fn has_tick(&self, tick: (u64, u32)) -> bool {
        let from = (tick.0, tick.1, String::new());
        let first = [self.plain.range(from.clone()..).next().map(|(clock, _)| clock), self.clocks.range(from..).next()];
        first.into_iter().flatten().any(|clock| (clock.0, clock.1) == tick)
    }

    /// Everything that is in the vector.
    pub fn within<'a>(&'a self, vector: &'a VersionVector) -> impl Iterator<Item = (&'a Dot, &'a Transaction)> {
        self.transactions.iter().filter(|(dot, _)| has(vector, dot))
    }

    /// All transactions.
    pub fn all(&self) -> impl Iterator<Item = (&Dot, &Transaction)> {
        self.transactions.iter()
    }

    /// Everything that anybody wrote.
    pub fn everything(&self) -> impl Iterator<Item = &Op> {
        self.transactions.values().flat_map(|transaction| &transaction.ops).chain(self.plain.values())
    }

    /// How many transactions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// A replica's transactions.
    pub fn of<'a>(&'a self, origin: &'a str) -> impl Iterator<Item = (&'a Dot, &'a Transaction)> {
        let first = (origin.to_owned(), 0);
        self.transactions.range(first..).take_while(move |(dot, _)| dot.0 == origin)
    }

    /// Storage holds what this replica committed up to `version`: its user is told so.
    pub fn acknowledge(&mut self, origin: &str, version: u64) {
        let first = (origin.to_owned(), 0);
        let own = self.transactions.range_mut(first..).take_while(|(dot, _)| dot.0 == origin);
        own.filter(|(_, transaction)| transaction.version <= version).for_each(|(_, own)| own.acknowledged = true);
    }

    /// A crash has lost it.
    pub fn lose(&mut self, dot: &Dot) {
        if let Some(lost) = self.transactions.remove(dot).filter(|lost| !lost.adopted) {
            for op in &lost.ops {
                self.clocks.remove(&op.clock);
            }
        }
    }
}

/// An operation in the oracle's terms.
#[must_use]
pub fn op(operation: &Operation) -> Op {
    let columns = |columns: &rtc_battery_proto::Columns| {
        columns.iter().map(|(name, given)| (name.to_owned(), value(given))).collect::<BTreeMap<_, _>>()
    };
    let kind = match operation.kind {
        OperationKind::Insert => Kind::Insert,
        OperationKind::Update => Kind::Update,
        OperationKind::Delete => Kind::Delete,
    };
    let mut pk = columns(&operation.pk);
    if let Some(table) = TABLES.iter().find(|table| table.name == operation.table) {
        // Spelled in one way: the spelling is a register of its own.
        pk = pk.into_iter().map(|(name, value)| (name, table.folded(value))).collect();
    }
    Op {
        clock: (operation.hlc.tick.ts, operation.hlc.tick.counter, operation.hlc.node.as_str().to_owned()),
        kind,
        table: operation.table.clone(),
        pk,
        values: operation.values.as_ref().map(columns).unwrap_or_default(),
    }
}

/// A plain peer's operation in the oracle's terms, read from its JSON without our own codec.
#[must_use]
pub fn plain_op(told: &Json) -> Op {
    let columns = |columns: &Json| {
        let columns = columns.as_object().into_iter().flatten();
        columns.map(|(name, value)| (name.clone(), plain_value(value))).collect()
    };
    let hlc = &told["hlc"];
    let kind = match told["type"].as_str() {
        Some("INSERT") => Kind::Insert,
        Some("UPDATE") => Kind::Update,
        _ => Kind::Delete,
    };
    Op {
        clock: (
            hlc["ts"].as_u64().unwrap(),
            u32::try_from(hlc["counter"].as_u64().unwrap()).unwrap(),
            hlc["nodeId"].as_str().unwrap().to_owned(),
        ),
        kind,
        table: told["table"].as_str().unwrap().to_owned(),
        pk: columns(&told["pk"]),
        values: columns(&told["values"]),
    }
}

fn plain_value(value: &Json) -> Value {
    match value {
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Real(number.as_f64().unwrap().to_bits()), Value::Integer)
        }
        Json::String(text) => Value::Text(text.clone().into_bytes()),
        _ => Value::Null,
    }
}

/// A value in the oracle's terms.
#[must_use]
pub fn value(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::Null,
        SqlValue::Integer(value) => Value::Integer(*value),
        SqlValue::Real(value) => Value::Real(value.to_bits()),
        SqlValue::Text(text) => Value::Text(text.clone()),
        SqlValue::Blob(bytes) => Value::Blob(bytes.clone()),
    }
}
