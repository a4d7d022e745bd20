//! What a device wrote while its clock was far ahead: once the clock is right it is told again at its time, and what was stamped in the future is void.

use crate::common::{Peer, assert_alike, assert_equal, both, peer, sync};
use proptest::prelude::*;
use rtc_battery_core::replica::StorageError;
use rtc_battery_proto::{Operation, ReplicaId, VersionVector};
use serde_json::{Value, json};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const NOTES: &str = "SELECT content FROM notes ORDER BY id";

/// Its clock is set right, and it steps back.
fn corrected(peer: &mut Peer, wall_ms: u64, fresh: &str) {
    peer.wall_ms = wall_ms;
    let now = peer.now();
    assert!(peer.replica.is_ahead(now));
    let applied = peer.replica.step_back(&ReplicaId::new(fresh).unwrap(), now).unwrap();
    assert_eq!(applied.refused, Vec::<String>::new());
    assert!(!peer.replica.is_ahead(now));
    assert_eq!(peer.replica.id().as_str(), fresh);
}

/// Time has come to this at all of them.
fn time_is(wall_ms: u64, peers: &mut [&mut Peer]) {
    for peer in peers {
        peer.wall_ms = wall_ms;
        let now = peer.now();
        peer.replica.release(now).unwrap();
    }
}

