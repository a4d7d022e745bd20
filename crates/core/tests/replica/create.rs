//! One table that two devices created, each by itself, with different definitions.

use crate::common::{Peer, assert_alike, peer, sync};

/// Each creates a table and writes to it before they meet.
fn apart(one: &str, other: &str) -> (Peer, Peer) {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.at(2000, one);
    b.at(3000, other);
    (a, b)
}

#[test]
fn of_two_primary_keys_each_keeps_its_own_and_is_told() {
    let (mut a, mut b) = apart(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'a')",
        "CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('1', 'b'), ('no number', 'b')",
    );
    let (operations, covers) = b.delta(a.replica.vector());
    let applied = a.replica.apply(operations, &covers, a.now()).unwrap();
    assert!(
        applied.refused.iter().any(|why| why.contains("t(id text binary), here t(id integer binary)")),
        "{:?}",
        applied.refused
    );
    b.pull(&a);
    sync(&mut a, &mut b);
    // One row where the keys are one key, and nobody's table is gone.
    assert_eq!(a.rows("SELECT * FROM t"), [r#"1|"b""#]);
    assert_eq!(b.rows("SELECT * FROM t ORDER BY id"), [r#""1"|"b""#, r#""no number"|"b""#]);
    for peer in [&mut a, &mut b] {
        assert_eq!(peer.rows("PRAGMA integrity_check"), ["\"ok\""]);
        assert_eq!(peer.rows("SELECT count(*) FROM sqlite_schema WHERE name GLOB 'rtc_0*'"), ["0"]);
    }
    // They go on.
    a.at(4000, "UPDATE t SET x = 'again'");
    sync(&mut a, &mut b);
    assert_eq!(b.rows("SELECT x FROM t WHERE id = '1'"), ["\"again\""]);
    let mut newcomer = peer("newcomer");
    newcomer.pull(&b);
    assert_eq!(newcomer.rows("SELECT * FROM t"), [r#"1|"again""#]);
}

fn union(one: &str, other: &str) -> (Peer, Peer) {
    let (mut a, mut b) = apart(one, other);
    // What one tells for its columns' sake is told on.
    (0..2).for_each(|_| sync(&mut a, &mut b));
    assert_alike(&mut a, &mut b);
    for peer in [&mut a, &mut b] {
        assert_eq!(peer.rows("SELECT count(*) FROM rtc_waiting"), ["0"]);
        let mut newcomer = crate::common::peer("newcomer");
        newcomer.pull(peer);
        assert_alike(peer, &mut newcomer);
    }
    (a, b)
}

#[test]
fn who_created_the_older_version_gets_the_newer_ones_columns() {
    let (mut a, mut b) = union(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'a')",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x, y DEFAULT 7, z TEXT COLLATE NOCASE); INSERT INTO t VALUES (2, 'b', 'y', 'z')",
    );
    assert_eq!(a.rows("SELECT x, y, z FROM t ORDER BY id"), [r#""a"|7|NULL"#, r#""b"|"y"|"z""#]);
    assert_eq!(a.rows("SELECT x FROM t WHERE z = 'Z'"), ["\"b\""]);
    // Nobody had to tell anything for it.
    assert_eq!(b.rows("SELECT count(*) FROM rtc_schema"), ["1"]);
}

#[test]
fn columns_that_the_newer_definition_lacks_are_everybodys_too() {
    let (mut a, mut b) = union(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x, y NOT NULL DEFAULT 7); INSERT INTO t VALUES (1, 'a', 'y')",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (2, 'b')",
    );
    for peer in [&mut a, &mut b] {
        assert_eq!(peer.rows("SELECT * FROM t ORDER BY id"), [r#"1|"a"|"y""#, r#"2|"b"|7"#]);
        assert_eq!(
            peer.rows("SELECT name, sql FROM rtc_schema WHERE kind = 'column'"),
            [r#""y"|"y NOT NULL DEFAULT 7""#]
        );
    }
    // And can be dropped by anybody.
    b.at(5000, "ALTER TABLE t DROP COLUMN y");
    sync(&mut a, &mut b);
    assert_alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM t ORDER BY id"), [r#"1|"a""#, r#"2|"b""#]);
}

#[test]
fn each_has_a_column_that_the_other_lacks() {
    let (mut a, mut b) = union(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x UNIQUE, only_a); INSERT INTO t VALUES (1, 'a', 'a')",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, only_b NOT NULL, x); INSERT INTO t VALUES (2, 'b', 'b')",
    );
    for peer in [&mut a, &mut b] {
        assert_eq!(peer.rows("SELECT id, x, only_a FROM t ORDER BY id"), [r#"1|"a"|"a""#, r#"2|"b"|NULL"#]);
        assert_eq!(peer.rows("SELECT only_b FROM t WHERE id = 2"), ["\"b\""]);
    }
    b.at(5000, "UPDATE t SET only_a = 'b too'");
    sync(&mut a, &mut b);
    assert_alike(&mut a, &mut b);
}
