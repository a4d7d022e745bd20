//! Operations from a peer that means harm, or is merely wrong: nothing panics, executes SQL, writes elsewhere, or stops those after it.

use crate::common::{Peer, assert_equal, peer, sync};
use proptest::prelude::*;
use proptest::sample::select;
use rtc_battery_core::replica::Applied;
use rtc_battery_proto::{Operation, SqlValue, VersionVector};
use serde_json::{Value, json};

fn operation(seq: u64, fields: Value) -> Operation {
    let mut json = json!({
        "hlc": {"ts": seq, "counter": 0, "nodeId": "z"}, "type": "INSERT", "table": "t", "pk": {"id": 1}, "values": {"x": 1},
        "seq": seq, "tx": {"first": {"ts": seq, "counter": 0}, "n": 1},
    });
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(json).unwrap()
}

fn covers(last: u64) -> VersionVector {
    serde_json::from_value(json!({"z": [[1, last]]})).unwrap()
}

fn with_table() -> Peer {
    let mut peer = peer("a");
    peer.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    peer
}

fn apply(peer: &mut Peer, operations: Vec<Operation>, last: u64) -> Applied {
    peer.replica.apply(operations, &covers(last), peer.now()).unwrap()
}

#[test]
fn a_bad_operation_is_refused_and_the_next_one_stands() {
    let bad = [
        (json!({"pk": {}}), "pk lacks"),
        (json!({"pk": {"id": null}}), "NULL"),
        (json!({"pk": {"wrong": 1}}), "pk lacks"),
        (json!({"values": {"id": 2}}), "different rows"),
        (json!({"table": "rtc_replica", "pk": {"one": 1}, "values": {"node": "evil"}}), "belongs to RTC Battery"),
        (json!({"table": "RTC_operations"}), "belongs to RTC Battery"),
        (json!({"table": "SQLite_sequence"}), "belongs to SQLite"),
        (json!({"seq": null}), "which transaction"),
        (
            json!({"hlc": {"ts": (1u64 << 48) - 1, "counter": 5, "nodeId": "z"}, "tx": {"first": {"ts": (1u64 << 48) - 1, "counter": 5}, "n": 1}}),
            "beyond all time",
        ),
        (json!({"values": {"x": 1, "X": 2}}), "twice"),
        (json!({"pk": {"id": 1, "ID": 2}}), "twice"),
        (json!({"tx": {"first": {"ts": 0, "counter": 0}, "n": 0}}), "which transaction"),
    ];
    for (fields, why) in bad {
        let mut a = with_table();
        let before = a.rows("SELECT * FROM rtc_replica WHERE node = 'evil'");
        let good = operation(2, json!({"pk": {"id": 7}}));
        let applied = apply(&mut a, vec![operation(1, fields.clone()), good], 2);
        assert!(applied.refused.len() == 1 && applied.refused[0].contains(why), "{fields}: {applied:?}");
        assert_eq!((applied.operations, a.rows("SELECT * FROM t")), (1, vec!["7|1".to_owned()]), "{fields}");
        assert_eq!(a.rows("SELECT * FROM rtc_replica WHERE node = 'evil'"), before);
    }
}

#[test]
fn two_operations_in_one_place_are_not_both_taken() {
    let mut a = with_table();
    let applied = apply(&mut a, vec![operation(1, json!({})), operation(1, json!({"values": {"x": 2}}))], 1);
    assert_eq!((applied.operations, applied.refused.len()), (1, 1));
    assert_eq!(a.rows("SELECT x FROM t"), ["1"]);
}