#[test]
fn what_was_written_meanwhile_stands_when_the_future_comes() {
    let (mut a, mut b) = both();
    a.at(2 * HOUR_MS, "UPDATE notes SET content = 'from the future' WHERE id = '1'; INSERT INTO notes VALUES ('2', 'two'), ('3', 'three')");
    a.exec("DELETE FROM notes WHERE id = '3'");
    b.wall_ms = 2 * MINUTE_MS;
    assert_eq!(b.pull(&a).set_aside, 4);
    let before = a.dump();
    corrected(&mut a, 3 * MINUTE_MS, "a2");
    assert_eq!(a.dump(), before, "nothing that is shown has changed");

    b.wall_ms = 4 * MINUTE_MS;
    b.pull(&a);
    assert_eq!(b.rows(NOTES), [r#""from the future""#, r#""two""#]);
    assert_eq!(b.rows("SELECT count(*) FROM rtc_quarantine"), ["0"]);
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    b.exec("UPDATE notes SET content = 'now' WHERE id = '1'; INSERT INTO notes VALUES ('3', 'again')");
    a.exec("UPDATE notes SET content = 'zwei' WHERE id = '2'");
    sync(&mut a, &mut b);
    time_is(3 * HOUR_MS, &mut [&mut a, &mut b]);
    assert_eq!(b.rows(NOTES), [r#""now""#, r#""zwei""#, r#""again""#]);
    assert_equal(&mut a, &mut b);
    // What is void is dropped also where it comes last.
    let mut late = peer("late");
    late.wall_ms = 3 * HOUR_MS;
    late.pull(&b);
    assert_equal(&mut late, &mut b);
}

/// Found by the simulator: operations that came without a transaction are carried by one of ours, and not all of them are from the future.
#[test]
fn of_what_was_adopted_in_one_transaction_a_part_can_be_set_aside_and_come_back() {
    let (mut a, mut b) = both();
    let plain = |ts: u64, id: &str| -> Operation {
        let operation = json!({"hlc": {"ts": ts, "counter": 0, "nodeId": "plain"}, "type": "INSERT", "table": "notes",
            "pk": {"id": id}, "values": {"id": id, "content": id}});
        serde_json::from_value(operation).unwrap()
    };
    a.wall_ms = 2 * HOUR_MS;
    a.replica.adopt(vec![plain(MINUTE_MS, "2"), plain(HOUR_MS, "3"), plain(2 * HOUR_MS, "4")], a.now()).unwrap();
    a.exec("UPDATE notes SET content = 'uno' WHERE id = '1'");
    corrected(&mut a, 2 * MINUTE_MS, "a2");
    assert_eq!(a.rows(NOTES), [r#""uno""#, r#""2""#]);
    for (hours, count) in [(1, 3), (2, 4)] {
        time_is(hours * HOUR_MS, &mut [&mut a]);
        assert_eq!(a.rows(NOTES).len(), count);
    }
    b.wall_ms = 2 * HOUR_MS;
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
}

/// The clock values are in order, so what was deleted stays deleted, and so on.
#[test]
fn every_kind_of_change_is_told_again() {
    let (mut a, mut b) = both();
    a.exec("CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT UNIQUE, at TEXT DEFAULT CURRENT_TIMESTAMP); INSERT INTO u (id, name) VALUES (1, 'x'), (2, 'y')");
    a.exec("CREATE TABLE old (id TEXT PRIMARY KEY); INSERT INTO old VALUES ('1')");
    sync(&mut a, &mut b);
    a.at(HOUR_MS, "CREATE TABLE t (id TEXT PRIMARY KEY, x) WITHOUT ROWID; INSERT INTO t VALUES ('1', 1), ('2', x'00')");
    a.exec("ALTER TABLE notes ADD COLUMN more DEFAULT 7; UPDATE notes SET more = 8; ALTER TABLE notes RENAME COLUMN content TO body");
    a.exec("BEGIN; DELETE FROM u WHERE id = 1; UPDATE u SET name = 'x'; INSERT OR REPLACE INTO u (id, name) VALUES (3, 'x'); COMMIT");
    a.exec("DROP TABLE old; CREATE INDEX i ON u (at); CREATE VIEW v AS SELECT 1");
    a.exec("CREATE TABLE old (id TEXT PRIMARY KEY, y); INSERT INTO old VALUES ('1', 2)");
    a.local("UPDATE t SET x = 5 WHERE id = '1'");
    let (before, objects) = (a.dump(), a.rows("SELECT * FROM rtc_schema WHERE kind <> 'withdrawn' ORDER BY id"));
    let mut c = peer("c");
    c.wall_ms = MINUTE_MS;
    c.pull(&a);
    corrected(&mut a, MINUTE_MS, "a2");
    assert_eq!(a.dump(), before);
    assert_eq!(a.rows("SELECT * FROM rtc_schema WHERE kind <> 'withdrawn' ORDER BY id"), objects);
    a.local("UPDATE t SET x = 1 WHERE id = '1'");
    b.wall_ms = MINUTE_MS;
    b.pull(&a);
    c.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_equal(&mut a, &mut c);
    assert_eq!(b.rows("SELECT hex(x) FROM t ORDER BY id"), [r#""31""#, r#""00""#]);
    time_is(2 * HOUR_MS, &mut [&mut a, &mut b, &mut c]);
    assert_equal(&mut a, &mut b);
    assert_equal(&mut a, &mut c);
    for peer in [&mut a, &mut b, &mut c] {
        assert_eq!(peer.rows("PRAGMA integrity_check"), [r#""ok""#]);
    }
}

/// One whose clock is ahead as well has applied it.
#[test]
fn what_is_void_is_taken_out_where_it_had_come() {
    let (mut a, mut b) = both();
    let mut c = peer("c");
    c.pull(&a);
    a.at(2 * HOUR_MS, "UPDATE notes SET content = 'future' WHERE id = '1'; INSERT INTO notes VALUES ('2', 'two')");
    c.wall_ms = 2 * HOUR_MS;
    c.pull(&a);
    assert_eq!(c.rows(NOTES), [r#""future""#, r#""two""#]);
    corrected(&mut a, MINUTE_MS, "a2");
    b.wall_ms = MINUTE_MS;
    b.pull(&a);
    b.at(10 * MINUTE_MS, "UPDATE notes SET content = 'later' WHERE id = '1'; DELETE FROM notes WHERE id = '2'");
    a.wall_ms = b.wall_ms;
    c.pull(&b);
    sync(&mut a, &mut b);
    a.pull(&c);
    assert_eq!(c.rows(NOTES), [r#""later""#]);
    assert_equal(&mut a, &mut b);
    assert_equal(&mut b, &mut c);
}

/// What somebody else wrote in the future is not ours to withdraw: it is set aside, as at those whose clock was right.
#[test]
fn what_others_wrote_in_the_future_is_set_aside() {
    let (mut a, mut b) = both();
    let mut fast = peer("fast");
    fast.pull(&a);
    fast.at(2 * HOUR_MS, "INSERT INTO notes VALUES ('fast', 1); UPDATE notes SET content = 'fast' WHERE id = '1'");
    a.wall_ms = 2 * HOUR_MS;
    a.pull(&fast);
    a.exec("INSERT INTO notes VALUES ('a', 'a')");
    corrected(&mut a, MINUTE_MS, "a2");
    b.wall_ms = MINUTE_MS;
    b.pull(&a);
    assert_eq!(b.rows("SELECT id FROM notes ORDER BY 1"), [r#""1""#, r#""a""#]);
    assert_eq!(a.rows("SELECT id FROM notes ORDER BY 1"), b.rows("SELECT id FROM notes ORDER BY 1"));
    a.at(2 * MINUTE_MS, "UPDATE notes SET content = 'ours' WHERE id = 'a'");
    assert_eq!(a.rows("SELECT content FROM notes WHERE id = 'a'"), [r#""ours""#]);
    sync(&mut a, &mut b);
    time_is(3 * HOUR_MS, &mut [&mut a, &mut b]);
    sync(&mut a, &mut b);
    assert_eq!(a.rows(NOTES), [r#""fast""#, r#""ours""#, r#""1""#]);
    assert_alike(&mut a, &mut b);
}

/// Simulator seed 3122: of a row that both wrote in the future the one write is told again, and the other leaves the row.
#[test]
fn a_row_that_another_wrote_in_the_future_too_is_told_again() {
    let (mut a, mut b) = both();
    let mut fast = peer("fast");
    fast.pull(&a);
    fast.at(2 * HOUR_MS, "INSERT INTO notes VALUES ('2', 'fast')");
    a.wall_ms = 2 * HOUR_MS;
    a.pull(&fast);
    a.exec("UPDATE notes SET content = 'ours' WHERE id = '2'");
    corrected(&mut a, MINUTE_MS, "a2");
    b.wall_ms = MINUTE_MS;
    b.pull(&a);
    assert_eq!(a.dump(), b.dump());
    a.at(2 * MINUTE_MS, "UPDATE notes SET content = 'later' WHERE id = '2'");
    b.pull(&a);
    time_is(3 * HOUR_MS, &mut [&mut a, &mut b]);
    sync(&mut a, &mut b);
    assert_alike(&mut a, &mut b);
}

/// Simulator seed 2844: whoever applied it had forgotten what it overwrote. That must be found out, so that others tell it.
#[test]
fn a_definition_that_something_void_had_overwritten_is_missed() {
    const CREATE: &str = "CREATE TABLE n (id INTEGER PRIMARY KEY)";
    let (mut a, mut b, mut c, mut d) = (peer("a"), peer("b"), peer("c"), peer("d"));
    d.exec(CREATE);
    b.at(HOUR_MS, CREATE);
    a.at(2 * HOUR_MS, CREATE);
    c.wall_ms = 2 * HOUR_MS;
    [&d, &b, &a].into_iter().for_each(|other| {
        c.pull(other);
    });
    c.exec("INSERT INTO n VALUES (1)");
    corrected(&mut a, MINUTE_MS, "a2");
    a.pull(&b);
    time_is(HOUR_MS, &mut [&mut a, &mut b]);
    c.pull(&a);
    assert_eq!(c.rows("SELECT count(*) FROM rtc_schema WHERE name = 'n'"), ["0"], "it is with the others");
    a.wall_ms = c.wall_ms;
    a.pull(&c);
    assert_eq!(a.rows("SELECT id FROM n"), ["1"]);
    assert_eq!(a.replica.vector(), c.replica.vector());
    let (ours, theirs) = (a.replica.digest().unwrap(), c.replica.digest().unwrap());
    assert!(ours.is_some() && theirs.is_some() && ours != theirs, "{ours:?} {theirs:?}");
}

#[test]
fn a_copy_from_before_is_told_that_another_goes_on_for_it() {
    let (mut a, mut b) = both();
    assert!(!a.replica.is_withdrawn().unwrap());
    let mut copy = Peer { replica: peer("a").replica, wall_ms: MINUTE_MS };
    copy.pull(&a);
    a.at(2 * HOUR_MS, "INSERT INTO notes VALUES ('2', 'two')");
    corrected(&mut a, MINUTE_MS, "a2");
    b.wall_ms = MINUTE_MS;
    b.pull(&a);
    copy.pull(&b);
    assert!(
        copy.replica.is_withdrawn().unwrap()
            && !a.replica.is_withdrawn().unwrap()
            && !b.replica.is_withdrawn().unwrap()
    );
    copy.replica.take_new_id(&ReplicaId::new("a3").unwrap()).unwrap();
    assert!(!copy.replica.is_withdrawn().unwrap());
}

#[test]
fn nothing_has_changed_where_it_cannot_be_done() {
    let (mut a, _) = both();
    a.at(HOUR_MS, "BEGIN; INSERT INTO notes VALUES ('2', 'two')");
    a.exec("COMMIT; BEGIN; INSERT INTO notes VALUES ('3', 'three')");
    a.wall_ms = 1_000;
    let (now, fresh) = (a.now(), ReplicaId::new("a2").unwrap());
    assert!(matches!(a.replica.step_back(&fresh, now), Err(StorageError::InTransaction)));
    a.exec("COMMIT");
    assert_eq!(a.replica.id().as_str(), "a");
    assert_eq!(a.rows("SELECT count(*) FROM notes"), ["3"]);
}

#[test]
fn a_forged_row_withdraws_nothing_that_it_does_not_name() {
    let row = |fields: Value, id: &str, sql: &str| -> Operation {
        let mut json = json!({
            "hlc": {"ts": 5_000, "counter": 0, "nodeId": "z"}, "type": "INSERT", "table": "rtc_schema", "pk": {"id": id},
            "values": {"id": id, "kind": "withdrawn", "name": "a", "sql": sql}, "seq": 1, "tx": {"first": {"ts": 5_000, "counter": 0}, "n": 1},
        });
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(json).unwrap()
    };
    let covers: VersionVector = serde_json::from_value(json!({"z": [[1, 1]]})).unwrap();
    let all = "000000000000-00000000 0000ffffffff-ffffffff";
    for bad in [
        row(json!({}), "rtc_withdrawn b", all),
        row(json!({}), "rtc_withdrawn a", "everything"),
        row(json!({}), "rtc_withdrawn a", ""),
        row(json!({}), "rtc_withdrawn a", "000000000000-00000000"),
        row(json!({"type": "DELETE", "values": null}), "rtc_withdrawn a", all),
        row(json!({"type": "UPDATE"}), "rtc_withdrawn a", all),
    ] {
        let (mut a, _) = both();
        let before = a.dump();
        let applied = a.replica.apply(vec![bad.clone()], &covers, a.now()).unwrap();
        assert_eq!((applied.operations, applied.refused.len()), (0, 1), "{bad:?}");
        assert_eq!(a.dump(), before);
    }
    // A member can void what another wrote as it could delete it. Everybody agrees, and what is written then stands.
    let (mut a, mut b) = both();
    a.exec("INSERT INTO notes VALUES ('2', 'two')");
    b.exec("INSERT INTO notes VALUES ('3', 'three')");
    let only = row(json!({}), "rtc_withdrawn a", "0000000003e8-00000003 0000000003e8-ffffffff");
    b.replica.apply(vec![only], &covers, b.now()).unwrap();
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    a.at(2_000, "INSERT INTO notes VALUES ('4', 'four')");
    sync(&mut a, &mut b);
    assert_eq!(b.rows("SELECT count(*) FROM notes WHERE id IN ('1', '3', '4')"), ["3"]);
    assert_equal(&mut a, &mut b);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever was heard of it, and when: everybody ends with the same, and a write after the step back is newer than all of it.
    #[test]
    fn whatever_was_heard_before_everybody_agrees(
        steps in prop::collection::vec((0..3usize, 0..6usize, 0..4u8), 1..12),
        heard in prop::collection::vec((0..12usize, 1..3usize), 0..6),
        last in 0..3usize,
    ) {
        let mut peers = [peer("a"), peer("b"), peer("c")];
        peers[0].exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, u UNIQUE)");
        let (first, others) = peers.split_first_mut().unwrap();
        others.iter_mut().for_each(|other| { other.pull(first); });
        // A's clock is two hours ahead, C's an hour.
        let walls = [2 * HOUR_MS, MINUTE_MS, HOUR_MS];
        for (n, (who, row, what)) in steps.iter().enumerate() {
            let sql = match what {
                0 => format!("INSERT OR REPLACE INTO t VALUES ({row}, {n}, {})", row / 2),
                1 => format!("UPDATE t SET x = {n} WHERE id = {row}"),
                2 => format!("UPDATE OR REPLACE t SET u = {n} % 3 WHERE id >= {row}"),
                _ => format!("DELETE FROM t WHERE id = {row}"),
            };
            peers[*who].at(walls[*who] + n as u64, &sql);
            for (_, to) in heard.iter().filter(|(at, _)| *at == n) {
                let (from, to) = peers.split_at_mut(*to);
                to[0].pull(&from[0]);
            }
        }
        let a = &mut peers[0];
        a.wall_ms = 2 * MINUTE_MS;
        if a.replica.is_ahead(a.now()) {
            let before = a.dump();
            corrected(a, 2 * MINUTE_MS, "a2");
            prop_assert_eq!(a.dump(), before);
        }
        a.exec("INSERT OR REPLACE INTO t VALUES (9, 'mine', 'mine')");
        prop_assert_eq!(a.rows("SELECT x FROM t WHERE id = 9"), [r#""mine""#]);
        for _ in 0..2 {
            for (to, from) in [(last, (last + 1) % 3), ((last + 1) % 3, (last + 2) % 3), ((last + 2) % 3, last)] {
                let (operations, covers) = peers[from].delta(peers[to].replica.vector());
                let now = peers[to].now();
                peers[to].replica.apply(operations, &covers, now).unwrap();
            }
        }
        for peer in &mut peers {
            peer.wall_ms = 4 * HOUR_MS;
            let now = peer.now();
            peer.replica.release(now).unwrap();
        }
        let [a, b, c] = &mut peers;
        assert_alike(a, b);
        assert_alike(b, c);
    }
}
