//! Two and three replicas that exchange deltas: the merge rules as a user meets them, through SQL.

use crate::common::{Peer, assert_equal, peer, sync};
use rtc_battery_proto::{Operation, ReplicaId, VersionVector};

const NOTES: &str =
    "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, content TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP)";

#[test]
fn a_table_and_its_rows_reach_another_replica() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(NOTES);
    a.exec("INSERT INTO notes VALUES ('1', 'one', 'x'), ('2', 'it''s', NULL)");
    let applied = b.pull(&a);
    assert_eq!((applied.operations, applied.refused.len()), (3, 0));
    assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"one"|"x""#, r#""2"|"it's"|NULL"#]);
    assert_equal(&mut a, &mut b);
    assert_eq!(b.pull(&a).operations, 0, "nothing twice");
}

#[test]
fn the_same_table_created_twice_is_one_and_its_rows_merge() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    for (peer, id) in [(&mut a, "1"), (&mut b, "2")] {
        peer.exec(NOTES);
        peer.exec(&format!("INSERT INTO notes (id) VALUES ('{id}')"));
    }
    sync(&mut a, &mut b);
    assert_eq!(a.rows("SELECT id FROM notes ORDER BY id"), [r#""1""#, r#""2""#]);
    assert_equal(&mut a, &mut b);
    // Of the older CREATE TABLE nothing is told but that it was the first.
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&a).refused, Vec::<String>::new());
    assert_equal(&mut a, &mut newcomer);
}

/// Found by the fuzz target `room`: of the earlier CREATE TABLE only its time is left in the log, and a third replica refused that.
#[test]
fn a_table_created_on_two_devices_reaches_a_third() {
    let (mut a, mut b, mut c, mut d) = (peer("a"), peer("b"), peer("c"), peer("d"));
    a.at(1000, "CREATE TABLE notes (id INTEGER PRIMARY KEY, content); INSERT INTO notes VALUES (1, 'a')");
    b.at(2000, "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, content); INSERT INTO notes VALUES (2, 'b')");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    assert_eq!(c.pull(&a).refused, Vec::<String>::new());
    assert_equal(&mut a, &mut c);

    // What is left of the earlier one comes alone, and waits for a later one: from there, or of the user's own.
    let (operations, covers) = a.delta(&Default::default());
    let take = |peer: &mut Peer, origin: &str| {
        let node = ReplicaId::new(origin).unwrap();
        let mut news = VersionVector::default();
        news.replace_origin(node.clone(), covers.origin(&node).cloned().unwrap());
        assert_eq!(peer.replica.apply(operations.clone(), &news, peer.now()).unwrap().refused, Vec::<String>::new());
    };
    let mut own = peer("own");
    take(&mut d, "a");
    take(&mut own, "a");
    assert_eq!(d.replica.digest().unwrap(), None);
    take(&mut d, "b");
    assert_equal(&mut a, &mut d);
    own.at(3000, "CREATE TABLE notes (id INTEGER PRIMARY KEY, content)");
    d.pull(&own);
    own.pull(&a);
    assert_equal(&mut d, &mut own);
    assert_eq!(own.rows("SELECT * FROM notes"), ["1|\"a\"", "2|\"b\""]);
}

