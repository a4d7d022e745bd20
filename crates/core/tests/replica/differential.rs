//! The judge of capture and merge: random SQL on some replicas, their operations given to others in any order, and every database the same
//! afterwards, types and bits included.

use crate::common::programs::{DEFINITIONS, SCHEMA, TRIGGERS, cases, meeting, program, run, run_in};
use crate::common::{Peer, assert_equal, assert_equal_but_for_what_drops_left, peer, sync};
use proptest::prelude::*;
use rtc_battery_core::replica::{Committed, Scope};
use rtc_battery_proto::{Columns, Operation};

fn give(to: &mut Peer, committed: &Committed) {
    let operations = committed.operations.clone().unwrap();
    assert_eq!(to.replica.apply(operations, &committed.covers, to.now()).unwrap().refused, Vec::<String>::new());
}

proptest! {
    #![proptest_config(cases(400))]

    /// One writer; its transactions live and in order, live and shuffled with repetitions, and as one compacted delta in any order.
    #[test]
    fn replay_makes_the_same_database(program in program(25), seed in any::<u64>()) {
        let mut a = peer("a");
        a.exec(SCHEMA);
        a.local(TRIGGERS);
        run(&mut a, &program);
        let live = a.replica.take_committed(u64::MAX);
        let (mut in_order, mut shuffled, mut whole) = (peer("b"), peer("c"), peer("d"));
        live.iter().for_each(|committed| give(&mut in_order, committed));
        let mut order: Vec<&Committed> = live.iter().chain(&live).collect();
        let mut state = seed;
        for last in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(last, (state >> 33) as usize % (last + 1));
        }
        order.into_iter().for_each(|committed| give(&mut shuffled, committed));
        let (mut operations, covers) = a.delta(&Default::default());
        operations.reverse();
        whole.replica.apply(operations, &covers, whole.now()).unwrap();
        for other in [&mut in_order, &mut shuffled, &mut whole] {
            assert_equal(&mut a, other);
            prop_assert_eq!(other.rows("PRAGMA integrity_check"), ["\"ok\""]);
        }
    }

    /// Three writers that exchange deltas now and then. Where no operations are kept at hand, inserted rows are not read again.
    #[test]
    fn concurrent_writers_converge(
        rounds in prop::collection::vec((0..3usize, 0..3usize, prop_oneof![program(6), prop::collection::vec(meeting(), 1..6)]), 1..10),
        at_hand in any::<bool>(),
    ) {
        let mut first = peer("a");
        first.exec(SCHEMA);
        let mut peers = [first, peer("b"), peer("c")];
        if !at_hand {
            peers.iter_mut().for_each(|peer| peer.replica.keep_at_hand(0));
        }
        for n in 1..3 {
            let (left, right) = peers.split_at_mut(n);
            right[0].pull(&left[0]);
        }
        peers[0].local(TRIGGERS);
        peers[1].local(TRIGGERS);
        for (writer, source, program) in rounds {
            run(&mut peers[writer], &program);
            if source != writer {
                let (low, high) = (source.min(writer), source.max(writer));
                let (left, right) = peers.split_at_mut(high);
                let (low, high) = (&mut left[low], &mut right[0]);
                if source < writer { high.pull(low) } else { low.pull(high) };
            }
        }
        for (to, from) in [(0, 1), (2, 0), (1, 2), (0, 2)] {
            let (low, high) = (to.min(from), to.max(from));
            let (left, right) = peers.split_at_mut(high);
            let (low, high) = (&mut left[low], &mut right[0]);
            if to < from { low.pull(high) } else { high.pull(low) };
        }
        let [a, b, c] = &mut peers;
        assert_equal_but_for_what_drops_left(a, b);
        assert_equal_but_for_what_drops_left(a, c);
        // What waits for a table that was dropped is the same too.
        for create in DEFINITIONS.iter().filter(|definition| definition.starts_with("CREATE")) {
            a.exec(create);
        }
        b.pull(a);
        c.pull(a);
        assert_equal_but_for_what_drops_left(a, b);
        assert_equal_but_for_what_drops_left(a, c);
    }
}

/// The log without the spelling of keys: where a row is not shown, it is the canonical one.
fn registers(peer: &Peer) -> Vec<Operation> {
    let mut operations = peer.delta(&Default::default()).0;
    operations.iter_mut().for_each(|operation| operation.pk = Columns::new());
    operations.sort_by(|left, right| left.hlc.cmp(&right.hlc));
    operations
}

proptest! {
    #![proptest_config(cases(150))]

    /// Two writers, one of whom also writes with `execLocal`: what is replicated stays what was told, whatever the tables show.
    #[test]
    fn local_writes_are_told_to_nobody(
        rounds in prop::collection::vec((0..4, any::<bool>(), prop::collection::vec(meeting(), 1..5)), 1..20),
        at_hand in any::<bool>(),
    ) {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.exec(SCHEMA);
        b.pull(&a);
        if !at_hand {
            a.replica.keep_at_hand(0);
        }
        for (who, meet, program) in rounds {
            let before = a.replica.version();
            match who {
                0 => run(&mut b, &program),
                1 => run(&mut a, &program),
                _ => {
                    run_in(&mut a, Scope::Local, &program);
                    prop_assert_eq!(a.replica.version(), before);
                }
            }
            if meet {
                sync(&mut a, &mut b);
                prop_assert_eq!(registers(&a), registers(&b));
                prop_assert_eq!(a.replica.digest().unwrap(), b.replica.digest().unwrap());
            }
        }
        sync(&mut a, &mut b);
        prop_assert_eq!(registers(&a), registers(&b));
        prop_assert_eq!(a.replica.vector(), b.replica.vector());
        prop_assert_eq!(a.rows("PRAGMA integrity_check"), ["\"ok\""]);
    }
}
