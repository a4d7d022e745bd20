//! `exec` on one replica: what SQL may do, what becomes a transaction, what survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Peer, assert_equal, peer};
use rtc_battery_core::Replica;
use rtc_battery_core::replica::{OpenError, Params, Scope};
use rtc_battery_proto::{ReplicaId, SqlValue};
use rusqlite::Connection;

fn with_table() -> Peer {
    let mut peer = peer("a");
    peer.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y)");
    peer
}

#[test]
fn several_statements_give_the_last_rows_and_all_changes() {
    let mut a = with_table();
    let result = a.exec("INSERT INTO t (id) VALUES (1), (2); SELECT id AS n FROM t; UPDATE t SET x = 1; -- done");
    assert_eq!((result.columns, result.values.len(), result.rows_affected), (vec!["n".to_owned()], 2, 4));
    let result = a.exec("INSERT INTO t (id) VALUES (3) RETURNING id, x");
    assert_eq!(result.values, [[SqlValue::Integer(3), SqlValue::Null]]);
}

#[test]
fn parameters_go_by_position_or_by_name() {
    let mut a = with_table();
    let now = a.now();
    let values = [1, 2, 3].map(SqlValue::Integer).to_vec();
    let sql = "INSERT INTO t VALUES (?, ?, NULL); UPDATE t SET y = ?";
    a.replica.exec(sql, &Params::Positional(values), Scope::Synced, now).unwrap();
    assert_eq!(a.rows("SELECT * FROM t"), ["1|2|3"]);
    let named = Params::Named(vec![("x".into(), SqlValue::text("n")), ("$y".into(), SqlValue::Null)]);
    a.replica.exec("UPDATE t SET x = :x, y = $y", &named, Scope::Synced, now).unwrap();
    assert_eq!(a.rows("SELECT * FROM t"), [r#"1|"n"|NULL"#]);
    for (sql, params) in
        [("SELECT ?", Params::None), ("SELECT ?, ?", Params::Positional(vec![SqlValue::Null])), ("SELECT :z", named)]
    {
        let error = a.replica.exec(sql, &params, Scope::Synced, now).unwrap_err();
        assert!(error.message.contains("no value was given for parameter"), "{error}");
    }
}

#[test]
fn what_sqlite_would_read_in_part_or_without_end_is_refused() {
    let mut a = with_table();
    let now = a.now();
    let error = a.replica.exec("INSERT INTO t (id) VALUES (1)\0; DROP TABLE t", &Params::None, Scope::Synced, now);
    assert!(error.unwrap_err().message.contains("NUL"));
    assert!(a.rows("SELECT * FROM t").is_empty());
    let like = format!("SELECT ?1 LIKE '{}'", "%a".repeat(1_001));
    let text = Params::Positional(vec![SqlValue::Text("a".repeat(2_000).into())]);
    let error = a.replica.exec(&like, &text, Scope::Synced, now).unwrap_err();
    assert!(error.message.contains("LIKE or GLOB pattern too complex"), "{error}");
}

#[test]
fn each_commit_is_one_transaction_and_an_idle_one_is_none() {
    let mut a = with_table();
    assert_eq!(a.replica.version(), 1);
    a.exec("BEGIN; INSERT INTO t VALUES (1, 1, 1); INSERT INTO t VALUES (2, 2, 2)");
    assert!(a.replica.in_transaction());
    assert_eq!(a.replica.version(), 1);
    a.exec("COMMIT");
    assert_eq!((a.replica.version(), a.replica.in_transaction()), (2, false));
    for sql in [
        "UPDATE t SET x = x",
        "DELETE FROM t WHERE id = 9",
        "BEGIN; INSERT INTO t VALUES (3, 3, 3); ROLLBACK",
        "SELECT 1",
        "BEGIN; COMMIT",
    ] {
        a.exec(sql);
        assert_eq!(a.replica.version(), 2, "{sql}");
    }
    let committed = a.replica.take_committed(2);
    let sizes: Vec<_> = committed.iter().map(|c| (c.version, c.operations.as_ref().unwrap().len())).collect();
    assert_eq!(sizes, [(1, 1), (2, 2)]);
}

#[test]
fn savepoints_take_back_what_they_should() {
    let mut a = with_table();
    a.exec("BEGIN; INSERT INTO t VALUES (1, 1, 1); SAVEPOINT s; INSERT INTO t VALUES (2, 2, 2); ROLLBACK TO s; RELEASE s; COMMIT");
    assert_eq!(a.replica.take_committed(9).last().unwrap().operations.as_ref().unwrap().len(), 1);
    // A SAVEPOINT outside of a transaction opens one, and its RELEASE commits it.
    a.exec("SAVEPOINT outer; INSERT INTO t VALUES (3, 3, 3); SAVEPOINT inner; DELETE FROM t; ROLLBACK TO inner");
    assert!(a.replica.in_transaction());
    a.exec("RELEASE OUTER");
    assert!(!a.replica.in_transaction());
    let committed = a.replica.take_committed(9);
    assert_eq!(committed[0].operations.as_ref().unwrap().len(), 1);
    assert_eq!(a.rows("SELECT id FROM t"), ["1", "3"]);
}

#[test]
fn replace_writes_the_whole_row_and_a_delete_that_was_undone_writes_nothing() {
    let mut a = with_table();
    a.exec("INSERT INTO t VALUES (1, 1, 1)");
    let kinds = |a: &mut Peer| -> Vec<String> {
        let committed = a.replica.take_committed(99).pop().unwrap();
        committed
            .operations
            .unwrap()
            .iter()
            .map(|op| format!("{:?} {:?}", op.kind, op.values.clone().unwrap_or_default()))
            .collect()
    };
    a.exec("REPLACE INTO t VALUES (1, 1, 2)");
    assert_eq!(kinds(&mut a), ["Delete {}", r#"Insert {"id": 1, "x": 1, "y": 2}"#]);
    a.exec("BEGIN; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s; UPDATE t SET y = 3; COMMIT");
    assert_eq!(kinds(&mut a), [r#"Update {"y": 3}"#]);
    a.exec("UPDATE t SET id = 2");
    assert_eq!(kinds(&mut a), ["Delete {}", r#"Insert {"id": 2, "x": 1, "y": 3}"#]);
}

#[test]
fn failing_statements_leave_what_sqlite_leaves() {
    let mut a = with_table();
    a.exec("INSERT INTO t VALUES (5, 5, 5)");
    let version = a.replica.version();
    assert!(a.try_exec("INSERT INTO t VALUES (1, 1, 1), (5, 0, 0)").is_err());
    assert_eq!((a.replica.version(), a.rows("SELECT count(*) FROM t")), (version, vec!["1".to_owned()]));
    assert!(a.try_exec("INSERT OR FAIL INTO t VALUES (2, 2, 2), (5, 0, 0)").is_err());
    assert_eq!((a.replica.version(), a.rows("SELECT count(*) FROM t")), (version + 1, vec!["2".to_owned()]));
    assert!(a.try_exec("BEGIN; DELETE FROM t; INSERT OR ROLLBACK INTO t VALUES (7, 7, 7), (7, 7, 7)").is_err());
    assert!(!a.replica.in_transaction());
    assert_eq!((a.replica.version(), a.rows("SELECT count(*) FROM t")), (version + 1, vec!["2".to_owned()]));
    a.exec("INSERT INTO t VALUES (8, 8, 8)");
    assert_eq!(a.replica.version(), version + 2);
}

#[test]
fn a_commit_that_fails_leaves_the_transaction_open_and_unlogged() {
    let mut a = with_table();
    a.exec("CREATE TABLE c (id INTEGER PRIMARY KEY, t REFERENCES t DEFERRABLE INITIALLY DEFERRED)");
    let version = a.replica.version();
    a.exec("BEGIN; INSERT INTO c VALUES (1, 1)");
    assert!(a.try_exec("COMMIT").unwrap_err().message.contains("FOREIGN KEY"));
    assert!(a.replica.in_transaction());
    assert_eq!(a.replica.version(), version);
    a.exec("INSERT INTO t (id) VALUES (1); COMMIT");
    assert_eq!(a.replica.version(), version + 1);
    let mut b = peer("b");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn errors_say_what_sqlite_says_and_what_to_do() {
    let mut a = with_table();
    a.exec("INSERT INTO t VALUES (1, 1, 1)");
    let cases = [
        ("SELEC 1", "near \"SELEC\": syntax error", 1),
        ("INSERT INTO t VALUES (1, 1, 1)", "UNIQUE constraint failed: t.id", 1555),
        ("CREATE TABLE u (x)", "has no primary key", 23),
        ("CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT rtc_version(); END", "execLocal", 23),
        ("CREATE VIRTUAL TABLE f USING fts5 (x)", "execLocal", 23),
        ("ALTER TABLE t ADD COLUMN z AS (y)", "this ALTER TABLE is not replicated", 23),
        ("INSERT INTO rtc_tables VALUES (9, 'x')", "rtc_tables", 23),
        ("DELETE FROM RTC_operations", "rtc_operations", 23),
        ("CREATE TABLE rtc_mine (id INTEGER PRIMARY KEY)", "rtc_mine", 23),
        ("DELETE FROM temp.rtc_staged", "rtc_staged", 23),
        ("PRAGMA journal_mode = DELETE", "journal_mode", 23),
        ("ATTACH 'file.db' AS x", "attached", 23),
        ("PRAGMA temp_store = FILE", "temp_store", 23),
        ("PRAGMA query_only = ON", "query_only", 23),
        ("CREATE TEMP TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM t; END", "TEMP trigger", 23),
    ];
    for (sql, message, code) in cases {
        let error = a.try_exec(sql).expect_err(sql);
        assert!(error.message.contains(message), "{sql}: {error}");
        assert_eq!(error.code, code, "{sql}");
    }
    assert_eq!(a.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'rtc_*'"), [r#""t""#]);
    assert!(a.rows("SELECT count(*) FROM rtc_operations")[0] != "0", "readable");
}

#[test]
fn what_only_looks_like_a_write_or_like_none_is_told_apart() {
    let mut a = with_table();
    a.exec("INSERT INTO t SELECT cid, name, type FROM pragma_table_info('t')");
    assert_eq!(a.replica.version(), 2, "a write that reads a pragma is a write");
    assert_eq!(a.exec("EXPLAIN INSERT INTO t VALUES (9, 9, 9)").rows_affected, 0);
    a.exec("BEGIN; INSERT INTO t VALUES (9, 9, 9); EXPLAIN COMMIT");
    assert!(a.replica.in_transaction());
    a.exec("ROLLBACK; PRAGMA user_version = 7; VACUUM; /* so */ -- and so\n vacuum; ATTACH ':memory:' AS m; CREATE TABLE m.u (x); INSERT INTO m.u VALUES (1)");
    a.exec("CREATE TEMP TABLE scratch (x); INSERT INTO scratch VALUES (1); DROP TABLE scratch");
    assert_eq!((a.replica.version(), a.rows("PRAGMA user_version")), (2, vec!["7".to_owned()]));
    let mut b = peer("b");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn exec_local_cannot_break_a_synced_table() {
    let mut a = with_table();
    let now = a.now();
    for sql in
        ["DROP TABLE t", "ALTER TABLE t ADD COLUMN z", "CREATE UNIQUE INDEX i ON t (x)", "DROP TABLE rtc_operations"]
    {
        let error = a.replica.exec(sql, &Params::None, Scope::Local, now).expect_err(sql);
        assert_eq!(error.code, 23, "{sql}: {error}");
    }
    a.local("CREATE INDEX i ON t (x); CREATE VIEW v AS SELECT x FROM t; CREATE TABLE mine (x); ALTER TABLE mine ADD COLUMN y; DROP TABLE mine");
    a.local("CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE t SET y = 'seen' WHERE id = new.id; END");
    a.exec("INSERT INTO t VALUES (1, 1, 1)");
    let mut b = peer("b");
    b.pull(&a);
    assert_eq!(b.rows("SELECT y FROM t"), ["\"seen\""], "what a local trigger did is told");
    assert_equal(&mut a, &mut b);
}

#[test]
fn autoincrement_tables_are_tables() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, x); INSERT INTO t (x) VALUES ('one'), ('two')");
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    b.exec("INSERT INTO t (x) VALUES ('three')");
    a.pull(&b);
    assert_eq!(a.rows("SELECT id FROM t"), ["1", "2", "3"]);
    assert_equal(&mut a, &mut b);
}

/// Two devices spell one table's name differently: one identity, and each goes on capturing under its own spelling.
#[test]
fn the_spelling_of_a_tables_name_does_not_matter() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.at(1000, "CREATE TABLE Notes (id INTEGER PRIMARY KEY, x)");
    b.at(2000, "CREATE TABLE notes (id INTEGER PRIMARY KEY, x)");
    a.pull(&b);
    b.pull(&a);
    for peer in [&mut a, &mut b] {
        // A rollback reads the tables again, as opening does.
        peer.exec("BEGIN; INSERT INTO notes VALUES (9, 9); ROLLBACK");
    }
    a.exec("INSERT INTO notes VALUES (1, 'a')");
    b.exec("INSERT INTO NOTES VALUES (2, 'b')");
    a.pull(&b);
    b.pull(&a);
    a.exec("DELETE FROM nOTES WHERE id = 2");
    b.pull(&a);
    let rows = |peer: &mut Peer| peer.rows("SELECT * FROM notes");
    assert_eq!((rows(&mut a), rows(&mut b)), (vec!["1|\"a\"".to_owned()], vec!["1|\"a\"".to_owned()]));
}

#[test]
fn a_refused_table_goes_alone() {
    let mut a = with_table();
    a.exec("BEGIN; INSERT INTO t VALUES (1, 1, 1)");
    assert!(a.try_exec("CREATE TABLE u (x)").is_err());
    assert!(a.replica.in_transaction());
    a.exec("COMMIT");
    assert_eq!(a.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'rtc_*'"), [r#""t""#]);
    assert_eq!(a.rows("SELECT id FROM t"), ["1"]);
}

#[test]
fn null_in_a_key_is_refused() {
    let mut a = peer("a");
    a.exec("CREATE TABLE k (id TEXT PRIMARY KEY, x)");
    let version = a.replica.version();
    let error = a.try_exec("INSERT INTO k VALUES ('1', 1), (NULL, 2)").unwrap_err();
    assert!(error.message.contains("NULL in the primary key of table k"), "{error}");
    assert_eq!((a.dump().len(), a.replica.version()), (0, version));
}

#[test]
fn a_database_is_reopened_as_it_was_and_only_by_its_room() {
    let dir = std::env::temp_dir().join(format!("rtc-battery-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let open = |room: &str, id: &str| {
        Replica::open(Connection::open(dir.join("db")).unwrap(), room, &ReplicaId::new(id).unwrap())
    };
    let mut a = Peer { replica: open("room", "a").unwrap(), wall_ms: 5000 };
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 1)");
    let (vector, version, log) = (a.replica.vector().clone(), a.replica.version(), a.log());
    drop(a);
    assert!(matches!(open("other", "b"), Err(OpenError::OtherRoom)));
    let mut a = Peer { replica: open("room", "b").unwrap(), wall_ms: 1 };
    assert_eq!((a.replica.id().as_str(), a.replica.vector(), a.replica.version()), ("a", &vector, version));
    assert_eq!(a.log(), log);
    // The wall clock went back; the replica's clock does not.
    a.exec("UPDATE t SET x = 2");
    let newest = a.replica.take_committed(9).pop().unwrap().operations.unwrap().remove(0);
    assert!(newest.hlc.tick.ts >= 5000);
    drop(a);
    Connection::open(dir.join("db")).unwrap().execute_batch("UPDATE rtc_replica SET format = 99").unwrap();
    assert!(matches!(open("room", "b"), Err(OpenError::NewerFormat(99))));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn live_operations_tell_what_was_overwritten() {
    let mut a = with_table();
    a.exec("INSERT INTO t VALUES (1, 'old', 0)");
    a.exec("UPDATE t SET x = 'new'");
    let operation = a.replica.take_committed(9).pop().unwrap().operations.unwrap().remove(0);
    let json = serde_json::to_value(&operation).unwrap();
    assert_eq!(json["pk"], serde_json::json!({"id": 1}));
    assert_eq!(json["values"], serde_json::json!({"x": "new"}));
    assert_eq!(json["prev"], serde_json::json!({"x": "old"}));
}

/// A number of a table that a savepoint took back is given to the next one.
#[test]
fn rows_of_a_table_that_was_undone_are_not_the_next_ones() {
    for gone in ["(a PRIMARY KEY, b)", "(a, b, PRIMARY KEY (a, b))"] {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.exec(&format!("BEGIN; SAVEPOINT s; CREATE TABLE gone {gone} WITHOUT ROWID; INSERT INTO gone VALUES (5, 5)"));
        a.exec("ROLLBACK TO s; CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (5, 'x'); COMMIT");
        assert_eq!(a.rows("SELECT count(*) FROM rtc_operations"), ["2"]);
        b.pull(&a);
        assert_equal(&mut a, &mut b);
    }
}

/// As on a full disk: SQLite rolls back what it could not commit.
#[test]
fn a_commit_that_rolls_back_leaves_nothing_behind() {
    let full = Arc::new(AtomicBool::new(false));
    let mut connection = Connection::open_in_memory().unwrap();
    let hook = Arc::clone(&full);
    connection.commit_hook(Some(move || hook.load(Ordering::Relaxed))).unwrap();
    let replica = Replica::open(connection, "room", &ReplicaId::new("a").unwrap()).unwrap();
    let (mut a, mut b) = (Peer { replica, wall_ms: 1000 }, peer("b"));
    a.replica.keep_at_hand(0);
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    a.local("CREATE TABLE mine (x)");
    for write in ["INSERT INTO t (x) VALUES (1)", "INSERT INTO mine VALUES (1)"] {
        for (begin, commit) in [("BEGIN", "COMMIT"), ("SAVEPOINT s", "RELEASE s"), ("", "")] {
            a.exec(begin);
            full.store(true, Ordering::Relaxed);
            a.try_exec(&format!("{write}; {commit}")).unwrap_err();
            full.store(false, Ordering::Relaxed);
            assert!(!a.replica.in_transaction());
            // Its scope is gone too.
            a.exec("BEGIN");
            a.local("INSERT INTO t VALUES (-1, 0); DELETE FROM t WHERE id = -1");
            a.exec("COMMIT");
        }
    }
    a.exec("BEGIN; INSERT INTO t VALUES (7, 7); COMMIT");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_eq!(b.rows("SELECT * FROM t"), ["7|7"]);
}

#[test]
fn a_table_with_rows_that_nobody_was_told_does_not_become_a_synced_one() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.local("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 1, 1)");
    let create = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x, y)";
    assert!(a.try_exec(create).unwrap_err().message.contains("on this device only"));
    a.exec("UPDATE t SET x = 2");
    a.local("DELETE FROM t");
    a.exec(create);
    a.exec("INSERT INTO t VALUES (1, 3, 3)");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}
