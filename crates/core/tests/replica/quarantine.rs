//! What is stamped more than five minutes ahead of the wall clock: set aside, passed on, shown when time has caught up.

use std::path::Path;

use crate::common::{Peer, assert_equal, both, peer};
use rtc_battery_core::Replica;
use rtc_battery_core::replica::Applied;
use rtc_battery_proto::{Operation, ReplicaId, VersionVector};
use rusqlite::Connection;
use serde_json::json;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const NOTES: &str = "SELECT content FROM notes ORDER BY id";

/// One whose clock has just come to this time, and what that brought.
fn at(peer: &mut Peer, wall_ms: u64) -> Option<Applied> {
    peer.wall_ms = wall_ms;
    let now = peer.now();
    peer.replica.release(now).unwrap()
}

fn plain(ts: u64, counter: u32, id: &str, content: &str) -> Operation {
    serde_json::from_value(json!({
        "hlc": {"ts": ts, "counter": counter, "nodeId": "stranger"}, "type": "INSERT", "table": "notes", "pk": {"id": id},
        "values": {"id": id, "content": content}
    }))
    .unwrap()
}

#[test]
fn what_is_from_the_future_is_shown_when_time_has_caught_up() {
    let (mut a, mut b) = both();
    a.at(HOUR_MS, "UPDATE notes SET content = 'from the future'");
    b.wall_ms = 2 * MINUTE_MS;
    let applied = b.pull(&a);
    assert_eq!((applied.operations, applied.set_aside, applied.until_ms), (0, 1, 55 * MINUTE_MS));
    assert_eq!(b.rows(NOTES), [r#""one""#]);
    assert_eq!(b.replica.digest().unwrap(), None, "what is set aside is in the vector and shows nothing");
    // The clock has not seen it, and a local write is not held up.
    b.exec("INSERT INTO notes VALUES ('2', 'today')");
    let today = b.replica.take_committed(u64::MAX).pop().unwrap().operations.unwrap();
    assert_eq!(today[0].hlc.tick.ts, 2 * MINUTE_MS);
    b.exec("UPDATE notes SET content = 'today' WHERE id = '1'");

    assert_eq!(b.replica.release_at_ms(), Some(55 * MINUTE_MS));
    assert_eq!(at(&mut b, 55 * MINUTE_MS - 1), None);
    let version = b.replica.version();
    assert_eq!(at(&mut b, 55 * MINUTE_MS).unwrap().operations, 1);
    assert!(b.replica.version() > version, "what is shown has changed");
    assert_eq!(b.rows(NOTES), [r#""from the future""#, r#""today""#]);
    assert_eq!(at(&mut b, 2 * HOUR_MS), None, "once");
    a.pull(&b);
    assert_equal(&mut a, &mut b);
    // Now the clock has seen it.
    b.at(30 * MINUTE_MS, "UPDATE notes SET content = 'later' WHERE id = '1'");
    a.pull(&b);
    assert_eq!(a.rows(NOTES), [r#""later""#, r#""today""#]);
}

#[test]
fn five_minutes_are_not_the_future_and_the_past_never_is() {
    let (mut a, mut b) = both();
    a.at(HOUR_MS, "INSERT INTO notes VALUES ('2', 'two')");
    b.wall_ms = 55 * MINUTE_MS;
    assert_eq!(b.pull(&a).set_aside, 0);
    b.at(1000 * 24 * HOUR_MS, "INSERT INTO notes VALUES ('3', 'three')");
    a.at(HOUR_MS, "INSERT INTO notes VALUES ('4', 'four')");
    assert_eq!(b.pull(&a).set_aside, 0, "whoever was away for years is not late");
}

#[test]
fn it_survives_a_restart_and_is_told_to_others() {
    let file = std::env::temp_dir().join(format!("rtc-battery-quarantine-{}.db", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let open = |file: &Path| {
        let replica = Replica::open(Connection::open(file).unwrap(), "room", &ReplicaId::new("b").unwrap()).unwrap();
        Peer { replica, wall_ms: 1000 }
    };
    let mut a = peer("a");
    a.exec(crate::common::NOTES);
    let mut b = open(&file);
    b.pull(&a);
    a.at(HOUR_MS, "BEGIN; INSERT INTO notes VALUES ('1', 'one'); INSERT INTO notes VALUES ('2', 'two'); COMMIT");
    assert_eq!(b.pull(&a).set_aside, 2);
    let (vector, version) = (b.replica.vector().clone(), b.replica.version());
    drop(b);

    let mut b = open(&file);
    assert_eq!((b.replica.vector(), b.replica.version()), (&vector, version));
    assert_eq!(b.rows(NOTES), [""; 0]);
    // A newcomer gets it from one who only keeps it, also one whose clock is right.
    let (mut c, mut d) = (peer("c"), peer("d"));
    assert_eq!(c.pull(&b).set_aside, 2);
    d.wall_ms = HOUR_MS;
    assert_eq!(d.pull(&c).set_aside, 0);
    assert_eq!(d.rows(NOTES), [r#""one""#, r#""two""#]);
    for peer in [&mut b, &mut c] {
        assert_eq!(at(peer, HOUR_MS).unwrap().operations, 2);
        assert_equal(peer, &mut a);
        assert_equal(peer, &mut d);
    }
    drop(b);
    let mut b = open(&file);
    assert_eq!(at(&mut b, HOUR_MS), None);
    assert_equal(&mut b, &mut a);
    drop(b);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_transaction_waits_as_a_whole_and_others_do_not_wait_with_it() {
    let (mut a, mut b) = both();
    // Of one transaction only the last operation is more than five minutes ahead: the counter of its millisecond is full.
    let full = json!({"ts": 10 * MINUTE_MS, "counter": u32::MAX, "nodeId": "x"});
    let next = json!({"ts": 10 * MINUTE_MS + 1, "counter": 0, "nodeId": "x"});
    let hlcs = [full, next];
    let operations = hlcs.iter().enumerate().map(|(n, hlc)| {
        let id = format!("x{n}");
        let tx = json!({"first": {"ts": 10 * MINUTE_MS, "counter": u32::MAX}, "n": 2});
        let values = json!({"id": id, "content": "together"});
        let operation = json!({"hlc": hlc, "type": "INSERT", "table": "notes", "pk": {"id": id}, "values": values, "seq": 1, "tx": tx});
        serde_json::from_value::<Operation>(operation).unwrap()
    });
    let mut operations: Vec<Operation> = operations.collect();
    a.at(MINUTE_MS, "INSERT INTO notes VALUES ('2', 'two')");
    let (others, _) = a.delta(b.replica.vector());
    operations.extend(others);
    let covers: VersionVector = serde_json::from_value(json!({"a": [[3, 3]], "x": [[1, 1]]})).unwrap();
    b.wall_ms = 5 * MINUTE_MS;
    let applied = b.replica.apply(operations, &covers, b.now()).unwrap();
    assert_eq!((applied.operations, applied.set_aside), (1, 2));
    assert_eq!(b.rows(NOTES), [r#""one""#, r#""two""#]);
    assert_eq!(at(&mut b, 5 * MINUTE_MS + 1).unwrap().operations, 2);
    assert_eq!(b.rows("SELECT count(*) FROM notes"), ["4"]);
}

#[test]
fn a_table_from_the_future_comes_with_its_rows() {
    let (mut a, mut b) = both();
    a.at(HOUR_MS, "CREATE TABLE later (id INTEGER PRIMARY KEY, x); INSERT INTO later VALUES (1, 'row')");
    assert_eq!(b.pull(&a).set_aside, 2);
    assert!(b.try_exec("SELECT * FROM later").is_err());
    assert_eq!(at(&mut b, HOUR_MS).unwrap().operations, 2);
    assert_equal(&mut a, &mut b);
    assert_eq!(b.rows("SELECT x FROM later"), [r#""row""#]);
}

#[test]
fn the_log_lists_what_is_set_aside() {
    let (mut a, mut b) = both();
    a.at(HOUR_MS, "UPDATE notes SET content = 'future'");
    b.pull(&a);
    let listed = r#"SELECT "when", node, type, "table", pk, "values", waits FROM rtc_log WHERE waits"#;
    let line = r#""1970-01-01T01:00:00.000Z"|"a"|"UPDATE"|"notes"|"id = '1'"|"content = 'future'"|1"#;
    assert_eq!(b.rows(listed), [line]);
    let until = (55 * MINUTE_MS).to_string();
    assert_eq!(b.rows("SELECT until FROM rtc_quarantine"), [until]);
    assert!(b.try_exec("DELETE FROM rtc_quarantine").is_err());
    at(&mut b, HOUR_MS);
    assert_eq!(b.rows("SELECT count(*) FROM rtc_log WHERE waits"), ["0"]);
}

#[test]
fn a_plain_peers_operations_wait_each_for_its_own_time_and_are_kept_once() {
    let (mut a, mut b) = both();
    let told =
        || vec![plain(2000, 0, "p1", "now"), plain(HOUR_MS, 0, "p2", "soon"), plain(2 * HOUR_MS, 0, "p3", "later")];
    let (applied, covers) = a.replica.adopt(told(), a.now()).unwrap();
    assert_eq!((applied.operations, applied.set_aside), (1, 2));
    assert_eq!(covers.iter().map(|(_, ranges)| ranges.iter().collect::<Vec<_>>()).collect::<Vec<_>>(), [[(3, 5)]]);
    // It says everything again, and says it to others too.
    assert_eq!(a.replica.adopt(told(), a.now()).unwrap(), (Applied::default(), VersionVector::default()));
    // Also what is left of it where something was overwritten since.
    let mut rest = plain(HOUR_MS, 0, "p2", "soon");
    rest.values = serde_json::from_str(r#"{"id":"p2"}"#).unwrap();
    assert_eq!(a.replica.adopt(vec![rest], a.now()).unwrap(), (Applied::default(), VersionVector::default()));
    assert_eq!(b.replica.adopt(told(), b.now()).unwrap().0.set_aside, 2);
    assert_eq!(a.pull(&b).set_aside, 0, "it has them from the plain peer");
    assert_eq!(b.pull(&a).set_aside, 0);
    for peer in [&mut a, &mut b] {
        assert_eq!(at(peer, HOUR_MS).unwrap().operations, 1);
        assert_eq!(peer.rows(NOTES), [r#""one""#, r#""now""#, r#""soon""#]);
        assert_eq!(at(peer, 2 * HOUR_MS).unwrap().operations, 1);
    }
    // Each keeps it under the name that it gave it.
    assert_eq!((a.dump(), a.replica.digest().unwrap()), (b.dump(), b.replica.digest().unwrap()));
    let mut c = peer("c");
    c.pull(&a);
    assert_eq!(c.rows("SELECT content FROM notes"), [r#""one""#, r#""now""#]);
}

#[test]
fn what_does_not_fit_is_refused_and_asked_for_again() {
    let (mut a, mut b) = both();
    a.at(HOUR_MS, "INSERT INTO notes SELECT 'n' || column1, hex(zeroblob(1500000)) FROM (VALUES (1), (2), (3), (4))");
    let (first, second) = (a.replica.vector().clone(), 2 * HOUR_MS);
    assert_eq!(b.pull(&a).set_aside, 4, "12 MB fit");
    a.at(second, "INSERT INTO notes SELECT 'm' || column1, hex(zeroblob(1500000)) FROM (VALUES (1), (2), (3), (4))");
    let (operations, covers) = a.delta(b.replica.vector());
    let applied = b.replica.apply(operations.clone(), &covers, b.now()).unwrap();
    assert_eq!((applied.set_aside, applied.operations, applied.refused.len()), (0, 0, 1), "24 MB do not");
    assert_eq!(b.replica.vector(), &first, "what was refused is not here");
    // When the first are due there is room.
    assert_eq!(at(&mut b, HOUR_MS).unwrap().operations, 4);
    let applied = b.replica.apply(operations, &covers, b.now()).unwrap();
    assert_eq!((applied.set_aside, applied.refused.len()), (4, 0));
    assert_eq!(at(&mut b, second).unwrap().operations, 4);
    assert_equal(&mut a, &mut b);
}

#[test]
fn what_never_fits_is_asked_for_again_when_it_is_no_future_any_more() {
    let (mut a, mut b) = both();
    a.at(HOUR_MS, "INSERT INTO notes SELECT 'n' || column1, hex(zeroblob(3000000)) FROM (VALUES (1), (2), (3), (4))");
    let (operations, covers) = a.delta(b.replica.vector());
    assert_eq!(b.replica.apply(operations.clone(), &covers, b.now()).unwrap().refused.len(), 1);
    assert_eq!(b.replica.release_at_ms(), Some(55 * MINUTE_MS));
    assert_eq!(at(&mut b, 55 * MINUTE_MS), Some(Applied::default()));
    assert_eq!(b.replica.release_at_ms(), None);
    assert_eq!(b.replica.apply(operations, &covers, b.now()).unwrap().operations, 4);
    assert_equal(&mut a, &mut b);
}

#[test]
fn stamps_beyond_all_time_are_nobodys() {
    let (mut a, _) = both();
    for ts in [(1 << 47) + 1, (1 << 48) - 1] {
        let (applied, _) = a.replica.adopt(vec![plain(ts, u32::MAX, "p", "never")], a.now()).unwrap();
        assert_eq!((applied.operations, applied.set_aside, applied.refused.len()), (0, 0, 1));
    }
    for text in [r#"{"ts":281474976710656,"counter":0,"nodeId":"x"}"#, r#"{"ts":1,"counter":4294967296,"nodeId":"x"}"#]
    {
        assert!(serde_json::from_str::<rtc_battery_proto::Hlc>(text).is_err(), "{text}");
    }
    // The last that is somebody's waits for its day.
    let (applied, _) = a.replica.adopt(vec![plain(1 << 47, u32::MAX, "p", "in 6429")], a.now()).unwrap();
    assert_eq!(applied.set_aside, 1);
    a.exec("INSERT INTO notes VALUES ('2', 'today')");
    assert_eq!(a.rows(NOTES), [r#""one""#, r#""today""#]);
}

#[test]
fn nothing_is_applied_while_a_transaction_is_open() {
    let (mut a, mut b) = both();
    a.at(HOUR_MS, "UPDATE notes SET content = 'future'");
    b.pull(&a);
    b.at(HOUR_MS, "BEGIN; INSERT INTO notes VALUES ('2', 'mine')");
    assert!(b.replica.release(b.now()).is_err());
    b.exec("COMMIT");
    assert_eq!(at(&mut b, HOUR_MS).unwrap().operations, 1);
    a.pull(&b);
    assert_equal(&mut a, &mut b);
}
