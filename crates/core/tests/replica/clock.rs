//! The clock of a replica, as the operations that it writes show it: it never goes back, never gives a value twice, and never makes a write wait.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::{Peer, assert_equal, peer};
use rtc_battery_core::Replica;
use rtc_battery_proto::{Hlc, Operation, ReplicaId, Tick, VersionVector};
use rusqlite::Connection;

const HOUR_MS: u64 = 3_600_000;

fn open(file: &Path, wall_ms: u64) -> Peer {
    let replica = Replica::open(Connection::open(file).unwrap(), "room", &ReplicaId::new("a").unwrap()).unwrap();
    Peer { replica, wall_ms }
}

/// Everything that a replica has, in large parts.
fn everything(peer: &Peer) -> (Vec<Operation>, VersionVector) {
    let mut reader = peer.replica.delta(&VersionVector::default()).unwrap();
    let mut operations = Vec::new();
    loop {
        let chunk = peer.replica.read_delta(&mut reader, 1 << 24).unwrap();
        operations.extend(chunk.operations);
        if let Some(end) = chunk.end {
            return (operations, end.covers);
        }
    }
}

/// The clock values of all operations, which are all different.
fn clocks(peer: &Peer) -> BTreeSet<Hlc> {
    let (operations, _) = everything(peer);
    let clocks: BTreeSet<Hlc> = operations.iter().map(|operation| operation.hlc.clone()).collect();
    assert_eq!(clocks.len(), operations.len(), "a clock value was given twice");
    clocks
}

#[test]
fn many_writes_in_one_millisecond_are_told_apart_and_in_order() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    a.exec("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 199000) INSERT INTO t SELECT i, 0 FROM n");
    for id in 199_001..=200_000 {
        a.exec(&format!("INSERT INTO t VALUES ({id}, 0)"));
    }
    let all = clocks(&a);
    assert_eq!(all.len(), 200_001);
    assert!(all.iter().all(|hlc| hlc.tick.ts == a.wall_ms), "the millisecond has counters for all of them");
    let (operations, covers) = everything(&a);
    b.replica.apply(operations, &covers, b.now()).unwrap();
    assert_eq!(a.replica.digest().unwrap(), b.replica.digest().unwrap());
    a.exec("UPDATE t SET x = 1 WHERE id = 1");
    let newest = a.replica.take_committed(u64::MAX).pop().unwrap().operations.unwrap();
    assert!(&newest[0].hlc > all.last().unwrap());
}

#[test]
fn a_full_counter_carries_into_the_time() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    let full = serde_json::json!({
        "hlc": {"ts": a.wall_ms, "counter": u32::MAX - 1, "nodeId": "stranger"},
        "type": "INSERT", "table": "t", "pk": {"id": 1}, "values": {"x": 1}
    });
    let full: Operation = serde_json::from_value(full).unwrap();
    a.replica.adopt(vec![full], a.now()).unwrap();
    a.replica.take_committed(u64::MAX);
    a.exec("INSERT INTO t VALUES (2, 0), (3, 0)");
    let told = a.replica.take_committed(u64::MAX).pop().unwrap().operations.unwrap();
    let ticks: Vec<Tick> = told.iter().map(|operation| operation.hlc.tick).collect();
    let ts = a.wall_ms;
    assert_eq!(ticks, [Tick { ts, counter: u32::MAX }, Tick { ts: ts + 1, counter: 0 }]);
}

#[test]
fn a_wall_clock_that_is_set_back_changes_no_order_running_or_stopped() {
    let file = std::env::temp_dir().join(format!("rtc-battery-clock-{}.db", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let mut b = peer("b");
    {
        let mut a = open(&file, 10 * HOUR_MS);
        a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'first')");
        a.at(8 * HOUR_MS, "UPDATE t SET x = 'set back while running'");
        b.wall_ms = 10 * HOUR_MS;
        b.pull(&a);
        assert_eq!(b.rows("SELECT x FROM t"), [r#""set back while running""#]);
    }
    let mut a = open(&file, 5 * HOUR_MS);
    a.exec("UPDATE t SET x = 'set back while stopped'");
    clocks(&a);
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_eq!(b.rows("SELECT x FROM t"), [r#""set back while stopped""#]);
    // Time goes on from where it was, and with the wall clock once that is past it.
    assert!(clocks(&a).iter().all(|hlc| hlc.tick.ts == 10 * HOUR_MS));
    a.at(11 * HOUR_MS, "UPDATE t SET x = 'later'");
    assert_eq!(clocks(&a).last().unwrap().tick, Tick { ts: 11 * HOUR_MS, counter: 0 });
    drop(a);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn who_has_heard_of_a_fast_clock_writes_after_it() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.at(
        48 * HOUR_MS,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'from the day after tomorrow')",
    );
    b.wall_ms = 48 * HOUR_MS - 4 * 60_000;
    b.pull(&a);
    b.at(HOUR_MS, "UPDATE t SET x = 'today'");
    a.pull(&b);
    assert_equal(&mut a, &mut b);
    assert_eq!(a.rows("SELECT x FROM t"), [r#""today""#]);
}
