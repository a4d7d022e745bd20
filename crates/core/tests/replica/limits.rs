//! Large rows: what a user may write arrives, however it is written down on the way; what is larger is the writer's error and nobody else's.

use crate::common::{Peer, peer};
use rtc_battery_core::replica::MAX_ROW_BYTES;
use rtc_battery_proto::VersionVector;

/// The same rows, without printing them.
fn assert_equal(a: &mut Peer, b: &mut Peer) {
    assert_eq!(a.replica.vector(), b.replica.vector());
    assert!(a.exec("SELECT * FROM t").values == b.exec("SELECT * FROM t").values, "the rows differ");
}

/// A row of this many bytes, its key and the record's header not counted.
const LARGE: i32 = MAX_ROW_BYTES - 100;

#[test]
fn a_row_as_large_as_may_be_travels_staged_and_survives_its_deletion() {
    // As JSON these are 4/3 and 6 times as long.
    for value in [format!("randomblob({LARGE})"), format!("replace(hex(zeroblob({} / 2)), '0', char(1))", LARGE)] {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v, w)");
        a.exec(&format!("INSERT INTO t (id, v) VALUES (1, {value})"));
        let (operations, covers) = a.delta(&VersionVector::default());
        b.replica.stage(7, &operations).unwrap();
        assert_eq!(b.replica.apply_staged(7, &covers, b.now()).unwrap().refused.len(), 0);
        assert_equal(&mut a, &mut b);

        a.at(2000, "DELETE FROM t");
        b.at(3000, "UPDATE t SET w = 1");
        a.pull(&b);
        b.pull(&a);
        assert_eq!(a.rows("SELECT length(v), w FROM t"), [format!("{LARGE}|1")]);
        assert_equal(&mut a, &mut b);
    }
}

#[test]
fn a_large_row_of_a_table_that_is_not_known_yet_waits() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, randomblob({LARGE}))"));
    let (operations, covers) = a.delta(&VersionVector::default());
    let (schema, rows): (Vec<_>, Vec<_>) = operations.into_iter().partition(|op| op.table == "rtc_schema");
    let mut rows_only = VersionVector::default();
    rows.iter().for_each(|operation| rows_only.insert(operation.place().unwrap().0));
    b.replica.apply(rows, &rows_only, b.now()).unwrap();
    b.replica.apply(schema, &covers, b.now()).unwrap();
    assert_eq!(b.rows("SELECT length(v) FROM t"), [LARGE.to_string()]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_larger_row_is_refused_where_it_is_written() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v, w)");
    let error = a.try_exec(&format!("INSERT INTO t VALUES (1, zeroblob({LARGE}), zeroblob(200))")).unwrap_err();
    assert_eq!(error.code, rusqlite::ffi::SQLITE_TOOBIG);
    assert_eq!(a.rows("SELECT count(*) FROM t"), ["0"]);
}

#[test]
fn two_writes_that_together_are_too_large_do_not_stop_anybody() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v, w); INSERT INTO t (id) VALUES (1)");
    b.pull(&a);
    a.at(2000, "UPDATE t SET v = randomblob(9000000)");
    b.at(3000, "UPDATE t SET w = randomblob(9000000)");
    a.pull(&b);
    b.pull(&a);
    a.at(4000, "INSERT INTO t VALUES (2, 'still', 'here')");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

/// Found by the fuzz target `room`: a date that others refuse was taken here, and what was written under it reached nobody.
#[test]
fn a_date_beyond_all_time_is_the_writers_error_until_it_is_set() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    let end_ms = 1 << 47;
    a.at(end_ms, "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 'the last')");
    b.wall_ms = end_ms;
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    assert_equal(&mut a, &mut b);

    let mut late = peer("late");
    late.wall_ms = end_ms + 1;
    let error = late.try_exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)").unwrap_err();
    assert!(error.message.contains("set this device's date"), "{error}");
    late.at(1000, "CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (2, 'in time')");
    assert_eq!(b.pull(&late).refused, Vec::<String>::new());
    assert_eq!(b.rows("SELECT id FROM t"), ["1", "2"]);
}

/// 600 MB that SQLite makes from little.
const TOO_MUCH: &str = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 600)";

#[test]
fn a_result_that_takes_too_much_memory_is_refused_and_what_its_statement_wrote_is_undone() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    let large = format!("{TOO_MUCH} SELECT zeroblob(1000000) FROM n");
    let returning = format!("{TOO_MUCH} INSERT INTO t SELECT i, i FROM n RETURNING zeroblob(1000000)");
    for (sql, rows) in [
        (large.clone(), "0"),
        (returning.clone(), "0"),
        (format!("INSERT INTO t VALUES (1, 1); {large}"), "1"),
        (format!("BEGIN; {}", returning.replace("(i) AS (VALUES (1)", "(i) AS (VALUES (2)")), "1"),
    ] {
        let error = a.try_exec(&sql).unwrap_err();
        assert_eq!(error.code, rusqlite::ffi::SQLITE_TOOBIG);
        assert!(error.message.contains("LIMIT"), "{}", error.message);
        assert_eq!(a.rows("SELECT count(*) FROM t"), [rows]);
    }
    a.exec("INSERT INTO t VALUES (2, 2) RETURNING v; COMMIT");
    let mut b = peer("b");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}
