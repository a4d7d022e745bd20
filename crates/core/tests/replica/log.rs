//! `SELECT * FROM rtc_log`: what a person reads is what the log tells others.

use crate::common::programs::{SCHEMA, TRIGGERS, program, run};
use crate::common::{Peer, assert_equal, peer};
use proptest::prelude::*;
use rtc_battery_proto::{Columns, Operation, OperationKind, SqlValue, VersionVector};
use serde_json::json;

/// Quotes values as SQLite does.
fn quote(peer: &mut Peer, value: &SqlValue) -> String {
    let params = rtc_battery_core::replica::Params::Positional(vec![value.clone()]);
    let quoted = peer.replica.exec("SELECT quote(?)", &params, rtc_battery_core::replica::Scope::Synced, peer.now());
    String::from_utf8_lossy(match &quoted.unwrap().values[0][0] {
        SqlValue::Text(bytes) => bytes,
        _ => panic!("no text"),
    })
    .into_owned()
}

fn columns_text(peer: &mut Peer, columns: &Columns, order: &[String]) -> String {
    let place = |name: &str| order.iter().position(|column| column == name);
    let mut columns: Vec<(&str, &SqlValue)> = columns.iter().collect();
    columns.sort_by_key(|(name, _)| place(name));
    let mut texts = Vec::new();
    for (name, value) in columns {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let name = if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) };
        texts.push(format!("{name} = {}", quote(peer, value)));
    }
    texts.join(", ")
}

/// Names that a table function of SQLite lists.
fn names(peer: &mut Peer, sql: &str) -> Vec<String> {
    peer.exec(sql).values.iter().map(|row| row[0].as_text().unwrap().into_owned()).collect()
}

/// An operation of a delta as the view should show it.
fn line(peer: &mut Peer, operation: &Operation) -> String {
    let (dot, _, index) = operation.place().unwrap();
    let (node, seq) = (dot.origin.as_str(), dot.seq);
    let waiting = format!(
        "SELECT 'waits' FROM rtc_waiting JOIN rtc_origins ON id = origin WHERE node = '{node}' AND seq = {seq} AND idx = {index}"
    );
    let waits = !names(peer, &waiting).is_empty();
    let adopted_by = operation.adopted.as_ref().map(|adopted| adopted.by.as_str().to_owned());
    // What waits is told as it came, by the names that tables and columns were made by; what people see has the names they have now.
    let operation = &if waits { operation.clone() } else { peer.replica.by_name(operation.clone()) };
    let table = if waits { String::new() } else { operation.table.replace('\'', "''") };
    let columns = names(peer, &format!("SELECT name FROM pragma_table_xinfo('{table}') ORDER BY cid"));
    let key = names(peer, &format!("SELECT name FROM pragma_table_xinfo('{table}') WHERE pk ORDER BY pk"));
    let pk = columns_text(peer, &operation.pk, &key);
    let values = operation.values.as_ref().map(|values| columns_text(peer, values, &columns));
    let kind = match operation.kind {
        OperationKind::Insert => "INSERT",
        OperationKind::Update => "UPDATE",
        OperationKind::Delete => "DELETE",
    };
    let (tick, node) = (operation.hlc.tick, operation.hlc.node.as_str());
    format!(
        "{}.{} {node} {}:{index} {kind} {} [{pk}] [{values:?}] {adopted_by:?} {waits}",
        tick.ts, tick.counter, dot.seq, operation.table
    )
}

fn text(value: &SqlValue) -> Option<String> {
    match value {
        SqlValue::Null => None,
        SqlValue::Integer(i) => Some(i.to_string()),
        SqlValue::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        other => panic!("{other:?}"),
    }
}

