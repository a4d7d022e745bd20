//! ALTER TABLE ADD COLUMN, as every device of a room sees it.

use crate::common::{NOTES, assert_equal, both, peer, sync};
use rtc_battery_proto::VersionVector;

#[test]
fn a_column_and_what_is_written_to_it_reach_everybody() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN stars INTEGER NOT NULL DEFAULT '3'; INSERT INTO notes VALUES ('2', 'two', 5)");
    let applied = b.pull(&a);
    assert_eq!((applied.operations, applied.refused), (2, vec![]));
    assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"one"|3"#, r#""2"|"two"|5"#]);
    b.exec("UPDATE notes SET stars = 1 WHERE id = '1'");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&b).refused, Vec::<String>::new());
    assert_equal(&mut newcomer, &mut a);
}

#[test]
fn a_column_added_to_many_rows_is_one_operation() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(NOTES);
    a.exec("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO notes SELECT 'n' || i, 'x' FROM n");
    b.pull(&a);
    let before = a.replica.written();
    a.exec("ALTER TABLE notes ADD COLUMN stars INTEGER DEFAULT 1");
    assert_eq!(a.replica.written() - before, 1);
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn columns_added_at_once_both_stand_and_one_added_twice_is_one() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN stars INTEGER; ALTER TABLE notes ADD COLUMN colour TEXT DEFAULT 'red'");
    a.exec("UPDATE notes SET stars = 1");
    b.exec("ALTER TABLE notes ADD COLUMN stars INTEGER; ALTER TABLE notes ADD COLUMN weight REAL");
    b.exec("UPDATE notes SET weight = 1, content = 'b'");
    sync(&mut a, &mut b);
    // In another order: each device has its own columns first.
    let row = "SELECT id, content, stars, colour, weight FROM notes";
    assert_eq!(a.rows(row), [r#""1"|"b"|1|"red"|1.0"#]);
    assert_eq!(b.rows(row), a.rows(row));
    assert_eq!((a.log(), a.replica.digest().unwrap()), (b.log(), b.replica.digest().unwrap()));
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&a).refused, Vec::<String>::new());
    assert_eq!(newcomer.rows(row), a.rows(row));
}

