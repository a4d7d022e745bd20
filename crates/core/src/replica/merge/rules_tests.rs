//! Each merge rule of the specification's section 2 as a property, against an independent naive fold.

use proptest::prelude::*;
use rtc_battery_proto::{Hlc, OperationKind, ReplicaId, SqlValue, Tick};

use super::RowState;

const COLUMNS: usize = 3;

#[derive(Debug, Clone, PartialEq)]
struct Op {
    hlc: Hlc,
    kind: OperationKind,
    written: Vec<(usize, SqlValue)>,
}

fn hlc(ts: u64, node: u8) -> Hlc {
    Hlc { tick: Tick { ts, counter: 0 }, node: ReplicaId::new(&char::from(b'a' + node).to_string()).unwrap() }
}

/// Few clocks and nodes, so that ties and even one clock value with two contents happen.
fn any_op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![Just(OperationKind::Insert), Just(OperationKind::Update), Just(OperationKind::Delete)];
    let written = prop::collection::btree_map(0..COLUMNS, 0..4i64, 0..=COLUMNS);
    (0..6u64, 0..3u8, kind, written).prop_map(|(ts, node, kind, written)| {
        let full = kind == OperationKind::Insert;
        let written = (0..COLUMNS)
            .filter(|c| kind != OperationKind::Delete && (full || written.contains_key(c)))
            .map(|c| (c, SqlValue::Integer(written.get(&c).copied().unwrap_or(9))))
            .collect();
        Op { hlc: hlc(ts, node), kind, written }
    })
}

fn fold<'a>(ops: impl IntoIterator<Item = &'a Op>) -> RowState {
    let mut row = RowState::default();
    for op in ops {
        row.apply(&op.hlc, op.kind, op.written.clone());
    }
    row
}

/// What a reader sees.
fn shown(row: &RowState) -> Option<Vec<Option<SqlValue>>> {
    row.exists().then(|| (0..COLUMNS).map(|c| row.cell(c).map(|cell| cell.value.clone())).collect())
}

