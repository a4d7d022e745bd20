use proptest::prelude::*;

use super::*;
use crate::value::tests::any_value;
use crate::{Adopted, Columns, Dot, Hlc, OperationKind, SqlValue, Tick, TransactionExtent};

fn id(name: &str) -> ReplicaId {
    ReplicaId::new(name).unwrap()
}

fn any_id() -> impl Strategy<Value = ReplicaId> {
    prop_oneof![
        Just(id("a")),
        Just(ReplicaId::from_random(7)),
        any::<u128>().prop_map(ReplicaId::from_random),
        "[!-~]{1,40}".prop_map(|name| id(&name)),
    ]
}

fn any_cell() -> impl Strategy<Value = SqlValue> {
    let uuid = any::<u128>().prop_map(|bits| {
        let digits = format!("{bits:032x}");
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        SqlValue::text(&parts.join("-"))
    });
    let nearly = Just(SqlValue::text("01234567-89AB-cdef-0123-456789abcdef"));
    prop_oneof![3 => any_value(), 1 => uuid, 1 => nearly, 1 => (0..9i64).prop_map(SqlValue::Integer)]
}

fn any_columns() -> impl Strategy<Value = Columns> {
    prop::collection::vec((prop_oneof![Just("id".to_owned()), "[a-c]", ".{0,4}"], any_cell()), 0..4)
        .prop_map(|columns| columns.into_iter().collect())
}

/// An operation that has a place; its key may stand in its values.
fn any_operation() -> impl Strategy<Value = Operation> {
    let kind = prop_oneof![Just(OperationKind::Insert), Just(OperationKind::Update), Just(OperationKind::Delete)];
    let extent = (0..1u64 << 40, 0..9u32, prop_oneof![1..4u32, Just(u32::MAX)])
        .prop_map(|(ts, counter, n)| TransactionExtent { first: Tick { ts, counter }, n });
    let adopted = prop::option::of((any_id(), 0..1u64 << 40, any::<u32>()));
    let place = (any_id(), prop_oneof![1..5u64, 1..=MAX_SEQ], extent, 0..4u32, adopted);
    let content = (any_columns(), prop::option::of(any_columns()), prop::option::of(any_columns()), any::<bool>());
    (place, kind, "[a-c]{1,3}", content).prop_map(|((origin, seq, tx, index, adopted), kind, table, content)| {
        let (pk, mut values, prev, key_in_values) = content;
        if key_in_values {
            values.get_or_insert_default().extend(pk.clone());
        }
        let index = index % tx.n;
        let (hlc, adopted) = match adopted {
            Some((node, ts, counter)) => {
                (Hlc { tick: Tick { ts, counter }, node }, Some(Adopted { by: origin, index }))
            }
            None => (Hlc { tick: tx.first.checked_add(index.into()).unwrap(), node: origin }, None),
        };
        Operation { hlc, kind, table, pk, values, prev, seq: Some(seq), tx: Some(tx), adopted }
    })
}

fn any_extent() -> impl Strategy<Value = Extent> {
    let ranges = prop::collection::vec((prop_oneof![1..20u64, 1..MAX_SEQ - 9], 0..9u64), 1..4);
    let vector = prop::collection::vec((any_id(), ranges), 0..4).prop_map(|origins| {
        let mut vector = VersionVector::default();
        for (origin, ranges) in origins {
            let mut all = SeqRanges::default();
            ranges.into_iter().for_each(|(first, more)| all.insert(first, first + more));
            vector.replace_origin(origin, all);
        }
        vector
    });
    (vector, 0..3).prop_map(|(covers, which)| match which {
        0 => Extent::Part,
        1 => Extent::Whole(covers),
        _ => Extent::End(covers),
    })
}

