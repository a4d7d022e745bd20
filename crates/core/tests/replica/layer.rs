//! `SqlLayer`: operations go from layer to layer by hand, in any order, and what they carry is the specification's.

use proptest::prelude::*;
use rtc_battery_core::Now;
use rtc_battery_core::replica::{ApplyError, Params, SqlLayer, StorageError};
use rtc_battery_proto::{Columns, Operation, OperationKind, ReplicaId, SqlValue};

struct Layer {
    layer: SqlLayer,
    wall_ms: u64,
}

fn layer(name: &str) -> Layer {
    Layer { layer: SqlLayer::open(&ReplicaId::new(name).unwrap()).unwrap(), wall_ms: 1000 }
}

impl Layer {
    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms, mono_ms: self.wall_ms }
    }

    fn execute(&mut self, sql: &str) -> Vec<Operation> {
        self.layer.execute(sql, &Params::None, self.now()).unwrap_or_else(|error| panic!("{sql}: {error}")).operations
    }

    fn at(&mut self, wall_ms: u64, sql: &str) -> Vec<Operation> {
        self.wall_ms = wall_ms;
        self.execute(sql)
    }

    fn apply<'a>(&mut self, operations: impl IntoIterator<Item = &'a Operation>) {
        for operation in operations {
            assert_eq!(self.layer.apply(operation.clone(), self.now()).unwrap(), [""; 0]);
        }
    }

    fn rows(&mut self, sql: &str) -> Vec<String> {
        let executed = self.layer.execute(sql, &Params::None, self.now()).unwrap();
        executed.result.values.iter().map(|row| format!("{row:?}")).collect()
    }
}

fn columns(columns: &[(&str, SqlValue)]) -> Columns {
    columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn operations_are_the_specifications_and_nothing_more() {
    let mut a = layer("a");
    let mut operations =
        a.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y); INSERT INTO t VALUES (1, 'one', 1.0)");
    operations.extend(a.execute("UPDATE t SET x = 'two'; DELETE FROM t"));
    let kinds: Vec<_> = operations.iter().map(|operation| (operation.kind, operation.table.as_str())).collect();
    let expected = [
        (OperationKind::Insert, "rtc_schema"),
        (OperationKind::Insert, "t"),
        (OperationKind::Update, "t"),
        (OperationKind::Delete, "t"),
    ];
    assert_eq!(kinds, expected);
    let [_, insert, update, delete] = &operations[..] else { panic!("{operations:?}") };
    let id = ("id", SqlValue::Integer(1));
    let whole = columns(&[id.clone(), ("x", SqlValue::text("one")), ("y", SqlValue::Real(1.0))]);
    assert_eq!((&insert.values, &insert.prev), (&Some(whole), &None));
    assert_eq!(update.values, Some(columns(&[("x", SqlValue::text("two"))])));
    assert_eq!(update.prev, Some(columns(&[("x", SqlValue::text("one"))])));
    assert_eq!((&delete.values, &delete.prev), (&None, &None));
    for operation in &operations[1..] {
        assert_eq!(operation.pk, columns(std::slice::from_ref(&id)));
    }
    for operation in &operations {
        assert_eq!((operation.hlc.node.as_str(), operation.seq, operation.tx), ("a", None, None));
        assert_eq!(operation.adopted, None);
    }
    assert!(operations.is_sorted_by_key(|operation| &operation.hlc));
}

#[test]
fn what_was_committed_is_given_also_when_a_later_statement_fails() {
    let mut a = layer("a");
    a.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let sql = "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (1); INSERT INTO t VALUES (3)";
    let failed = a.layer.execute(sql, &Params::None, a.now()).unwrap_err();
    assert_eq!((failed.operations.len(), failed.error.code), (2, 1555));
    assert_eq!(a.execute("SELECT 1"), []);
    assert_eq!(a.execute("BEGIN; INSERT INTO t VALUES (5)"), []);
    assert!(a.layer.in_transaction());
    assert_eq!(a.execute("INSERT INTO t VALUES (6)"), []);
    assert_eq!(a.execute("COMMIT").len(), 2);
    assert_eq!(a.execute("BEGIN; INSERT INTO t VALUES (7); ROLLBACK"), []);
}

#[test]
fn a_large_transaction_gives_all_its_operations() {
    let mut a = layer("a");
    a.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    let many = "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                SELECT i, hex(zeroblob(20)) FROM n";
    assert_eq!(a.execute(many).len(), 20_000);
}