#[test]
fn updates_to_different_columns_both_stand() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 0, 0)");
    b.pull(&a);
    a.at(2000, "UPDATE t SET x = 1");
    b.at(2000, "UPDATE t SET y = 2.0");
    sync(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|1|2.0"]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn what_was_overwritten_since_is_not_passed_on_as_a_whole_transaction() {
    let (mut a, mut b, mut c) = (peer("a"), peer("b"), peer("c"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 0, 0)");
    b.pull(&a);
    c.pull(&a);
    let handed_on = |peer: &Peer| peer.replica.committed().last().unwrap().operations.as_ref().map(Vec::len);
    a.at(2000, "UPDATE t SET x = 1, y = 1");
    let live = a.replica.committed().last().unwrap().clone();
    c.replica.apply(live.operations.unwrap(), &live.covers, c.now()).unwrap();
    assert_eq!(handed_on(&c), Some(1), "what comes from its writer is whole");
    c.at(3000, "UPDATE t SET x = 2");
    let live = c.replica.committed().last().unwrap().clone();
    b.replica.apply(live.operations.unwrap(), &live.covers, b.now()).unwrap();
    b.pull(&c);
    assert_eq!(b.rows("SELECT x, y FROM t"), ["2|1"]);
    assert_eq!(handed_on(&b), None, "of the earlier UPDATE only y was told");
}

#[test]
fn the_later_write_of_a_column_wins_whoever_hears_it_first() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 0)");
    b.pull(&a);
    a.at(3000, "UPDATE t SET x = 'later'");
    b.at(2000, "UPDATE t SET x = 'zzz earlier, larger, and edited more often'; UPDATE t SET x = 'zzzz'");
    sync(&mut a, &mut b);
    assert_eq!(b.rows("SELECT x FROM t"), [r#""later""#]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_later_update_brings_a_deleted_row_back_whole() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 'x', 'y')");
    b.pull(&a);
    a.at(2000, "DELETE FROM t");
    b.at(3000, "UPDATE t SET x = 'later'");
    sync(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM t"), [r#"1|"later"|"y""#]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_later_delete_wins_and_the_row_stays_gone() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'x')");
    b.pull(&a);
    a.at(3000, "DELETE FROM t");
    b.at(2000, "UPDATE t SET x = 'earlier'");
    sync(&mut a, &mut b);
    assert_eq!(a.dump(), Vec::<String>::new());
    assert_equal(&mut a, &mut b);
    a.at(4000, "INSERT INTO t VALUES (1, 'again')");
    sync(&mut a, &mut b);
    assert_eq!(b.rows("SELECT * FROM t"), [r#"1|"again""#]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_third_replica_that_relays_loses_nothing() {
    let (mut a, mut b, mut c) = (peer("a"), peer("b"), peer("c"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    b.pull(&a);
    a.exec("INSERT INTO t VALUES (1, 'a')");
    b.exec("INSERT INTO t VALUES (2, 'b')");
    c.pull(&b);
    c.exec("UPDATE t SET x = 'c' WHERE id = 2");
    b.pull(&c);
    a.pull(&b);
    c.pull(&a);
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_equal(&mut b, &mut c);
}

#[test]
fn operations_wait_for_their_table() {
    let (mut a, mut b, mut c) = (peer("a"), peer("b"), peer("c"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    a.exec("INSERT INTO t VALUES (1, 'early')");
    let (operations, covers) = a.delta(&Default::default());
    let (schema, rows): (Vec<_>, Vec<_>) = operations.into_iter().partition(|op| op.table == "rtc_schema");
    let of = |seq: u64| -> VersionVector { serde_json::from_str(&format!(r#"{{"a":[[{seq},{seq}]]}}"#)).unwrap() };
    let applied = b.replica.apply(rows, &of(2), b.now()).unwrap();
    assert_eq!((applied.operations, applied.refused.len()), (1, 0));
    assert_eq!(b.dump(), Vec::<String>::new());
    // What waits is relayed.
    let (relayed, _) = b.delta(&Default::default());
    assert_eq!(relayed.len(), 1);
    b.replica.apply(schema, &of(1), b.now()).unwrap();
    assert_eq!(b.replica.vector(), &covers);
    assert_equal(&mut a, &mut b);
    c.pull(&b);
    assert_equal(&mut a, &mut c);
}

#[test]
fn a_table_created_here_meets_what_waited_for_it() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    a.exec("INSERT INTO t VALUES (1, 'early')");
    let (operations, _) = a.delta(&serde_json::from_str(r#"{"a":[[1,1]]}"#).unwrap());
    b.replica.apply(operations, &serde_json::from_str(r#"{"a":[[2,2]]}"#).unwrap(), b.now()).unwrap();
    b.exec("BEGIN; CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    b.exec("COMMIT");
    assert_eq!(b.rows("SELECT * FROM t"), [r#"1|"early""#]);
}

#[test]
fn the_log_is_as_small_as_what_it_shows() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 0, 0)");
    for n in 1..=500 {
        a.exec(&format!("UPDATE t SET x = {n}"));
    }
    // The table, the INSERT (which still shows id and y) and the newest UPDATE.
    assert_eq!(a.log().len(), 3);
    assert_eq!(a.rows("SELECT count(*) FROM rtc_transactions"), ["3"]);
    assert_eq!(b.pull(&a).operations, 3);
    assert_eq!(a.replica.version(), 502);
    assert_eq!(b.replica.version(), 502, "compacted transactions are covered, not missing");
    assert_equal(&mut a, &mut b);
}

#[test]
fn exec_local_stays_here_and_the_next_remote_write_wins() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'y'), (3, 'x', 'y')");
    let version = a.replica.version();
    a.local(
        "UPDATE t SET x = 'mine' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (4, 'mine', 'mine')",
    );
    a.local("CREATE TABLE scratch (anything)");
    assert_eq!(a.replica.version(), version);
    b.pull(&a);
    assert_eq!(b.rows("SELECT * FROM t"), [r#"1|"x"|"y""#, r#"2|"x"|"y""#, r#"3|"x"|"y""#]);
    b.at(2000, "UPDATE t SET y = 'new'");
    a.pull(&b);
    assert_eq!(a.rows("SELECT * FROM t WHERE id <> 4"), [r#"1|"mine"|"new""#, r#"2|"x"|"new""#, r#"3|"x"|"new""#]);
    b.at(3000, "UPDATE t SET x = 'newer'");
    a.pull(&b);
    a.local("DELETE FROM t WHERE id = 4; DROP TABLE scratch");
    assert_equal(&mut a, &mut b);
}

#[test]
fn unwritten_columns_show_the_same_default_everywhere() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY, x INTEGER NOT NULL, y TEXT DEFAULT 'd', at TEXT DEFAULT CURRENT_TIMESTAMP, r DEFAULT (random()))");
    b.pull(&a);
    let insert = r#"{"hlc":{"ts":86400000,"counter":0,"nodeId":"z"},"type":"INSERT","table":"t","pk":{"id":"1"},"values":{},
        "seq":1,"tx":{"first":{"ts":86400000,"counter":0},"n":1}}"#;
    let covers = serde_json::from_str(r#"{"z":[[1,1]]}"#).unwrap();
    for peer in [&mut a, &mut b] {
        peer.wall_ms = 86_400_000;
        let applied = peer.replica.apply(vec![serde_json::from_str(insert).unwrap()], &covers, peer.now()).unwrap();
        assert_eq!(applied.refused, Vec::<String>::new());
        assert_eq!(peer.rows("SELECT * FROM t"), [r#""1"|0|"d"|"1970-01-02 00:00:00"|NULL"#]);
    }
    assert_equal(&mut a, &mut b);
}

/// The fuzz target `room` found that who had the newer one first went on showing its time.
#[test]
fn of_two_inserts_the_older_says_when_whichever_came_first() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, at TEXT DEFAULT CURRENT_TIMESTAMP)");
    b.pull(&a);
    let insert = |ts: u64, seq: u64| {
        let insert = format!(
            r#"{{"hlc":{{"ts":{ts},"counter":0,"nodeId":"z"}},"type":"INSERT","table":"t","pk":{{"id":1}},"values":{{"x":{ts}}},
            "seq":{seq},"tx":{{"first":{{"ts":{ts},"counter":0}},"n":1}}}}"#
        );
        (
            serde_json::from_str::<Operation>(&insert).unwrap(),
            serde_json::from_str(&format!(r#"{{"z":[[{seq},{seq}]]}}"#)).unwrap(),
        )
    };
    let (older, newer) = (insert(86_400_000, 1), insert(172_800_000, 2));
    for (peer, order) in [(&mut a, [&older, &newer]), (&mut b, [&newer, &older])] {
        peer.wall_ms = 172_800_000;
        for (operation, covers) in order {
            peer.replica.apply(vec![operation.clone()], covers, peer.now()).unwrap();
        }
        assert_eq!(peer.rows("SELECT * FROM t"), [r#"1|172800000|"1970-01-02 00:00:00""#]);
    }
    assert_equal(&mut a, &mut b);
}

#[test]
fn foreign_keys_and_checks_are_the_writers_business() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p, n CHECK (n > 0))");
    a.exec("INSERT INTO p VALUES (1)");
    b.pull(&a);
    a.at(2000, "DELETE FROM p");
    b.at(2000, "INSERT INTO c VALUES (1, 1, 5)");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    let error = a.try_exec("INSERT INTO c VALUES (2, 1, 5)").unwrap_err();
    assert!(error.message.contains("FOREIGN KEY"), "{error}");
    assert!(a.try_exec("INSERT INTO c VALUES (2, NULL, 0)").unwrap_err().message.contains("CHECK"));
}

#[test]
fn a_row_that_sqlite_refuses_is_kept_and_told() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER) STRICT");
    b.pull(&a);
    let op = |ts: u64, value: &str| {
        let json = format!(
            r#"{{"hlc":{{"ts":{ts},"counter":0,"nodeId":"z"}},"type":"INSERT","table":"t","pk":{{"id":1}},"values":{{"id":1,"x":{value}}},
            "seq":{ts},"tx":{{"first":{{"ts":{ts},"counter":0}},"n":1}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    };
    let covers = |seq: u64| serde_json::from_str(&format!(r#"{{"z":[[{seq},{seq}]]}}"#)).unwrap();
    let applied = a.replica.apply(vec![op(1, r#""no integer""#)], &covers(1), a.now()).unwrap();
    assert_eq!((applied.operations, applied.refused), (1, vec![]));
    let told = a.replica.take_conflicts();
    assert!(told.len() == 1 && told[0].reason.contains("cannot store TEXT value"), "{told:?}");
    assert_eq!(a.rows("SELECT pk, with_pk FROM rtc_conflicts"), [r#""[1]"|NULL"#]);
    b.pull(&a);
    assert_eq!(b.dump(), Vec::<String>::new());
    b.replica.apply(vec![op(2, "7")], &covers(2), b.now()).unwrap();
    a.pull(&b);
    assert_eq!(a.rows("SELECT * FROM t"), ["1|7"]);
    assert_eq!(a.rows("SELECT count(*) FROM rtc_conflicts"), ["0"]);
    assert_equal(&mut a, &mut b);
}

/// Found by `replay_makes_the_same_database`: the DELETE that the INSERT of the same transaction beats was the transaction's last operation for a
/// moment, and the transaction was forgotten with the INSERT still to come.
#[test]
fn a_replaced_row_that_moved_keeps_its_transaction() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (k TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('1', 1)");
    a.exec("INSERT OR REPLACE INTO t SELECT k, x FROM t");
    b.pull(&a);
    assert_eq!(b.log().len(), 4, "the table, the row's first INSERT, its newest, and the DELETE that this one beats");
    assert_equal(&mut a, &mut b);
}

/// A delta is being read in the middle of a transaction when everything in it is overwritten: what follows is read from its beginning.
#[test]
fn a_transaction_that_is_forgotten_while_it_is_read_takes_nothing_else_with_it() {
    let (mut a, mut b, mut c) = (peer("a"), peer("b"), peer("c"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    b.pull(&a);
    a.exec("INSERT INTO t (id) VALUES (1), (2), (3), (4)");
    a.exec("UPDATE t SET v = 'first'");
    b.exec("INSERT INTO t (id) VALUES (11), (12), (13), (14)");
    a.pull(&b);
    let mut reader = a.replica.delta(c.replica.vector()).unwrap();
    let (mut operations, mut in_update) = (Vec::new(), 0);
    let covers = loop {
        let chunk = a.replica.read_delta(&mut reader, 1).unwrap();
        in_update += chunk.operations.iter().filter(|operation| operation.seq == Some(3)).count();
        operations.extend(chunk.operations);
        if in_update == 2 {
            in_update = 0;
            a.exec("UPDATE t SET v = 'second' WHERE id < 10");
        }
        if let Some(end) = chunk.end {
            break end.covers;
        }
    };
    c.replica.apply(operations, &covers, c.now()).unwrap();
    assert_equal(&mut a, &mut c);
}

#[test]
fn checks_are_the_writers_business_however_text_is_compared() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    b.exec("PRAGMA case_sensitive_like = ON");
    a.exec(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x, y, CHECK (x IS NULL OR y IS NULL)); INSERT INTO t (id) VALUES (1)",
    );
    sync(&mut a, &mut b);
    a.exec("UPDATE t SET x = 1");
    b.exec("UPDATE t SET y = 1");
    sync(&mut a, &mut b);
    assert_eq!(b.rows("SELECT * FROM t"), ["1|1|1"]);
    assert_equal(&mut a, &mut b);
}
