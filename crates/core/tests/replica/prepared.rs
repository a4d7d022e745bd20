//! Statements that come again are compiled and judged once, and never judged by what was true before.

use crate::common::{Peer, assert_equal, peer};

fn three_times(peer: &mut Peer, sql: &str) {
    for _ in 0..3 {
        peer.exec(sql);
    }
}

#[test]
fn what_comes_again_is_captured_again() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    three_times(&mut a, "INSERT INTO t (v) VALUES ('x')");
    for _ in 0..3 {
        for sql in ["BEGIN", "UPDATE t SET v = v || 'y' WHERE id < 3", "COMMIT"] {
            a.exec(sql);
        }
        for sql in ["SAVEPOINT s", "DELETE FROM t WHERE id = 3", "ROLLBACK TO s", "RELEASE s"] {
            a.exec(sql);
        }
    }
    assert_eq!(a.rows("SELECT v FROM t"), ["\"xyyy\"", "\"xyyy\"", "\"x\""]);
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_refusal_comes_again_too() {
    let mut a = peer("a");
    for _ in 0..3 {
        assert!(a.try_exec("DELETE FROM rtc_replica").unwrap_err().message.contains("belongs to RTC Battery"));
    }
}

/// A name that means another table now, and a table that is no more.
#[test]
fn the_schema_may_change_between() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    let insert = "INSERT INTO t (v) VALUES (1)";
    three_times(&mut a, insert);
    a.local("CREATE TEMP TABLE t (id INTEGER PRIMARY KEY, v)");
    three_times(&mut a, insert);
    assert_eq!(a.rows("SELECT count(*) FROM main.t UNION ALL SELECT count(*) FROM temp.t"), ["3", "3"]);
    assert_eq!(a.delta(&Default::default()).0.iter().filter(|operation| operation.table == "t").count(), 3);
    a.local("DROP TABLE temp.t");
    three_times(&mut a, insert);
    assert_eq!(a.rows("SELECT count(*) FROM t"), ["6"]);

    a.exec("BEGIN; CREATE TABLE u (id INTEGER PRIMARY KEY)");
    three_times(&mut a, "INSERT INTO u DEFAULT VALUES");
    a.exec("ROLLBACK");
    assert!(a.try_exec("INSERT INTO u DEFAULT VALUES").unwrap_err().message.contains("no such table"));
}

#[test]
fn a_local_table_that_becomes_a_synced_one_is_captured() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.local("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    let insert = "INSERT INTO t (v) VALUES (1)";
    for _ in 0..3 {
        a.local(insert);
    }
    a.local("DROP TABLE t");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    three_times(&mut a, insert);
    b.pull(&a);
    assert_eq!(b.rows("SELECT count(*) FROM t"), ["3"]);
    assert_equal(&mut a, &mut b);
}

/// What fires now is judged, too.
#[test]
fn a_trigger_made_between_is_judged() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    a.local("CREATE TEMP TABLE mine (x)");
    let insert = "INSERT INTO mine VALUES (1)";
    three_times(&mut a, insert);
    a.local("CREATE TEMP TRIGGER x AFTER INSERT ON mine BEGIN DELETE FROM rtc_operations; END");
    assert!(a.try_exec(insert).unwrap_err().message.contains("belongs to RTC Battery"));
}

/// A statement may begin with nothing, and end with it.
#[test]
fn what_stands_around_a_statement_changes_nothing() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    for sql in [
        "; ;INSERT INTO t DEFAULT VALUES",
        "-- so\n;INSERT INTO t DEFAULT VALUES;;",
        "/**/INSERT INTO t DEFAULT VALUES; --",
    ] {
        three_times(&mut a, sql);
    }
    assert_eq!(a.rows("SELECT count(*) FROM t"), ["9"]);
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}
