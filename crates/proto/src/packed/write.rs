//! Operations to the bytes of a body.

use std::collections::BTreeMap;

use super::cells::{self, size_bytes};
use super::wire::Writer;
use super::{CELL_BYTES, OPERATION_BYTES};
use crate::{Columns, Dot, Operation, OperationKind, ReplicaId, SqlValue, Tick, TransactionExtent};

/// Things by number, in the order they were first named in.
#[derive(Debug)]
pub(super) struct Numbered<'a, T: ?Sized> {
    list: Vec<&'a T>,
    numbers: BTreeMap<&'a T, usize>,
}

impl<'a, T: Ord + ?Sized> Numbered<'a, T> {
    fn new() -> Self {
        Self { list: Vec::new(), numbers: BTreeMap::new() }
    }

    pub(super) fn number(&mut self, thing: &'a T) -> usize {
        // Mostly it is the one that was named last.
        if self.list.last().is_some_and(|last| *last == thing) {
            return self.list.len() - 1;
        }
        *self.numbers.entry(thing).or_insert_with(|| {
            self.list.push(thing);
            self.list.len() - 1
        })
    }

    pub(super) fn list(&self) -> &[&'a T] {
        &self.list
    }
}

/// What operations have in common that stand in one set of columns: numbers of names, but for the first two and the last.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
pub(super) struct Shape {
    pub(super) kind: OperationKind,
    pub(super) adopted: bool,
    pub(super) table: usize,
    pub(super) pk: Vec<usize>,
    pub(super) values: Option<Vec<usize>>,
    pub(super) prev: Option<Vec<usize>>,
    /// The key is not told: it stands in the values.
    pub(super) key_in_values: bool,
}

impl Shape {
    fn of<'a>(operation: &'a Operation, names: &mut Numbered<'a, str>) -> Self {
        let mut columns = |columns: &'a Columns| columns.keys().map(|name| names.number(name)).collect();
        let (pk, values) = (columns(&operation.pk), operation.values.as_ref().map(&mut columns));
        let prev = operation.prev.as_ref().map(&mut columns);
        let stands =
            |(name, value): (&str, &SqlValue)| operation.values.as_ref()?.get(name).filter(|other| *other == value);
        let key_in_values = operation.pk.iter().all(|column| stands(column).is_some());
        let table = names.number(operation.table.as_str());
        Self { kind: operation.kind, adopted: operation.adopted.is_some(), table, pk, values, prev, key_in_values }
    }

    fn write(&self, out: &mut Writer) {
        let kind = match self.kind {
            OperationKind::Insert => 0,
            OperationKind::Update => 1,
            OperationKind::Delete => 2,
        };
        let flags = [self.adopted, self.values.is_some(), self.prev.is_some(), self.key_in_values];
        let flags = flags.iter().fold(kind, |flags, flag| flags << 1 | u8::from(*flag));
        out.byte(flags);
        out.count(self.table);
        for columns in [Some(&self.pk), self.values.as_ref(), self.prev.as_ref()].into_iter().flatten() {
            out.count(columns.len());
            columns.iter().for_each(|name| out.count(*name));
        }
    }
}

