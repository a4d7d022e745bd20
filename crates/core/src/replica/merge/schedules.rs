//! Merge alone, under delivery in every order: no SQLite, only [`RowState`] and a fold of the rules that knows nothing of it.
//!
//! A seed is a case; a failure tells it. `RTC_BATTERY_SCHEDULES=10` runs ten times as many (`cargo xtask soak`).

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rtc_battery_proto::{Hlc, OperationKind, ReplicaId, SqlValue, Tick};

use super::rules::RowState;

const COLUMNS: usize = 3;

#[derive(Debug, Clone, PartialEq)]
struct Op {
    hlc: Hlc,
    kind: OperationKind,
    written: Vec<(usize, SqlValue)>,
}

/// A row by the rules of design.md, "Merge rules". Dead rows have columns too: a later operation shows them again.
#[derive(Debug, PartialEq)]
struct Row {
    exists: bool,
    columns: Vec<Option<SqlValue>>,
    born: Option<Hlc>,
}

/// All operations at once, one rule after the other.
fn naive(ops: &[Op]) -> Row {
    let clocks = |kinds: &[OperationKind]| -> Vec<Hlc> {
        ops.iter().filter(|op| kinds.contains(&op.kind)).map(|op| op.hlc.clone()).collect()
    };
    let deletes = clocks(&[OperationKind::Delete]);
    let lives = clocks(&[OperationKind::Insert, OperationKind::Update]);
    // The row exists if its liveness is newer than its newest DELETE.
    let exists = lives.iter().any(|live| deletes.iter().all(|delete| live > delete));
    // Each column's newest write; two contents under one clock value: the larger.
    let column = |column: usize| {
        let mut writes: Vec<(&Hlc, &SqlValue)> = Vec::new();
        for op in ops {
            writes.extend(op.written.iter().filter(|write| write.0 == column).map(|write| (&op.hlc, &write.1)));
        }
        writes.sort();
        writes.last().map(|(_, value)| (*value).clone())
    };
    // The oldest INSERT; what a file brought was inserted nobody knows when.
    let mut births = clocks(&[OperationKind::Insert]);
    births.retain(|hlc| (hlc.tick.ts, hlc.tick.counter) != (0, 0));
    births.sort();
    Row { exists, columns: (0..COLUMNS).map(column).collect(), born: births.first().cloned() }
}

/// A row as a replica keeps it: its state, and the operations it would find in its log.
#[derive(Debug, Clone, Default)]
struct Kept {
    state: RowState,
    log: Vec<Op>,
}

impl Kept {
    fn deliver(&mut self, op: &Op) {
        self.state.apply(&op.hlc, op.kind, op.written.iter().cloned());
        self.log.push(op.clone());
    }

    /// Keeps what the state needs and reads it again, as a replica does that stores the row and loads it.
    fn forget(&mut self) {
        let state = &self.state;
        self.log.retain_mut(|op| {
            op.written.retain(|(column, _)| state.columns_won_by(&op.hlc).any(|won| won == *column));
            !op.written.is_empty() || state.needs(&op.hlc, op.kind)
        });
        self.state = RowState::default();
        for op in &self.log {
            self.state.apply(&op.hlc, op.kind, op.written.iter().cloned());
        }
    }

    fn row(&self) -> Row {
        let column = |column| self.state.cell(column).map(|cell| cell.value.clone());
        Row {
            exists: self.state.exists(),
            columns: (0..COLUMNS).map(column).collect(),
            born: self.state.born().cloned(),
        }
    }
}

/// Chance, from a seed.
struct Chance(ChaCha8Rng);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.next_u32() as usize % end
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Few clocks and nodes, so that ties happen, and one clock value with two contents.
    fn op(&mut self) -> Op {
        const KINDS: [OperationKind; 3] = [OperationKind::Insert, OperationKind::Update, OperationKind::Delete];
        let tick = Tick { ts: self.below(6) as u64, counter: self.below(2) as u32 };
        let node = ReplicaId::new(["a", "b", "c"][self.below(3)]).unwrap();
        let kind = KINDS[self.below(3)];
        let mut written = Vec::new();
        for column in 0..COLUMNS {
            if kind != OperationKind::Delete && !self.one_in(2) {
                written.push((column, self.value()));
            }
        }
        Op { hlc: Hlc { tick, node }, kind, written }
    }

    fn value(&mut self) -> SqlValue {
        match self.below(5) {
            0 => SqlValue::Null,
            1 => SqlValue::Real(1.0),
            2 => SqlValue::text(["a", "A"][self.below(2)]),
            3 => SqlValue::Blob(vec![b'a']),
            _ => SqlValue::Integer(self.below(3) as i64),
        }
    }
}

/// How many times the usual number.
fn factor() -> u64 {
    std::env::var("RTC_BATTERY_SCHEDULES").map_or(1, |factor| factor.parse().unwrap())
}

/// Delivers what is left in every order.
fn every_order(kept: &Kept, left: &[Op], forget: bool, check: &mut impl FnMut(&Kept)) {
    if left.is_empty() {
        return check(kept);
    }
    for n in 0..left.len() {
        let (mut next, mut rest) = (kept.clone(), left.to_vec());
        next.deliver(&rest.remove(n));
        if forget {
            next.forget();
        }
        every_order(&next, &rest, forget, check);
    }
}

#[test]
fn every_order_of_six_operations_is_the_naive_fold() {
    for seed in 0..300 * factor() {
        let mut chance = Chance::new(seed);
        let ops: Vec<Op> = (0..6).map(|_| chance.op()).collect();
        let expected = naive(&ops);
        for forget in [false, true] {
            let mut orders = 0;
            every_order(&Kept::default(), &ops, forget, &mut |kept| {
                orders += 1;
                assert_eq!(kept.row(), expected, "seed {seed}, forgetting: {forget}, {ops:#?}");
            });
            assert_eq!(orders, 720);
        }
    }
}

/// Up to 40 operations in any order, some again and again, some forgotten in between. Two replicas that get them differently agree.
#[test]
fn schedules_with_repetitions_and_forgetting_are_the_naive_fold() {
    for seed in 0..20_000 * factor() {
        let mut chance = Chance::new(seed);
        let ops: Vec<Op> = (0..1 + chance.below(40)).map(|_| chance.op()).collect();
        let expected = naive(&ops);
        for _ in 0..2 {
            let mut kept = Kept::default();
            let mut left: Vec<&Op> = ops.iter().collect();
            while !left.is_empty() {
                let n = chance.below(left.len());
                let op = if chance.one_in(4) { &ops[chance.below(ops.len())] } else { left.swap_remove(n) };
                kept.deliver(op);
                if chance.one_in(3) {
                    kept.forget();
                }
            }
            assert_eq!(kept.row(), expected, "seed {seed}, {ops:#?}");
        }
    }
}
