//! The bytes of a body, none of them trusted, to operations.

use std::sync::Arc;

use super::cells::{self, Budget};
use super::wire::Reader;
use super::write::Shape;
use super::{CELL_BYTES, OPERATION_BYTES, PackedError};
use crate::{Adopted, Columns, Hlc, MAX_TS_MS, Operation, OperationKind, ReplicaId, SqlValue, Tick, TransactionExtent};

/// A transaction as told.
struct Told<'a> {
    origin: &'a ReplicaId,
    seq: u64,
    extent: TransactionExtent,
}

/// The place of one operation, and the clock value of one that was adopted.
struct Placed {
    shape: usize,
    transaction: usize,
    index: u32,
    adopted: Option<(usize, Hlc)>,
}

/// Reads a body whose operations take `size_bytes` of memory at most.
pub(super) fn body(bytes: &[u8], ids: &[ReplicaId], size_bytes: usize) -> Result<Vec<Operation>, PackedError> {
    let (mut reader, mut budget) = (Reader::new(bytes), Budget(size_bytes));
    let mut names = Vec::new();
    for _ in 0..reader.count()? {
        let name = std::str::from_utf8(reader.text()?).map_err(|_| PackedError::Malformed)?;
        budget.take(1, name.len() + CELL_BYTES)?;
        names.push(Arc::from(name));
    }
    let transactions = transactions(&mut reader, ids, &mut budget)?;
    let mut shapes = Vec::new();
    for _ in 0..reader.count()? {
        budget.take(1, OPERATION_BYTES)?;
        shapes.push(shape(&mut reader, names.len(), &mut budget)?);
    }
    let placed = placed(&mut reader, ids, &shapes, &mut budget)?;
    let mut counts = vec![0; shapes.len()];
    placed.iter().for_each(|placed| counts[placed.shape] += 1);
    let mut rows = Vec::new();
    for (shape, count) in shapes.iter().zip(counts) {
        rows.push(Rows::read(&mut reader, shape, count, &mut budget)?);
    }
    if !reader.rest().is_empty() {
        return Err(PackedError::Malformed);
    }
    let mut operations = Vec::with_capacity(placed.len());
    for placed in placed {
        let (shape, rows) = (&shapes[placed.shape], &mut rows[placed.shape]);
        operations.push(operation(placed, &transactions, ids, &names, shape, rows, &mut budget)?);
    }
    Ok(operations)
}

fn transactions<'a>(
    reader: &mut Reader<'_>,
    ids: &'a [ReplicaId],
    budget: &mut Budget,
) -> Result<Vec<Told<'a>>, PackedError> {
    let mut transactions = Vec::new();
    let count = reader.count()?;
    budget.take(count, OPERATION_BYTES)?;
    for _ in 0..count {
        let origin = ids.get(reader.index()?).ok_or(PackedError::Malformed)?;
        transactions.push(Told { origin, seq: 0, extent: TransactionExtent { first: Tick::default(), n: 0 } });
    }
    let (mut seq, mut first) = (0, Tick::default());
    for transaction in &mut transactions {
        transaction.seq = reader.step(seq)?;
        seq = transaction.seq.wrapping_add(1);
    }
    for transaction in &mut transactions {
        first = tick(reader, first)?;
        let n = u32::try_from(reader.varint()?).map_err(|_| PackedError::Malformed)?;
        transaction.extent = TransactionExtent { first, n };
    }
    Ok(transactions)
}

fn tick(reader: &mut Reader<'_>, before: Tick) -> Result<Tick, PackedError> {
    let ts = reader.step(before.ts)?;
    let counter = u32::try_from(reader.step(before.counter.into())?).map_err(|_| PackedError::Malformed)?;
    if ts > MAX_TS_MS { Err(PackedError::Malformed) } else { Ok(Tick { ts, counter }) }
}

fn shape(reader: &mut Reader<'_>, name_count: usize, budget: &mut Budget) -> Result<Shape, PackedError> {
    let flags = reader.byte()?;
    let kind = match flags >> 4 {
        0 => OperationKind::Insert,
        1 => OperationKind::Update,
        2 => OperationKind::Delete,
        _ => return Err(PackedError::Malformed),
    };
    let [adopted, has_values, has_prev, key_in_values] = [8, 4, 2, 1].map(|flag| flags & flag != 0);
    let name = |reader: &mut Reader<'_>| {
        reader.index().and_then(|name| if name < name_count { Ok(name) } else { Err(PackedError::Malformed) })
    };
    let table = name(reader)?;
    let mut columns = |reader: &mut Reader<'_>| -> Result<Vec<usize>, PackedError> {
        let count = reader.count()?;
        budget.take(count, CELL_BYTES)?;
        (0..count).map(|_| name(reader)).collect()
    };
    let pk = columns(reader)?;
    let values = has_values.then(|| columns(reader)).transpose()?;
    let prev = has_prev.then(|| columns(reader)).transpose()?;
    Ok(Shape { kind, adopted, table, pk, values, prev, key_in_values })
}