/// The body, the memory that its operations take in bytes, and whom they name.
pub(super) fn body(operations: &[Operation]) -> Option<(Vec<u8>, usize, Numbered<'_, ReplicaId>)> {
    let (mut names, mut ids) = (Numbered::new(), Numbered::new());
    let mut shapes: Vec<(Shape, Vec<&Operation>)> = Vec::new();
    let mut transactions: Vec<(Dot, TransactionExtent)> = Vec::new();
    let (mut by_shape, mut by_transaction) = (BTreeMap::new(), BTreeMap::new());
    let (mut which, mut places, mut clocks) = (Writer::default(), Writer::default(), Writer::default());
    let (mut place_before, mut clock_before) = ((0, 0), Tick::default());
    let mut size = 0;
    for operation in operations {
        let (dot, extent, index) = operation.place()?;
        let shape = Shape::of(operation, &mut names);
        let shape = *by_shape.entry(shape.clone()).or_insert_with(|| {
            shapes.push((shape, Vec::new()));
            shapes.len() - 1
        });
        shapes[shape].1.push(operation);
        which.count(shape);
        let transaction = match transactions.last() {
            Some(last) if *last == (dot.clone(), extent) => transactions.len() - 1,
            _ => *by_transaction.entry((dot.clone(), extent.first, extent.n)).or_insert_with(|| {
                transactions.push((dot, extent));
                transactions.len() - 1
            }),
        };
        places.step(place_before.0, transaction as u64);
        let expected = if place_before.0 == transaction as u64 { place_before.1 } else { 0 };
        places.step(expected, index.into());
        place_before = (transaction as u64, u64::from(index) + 1);
        if let Some(adopted) = &operation.adopted {
            clocks.count(ids.number(&adopted.by));
            clocks.count(ids.number(&operation.hlc.node));
            clocks.step(clock_before.ts, operation.hlc.tick.ts);
            clocks.step(clock_before.counter.into(), operation.hlc.tick.counter.into());
            clock_before = operation.hlc.tick;
        } else {
            ids.number(&operation.hlc.node);
        }
        size += operation_bytes(operation);
    }
    let mut out = Writer::default();
    out.count(names.list().len());
    names.list().iter().for_each(|name| out.text(name.as_bytes()));
    size += names.list().iter().map(|name| name.len() + CELL_BYTES).sum::<usize>() + CELL_BYTES;
    write_transactions(&transactions, &ids, &mut out)?;
    size += transactions.len() * OPERATION_BYTES;
    out.count(shapes.len());
    for (shape, _) in &shapes {
        shape.write(&mut out);
        let columns = [Some(&shape.pk), shape.values.as_ref(), shape.prev.as_ref()];
        size += OPERATION_BYTES + columns.iter().flatten().map(|columns| columns.len() * CELL_BYTES).sum::<usize>();
    }
    out.count(operations.len());
    [which, places, clocks].iter().for_each(|column| out.raw(&column.bytes));
    for (shape, operations) in &shapes {
        let told = [(!shape.key_in_values).then_some(part(operations, |operation| Some(&operation.pk)))];
        let others = [
            part(operations, |operation| operation.values.as_ref()),
            part(operations, |operation| operation.prev.as_ref()),
        ];
        for rows in told.into_iter().flatten().chain(others) {
            write_columns(&rows, &mut out);
        }
    }
    Some((out.bytes, size, ids))
}

fn operation_bytes(operation: &Operation) -> usize {
    let columns = [Some(&operation.pk), operation.values.as_ref(), operation.prev.as_ref()];
    OPERATION_BYTES + columns.into_iter().flatten().flat_map(|columns| columns.values()).map(size_bytes).sum::<usize>()
}

/// One part of operations that all have it or all lack it.
fn part<'a>(operations: &[&'a Operation], part: impl Fn(&'a Operation) -> Option<&'a Columns>) -> Vec<&'a Columns> {
    operations.iter().filter_map(|operation| part(operation)).collect()
}

/// Columns of one shape, one after the other.
fn write_columns(rows: &[&Columns], out: &mut Writer) {
    let mut rows: Vec<_> = rows.iter().map(|row| row.values()).collect();
    loop {
        let column: Vec<&SqlValue> = rows.iter_mut().filter_map(Iterator::next).collect();
        if column.is_empty() {
            return;
        }
        cells::write(&column, out);
    }
}

fn write_transactions(
    transactions: &[(Dot, TransactionExtent)],
    ids: &Numbered<'_, ReplicaId>,
    out: &mut Writer,
) -> Option<()> {
    out.count(transactions.len());
    for (dot, _) in transactions {
        out.count(*ids.numbers.get(&dot.origin)?);
    }
    let (mut seq, mut first) = (0, Tick::default());
    for (dot, _) in transactions {
        out.step(seq, dot.seq);
        seq = dot.seq + 1;
    }
    for (_, extent) in transactions {
        out.step(first.ts, extent.first.ts);
        out.step(first.counter.into(), extent.first.counter.into());
        out.varint(extent.n.into());
        first = extent.first;
    }
    Some(())
}