fn shown(peer: &mut Peer) -> Vec<String> {
    let select = r#"SELECT CAST(round(unixepoch("when", 'subsec') * 1000) AS INTEGER), counter, node, seq, idx, type, "table", pk,
                    "values", adopted_by, waits FROM rtc_log"#;
    let mut lines = Vec::new();
    for row in peer.exec(select).values {
        let row: Vec<Option<String>> = row.iter().map(text).collect();
        let is = |n: usize| row[n].as_deref().unwrap_or("NULL");
        lines.push(format!(
            "{}.{} {} {}:{} {} {} [{}] [{:?}] {:?} {}",
            is(0),
            is(1),
            is(2),
            is(3),
            is(4),
            is(5),
            is(6),
            is(7),
            row[8],
            row[9].as_deref(),
            is(10) == "1"
        ));
    }
    lines.sort();
    lines
}

/// The view against a delta from nothing.
fn assert_log(peer: &mut Peer) {
    let operations = peer.delta(&Default::default()).0;
    let mut told: Vec<String> = operations.iter().map(|operation| line(peer, operation)).collect();
    told.sort();
    crate::common::assert_same_lines(&shown(peer), &told);
}

fn plain(ts: u64, kind: &str, table: &str, pk: serde_json::Value, values: serde_json::Value) -> Operation {
    let hlc = json!({"ts": ts, "counter": 7, "nodeId": "plain"});
    serde_json::from_value(json!({"hlc": hlc, "type": kind, "table": table, "pk": pk, "values": values})).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Two writers, what only they see (execLocal), and operations of peers that speak only the specification.
    #[test]
    fn the_view_tells_what_a_delta_tells(
        ours in program(15),
        theirs in program(8),
        local in program(5),
        adopted in prop::collection::vec((0..3000u64, 0..3usize, 0..6i64), 0..4),
    ) {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.exec(SCHEMA);
        b.pull(&a);
        a.local(TRIGGERS);
        run(&mut a, &ours);
        run(&mut b, &theirs);
        a.pull(&b);
        for statement in &local {
            let _ = a.try_local(statement);
        }
        if a.replica.in_transaction() {
            let _ = a.try_local("ROLLBACK");
        }
        let adopted = adopted.into_iter().map(|(ts, kind, k)| {
            let table = ["ints", "pairs", "later"][kind];
            let (kind, values) = [("INSERT", json!({"a": "x"})), ("UPDATE", json!({})), ("DELETE", json!(null))][k as usize % 3].clone();
            plain(ts, kind, table, json!({"k": k, "a": "x"}), values)
        });
        a.replica.adopt(adopted.collect(), a.now()).unwrap();
        b.pull(&a);
        assert_log(&mut a);
        assert_log(&mut b);
    }
}

#[test]
fn an_operation_can_be_read() {
    let mut a = peer("a");
    a.at(1_766_653_200_123, "CREATE TABLE notes (id TEXT PRIMARY KEY, \"the \"\"title\"\"\" TEXT, done INT)");
    a.at(1_766_653_201_000, "INSERT INTO notes VALUES ('1', 'it''s', 0), ('2', x'00ff', NULL)");
    a.at(1_766_653_202_000, "UPDATE notes SET done = 1 WHERE id = '1'");
    a.at(1_766_653_203_000, "DELETE FROM notes WHERE id = '2'");
    let rows = a.rows("SELECT \"when\", node, seq, idx, type, pk, \"values\" FROM rtc_log WHERE \"table\" = 'notes' ORDER BY \"when\"");
    assert_eq!(
        rows,
        [
            r#""2025-12-25T09:00:01.000Z"|"a"|2|0|"INSERT"|"id = '1'"|"id = '1', \"the \"\"title\"\"\" = 'it''s'""#,
            r#""2025-12-25T09:00:01.000Z"|"a"|2|1|"INSERT"|"id = '2'"|"id = '2', \"the \"\"title\"\"\" = X'00FF', done = NULL""#,
            r#""2025-12-25T09:00:02.000Z"|"a"|3|0|"UPDATE"|"id = '1'"|"done = 1""#,
            r#""2025-12-25T09:00:03.000Z"|"a"|4|0|"DELETE"|"id = '2'"|NULL"#,
        ]
    );
    assert_log(&mut a);
}