fn unpack(bytes: Vec<u8>) -> Result<(Vec<Operation>, Extent), PackedError> {
    let packed = Packed::read(bytes)?;
    Ok((packed.operations()?, packed.extent().clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_packed_is_unpacked(operations in prop::collection::vec(any_operation(), 0..12), extent in any_extent()) {
        let bytes = pack(&operations, &extent).unwrap();
        let again = unpack(bytes.clone()).unwrap();
        prop_assert_eq!(&again.0, &operations);
        prop_assert_eq!(&again.1, &extent);
        prop_assert_eq!(pack(&again.0, &again.1).unwrap(), bytes);
    }

    #[test]
    fn damaged_bytes_are_refused_or_mean_something(
        operations in prop::collection::vec(any_operation(), 0..4),
        extent in any_extent(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = pack(&operations, &extent).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = unpack(bytes[..cut.index(bytes.len())].to_vec());
        if let Ok((operations, extent)) = unpack(bytes) {
            // What has no place is refused where it is applied, and is not passed on.
            if let Some(bytes) = pack(&operations, &extent) {
                prop_assert_eq!(unpack(bytes).unwrap(), (operations, extent));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_mean_something(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = unpack(bytes);
    }
}

fn insert(n: u32, count: u32, value: SqlValue) -> Operation {
    let first = Tick { ts: 9, counter: 0 };
    let values: Columns = [("id".to_owned(), SqlValue::Integer(n.into())), ("v".to_owned(), value)].into();
    Operation {
        hlc: Hlc { tick: first.checked_add(n.into()).unwrap(), node: id("a") },
        kind: OperationKind::Insert,
        table: "t".to_owned(),
        pk: [("id".to_owned(), SqlValue::Integer(n.into()))].into(),
        values: Some(values),
        prev: None,
        seq: Some(1),
        tx: Some(TransactionExtent { first, n: count }),
        adopted: None,
    }
}

#[test]
fn an_operation_without_a_place_is_not_packed() {
    assert!(pack(&[insert(0, 1, SqlValue::Null).into_plain()], &Extent::Part).is_none());
    assert!(pack(&[insert(1, 1, SqlValue::Null)], &Extent::Part).is_none());
}

#[test]
fn rows_that_are_alike_take_next_to_nothing() {
    let rows: Vec<Operation> =
        (0..1000).map(|n| insert(n, 1000, SqlValue::text("the same text in each row"))).collect();
    let mut covers = VersionVector::default();
    covers.insert(Dot { origin: id("a"), seq: 1 });
    let bytes = pack(&rows, &Extent::Whole(covers)).unwrap();
    assert!(bytes.len() < 500, "{} bytes", bytes.len());
    assert_eq!(unpack(bytes).unwrap().0, rows);
}

/// A message whose body is given, as if packed by somebody.
fn forged(size_bytes: usize, body: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    [1, 1].iter().for_each(|byte| out.byte(*byte));
    out.id(&id("a"));
    out.count(size_bytes);
    out.byte(LZ4);
    out.count(body.len());
    out.raw(&lz4_flex::block::compress(body));
    out.bytes
}

#[test]
fn a_bomb_takes_no_more_than_it_says() {
    // A column of NULLs is two bytes however many rows it has: 3,000,000 rows of 4,000 columns in a few KB.
    let (rows, columns) = (3_000_000u64, 4_000);
    let mut body = Writer::default();
    body.count(1);
    body.text(b"c");
    body.raw(&[1, 0, 2]);
    body.step(0, 9);
    body.step(0, 0);
    body.varint(rows);
    body.raw(&[1, 4, 0, 0]);
    body.count(columns);
    body.raw(&vec![0; columns]);
    body.varint(rows);
    let start = body.bytes.len();
    body.bytes.resize(start + 3 * usize::try_from(rows).unwrap() + columns, 0);
    for size_bytes in [body.bytes.len(), MAX_SIZE_BYTES] {
        let bytes = forged(size_bytes, &body.bytes);
        assert!(bytes.len() < 100_000, "{} bytes", bytes.len());
        assert_eq!(unpack(bytes), Err(PackedError::TooLarge));
    }
    assert_eq!(unpack(forged(MAX_SIZE_BYTES + 1, &[])), Err(PackedError::TooLarge));
    assert_eq!(unpack(forged(body.bytes.len() - 1, &body.bytes)), Err(PackedError::TooLarge));
}

#[test]
fn a_nan_is_refused() {
    let real = |real| unpack(pack(&[insert(0, 1, SqlValue::Real(real))], &Extent::Part).unwrap());
    assert!(real(f64::INFINITY).is_ok());
    assert_eq!(real(f64::NAN), Err(PackedError::Malformed));
}