#[test]
fn unknown_tables_and_columns_wait_and_stay_bounded_by_what_came() {
    let mut a = with_table();
    let names = ["nope", "x\"; DROP TABLE t; --", "", "\u{0}", "main.t"];
    for (seq, name) in (1..).zip(names) {
        let applied = a.replica.apply(vec![operation(seq, json!({"table": name}))], &covers(seq), a.now()).unwrap();
        assert_eq!(applied.refused, Vec::<String>::new(), "{name:?}");
    }
    apply(&mut a, vec![operation(6, json!({"values": {"x\" = 1; --": 1}}))], 6);
    assert_eq!(a.rows("SELECT count(*) FROM rtc_waiting"), ["6"]);
    assert_eq!(a.rows("SELECT count(*) FROM t"), ["0"]);
    let mut b = with_table();
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_schema_row_can_make_a_table_and_nothing_else() {
    let evil = [
        "CREATE TABLE u (id INTEGER PRIMARY KEY); DELETE FROM t",
        "CREATE TABLE u (id INTEGER PRIMARY KEY); CREATE TABLE w (id INTEGER PRIMARY KEY)",
        "CREATE TABLE u AS SELECT * FROM rtc_replica",
        "CREATE TEMP TABLE u (id INTEGER PRIMARY KEY)",
        "CREATE VIEW u AS SELECT 1 AS id",
        "CREATE TRIGGER u AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "CREATE VIRTUAL TABLE u USING fts5(id)",
        "CREATE TABLE other (id INTEGER PRIMARY KEY)",
        "CREATE TABLE u (id TEXT PRIMARY KEY)",
        "CREATE TABLE u (id)",
        "DROP TABLE t",
        "ATTACH 'x' AS y",
        "PRAGMA writable_schema = ON",
        "not SQL at all",
        "",
    ];
    for sql in evil {
        let mut a = with_table();
        a.exec("INSERT INTO t VALUES (5, 5)");
        let id = "u(id integer binary)";
        let row = json!({"table": "rtc_schema", "pk": {"id": id}, "values": {"id": id, "kind": "table", "name": "u", "sql": sql}});
        let applied = apply(&mut a, vec![operation(1, row), operation(2, json!({"pk": {"id": 7}}))], 2);
        assert_eq!(applied.refused.len(), 1, "{sql}: {applied:?}");
        assert_eq!(a.rows("SELECT id FROM t"), ["5", "7"], "{sql}");
        let others = "SELECT name FROM (SELECT * FROM sqlite_schema UNION ALL SELECT * FROM sqlite_temp_schema)
                      WHERE name NOT GLOB 'rtc_*' AND name NOT GLOB 'sqlite_*'";
        assert_eq!(a.rows(others), ["\"t\""], "{sql}");
    }
}

/// What shows depends on who heard what first, until those who have the column tell it.
#[test]
fn a_column_of_a_text_that_lost_to_one_that_says_nothing_is_everywhere() {
    for nothing in ["DROP TABLE t", "not SQL at all", "CREATE TABLE t AS SELECT 1", "~"] {
        let schema = |seq: u64, sql: &str| {
            let id = "t(id integer binary)";
            let (pk, row) = (json!({"id": id}), json!({"id": id, "kind": "table", "name": "t", "sql": sql}));
            let hlc = json!({"ts": 5000, "counter": 0, "nodeId": "z"});
            let tx = json!({"first": {"ts": 5000, "counter": 0}, "n": 1});
            operation(seq, json!({"table": "rtc_schema", "pk": pk, "values": row, "hlc": hlc, "tx": tx}))
        };
        let more = "CREATE TABLE t (id INTEGER PRIMARY KEY, x, y)";
        let (mut a, mut b) = (with_table(), peer("b"));
        a.exec("INSERT INTO t VALUES (1, 1)");
        b.pull(&a);
        apply(&mut a, vec![schema(1, more)], 1);
        apply(&mut a, vec![schema(2, nothing)], 2);
        b.replica
            .apply(vec![schema(2, nothing)], &serde_json::from_value(json!({"z": [[2, 2]]})).unwrap(), b.now())
            .unwrap();
        apply(&mut b, vec![schema(1, more)], 2);
        a.exec("INSERT INTO t (id, x) VALUES (2, 2)");
        sync(&mut a, &mut b);
        assert_eq!(a.rows("SELECT * FROM t"), b.rows("SELECT * FROM t"), "{nothing}");
        assert_equal(&mut a, &mut b);
    }
}

/// The newest text of a definition makes it, or nobody would get it who comes later.
fn stands_against_newer_texts(sql: &str, (id, kind, name): (&str, &str, &str), texts: &[&str], select: (&str, &str)) {
    for nothing in texts {
        let mut a = with_table();
        a.exec(sql);
        let (pk, row) = (json!({"id": id}), json!({"id": id, "kind": kind, "name": name, "sql": nothing}));
        let hlc = json!({"ts": 200_000, "counter": 0, "nodeId": "z"});
        let tx = json!({"first": {"ts": 200_000, "counter": 0}, "n": 1});
        let newer = operation(1, json!({"table": "rtc_schema", "pk": pk, "values": row, "hlc": hlc, "tx": tx}));
        assert_eq!(apply(&mut a, vec![newer], 1).refused.len(), 1, "{nothing}");
        let mut b = peer("b");
        b.wall_ms = 200_000;
        b.pull(&a);
        assert_eq!(b.rows(select.0), [select.1], "{nothing}");
        assert_equal(&mut a, &mut b);
    }
}

#[test]
fn a_table_whose_newest_text_would_make_none_is_everywhere() {
    let sql = "CREATE TABLE u (id INTEGER PRIMARY KEY, x); INSERT INTO u VALUES (1, 0)";
    let texts =
        ["DROP TABLE u", "not SQL at all", "CREATE TABLE u AS SELECT 1", "CREATE TABLE u (id TEXT PRIMARY KEY)"];
    let definition = ("u(id integer binary)", "table", "u");
    stands_against_newer_texts(sql, definition, &texts, ("SELECT * FROM u", "1|0"));
}

#[test]
fn a_column_whose_newest_text_would_make_none_is_everywhere() {
    let sql = "ALTER TABLE t ADD COLUMN y DEFAULT 5; INSERT INTO t VALUES (1, 0, 7)";
    let texts = ["other", "y GENERATED ALWAYS AS (x)", "y, z", ") --"];
    let definition = ("t(id integer binary).y", "column", "y");
    stands_against_newer_texts(sql, definition, &texts, ("SELECT * FROM t", "1|0|7"));
}

#[test]
fn a_schema_row_is_a_table_definition_or_nothing() {
    let id = "t(id integer binary)";
    let row = |values: Value| json!({"table": "rtc_schema", "pk": {"id": id}, "values": values});
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
    let bad = [
        row(json!({"id": id, "kind": "table", "name": {"$blob": "AA=="}, "sql": sql})),
        row(json!({"id": id, "kind": "table", "name": "other", "sql": sql})),
        row(json!({"id": id, "kind": "view", "name": "t", "sql": sql})),
        row(json!({"id": id, "kind": "table", "name": "t"})),
        json!({"type": "DELETE", "table": "rtc_schema", "pk": {"id": "t"}, "values": null}),
        json!({"type": "UPDATE", "table": "RTC_SCHEMA", "pk": {"id": id}, "values": {"name": "other"}}),
    ];
    for fields in bad {
        let mut a = with_table();
        let applied = apply(&mut a, vec![operation(5000, fields.clone())], 5000);
        assert_eq!((applied.operations, applied.refused.len()), (0, 1), "{fields}: {applied:?}");
        a.exec("BEGIN; ROLLBACK; INSERT INTO t VALUES (1, 1)");
        assert_eq!(a.replica.version(), 5002, "still captured");
        let mut b = peer("b");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
    }
    let columns: Vec<String> = (0..100).map(|n| format!("c{n}")).collect();
    let wide = format!("CREATE TABLE w ({}, PRIMARY KEY ({}))", columns.join(", "), columns.join(", "));
    assert!(with_table().try_exec(&wide).unwrap_err().message.contains("64 columns"));
}

/// JSON cannot say such a text; a packed message can. What is in the table is read as text at every opening.
#[test]
fn a_definition_that_is_no_utf_8_is_refused() {
    let mut peer = with_table();
    let id = "u(id text binary)";
    let row = json!({"table": "rtc_schema", "pk": {"id": id}, "values": {"id": id, "kind": "table", "name": "u", "sql": "CREATE TABLE u (id TEXT PRIMARY KEY)"}});
    let broken = SqlValue::Text(b"CREATE TABLE u (id TEXT PRIMARY KEY /* \xff */)".to_vec());
    for (seq, part) in ["sql", "name", "kind", "id"].into_iter().enumerate() {
        let mut hostile = operation(seq as u64 + 1, row.clone());
        hostile.values.as_mut().unwrap().insert(part, broken.clone());
        assert_eq!(apply(&mut peer, vec![hostile], seq as u64 + 1).refused.len(), 1, "{part}");
    }
    let mut hostile = operation(5, json!({"type": "DELETE", "table": "rtc_schema", "pk": {"id": id}, "values": null}));
    hostile.pk.insert("id", broken);
    assert_eq!(apply(&mut peer, vec![hostile], 5).refused.len(), 1);
    peer.exec("CREATE TABLE u (id TEXT PRIMARY KEY); DROP TABLE u");
}

/// A peer that claims transactions of ours, or the end of time, does not end our numbers or our clock.
#[test]
fn our_own_numbers_are_not_for_others_to_give_out() {
    let mut a = with_table();
    let last = (1u64 << 53) - 1;
    let fields = json!({"hlc": {"ts": 1, "counter": 0, "nodeId": "a"}, "seq": last, "tx": {"first": {"ts": 1, "counter": 0}, "n": 1}});
    let covers = serde_json::from_value(json!({"a": [[last, last]], "z": [[1, 1]]})).unwrap();
    a.replica.apply(vec![operation(1, fields), operation(1, json!({"pk": {"id": 7}}))], &covers, a.now()).unwrap();
    a.exec("INSERT INTO t VALUES (1, 1)");
    assert_eq!(a.rows("SELECT id FROM t"), ["1", "7"]);
    assert_eq!(serde_json::to_string(&a.replica.vector().origin(a.replica.id())).unwrap(), "[[1,2]]");
    // A device restored from an older copy gets its own transactions back.
    let mut restored = with_table();
    restored.pull(&a);
    assert_eq!(restored.rows("SELECT id FROM t"), ["1", "7"]);
}

#[test]
fn an_internal_name_cannot_be_made_by_a_schema_row() {
    let mut a = with_table();
    let id = "rtc_evil(id integer binary)";
    let sql = "CREATE TABLE rtc_evil (id INTEGER PRIMARY KEY)";
    let row = json!({"table": "rtc_schema", "pk": {"id": id}, "values": {"id": id, "kind": "table", "name": "rtc_evil", "sql": sql}});
    assert_eq!(apply(&mut a, vec![operation(1, row)], 1).refused.len(), 1);
}

fn any_value() -> impl Strategy<Value = SqlValue> {
    prop_oneof![
        Just(SqlValue::Null),
        (-2..3i64).prop_map(SqlValue::Integer),
        Just(SqlValue::Integer(i64::MIN)),
        Just(SqlValue::Real(f64::INFINITY)),
        "[a-c ]{0,2}".prop_map(|text| SqlValue::text(&text)),
        Just(SqlValue::Text(vec![0xff])),
        Just(SqlValue::Blob(vec![1])),
    ]
}

prop_compose! {
    /// Well-formed enough to be taken, otherwise anything.
    fn any_operation()(
        (ts, counter, seq, index, n) in (0..5u64, 0..3u64, 0..5u64, 0..3u64, 0..4u64),
        kind in select(&["INSERT", "UPDATE", "DELETE"][..]),
        table in select(&["t", "T", "s", "w", "nope", "rtc_schema", "rtc_replica", "sqlite_schema"][..]),
        columns in prop::collection::btree_map(select(&["id", "x", "ID", "rowid", "g", "kind", "name", "sql", "y"][..]), any_value(), 0..4),
        pk in prop::collection::btree_map(select(&["id", "x", "rowid"][..]), any_value(), 0..3),
    ) -> Operation {
        let json = json!({
            "hlc": {"ts": ts, "counter": counter + index, "nodeId": "z"}, "type": kind, "table": table, "pk": pk, "values": columns,
            "seq": seq, "tx": {"first": {"ts": ts, "counter": counter}, "n": n},
        });
        serde_json::from_value(json).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever comes, the replica goes on, stays sound, and passes on what it has so that another ends the same.
    #[test]
    fn anything_is_survived(deltas in prop::collection::vec(prop::collection::vec(any_operation(), 0..6), 1..5)) {
        let mut a = with_table();
        a.exec("CREATE TABLE s (id TEXT COLLATE NOCASE PRIMARY KEY, x INTEGER NOT NULL, g INT AS (x + 1)) STRICT;
                CREATE TABLE w (id, x, PRIMARY KEY (x, id)) WITHOUT ROWID; INSERT INTO t VALUES (9, 9)");
        let mut b = peer("b");
        b.pull(&a);
        for (n, operations) in (1..).zip(deltas) {
            apply(&mut a, operations, n);
        }
        a.exec("INSERT INTO t VALUES (100, 'still writable')");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        prop_assert_eq!(a.rows("PRAGMA integrity_check"), ["\"ok\""]);
        prop_assert_eq!(a.rows("SELECT count(*) FROM rtc_replica WHERE node = 'a'"), ["1"]);
    }
}