/// The rules again, as one would say them: sort by clock, let the last word stand.
fn naive(ops: &[Op]) -> Option<Vec<Option<SqlValue>>> {
    let mut sorted = ops.to_vec();
    sorted.sort_by_key(|op| op.hlc.to_string());
    let last = |wanted: &dyn Fn(&Op) -> bool| sorted.iter().rev().find(|op| wanted(op)).map(|op| op.hlc.clone());
    let deleted = last(&|op| op.kind == OperationKind::Delete);
    let live = last(&|op| op.kind != OperationKind::Delete)?;
    if deleted.is_some_and(|deleted| deleted >= live) {
        return None;
    }
    let column = |c: usize| {
        let writes =
            sorted.iter().filter_map(|op| Some((op.hlc.clone(), op.written.iter().find(|w| w.0 == c)?.1.clone())));
        writes.max().map(|(_, value)| value)
    };
    Some((0..COLUMNS).map(column).collect())
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(any_op(), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn order_and_repetition_do_not_matter(ops in ops(), order in any::<prop::sample::Index>(), again in any::<prop::sample::Index>()) {
        let mut other = ops.clone();
        if !ops.is_empty() {
            other.rotate_left(order.index(ops.len()));
            other.reverse();
            other.push(ops[again.index(ops.len())].clone());
        }
        prop_assert_eq!(fold(&ops), fold(&other));
    }

    #[test]
    fn a_row_is_the_naive_fold(ops in ops()) {
        prop_assert_eq!(shown(&fold(&ops)), naive(&ops));
    }

    /// Last write wins by clock; the same timestamp and counter: the larger node id.
    #[test]
    fn last_write_wins(ops in ops()) {
        let row = fold(&ops);
        for c in 0..COLUMNS {
            let newest = ops.iter().filter(|op| op.written.iter().any(|w| w.0 == c)).map(|op| op.hlc.clone()).max();
            prop_assert_eq!(row.cell(c).map(|cell| cell.hlc.clone()), newest);
        }
    }

    /// Deleted rows with later operations: the operation wins over the delete; without one the row is gone.
    #[test]
    fn a_later_operation_wins_over_a_delete(mut ops in ops(), later in any_op()) {
        ops.push(Op { hlc: hlc(100, 0), kind: OperationKind::Delete, written: vec![] });
        prop_assert_eq!(shown(&fold(&ops)), None);
        let before = fold(&ops);
        if later.kind != OperationKind::Delete {
            ops.push(Op { hlc: hlc(101, 0), ..later.clone() });
            let row = fold(&ops);
            prop_assert!(row.exists());
            // The whole row is back: what the later operation did not write shows the newest write from before the delete.
            for c in (0..COLUMNS).filter(|c| later.written.iter().all(|w| w.0 != *c)) {
                prop_assert_eq!(row.cell(c), before.cell(c));
            }
        }
    }

    /// Forgetting what the row no longer needs changes nothing, whatever comes later: this is what keeps the log bounded.
    #[test]
    fn forgetting_is_invisible(ops in ops(), later in ops()) {
        let all = fold(ops.iter().chain(&later));
        let compacted = fold(kept(&ops).iter().chain(&later));
        prop_assert_eq!(shown(&compacted), shown(&all));
        prop_assert_eq!(compacted.cells.iter().flatten().collect::<Vec<_>>(), all.cells.iter().flatten().collect::<Vec<_>>());
        prop_assert_eq!(compacted.born(), all.born());
    }

    /// What is kept in the end does not depend on when the rest was forgotten: two logs of the same operations are the same.
    #[test]
    fn what_is_kept_is_a_function_of_the_operations(ops in ops().prop_shuffle()) {
        let mut step_by_step = Vec::new();
        for op in &ops {
            step_by_step.push(op.clone());
            step_by_step = kept(&step_by_step);
        }
        let by_hlc = |mut ops: Vec<Op>| {
            ops.sort_by(|left, right| left.hlc.cmp(&right.hlc));
            format!("{ops:?}")
        };
        prop_assert_eq!(by_hlc(step_by_step), by_hlc(kept(&ops)));
    }
}

/// What a log of these operations keeps of them.
fn kept(ops: &[Op]) -> Vec<Op> {
    let row = fold(ops);
    let keep = |op: &Op| {
        let won: Vec<_> = row.columns_won_by(&op.hlc).collect();
        let written: Vec<_> = op.written.iter().filter(|w| won.contains(&w.0)).cloned().collect();
        (row.needs(&op.hlc, op.kind) || !written.is_empty()).then(|| Op { written, ..op.clone() })
    };
    ops.iter().filter_map(keep).collect()
}

fn op(kind: OperationKind, ts: u64, written: &[(usize, i64)]) -> Op {
    let written = written.iter().map(|(column, value)| (*column, SqlValue::Integer(*value))).collect();
    Op { hlc: hlc(ts, 0), kind, written }
}

#[test]
fn rows_that_differ_in_one_register_that_counts_do_not_decide_alike() {
    use OperationKind::{Delete, Insert, Update};
    let insert = || op(Insert, 1, &[(0, 1)]);
    let different: [[Vec<Op>; 2]; 4] = [
        // A cell; the birth; what keeps the row alive; what keeps it dead.
        [vec![insert()], vec![op(Insert, 1, &[(0, 2)])]],
        [vec![op(Insert, 2, &[(0, 1)])], vec![op(Insert, 1, &[]), op(Insert, 2, &[(0, 1)])]],
        [vec![insert()], vec![insert(), op(Update, 2, &[])]],
        [vec![insert(), op(Delete, 2, &[])], vec![insert(), op(Delete, 3, &[])]],
    ];
    for [left, right] in &different {
        assert!(!fold(left).decides_as(&fold(right)), "{left:?} {right:?}");
        assert!(fold(left).decides_as(&fold(left)));
    }
    let alike: [[Vec<Op>; 2]; 2] = [
        // A beaten DELETE; what kept a row alive that is gone.
        [vec![op(Insert, 2, &[(0, 1)])], vec![op(Insert, 2, &[(0, 1)]), op(Delete, 1, &[])]],
        [vec![insert(), op(Delete, 3, &[])], vec![insert(), op(Update, 2, &[]), op(Delete, 3, &[])]],
    ];
    for [left, right] in &alike {
        assert!(fold(left).decides_as(&fold(right)), "{left:?} {right:?}");
    }
}

#[test]
fn what_decides_nothing_is_not_needed() {
    use OperationKind::{Delete, Insert, Update};
    let (insert, update, delete) = (op(Insert, 1, &[(0, 1)]), op(Update, 2, &[(0, 2)]), op(Delete, 3, &[]));
    let again = op(Insert, 4, &[(0, 4)]);
    let needed = |ops: &[&Op]| -> Vec<bool> {
        let row = fold(ops.iter().copied());
        ops.iter().map(|op| row.needs(&op.hlc, op.kind)).collect()
    };
    // Born by the first; alive by the last.
    assert_eq!(needed(&[&insert, &update]), [true, true]);
    assert_eq!(needed(&[&insert, &update, &delete]), [true, false, true]);
    // The DELETE is beaten, and stays until its time is over.
    assert_eq!(needed(&[&insert, &update, &delete, &again]), [true, false, true, true]);
    // A row that was never born, and died.
    assert_eq!(needed(&[&update, &delete]), [false, true]);
    // Born again before it died: that INSERT shows nothing.
    let between = op(Insert, 2, &[(0, 3)]);
    assert_eq!(needed(&[&insert, &between, &delete]), [true, false, true]);
}

proptest! {
    /// What is told of a row is enough to tell whether two rows decide alike.
    #[test]
    fn rows_that_decide_alike_show_alike_whatever_comes(
        ops in prop::collection::vec(any_op(), 0..8),
        more in any_op(),
        later in prop::collection::vec(any_op(), 0..4),
    ) {
        let (before, mut after) = (fold(&ops), fold(&ops));
        after.apply(&more.hlc, more.kind, more.written.clone());
        prop_assert!(before.decides_as(&before) && after.decides_as(&after));
        if before.decides_as(&after) {
            let whole: Vec<Op> = ops.iter().chain(&later).cloned().collect();
            let with: Vec<Op> = ops.iter().chain([&more]).chain(&later).cloned().collect();
            prop_assert_eq!(shown(&fold(&whole)), shown(&fold(&with)));
            let (whole, with) = (fold(&whole), fold(&with));
            prop_assert_eq!(whole.born(), with.born());
        }
    }
}