fn placed(
    reader: &mut Reader<'_>,
    ids: &[ReplicaId],
    shapes: &[Shape],
    budget: &mut Budget,
) -> Result<Vec<Placed>, PackedError> {
    let count = reader.count()?;
    budget.take(count, OPERATION_BYTES)?;
    let mut placed = Vec::with_capacity(count);
    for _ in 0..count {
        let shape = reader.index()?;
        if shape >= shapes.len() {
            return Err(PackedError::Malformed);
        }
        placed.push(Placed { shape, transaction: 0, index: 0, adopted: None });
    }
    let mut before = (0, 0);
    for placed in &mut placed {
        let transaction = reader.step(before.0)?;
        let expected = if transaction == before.0 { before.1 } else { 0 };
        let index = u32::try_from(reader.step(expected)?).map_err(|_| PackedError::Malformed)?;
        before = (transaction, u64::from(index) + 1);
        (placed.transaction, placed.index) = (usize::try_from(transaction).map_err(|_| PackedError::Malformed)?, index);
    }
    let mut before = Tick::default();
    for placed in placed.iter_mut().filter(|placed| shapes[placed.shape].adopted) {
        let by = reader.index()?;
        let node = ids.get(reader.index()?).ok_or(PackedError::Malformed)?.clone();
        before = tick(reader, before)?;
        placed.adopted = Some((by, Hlc { tick: before, node }));
    }
    Ok(placed)
}

/// What operations of one shape wrote, column by column.
struct Rows {
    pk: Vec<std::vec::IntoIter<SqlValue>>,
    values: Vec<std::vec::IntoIter<SqlValue>>,
    prev: Vec<std::vec::IntoIter<SqlValue>>,
}

impl Rows {
    fn read(reader: &mut Reader<'_>, shape: &Shape, count: usize, budget: &mut Budget) -> Result<Self, PackedError> {
        let mut read = |columns: usize| -> Result<Vec<_>, PackedError> {
            // A shape that nobody has takes no bytes.
            let columns = if count == 0 { 0 } else { columns };
            (0..columns).map(|_| Ok(cells::read(reader, count, budget)?.into_iter())).collect()
        };
        let pk = read(if shape.key_in_values { 0 } else { shape.pk.len() })?;
        let values = read(shape.values.as_ref().map_or(0, Vec::len))?;
        let prev = read(shape.prev.as_ref().map_or(0, Vec::len))?;
        Ok(Self { pk, values, prev })
    }
}

fn row(
    names: &[Arc<str>],
    columns: &[usize],
    cells: &mut [std::vec::IntoIter<SqlValue>],
) -> Result<Columns, PackedError> {
    let cells = cells.iter_mut().map(|column| column.next().ok_or(PackedError::Malformed));
    columns.iter().zip(cells).map(|(name, value)| Ok((names[*name].clone(), value?))).collect()
}

fn operation(
    placed: Placed,
    transactions: &[Told<'_>],
    ids: &[ReplicaId],
    names: &[Arc<str>],
    shape: &Shape,
    rows: &mut Rows,
    budget: &mut Budget,
) -> Result<Operation, PackedError> {
    let Placed { transaction, index, adopted, .. } = placed;
    let Told { origin, seq, extent } = transactions.get(transaction).ok_or(PackedError::Malformed)?;
    let values = shape.values.as_ref().map(|columns| row(names, columns, &mut rows.values)).transpose()?;
    let pk = match &values {
        Some(values) if shape.key_in_values => {
            let key =
                shape.pk.iter().filter_map(|name| Some((names[*name].clone(), values.get(&names[*name])?.clone())));
            let key: Columns = key.collect();
            key.values().try_for_each(|value| budget.take(1, cells::size_bytes(value)))?;
            key
        }
        _ => row(names, &shape.pk, &mut rows.pk)?,
    };
    let prev = shape.prev.as_ref().map(|columns| row(names, columns, &mut rows.prev)).transpose()?;
    let (hlc, adopted) = match adopted {
        Some((by, hlc)) => {
            let by = ids.get(by).ok_or(PackedError::Malformed)?.clone();
            (hlc, Some(Adopted { by, index }))
        }
        None => {
            let tick = extent.first.checked_add(index.into()).ok_or(PackedError::Malformed)?;
            (Hlc { tick, node: (*origin).clone() }, None)
        }
    };
    Ok(Operation {
        hlc,
        kind: shape.kind,
        table: names[shape.table].to_string(),
        pk,
        values,
        prev,
        seq: Some(*seq),
        tx: Some(*extent),
        adopted,
    })
}
