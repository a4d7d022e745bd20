//! Plain SQLite files out of a replica and into one.

use std::io::Cursor;

use crate::common::{assert_equal, peer};
use proptest::prelude::*;
use rusqlite::Connection;

fn open(bytes: &[u8]) -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.deserialize_read_exact("main", Cursor::new(bytes), bytes.len(), true).unwrap();
    connection
}

fn file(sql: &str) -> Vec<u8> {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    connection.serialize("main").unwrap().to_vec()
}

#[test]
fn an_exported_file_is_plain_sqlite() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('é', 9007199254740993), ('b', x'00')");
    a.local(
        "CREATE INDEX i ON t (x); CREATE VIEW v AS SELECT x FROM t; CREATE TABLE mine (x); INSERT INTO mine VALUES (1)",
    );
    let plain = open(&a.replica.export().unwrap());
    let names = |sql| -> Vec<String> {
        plain.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(
        names("SELECT name FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*' ORDER BY name"),
        ["i", "mine", "t", "v"]
    );
    assert_eq!(names("SELECT quote(id) || quote(x) FROM t ORDER BY id"), ["'b'X'00'", "'é'9007199254740993"]);
    assert_eq!(names("PRAGMA integrity_check"), ["ok"]);
    a.exec("BEGIN");
    assert!(a.replica.export().is_err(), "what is not committed is not exported");
}

#[test]
fn an_imported_file_fills_gaps_and_overwrites_nothing() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'ours'), (2, 'gone'); DELETE FROM t WHERE id = 2");
    let bytes = file(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'theirs'), (2, 'dead'), (3, 'new');
         CREATE TABLE u (k TEXT PRIMARY KEY, v REAL); INSERT INTO u VALUES ('a', 1.5);
         CREATE TABLE nokey (x); CREATE TABLE rtc_evil (id INTEGER PRIMARY KEY);
         CREATE VIEW v AS SELECT 1; CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM t; END;",
    );
    let now = a.now();
    let (applied, covers) = a.replica.import(&bytes, now).unwrap();
    assert_eq!((applied.operations, applied.refused.len(), covers.is_empty()), (2, 1, false), "{applied:?}");
    assert!(applied.refused[0].contains("nokey"));
    assert_eq!(a.dump(), ["t: integer 1, text 'ours'", "t: integer 3, text 'new'", "u: text 'a', real 1.5"]);
    let version = a.replica.version();
    let (again, covers) = a.replica.import(&bytes, now).unwrap();
    assert_eq!((again.operations, covers.is_empty(), a.replica.version()), (0, true, version));
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    b.replica.import(&bytes, now).unwrap();
    assert_equal(&mut a, &mut b);
}

#[test]
fn what_was_exported_comes_back_the_same() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (k TEXT COLLATE NOCASE, n, PRIMARY KEY (k, n)) WITHOUT ROWID; INSERT INTO t VALUES ('A', 1), ('b', 2.0)");
    let now = b.now();
    b.replica.import(&a.replica.export().unwrap(), now).unwrap();
    assert_eq!(a.dump(), b.dump());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// A damaged file is refused or read; the replica stays as it was or gains rows, and stays sound.
    #[test]
    fn a_damaged_file_does_no_harm(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40), cut in any::<prop::sample::Index>(), truncate in any::<bool>()) {
        let mut bytes = file("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) SELECT i, zeroblob(50) FROM n");
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if truncate {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut a = peer("a");
        a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'ours')");
        let now = a.now();
        let _ = a.replica.import(&bytes, now);
        prop_assert_eq!(a.rows("SELECT x FROM t WHERE id = 1"), ["\"ours\""]);
        prop_assert_eq!(a.rows("PRAGMA integrity_check"), ["\"ok\""]);
    }
}

#[test]
fn an_empty_file_is_an_empty_database() {
    let mut a = peer("a");
    let now = a.now();
    let (applied, covers) = a.replica.import(&[], now).unwrap();
    assert_eq!((applied.operations, applied.refused.len(), covers.is_empty()), (0, 0, true));
}
