//! A warning where keys are chosen alike: an INTEGER PRIMARY KEY that is given no value.

use crate::common::peer;
use rtc_battery_core::replica::{Params, Scope};
use rtc_battery_proto::SqlValue;

#[test]
fn a_table_that_numbers_its_rows_is_told_once() {
    for sql in [
        "INSERT INTO t (v) VALUES ('a')",
        "INSERT INTO t VALUES (NULL, 'a')",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t (v) SELECT 'a' UNION ALL SELECT 'b'",
        "INSERT OR REPLACE INTO t (v) VALUES ('a')",
        "INSERT INTO t (v) VALUES ('a') ON CONFLICT (id) DO UPDATE SET v = 'b' RETURNING id",
        "SELECT 1; INSERT INTO T (v) VALUES ('a')",
    ] {
        for key in ["INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"] {
            let mut a = peer("a");
            a.exec(&format!("CREATE TABLE t (id {key}, v)"));
            assert_eq!(a.replica.take_automatic_keys(), [""; 0]);
            a.exec(sql);
            assert_eq!(a.replica.take_automatic_keys(), ["t"], "{sql}");
            a.exec(sql);
            assert_eq!(a.replica.take_automatic_keys(), [""; 0], "{sql}");
        }
    }
}

#[test]
fn a_parameter_that_is_null_is_no_value() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    let mut insert = |id: SqlValue| {
        let (sql, now) = ("INSERT INTO t VALUES (?1, ?2)", a.now());
        a.replica.exec(sql, &Params::Positional(vec![id, SqlValue::Null]), Scope::Synced, now).unwrap();
        a.replica.take_automatic_keys()
    };
    assert_eq!(insert(SqlValue::Integer(5)), [""; 0]);
    assert_eq!(insert(SqlValue::Integer(6)), [""; 0]);
    assert_eq!(insert(SqlValue::Null), ["t"]);
}

#[test]
fn keys_that_are_given_and_tables_of_other_keys_are_not_told() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TABLE u (id TEXT PRIMARY KEY DEFAULT (uuid7()), v)");
    a.exec("CREATE TABLE w (id INTEGER PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE n (id INT PRIMARY KEY, v)");
    a.exec("INSERT INTO t VALUES (1, NULL); INSERT INTO u (v) VALUES (1); INSERT INTO w VALUES (1, 1); INSERT INTO n VALUES (1, 1)");
    a.exec("INSERT INTO t SELECT id + 1, v FROM t; UPDATE t SET v = NULL; INSERT INTO t VALUES (random(), 0)");
    a.local("CREATE TABLE mine (id INTEGER PRIMARY KEY, v); INSERT INTO mine (v) VALUES (1)");
    a.exec("EXPLAIN INSERT INTO t (v) VALUES (1)");
    assert_eq!(a.replica.take_automatic_keys(), [""; 0]);
}