/// The migration that every device ships on the same day.
#[test]
fn adding_what_a_peer_has_added_is_no_error() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN stars INTEGER DEFAULT 1");
    b.pull(&a);
    let before = b.replica.version();
    b.exec("alter table \"notes\" add stars INTEGER DEFAULT 1;");
    assert_eq!(b.replica.version(), before);
    b.exec("ALTER TABLE notes ADD COLUMN stars INTEGER DEFAULT 1; UPDATE notes SET content = 'and; the rest'");
    assert_eq!(b.rows("SELECT content FROM notes"), [r#""and; the rest""#]);
    for other in ["ALTER TABLE notes ADD COLUMN stars TEXT DEFAULT 1", "ALTER TABLE notes ADD COLUMN content TEXT"] {
        let error = b.try_exec(other).unwrap_err();
        assert!(error.message.contains("duplicate column name"), "{other}: {error}");
    }
}

#[test]
fn what_was_written_before_the_column_in_one_transaction_is_told() {
    let (mut a, mut b) = both();
    a.exec("INSERT INTO notes VALUES ('2', 'two'), ('3', 'three')");
    a.exec(
        "BEGIN; UPDATE notes SET content = 'uno' WHERE id = '1'; DELETE FROM notes WHERE id = '2'; INSERT INTO notes VALUES ('4', 'four');
         UPDATE notes SET content = 'tres' WHERE id = '3'; UPDATE notes SET content = 'three' WHERE id = '3';
         ALTER TABLE notes ADD COLUMN stars INTEGER DEFAULT 7; COMMIT",
    );
    let told = a.replica.take_committed(u64::MAX).pop().unwrap().operations.unwrap();
    assert_eq!(told.len(), 4, "{told:?}");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_column_that_was_rolled_back_never_was() {
    for (undo, at_hand) in [("ROLLBACK TO s; COMMIT", 1 << 20), ("ROLLBACK TO s; COMMIT", 0), ("ROLLBACK", 1 << 20)] {
        let (mut a, mut b) = both();
        a.replica.keep_at_hand(at_hand);
        a.exec("BEGIN; UPDATE notes SET content = 'uno'; SAVEPOINT s");
        a.exec("ALTER TABLE notes ADD COLUMN stars INTEGER DEFAULT 7; UPDATE notes SET stars = 8");
        a.exec(undo);
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        a.exec("UPDATE notes SET content = 'due'");
        a.exec("ALTER TABLE notes ADD COLUMN stars TEXT");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"due"|NULL"#]);
    }
}

#[test]
fn what_cannot_be_the_same_for_everybody_is_refused_and_changes_nothing() {
    let (mut a, mut b) = both();
    a.exec("DELETE FROM notes");
    let before = a.rows("SELECT sql FROM sqlite_schema ORDER BY name");
    for (sql, why) in [
        ("ALTER TABLE notes ADD COLUMN x DEFAULT (1 + 1)", "its default is an expression"),
        ("ALTER TABLE notes ADD COLUMN x DEFAULT (CAST('5' AS INTEGER))", "its default is an expression"),
        ("ALTER TABLE notes ADD COLUMN x AS (content)", "this ALTER TABLE is not replicated"),
    ] {
        for sql in [sql.to_owned(), format!("BEGIN; {sql}")] {
            let error = a.try_exec(&sql).unwrap_err();
            assert!(error.message.contains(why), "{sql}: {error}");
            if a.replica.in_transaction() {
                a.exec("COMMIT");
            }
            assert_eq!(a.rows("SELECT sql FROM sqlite_schema ORDER BY name"), before, "{sql}");
        }
    }
    a.exec("INSERT INTO notes VALUES ('2', 'two')");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn rows_that_name_a_column_wait_for_it() {
    let (mut a, mut b) = both();
    let since = b.replica.vector().clone();
    a.exec("ALTER TABLE notes ADD COLUMN stars INTEGER");
    let (schema, schema_covers) = a.delta(&since);
    a.exec("UPDATE notes SET stars = 4");
    let (rows, covers) = a.delta(a.replica.vector()).clone();
    assert!(rows.is_empty() && covers == VersionVector::default());
    let mut after = since.clone();
    after.merge(&schema_covers);
    let (rows, covers) = a.delta(&after);
    b.replica.apply(rows, &covers, b.now()).unwrap();
    assert_eq!(b.rows("SELECT count(*) FROM rtc_waiting"), ["1"]);
    b.replica.apply(schema, &schema_covers, b.now()).unwrap();
    assert_eq!(b.rows("SELECT stars FROM notes"), ["4"]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_hostile_definition_does_nothing() {
    for definition in [
        "x; DROP TABLE notes",
        "y",
        "x INTEGER, y INTEGER",
        "x DEFAULT (load_extension('x'))",
        "x UNIQUE",
        "x PRIMARY KEY",
        "x AS (1)",
        "x NOT NULL DEFAULT (random())",
        "",
    ] {
        let (mut a, mut b) = both();
        let since = b.replica.vector().clone();
        a.exec("ALTER TABLE notes ADD COLUMN x INTEGER");
        let (mut operations, covers) = a.delta(&since);
        for operation in &mut operations {
            operation.values.as_mut().unwrap().insert("sql".to_owned(), rtc_battery_proto::SqlValue::text(definition));
        }
        let applied = b.replica.apply(operations, &covers, b.now()).unwrap();
        assert_eq!(applied.refused.len(), 1, "{definition}: {applied:?}");
        assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"one""#], "{definition}");
    }
}

/// On an empty table; elsewhere there are rows.
#[test]
fn a_column_that_only_an_empty_table_takes_is_filled_where_there_are_rows() {
    let (mut a, mut b) = both();
    for create in [
        "CREATE TABLE ints (k INTEGER PRIMARY KEY, v)",
        "CREATE TABLE texts (k TEXT PRIMARY KEY, v REFERENCES ints)",
        "CREATE TABLE keyed (k TEXT COLLATE NOCASE PRIMARY KEY, v, g AS (v || '!')) WITHOUT ROWID",
    ] {
        a.exec(create);
    }
    sync(&mut a, &mut b);
    let day = 86_400_000;
    a.wall_ms = 20 * day;
    b.at(20 * day, "INSERT INTO ints VALUES (7, 1), (9, 2); INSERT INTO texts VALUES ('b', 7), ('a', 9); INSERT INTO keyed VALUES ('K', x'01')");
    b.exec("UPDATE texts SET v = 7; DELETE FROM ints WHERE k = 9; CREATE INDEX by_v ON ints (v); CREATE VIEW vs AS SELECT v FROM ints");
    b.local("CREATE TEMP TABLE seen (k); CREATE TEMP TRIGGER s AFTER INSERT ON ints BEGIN INSERT INTO seen VALUES (new.k); END");
    b.local("INSERT INTO ints VALUES (100, 'mine')");
    for table in ["ints", "texts", "keyed"] {
        a.at(21 * day, &format!("ALTER TABLE {table} ADD COLUMN n INTEGER NOT NULL; ALTER TABLE {table} ADD COLUMN t TEXT NOT NULL CHECK (t <> 'no')"));
        a.exec(&format!("ALTER TABLE {table} ADD COLUMN made TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP; ALTER TABLE {table} ADD d DEFAULT CURRENT_DATE"));
    }
    a.exec("INSERT INTO ints (k, n, t, made, d) VALUES (8, 1, 'x', 'then', NULL)");
    b.wall_ms = a.wall_ms;
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    sync(&mut a, &mut b);
    let shown = "SELECT k, v, n, t, made, d FROM";
    for who in [&mut a, &mut b] {
        let born = r#""1970-01-21 00:00:00"|"1970-01-21""#;
        assert_eq!(
            who.rows(&format!("{shown} ints WHERE k < 100 ORDER BY k")),
            [format!(r#"7|1|0|""|{born}"#), r#"8|NULL|1|"x"|"then"|NULL"#.to_owned()]
        );
        assert_eq!(
            who.rows(&format!("{shown} texts ORDER BY rowid")),
            [format!(r#""b"|7|0|""|{born}"#), format!(r#""a"|7|0|""|{born}"#)]
        );
        assert_eq!(who.rows(&format!("{shown} keyed")), [format!(r#""K"|x'01'|0|""|{born}"#)]);
        assert_eq!(
            who.rows("SELECT name FROM sqlite_schema WHERE name IN ('by_v', 'vs') ORDER BY 1"),
            [r#""by_v""#, r#""vs""#]
        );
        assert_eq!(who.rows("SELECT \"table\" FROM pragma_foreign_key_list('texts')"), [r#""ints""#]);
        assert_eq!(who.rows("PRAGMA integrity_check"), [r#""ok""#]);
    }
    assert_eq!(b.rows("SELECT * FROM seen"), ["100", "8"], "the rows that were there are not new");
    b.local("DELETE FROM ints WHERE k = 100");
    b.exec("INSERT INTO ints (k, n, t) VALUES (9, 2, 'y'); UPDATE texts SET t = 't'; DELETE FROM keyed");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    a.try_exec("ALTER TABLE ints ADD COLUMN later NOT NULL").unwrap_err();
}

/// Whoever heard of the column before its table, and then made the table itself.
#[test]
fn a_table_that_is_made_after_its_columns_were_added_elsewhere_has_them() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(NOTES);
    let made = a.replica.vector().clone();
    a.exec(
        "BEGIN; ALTER TABLE notes ADD COLUMN stars DEFAULT 3; INSERT INTO notes VALUES ('1', 'one', 5); \
         ALTER TABLE notes RENAME COLUMN content TO body; ALTER TABLE notes DROP COLUMN stars; \
         ALTER TABLE notes ADD COLUMN stars DEFAULT 4; COMMIT",
    );
    let (operations, covers) = a.delta(&made);
    b.replica.apply(operations, &covers, b.now()).unwrap();
    b.exec(NOTES);
    assert_eq!(b.rows("SELECT id, body, stars FROM notes"), [r#""1"|"one"|4"#]);
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
}
