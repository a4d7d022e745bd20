//! What capture must not forget, and must not remember.

use crate::common::{Peer, assert_equal, peer};
use rtc_battery_proto::OperationKind::{self, Delete, Insert};
use rtc_battery_proto::{Operation, VersionVector};

/// The kinds of the operations that the newest transaction has.
fn told(peer: &mut Peer) -> Vec<OperationKind> {
    let committed = peer.replica.take_committed(u64::MAX).pop().unwrap();
    committed.operations.unwrap().iter().map(|operation| operation.kind).collect()
}

#[test]
fn a_row_that_was_replaced_before_a_statement_failed_is_another_row_still() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)");
    a.exec("BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 1, 3)");
    a.try_exec("INSERT INTO t VALUES (3, 3, 3), (2, 0, 0)").unwrap_err();
    a.exec("COMMIT");
    assert_eq!(told(&mut a), [Delete, Insert]);
    // One that was replaced in what was undone is not.
    a.exec("BEGIN; UPDATE t SET y = 4 WHERE id = 1; SAVEPOINT s; DELETE FROM t; INSERT INTO t VALUES (1, 1, 5); ROLLBACK TO s; COMMIT");
    assert_eq!(told(&mut a), [OperationKind::Update]);
}

#[test]
fn nothing_of_a_transaction_that_was_rolled_back_is_told_with_the_next_one() {
    for at_hand_bytes in [1 << 20, 0] {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.replica.keep_at_hand(at_hand_bytes);
        a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
        a.exec("BEGIN; INSERT INTO t VALUES (1, 'undone'), (2, 'undone'); ROLLBACK; INSERT INTO t VALUES (3, 'done')");
        assert_eq!(a.rows("SELECT pk FROM rtc_log WHERE \"table\" = 't'"), ["\"id = 3\""]);
        b.pull(&a);
        assert_equal(&mut a, &mut b);
    }
}

#[test]
fn whole_numbers_in_a_real_column_are_digested_as_they_will_be_read() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.replica.keep_at_hand(0);
    a.exec(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL); INSERT INTO t VALUES (1, 7), (2, 7.0), (3, 7.5), (4, '7')",
    );
    a.exec("BEGIN; INSERT INTO t VALUES (5, 1.5), (6, 1.5); UPDATE t SET r = 8 WHERE id = 5; UPDATE t SET r = id WHERE id = 6; COMMIT");
    a.exec("INSERT INTO t SELECT id + 10, id FROM t; INSERT INTO t SELECT id + 20, r FROM t; REPLACE INTO t VALUES (30, 30)");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

/// Many rows come into the log by runs of rowids, few one by one; who was in which run shows nowhere.
#[test]
fn the_log_of_many_rows_is_that_of_few() {
    let [mut few, mut many] = [1 << 20, 0].map(|at_hand_bytes| {
        let mut a = peer("a");
        a.replica.keep_at_hand(at_hand_bytes);
        a.exec(
            r#"CREATE TABLE "ro""ws" (k INTEGER PRIMARY KEY, v); CREATE TABLE texts (k TEXT PRIMARY KEY, rowid);
               CREATE TABLE dead (k INTEGER PRIMARY KEY, v); INSERT INTO dead VALUES (2, 'dead'); DELETE FROM dead;
               INSERT INTO "ro""ws" VALUES (5, 'there')"#,
        );
        // Gaps, a row between two that was there, the ends of all rowids, a table with a past, and a second table after the first.
        a.exec(
            r#"BEGIN; INSERT INTO "ro""ws" VALUES (9223372036854775806, 'i'), (3, 'c'), (4, 'd'), (2, 'b'), (6, 'f'), (9, NULL);
               INSERT INTO dead VALUES (1, 'x'), (2, 'y'), (3, 'z'); INSERT INTO texts VALUES ('b', 1), ('a', 2), ('c', 3);
               INSERT INTO "ro""ws" VALUES (-9223372036854775808, 'first'), (-9223372036854775807, 'second'), (9223372036854775807, 'last');
               INSERT INTO texts WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40) SELECT k || n, n FROM n, texts; DELETE FROM texts WHERE k = 'a'; COMMIT"#,
        );
        a
    });
    let log = "SELECT * FROM rtc_operations ORDER BY tbl, row, origin, seq, idx";
    assert_eq!(few.rows(log), many.rows(log));
    assert_equal(&mut few, &mut many);
    let mut b = peer("b");
    b.pull(&many);
    assert_equal(&mut many, &mut b);
}

/// Two transactions of one replica, which is forged or was copied, with one clock value.
fn told_twice(seq: u64, value: &str) -> Operation {
    serde_json::from_str(&format!(
        r#"{{"hlc":{{"ts":2000,"counter":0,"nodeId":"z"}},"type":"UPDATE","table":"t","pk":{{"k":1}},
             "values":{{"v":"{value}"}},"seq":{seq},"tx":{{"first":{{"ts":2000,"counter":0}},"n":1}}}}"#
    ))
    .unwrap()
}

#[test]
fn what_overwrites_two_contents_of_one_clock_value_is_digested_once() {
    for values in [["p", "q"], ["p", "p"]] {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.exec("CREATE TABLE t (k INTEGER PRIMARY KEY, v, w); INSERT INTO t VALUES (1, 'x', 'y')");
        b.pull(&a);
        let covers: VersionVector = serde_json::from_str(r#"{"z":[[1,2]]}"#).unwrap();
        for peer in [&mut a, &mut b] {
            let operations = vec![told_twice(1, values[0]), told_twice(2, values[1])];
            peer.replica.apply(operations, &covers, peer.now()).unwrap();
        }
        assert_equal(&mut a, &mut b);
        a.at(3000, "UPDATE t SET v = 'mine' WHERE k = 1");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
    }
}
