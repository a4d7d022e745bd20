//! Two versions of an application define a table, or a column of it, in two ways: everybody ends with the newest.

use crate::common::{Peer, assert_equal, peer, sync};
use proptest::prelude::*;

/// Both, and one who comes later, show the same. What only one had is told when it says something after a merge.
fn assert_same(a: &mut Peer, b: &mut Peer) {
    sync(a, b);
    for peer in [&mut *a, b] {
        assert_eq!(peer.rows("PRAGMA integrity_check"), [r#""ok""#]);
    }
    sync(a, b);
    let mut c = peer("c");
    c.wall_ms = 100_000;
    c.pull(a);
    assert_equal(a, b);
    assert_equal(a, &mut c);
}

#[test]
fn a_column_that_two_devices_add_with_other_defaults_has_the_newest_everywhere() {
    for first in [true, false] {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'old')");
        b.pull(&a);
        let (one, other) = if first { (2_000, 3_000) } else { (3_000, 2_000) };
        a.at(one, "ALTER TABLE t ADD COLUMN y DEFAULT 5; INSERT INTO t VALUES (2, 'a', 7)");
        b.at(other, "ALTER TABLE t ADD COLUMN y TEXT DEFAULT 6; INSERT INTO t (id, x) VALUES (3, 'b')");
        assert_same(&mut a, &mut b);
        let expected = if first { [r#""6""#, r#""7""#, r#""6""#] } else { ["5", "7", r#""6""#] };
        assert_eq!(a.rows("SELECT y FROM t ORDER BY id"), expected);
    }
}

#[test]
fn a_table_that_two_devices_make_differently_is_the_newest_everywhere() {
    let texts = [
        "id INTEGER PRIMARY KEY, x, y DEFAULT 5",
        "id INTEGER PRIMARY KEY, x TEXT, y DEFAULT 6",
        "id INTEGER PRIMARY KEY, x INTEGER NOT NULL UNIQUE",
        "id INTEGER PRIMARY KEY, x COLLATE NOCASE UNIQUE, z DEFAULT CURRENT_TIMESTAMP",
        "id INTEGER PRIMARY KEY, x, y, UNIQUE (x, y)",
    ];
    let forms = ["", "WITHOUT ROWID"];
    for (one, other) in (0..texts.len()).flat_map(|n| (0..texts.len()).map(move |m| (n, m))) {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.at(1_000, &format!("CREATE TABLE t ({}) {}", texts[one], forms[one % 2]));
        a.exec("CREATE INDEX i ON t (x); INSERT INTO t (id, x) VALUES (1, '7'), (2, 'A'); UPDATE t SET x = 'a' WHERE id = 2");
        a.exec("CREATE TRIGGER r AFTER DELETE ON t BEGIN SELECT 1; END; DELETE FROM t WHERE id = 5");
        b.at(1_000 + 500 * (one as u64 % 2), &format!("CREATE TABLE t ({}) {}", texts[other], forms[other % 2]));
        b.exec("INSERT INTO t (id, x) VALUES (3, 7), (4, 'a'), (2, 'B')");
        assert_same(&mut a, &mut b);
        assert_eq!(b.rows("SELECT count(*) FROM sqlite_schema WHERE name IN ('i', 'r')"), ["2"]);
        b.exec("INSERT INTO t (id, x) VALUES (9, 9)");
        a.exec("DELETE FROM t WHERE id = 2");
        assert_same(&mut a, &mut b);
    }
}

#[test]
fn a_strict_table_is_strict_everywhere() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.at(1_000, "CREATE TABLE t (id INTEGER PRIMARY KEY, x ANY) STRICT; INSERT INTO t VALUES (1, '7')");
    b.at(2_000, "CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER) STRICT; INSERT INTO t VALUES (2, 7)");
    a.exec("INSERT INTO t VALUES (3, 'no number')");
    assert_same(&mut a, &mut b);
    assert_eq!(a.rows("SELECT id, x FROM t"), ["1|7", "2|7"]);
    assert_eq!(a.rows("SELECT count(*) FROM rtc_conflicts"), ["1"]);
}

/// What one had in a column that the newest text does not have is told, and stays.
#[test]
fn columns_that_only_one_has_stay() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.at(1_000, "CREATE TABLE t (id INTEGER PRIMARY KEY, x, mine DEFAULT 3)");
    a.exec("INSERT INTO t VALUES (1, 1, 'mine'); ALTER TABLE t RENAME COLUMN x TO called");
    b.at(2_000, "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT DEFAULT 9, yours)");
    b.exec("INSERT INTO t VALUES (2, 2, 'yours')");
    assert_same(&mut a, &mut b);
    assert_eq!(b.rows("SELECT id, called, mine, yours FROM t"), [r#"1|"1"|"mine"|NULL"#, r#"2|"2"|3|"yours""#]);
}

/// Nothing is done twice, and nothing to a table that is what it should be.
#[test]
fn a_table_that_is_as_it_is_defined_is_left_alone() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x INT DEFAULT 5)");
    a.exec("ALTER TABLE t ADD COLUMN y TEXT COLLATE NOCASE DEFAULT 'y'; ALTER TABLE t RENAME COLUMN y TO z");
    a.exec("ALTER TABLE t ADD COLUMN y NOT NULL; ALTER TABLE t DROP COLUMN x; ALTER TABLE t ADD COLUMN x DEFAULT 6");
    b.pull(&a);
    b.local("CREATE TABLE log (n); CREATE TRIGGER gone BEFORE DELETE ON t BEGIN INSERT INTO log VALUES (1); END");
    let number = b.rows("SELECT id FROM rtc_tables WHERE name = 't'");
    a.at(50_000, "ALTER TABLE t ADD COLUMN more DEFAULT 1");
    b.pull(&a);
    let mut c = peer("c");
    c.at(60_000, "CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER DEFAULT 5)");
    b.pull(&c);
    assert_eq!(b.rows("SELECT id FROM rtc_tables WHERE name = 't'"), number);
}

const CREATES: [&str; 6] = [
    "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, x, y)",
    "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, x INTEGER DEFAULT 1, y TEXT)",
    "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, x REAL NOT NULL, z DEFAULT 'z') WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, x UNIQUE, y NOT NULL DEFAULT 'n')",
    "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, x COLLATE NOCASE UNIQUE)",
    "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, z CURRENT_TIMESTAMP, x TEXT)",
];

const CHANGES: [&str; 13] = [
    "INSERT INTO t (id, x) VALUES ('1', 'A')",
    "INSERT INTO t (id, x) VALUES ('2', 1)",
    "INSERT OR REPLACE INTO t (id, x) VALUES ('3', '1')",
    "UPDATE t SET x = 'a' WHERE id = '1'",
    "UPDATE t SET y = id, x = 2 WHERE id <> '1'",
    "UPDATE t SET z = 3.0",
    "DELETE FROM t WHERE id = '2'",
    "ALTER TABLE t ADD COLUMN y INTEGER DEFAULT 7",
    "ALTER TABLE t ADD COLUMN z TEXT NOT NULL DEFAULT 8",
    "ALTER TABLE t ADD COLUMN z DEFAULT 9.5",
    "ALTER TABLE t DROP COLUMN y",
    "ALTER TABLE t RENAME COLUMN z TO y",
    "CREATE UNIQUE INDEX IF NOT EXISTS i ON t (x)",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn whatever_the_versions_and_the_order_everybody_shows_the_same(
        steps in prop::collection::vec((0..3usize, 0..23usize, 1..5_000u64), 1..24)
    ) {
        let mut peers = ["a", "b", "c"].map(peer);
        for (who, what, wait_ms) in steps {
            let wall_ms = peers[who].wall_ms + wait_ms;
            match what {
                0..19 => {
                    peers[who].wall_ms = wall_ms;
                    // What is not there cannot be changed.
                    let _ = peers[who].try_exec(CREATES.iter().chain(&CHANGES).nth(what).unwrap());
                }
                _ => {
                    let [a, b, c] = &mut peers;
                    let (to, from) = match (who, what % 2) { (0, 0) => (a, b), (0, _) => (a, c), (1, 0) => (b, a), (1, _) => (b, c), (_, 0) => (c, a), _ => (c, b) };
                    to.pull(from);
                }
            }
        }
        let [a, b, c] = &mut peers;
        for _ in 0..3 {
            sync(a, b);
            sync(b, c);
            sync(a, c);
            [&mut *a, b, c].into_iter().for_each(|peer| assert_eq!(peer.rows("PRAGMA integrity_check"), [r#""ok""#]));
        }
        let mut late = peer("late");
        late.wall_ms = 200_000;
        late.pull(a);
        for other in [b, c, &mut late] {
            assert_equal(a, other);
        }
    }
}