#[test]
fn later_writes_win_and_a_later_write_beats_a_delete() {
    let (mut a, mut b) = (layer("a"), layer("b"));
    let common = a.at(10, "CREATE TABLE t (id TEXT PRIMARY KEY, x, y); INSERT INTO t VALUES ('k', 1, 1), ('l', 1, 1)");
    b.apply(&common);
    let from_a = a.at(20, "UPDATE t SET x = 'a' WHERE id = 'k'; DELETE FROM t WHERE id = 'l'");
    let from_b = b.at(30, "UPDATE t SET x = 'b', y = 'b' WHERE id = 'k'; UPDATE t SET y = 2 WHERE id = 'l'");
    b.apply(from_a.iter().rev());
    a.apply(from_b.iter().rev());
    let rows = [r#"["k", "b", "b"]"#, r#"["l", 1, 2]"#];
    assert_eq!(a.rows("SELECT * FROM t ORDER BY 1"), rows);
    assert_eq!(b.rows("SELECT * FROM t ORDER BY 1"), rows);
}

#[test]
fn an_invalid_operation_is_refused_and_changes_nothing() {
    let mut a = layer("a");
    let operations = a.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 1)");
    let insert = &operations[1];
    let bad = [
        (Operation { table: "rtc_replica".to_owned(), ..insert.clone() }, "belongs to RTC Battery"),
        (Operation { table: "rtc_schema".to_owned(), ..insert.clone() }, "no definition"),
        (Operation { pk: Columns::new(), ..insert.clone() }, "lacks a column"),
        (Operation { pk: columns(&[("id", SqlValue::Null)]), ..insert.clone() }, "NULL in its pk"),
        (Operation { pk: columns(&[("id", SqlValue::Integer(2))]), ..insert.clone() }, "different rows"),
        (
            Operation { prev: Some(columns(&[("x", SqlValue::Blob(vec![0; 16_000_001]))])), ..insert.clone() },
            "16000001",
        ),
    ];
    let before = a.rows("SELECT * FROM rtc_operations, rtc_replica");
    for (operation, why) in bad {
        match a.layer.apply(operation, a.now()) {
            Err(ApplyError::Refused(message)) => assert!(message.contains(why), "{message}"),
            other => panic!("{why}: {other:?}"),
        }
    }
    assert_eq!(a.rows("SELECT * FROM rtc_operations, rtc_replica"), before);
    a.execute("BEGIN");
    let refused = a.layer.apply(insert.clone(), a.now());
    assert!(matches!(refused, Err(ApplyError::Storage(StorageError::InTransaction))));
}

#[test]
fn what_cannot_be_shown_is_kept_and_told() {
    let mut a = layer("a");
    let operations = a.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x INT) STRICT; INSERT INTO t VALUES (1, 1)");
    let mut b = layer("b");
    let mut wrong = operations[1].clone();
    wrong.values.as_mut().unwrap().insert("x".to_owned(), SqlValue::text("text"));
    b.apply(&operations[..1]);
    let told = b.layer.apply(wrong, b.now()).unwrap();
    assert!(told.len() == 1 && told[0].contains("cannot store TEXT"), "{told:?}");
    assert_eq!(b.rows("SELECT * FROM t"), [""; 0]);
    b.apply(&a.at(2000, "UPDATE t SET x = 2"));
    assert_eq!(b.rows("SELECT * FROM t"), ["[1, 2]"]);
}

#[test]
fn files_go_out_and_come_in() {
    let (mut a, mut b) = (layer("a"), layer("b"));
    a.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'file'), (2, 'file')");
    b.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'here')");
    let now = b.now();
    assert_eq!(b.layer.import(&a.layer.export().unwrap(), now).unwrap(), [""; 0]);
    assert_eq!(b.rows("SELECT * FROM t"), [r#"[1, "here"]"#, r#"[2, "file"]"#]);
    assert_eq!(b.execute("SELECT 1"), [], "what a file brings is nobody's operation");
    assert!(b.layer.import(b"no file", now).is_err());
}

#[test]
fn a_real_column_is_told_from_others() {
    let mut a = layer("a");
    a.execute("CREATE TABLE T (id TEXT PRIMARY KEY, r REAL, n NUMERIC, any)");
    let real: Vec<_> =
        ["id", "R", "n", "any", "none"].into_iter().filter(|column| a.layer.is_real("t", column)).collect();
    assert_eq!((real, a.layer.is_real("u", "r")), (vec!["R"], false));
}

/// Statements on a small table with every kind of column.
fn statement() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("NULL"),
        Just("1"),
        Just("1.0"),
        Just("9223372036854775807"),
        Just("'text'"),
        Just("x'00ff'"),
        Just("'1'")
    ];
    let column = prop_oneof![Just("a"), Just("b"), Just("\"c d\"")];
    (0..4, 0..3i64, column, value).prop_map(|(kind, id, column, value)| match kind {
        0 => format!("INSERT OR IGNORE INTO t (id, {column}) VALUES ({id}, {value})"),
        1 => format!("REPLACE INTO t (id, {column}) VALUES ({id}, {value})"),
        2 => format!("UPDATE t SET {column} = {value} WHERE id >= {id}"),
        _ => format!("DELETE FROM t WHERE id = {id}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Two layers write at once; a third hears everything in any order, some of it twice.
    #[test]
    fn layers_converge_in_any_order(
        statements in prop::collection::vec((any::<bool>(), statement()), 1..12),
        order in any::<prop::sample::Index>(),
        again in any::<prop::sample::Index>(),
    ) {
        let (mut a, mut b, mut c) = (layer("a"), layer("b"), layer("c"));
        let mut operations = a.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a REAL, b TEXT, \"c d\")");
        b.apply(&operations);
        for (n, (left, sql)) in (1..).zip(statements) {
            let writer = if left { &mut a } else { &mut b };
            operations.extend(writer.at(1000 + n / 3, &sql));
        }
        a.apply(&operations);
        b.apply(operations.iter().rev());
        let from = order.index(operations.len());
        operations.rotate_left(from);
        c.apply(&operations);
        c.apply(&operations[again.index(operations.len())..]);
        let dump = "SELECT * FROM t ORDER BY id";
        prop_assert_eq!(a.rows(dump), b.rows(dump));
        prop_assert_eq!(a.rows(dump), c.rows(dump));
    }
}
