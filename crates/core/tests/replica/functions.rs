//! SQL functions for users.

use crate::common::{assert_equal, peer};

#[test]
fn uuid7_makes_keys_that_arrive_as_they_were_made() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY DEFAULT (uuid7()), n INTEGER)");
    a.at(0x017F_22E2_79B0, "INSERT INTO t (n) VALUES (1), (2)");
    a.at(0x017F_22E2_79B1, "INSERT INTO t (n) SELECT n + 2 FROM t");
    b.wall_ms = a.wall_ms;
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_eq!(
        b.rows("SELECT n, substr(id, 1, 15) FROM t ORDER BY id"),
        ["1|\"017f22e2-79b0-7\"", "2|\"017f22e2-79b0-7\"", "3|\"017f22e2-79b1-7\"", "4|\"017f22e2-79b1-7\"",]
    );
    // A table that came from a peer makes keys here too.
    b.exec("INSERT INTO t (n) VALUES (5)");
    assert_eq!(b.rows("SELECT count(DISTINCT id) FROM t"), ["5"]);
    b.local("CREATE TRIGGER more AFTER UPDATE ON t BEGIN INSERT INTO t VALUES (uuid7(), -new.n); END");
    b.exec("UPDATE t SET n = 6 WHERE n = 5");
    a.pull(&b);
    assert_equal(&mut a, &mut b);
    assert_eq!(a.rows("SELECT count(*) FROM t WHERE n = -6"), ["1"]);
}

#[test]
fn two_databases_make_different_keys_at_one_time() {
    let keys = |name| peer(name).at(1000, "SELECT uuid7()").values;
    assert_ne!(keys("a"), keys("a"));
}

/// What a table's text calls is known where the text is tried.
#[test]
fn a_table_that_calls_them_is_made_everywhere() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY CHECK (id <> rtc_version()), x UNIQUE, g AS (rtc_version() || x))");
    a.exec("CREATE UNIQUE INDEX i ON t (g) WHERE x > 0; INSERT INTO t VALUES ('1', 1)");
    a.exec("ALTER TABLE t ADD COLUMN y CHECK (y <> rtc_version())");
    b.pull(&a);
    assert_eq!(b.rows("SELECT x FROM t"), ["1"]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn rtc_version_is_the_librarys() {
    assert_eq!(peer("a").rows("SELECT rtc_version()"), [format!("{:?}", env!("CARGO_PKG_VERSION"))]);
}