/// Columns beyond the 63rd are kept as a blob, more than 100 are no longer one call, 2,000 are what SQLite takes; any may be dead.
#[test]
fn wide_tables_are_read() {
    let mut a = peer("a");
    for (name, count) in [("w64", 64), ("w130", 130), ("w2000", 1999)] {
        let columns: Vec<String> = (0..count).map(|n| format!("\"c {n}\" DEFAULT {n}")).collect();
        a.exec(&format!("CREATE TABLE {name} (k PRIMARY KEY, {})", columns.join(", ")));
        a.exec(&format!("INSERT INTO {name} (k) VALUES (1), (2)"));
        a.exec(&format!("UPDATE {name} SET \"c 62\" = 'x', \"c {}\" = 'y'", count - 1));
        a.exec(&format!("DELETE FROM {name} WHERE k = 2"));
    }
    assert_log(&mut a);
}

#[test]
fn covered_cells_show_what_is_replicated() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (k PRIMARY KEY, v, w); INSERT INTO t VALUES (x'01', 'replicated', 1)");
    a.local("UPDATE t SET v = 'mine'");
    let values = r#"SELECT pk, "values" FROM rtc_log WHERE "table" = 't'"#;
    assert_eq!(a.rows(values), [r#""k = X'01'"|"k = X'01', v = 'replicated', w = 1""#]);
    a.exec("CREATE TABLE u (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO u VALUES ('A', 1)");
    a.local("UPDATE u SET v = 2; DELETE FROM t");
    assert_eq!(a.rows(values), [r#""k = X'01'"|"k = X'01', v = 'replicated', w = 1""#]);
    assert_log(&mut a);
}

#[test]
fn the_view_follows_the_tables() {
    let mut a = peer("a");
    let count = r#"SELECT count(*) FROM rtc_log WHERE "table" = 't'"#;
    a.exec("BEGIN; SAVEPOINT s; CREATE TABLE t (k PRIMARY KEY)");
    a.exec("ROLLBACK TO s; CREATE TABLE t (k PRIMARY KEY, v); INSERT INTO t VALUES (1, 2)");
    assert_eq!(a.rows(count), ["0"]);
    a.exec("COMMIT");
    assert_eq!(a.rows(count), ["1"]);
    a.exec("BEGIN; DELETE FROM t; INSERT INTO t VALUES (5, 6); CREATE TABLE u (k PRIMARY KEY)");
    assert_eq!(a.rows(count), ["1"]);
    a.exec("ROLLBACK");
    assert_log(&mut a);
    a.try_exec("CREATE TABLE no_key (x)").unwrap_err();
    a.exec("CREATE TABLE u (k PRIMARY KEY, other); INSERT INTO u VALUES (1, 2)");
    assert_log(&mut a);
    let mut b = peer("b");
    b.pull(&a);
    assert_log(&mut b);
}

/// SQLite reads every view again when it renames something.
#[test]
fn the_view_stands_in_nobodys_way() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (k PRIMARY KEY, v); INSERT INTO t VALUES (1, 2)");
    a.local("CREATE TABLE mine (x, y); ALTER TABLE mine RENAME TO yours; ALTER TABLE yours ADD COLUMN z");
    a.local("ALTER TABLE yours RENAME COLUMN x TO k; ALTER TABLE yours DROP COLUMN y; DROP TABLE yours");
    a.local("CREATE TEMP TABLE t (other); CREATE TEMP VIEW v AS SELECT * FROM rtc_log; VACUUM");
    assert_eq!(a.rows(r#"SELECT "values" FROM v WHERE "table" = 't'"#), ["\"k = 1, v = 2\""]);
    a.exec("DROP TABLE temp.t");
    assert_log(&mut a);
    for sql in [
        "INSERT INTO rtc_log (pk) VALUES (1)",
        "DELETE FROM rtc_log",
        "UPDATE rtc_log SET pk = 1",
        "DROP VIEW rtc_log",
        "DROP VIEW temp.rtc_log",
        "CREATE TEMP TRIGGER x INSTEAD OF INSERT ON rtc_log BEGIN SELECT 1; END",
        "CREATE VIEW x AS SELECT rtc_value('[1]', 0)",
        "CREATE TABLE x (k PRIMARY KEY, v CHECK (rtc_place(v, 0)))",
    ] {
        for outcome in [a.try_exec(sql), a.try_local(sql)] {
            if !sql.starts_with("CREATE VIEW") {
                outcome.expect_err(sql);
            }
        }
    }
    a.try_exec("SELECT * FROM x").expect_err("what is ours is called from our view only");
    for sql in
        ["SELECT rtc_value('[', 0)", "SELECT rtc_value('{}', 'x'), rtc_place(-1, 0)", "SELECT rtc_place(x'00', 0)"]
    {
        a.try_exec(sql).expect_err(sql);
    }
    assert_eq!(
        a.rows("SELECT rtc_value('[]', 0), rtc_value(NULL, 0), rtc_value('[1]', -1), rtc_value('[1]', NULL)"),
        ["NULL|NULL|NULL|NULL"]
    );
    assert_log(&mut a);
    let file = a.replica.export().unwrap();
    assert!(!file.windows(7).any(|bytes| bytes == b"rtc_log"));
}

/// Operations of one transaction that stand in a row are found without an index; those that moved, or never stood so, by one.
#[test]
fn operations_are_told_in_order_wherever_they_stand() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); CREATE TABLE u (k TEXT PRIMARY KEY) WITHOUT ROWID");
    a.exec("BEGIN; INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (7, 'd'), (9223372036854775807, 'e'); INSERT INTO u VALUES ('f'); COMMIT");
    a.exec("DELETE FROM t WHERE id = 2");
    a.exec("UPDATE t SET id = 2 WHERE id = 3");
    let (operations, _) = a.delta(&VersionVector::default());
    let told: Vec<_> = operations.iter().filter_map(|o| o.place().map(|(dot, _, index)| (dot.seq, index))).collect();
    assert!(told.is_sorted() && told.len() == operations.len(), "{told:?}");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    let listed = "SELECT count(*) FROM rtc_operations WHERE NOT listed";
    assert_eq!(a.rows(listed), b.rows(listed), "merged transactions make runs too");
    assert_ne!(a.rows(listed), ["0"]);
}

/// Found by `differential.rs`: what had waited for its table took the place of what stood there already.
#[test]
fn operations_that_waited_are_told_beside_those_that_did_not() {
    let (mut a, mut b, mut c) = (peer("a"), peer("b"), peer("c"));
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    b.pull(&a);
    a.exec("CREATE TABLE u (id INTEGER PRIMARY KEY, x)");
    let mut since = a.replica.vector().clone();
    let (schema, schema_covers) = a.delta(b.replica.vector());
    a.exec("BEGIN; INSERT INTO t VALUES (5, 'a'); INSERT INTO u VALUES (50, 'b'); COMMIT");
    let (rows, covers) = a.delta(&since);
    b.replica.apply(rows, &covers, b.now()).unwrap();
    since = b.replica.vector().clone();
    assert!(!since.covers(a.replica.vector()));
    b.replica.apply(schema, &schema_covers, b.now()).unwrap();
    assert_equal(&mut a, &mut b);
    c.pull(&b);
    assert_equal(&mut a, &mut c);
}

/// SQLite may give other rowids to a table without an INTEGER PRIMARY KEY.
#[test]
fn vacuum_leaves_rows_to_their_operations() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec("CREATE TABLE t (k TEXT PRIMARY KEY, x); CREATE TABLE u (k INT, l INT, x, PRIMARY KEY (k, l))");
    a.exec("INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 3); INSERT INTO u VALUES (1, 1, 1), (1, 2, 2), (1, 3, 3)");
    a.exec("DELETE FROM t WHERE k = 'a'; DELETE FROM u WHERE l = 1; VACUUM");
    a.exec("UPDATE t SET x = 4 WHERE k = 'c'; DELETE FROM t WHERE k = 'b'; UPDATE u SET x = 5 WHERE l = 3");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}
