//! Operations without a dot, as a peer that speaks only the specification sends them.

use crate::common::{Peer, assert_equal, peer};
use proptest::prelude::*;
use rtc_battery_proto::{Operation, VersionVector};
use serde_json::json;

fn plain(ts: u64, node: &str, kind: &str, id: i64, values: serde_json::Value) -> Operation {
    let hlc = json!({"ts": ts, "counter": 0, "nodeId": node});
    serde_json::from_value(json!({"hlc": hlc, "type": kind, "table": "t", "pk": {"id": id}, "values": values})).unwrap()
}

fn with_table() -> Peer {
    let mut peer = peer("a");
    peer.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y)");
    peer
}

#[test]
fn an_adopted_operation_keeps_its_clock_and_travels_as_ours() {
    let (mut a, mut b, mut c) = (with_table(), peer("b"), peer("c"));
    let insert = plain(500, "stranger", "INSERT", 1, json!({"x": 1}));
    let (applied, covers) = a.replica.adopt(vec![insert.clone()], a.now()).unwrap();
    assert_eq!((applied.operations, covers), (1, serde_json::from_str(r#"{"a":[[2,2]]}"#).unwrap()));
    let live = a.replica.take_committed(9).pop().unwrap().operations.unwrap();
    assert_eq!(live[0].hlc, insert.hlc);
    b.pull(&a);
    c.pull(&b);
    assert_equal(&mut a, &mut c);
    // A later write of ours wins, an earlier one of the stranger's does not.
    b.exec("UPDATE t SET x = 2");
    b.replica.adopt(vec![plain(400, "stranger", "UPDATE", 1, json!({"x": 3, "y": 3}))], b.now()).unwrap();
    a.pull(&b);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|2|3"]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn what_is_known_or_beaten_is_not_adopted_again() {
    let mut a = with_table();
    let operations = vec![
        plain(1, "s", "INSERT", 1, json!({"x": 1})),
        plain(2, "s", "UPDATE", 1, json!({"x": 2})),
        plain(3, "s", "DELETE", 2, json!(null)),
        serde_json::from_value(json!({"hlc": {"ts": 4, "counter": 0, "nodeId": "s"}, "type": "INSERT", "table": "later", "pk": {"k": 1}, "values": {}})).unwrap(),
    ];
    a.replica.adopt(operations.clone(), a.now()).unwrap();
    let (version, vector, log) = (a.replica.version(), a.replica.vector().clone(), a.log());
    for _ in 0..2 {
        let (applied, covers) = a.replica.adopt(operations.clone(), a.now()).unwrap();
        assert_eq!((applied.operations, covers), (0, VersionVector::default()));
    }
    assert_eq!((a.replica.version(), a.replica.vector(), a.log()), (version, &vector, log));
}

/// Under a collation a key has several spellings, and one who leaves it out of the values has not written any of them.
#[test]
fn a_key_that_nobody_wrote_is_spelled_alike_whatever_came_first() {
    let operation = |ts: u64, kind: &str, column: &str| -> Operation {
        let hlc = json!({"ts": ts, "counter": 0, "nodeId": "s"});
        let values = json!({column: 1});
        serde_json::from_value(json!({"hlc": hlc, "type": kind, "table": "t", "pk": {"k": "Key"}, "values": values}))
            .unwrap()
    };
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, x, y)");
    b.pull(&a);
    let (insert, update) = (operation(1, "INSERT", "x"), operation(2, "UPDATE", "y"));
    a.replica.adopt(vec![insert.clone(), update.clone()], a.now()).unwrap();
    b.replica.adopt(vec![update, insert], b.now()).unwrap();
    assert_eq!(a.rows("SELECT * FROM t"), b.rows("SELECT * FROM t"));
}

#[test]
fn two_of_ours_that_adopt_the_same_operations_show_the_same_rows_and_fall_silent() {
    let (mut a, mut b) = (with_table(), peer("b"));
    b.pull(&a);
    let operations = vec![plain(1, "s", "INSERT", 1, json!({"x": 1})), plain(2, "s", "UPDATE", 1, json!({"y": "é"}))];
    a.replica.adopt(operations.clone(), a.now()).unwrap();
    b.replica.adopt(operations.into_iter().rev().collect(), b.now()).unwrap();
    for _ in 0..3 {
        b.pull(&a);
        a.pull(&b);
    }
    assert_eq!(a.dump(), b.dump());
    assert_eq!(a.replica.vector(), b.replica.vector());
    a.exec("DELETE FROM t");
    b.pull(&a);
    assert_eq!((a.dump(), b.dump()), (vec![], vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whoever adopts what, in whatever order and however often, all end with the same rows.
    #[test]
    fn adoption_converges(
        operations in prop::collection::vec((0..6u64, 0..2usize, 0..3usize, 1..3i64, 0..4i64, any::<bool>()), 1..8),
        parts in prop::collection::vec((0..3usize, 0..8usize, 0..8usize, any::<bool>()), 1..8),
    ) {
        let operations: Vec<Operation> = operations.into_iter().map(|(ts, node, kind, id, value, both)| {
            let values = if both { json!({"x": value, "y": value}) } else { json!({"x": value}) };
            plain(ts, ["p", "q"][node], ["INSERT", "UPDATE", "DELETE"][kind], id, values)
        }).collect();
        let mut peers = [with_table(), peer("b"), peer("c")];
        for n in 1..3 {
            let (left, right) = peers.split_at_mut(n);
            right[0].pull(&left[0]);
        }
        for (who, from, len, all) in parts {
            let from = from.min(operations.len());
            let to = if all { operations.len() } else { (from + len).min(operations.len()) };
            peers[who].replica.adopt(operations[from..to].to_vec(), peers[who].now()).unwrap();
        }
        peers[0].replica.adopt(operations, peers[0].now()).unwrap();
        for (low, high) in [(0, 1), (1, 2), (0, 2), (0, 1)] {
            let (left, right) = peers.split_at_mut(high);
            right[0].pull(&left[low]);
            left[low].pull(&right[0]);
        }
        let [a, b, c] = &mut peers;
        prop_assert_eq!(a.dump(), b.dump());
        prop_assert_eq!(a.dump(), c.dump());
        prop_assert_eq!(a.replica.vector(), c.replica.vector());
    }
}
