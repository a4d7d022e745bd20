//! DROP TABLE, as every device of a room sees it.

use crate::common::orders::Step::{Exec, Meet};
use crate::common::orders::in_every_order;
use crate::common::{NOTES, Peer, assert_equal, both, peer, sync};
use rtc_battery_proto::{Operation, OperationKind, SqlValue, VersionVector};

fn tables(peer: &mut Peer) -> Vec<String> {
    peer.rows(
        "SELECT name FROM sqlite_schema WHERE tbl_name NOT GLOB 'rtc_*' AND name NOT GLOB 'sqlite_*' ORDER BY name",
    )
}

#[test]
fn a_table_that_one_drops_is_gone_for_all() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN stars INTEGER; CREATE INDEX by_stars ON notes (stars)");
    a.exec("CREATE TABLE log (id TEXT PRIMARY KEY); CREATE VIEW short AS SELECT id FROM notes");
    a.exec("CREATE TRIGGER noted AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.id); END");
    a.exec("INSERT INTO notes VALUES ('2', 'two', 2)");
    sync(&mut a, &mut b);
    b.exec("DROP TABLE notes");
    assert_eq!(a.pull(&b).refused, Vec::<String>::new());
    for who in [&mut a, &mut b] {
        assert_eq!(tables(who), [r#""log""#, r#""short""#]);
        assert_eq!(
            who.rows("SELECT kind, name FROM rtc_schema ORDER BY kind"),
            [r#""dropped table"|"notes""#, r#""table"|"log""#, r#""view"|"short""#]
        );
        assert_eq!(who.rows("SELECT count(*) FROM rtc_operations WHERE tbl NOT IN (SELECT id FROM rtc_tables)"), ["0"]);
        assert_eq!(who.rows(r#"SELECT DISTINCT "table" FROM rtc_log ORDER BY 1"#), [r#""log""#, r#""rtc_schema""#]);
    }
    assert_equal(&mut a, &mut b);
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&a).refused, Vec::<String>::new());
    assert_equal(&mut a, &mut newcomer);
    b.exec("DROP TABLE IF EXISTS notes");
}

#[test]
fn what_was_written_to_a_dropped_table_before_is_dead_and_what_comes_later_waits_for_another() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('1', 1); COMMIT"),
            Meet(0, 1),
            Exec(1, 1500, "INSERT INTO t VALUES ('early', 1)"),
            Exec(0, 2000, "DROP TABLE t"),
            Exec(1, 2500, "INSERT INTO t VALUES ('late', 1)"),
        ],
        |peer| {
            assert!(tables(peer).is_empty());
            assert_eq!(peer.rows("SELECT operation ->> '$.pk.id' FROM rtc_waiting"), [r#""late""#]);
            assert!(peer.replica.digest().unwrap().is_some(), "it waits everywhere");
        },
    );
}

#[test]
fn a_table_that_is_made_anew_has_nothing_of_the_old_one() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, "CREATE TABLE t (id TEXT PRIMARY KEY, x)"),
            Meet(0, 1),
            Exec(1, 1500, "INSERT INTO t VALUES ('early', 1), ('both', 1)"),
            Exec(0, 2000, "DROP TABLE t"),
            Exec(1, 2500, "BEGIN; UPDATE t SET x = 2 WHERE id = 'both'; INSERT INTO t VALUES ('late', 1); COMMIT"),
            Exec(
                0,
                3000,
                "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, y, x DEFAULT 7); INSERT INTO t (id) VALUES ('new'); COMMIT",
            ),
        ],
        |peer| {
            assert_eq!(peer.rows("SELECT id, x FROM t ORDER BY id"), [r#""both"|2"#, r#""late"|1"#, r#""new"|7"#]);
        },
    );
}

#[test]
fn a_drop_kills_under_a_table_that_another_made_later_without_knowing_of_it() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('old', 1); COMMIT"),
            Exec(0, 2000, "DROP TABLE t"),
            Exec(1, 2500, "CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('new', 1)"),
        ],
        |peer| assert_eq!(peer.rows("SELECT * FROM t"), [r#""new"|1"#]),
    );
}

#[test]
fn two_drops_and_the_columns_between() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY); ALTER TABLE t ADD COLUMN x DEFAULT 1; COMMIT"),
            Meet(0, 1),
            Exec(1, 1500, "INSERT INTO t VALUES ('1', 1)"),
            Exec(0, 2000, "DROP TABLE t"),
            Exec(0, 2100, "CREATE TABLE t (id TEXT PRIMARY KEY)"),
            Exec(1, 2200, "DROP TABLE t"),
        ],
        |peer| assert!(tables(peer).is_empty()),
    );
}

#[test]
fn a_table_dropped_and_made_in_one_transaction_is_another_one() {
    for at_hand in [1 << 20, 0] {
        let (mut a, mut b) = both();
        let mut c = peer("c");
        c.pull(&a);
        a.replica.keep_at_hand(at_hand);
        c.at(1500, "UPDATE notes SET content = 'eins'; INSERT INTO notes VALUES ('3', 'drei')");
        a.at(2000, &format!("BEGIN; UPDATE notes SET content = 'uno'; DROP TABLE notes; {NOTES}; INSERT INTO notes VALUES ('1', 'one'); COMMIT"));
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"one""#]);
        sync(&mut a, &mut c);
        b.pull(&c);
        assert_equal(&mut a, &mut c);
        assert_equal(&mut a, &mut b);
        assert_eq!(c.rows("SELECT * FROM notes"), [r#""1"|"one""#]);
    }
}

#[test]
fn a_table_made_again_just_as_it_was_stands_against_a_drop_before() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, "CREATE TABLE t (id TEXT PRIMARY KEY, x); CREATE INDEX i ON t (x)"),
            Meet(0, 1),
            Exec(1, 2000, "DROP TABLE t"),
            Exec(
                0,
                3000,
                "BEGIN; DROP TABLE t; CREATE TABLE t (id TEXT PRIMARY KEY, x); CREATE INDEX i ON t (x); INSERT INTO t VALUES ('1', 1); COMMIT",
            ),
            Exec(0, 4000, "CREATE INDEX IF NOT EXISTS i ON t (x)"),
        ],
        |peer| {
            assert_eq!(peer.rows("SELECT * FROM t"), [r#""1"|1"#]);
            assert_eq!(peer.rows("SELECT count(*) FROM sqlite_schema WHERE name = 'i'"), ["1"]);
        },
    );
}

#[test]
fn a_drop_that_was_undone_never_was() {
    for at_hand in [1 << 20, 0] {
        let (mut a, mut b) = both();
        a.replica.keep_at_hand(at_hand);
        a.exec("INSERT INTO notes VALUES ('2', 'two')");
        a.exec("BEGIN; UPDATE notes SET content = 'uno' WHERE id = '1'; SAVEPOINT s; DROP TABLE notes; ROLLBACK TO s; COMMIT");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        assert_eq!(b.rows("SELECT content FROM notes ORDER BY 1"), [r#""two""#, r#""uno""#]);
        // Savepoints inside of what is undone, and another table of the name.
        a.exec("BEGIN; DELETE FROM notes WHERE id = '2'; SAVEPOINT s; DROP TABLE notes; SAVEPOINT u; ROLLBACK TO u");
        a.exec("CREATE TABLE notes (id TEXT PRIMARY KEY, content TEXT, x); INSERT INTO notes VALUES ('2', 'other', 1); ROLLBACK TO u");
        a.exec("CREATE TABLE other (id TEXT PRIMARY KEY); INSERT INTO other VALUES ('1'); ROLLBACK TO s; COMMIT");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        assert_eq!(b.rows("SELECT content FROM notes"), [r#""uno""#]);
        a.exec("BEGIN; DROP TABLE notes; ROLLBACK");
        a.exec("INSERT INTO notes VALUES ('3', 'three')");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        // And one that was not, with rows of the transaction itself, and others whose operations are where the dead are.
        a.exec("BEGIN; UPDATE notes SET content = 'x'; SAVEPOINT s; INSERT INTO notes VALUES ('4', 'four'); DROP TABLE notes; RELEASE s; COMMIT");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        assert!(tables(&mut b).is_empty());
        assert_eq!(a.rows("SELECT count(*), (SELECT count(*) FROM rtc_transactions) FROM rtc_dropped"), ["0|2"]);
    }
}

#[test]
fn a_commit_that_fails_keeps_the_drop_for_another_try() {
    let (mut a, mut b) = both();
    a.exec("CREATE TABLE items (id TEXT PRIMARY KEY, note TEXT REFERENCES notes DEFERRABLE INITIALLY DEFERRED)");
    a.exec("CREATE TABLE others (id TEXT PRIMARY KEY)");
    a.exec("BEGIN; DROP TABLE others; INSERT INTO items VALUES ('1', 'nobody')");
    assert!(a.try_exec("COMMIT").is_err());
    a.exec("UPDATE items SET note = '1'; COMMIT");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_eq!(tables(&mut b), [r#""items""#, r#""notes""#]);
}

/// SQLite deletes the rows first, with what hangs on them.
#[test]
fn what_a_drop_cascades_to_is_written_by_who_drops() {
    let (mut a, mut b) = both();
    a.exec("CREATE TABLE items (id TEXT PRIMARY KEY, note TEXT REFERENCES notes ON DELETE CASCADE, other TEXT REFERENCES notes ON DELETE SET NULL)");
    a.exec("INSERT INTO items VALUES ('i1', '1', NULL), ('i2', NULL, '1'), ('i3', NULL, NULL)");
    b.pull(&a);
    a.exec("DROP TABLE notes");
    b.pull(&a);
    assert_eq!(b.rows("SELECT * FROM items ORDER BY id"), [r#""i2"|NULL|NULL"#, r#""i3"|NULL|NULL"#]);
    assert_equal(&mut a, &mut b);
    // One that SQLite refuses changes nothing.
    a.exec("CREATE TABLE notes (id TEXT PRIMARY KEY); INSERT INTO notes VALUES ('n'); CREATE TABLE held (id TEXT PRIMARY KEY, note TEXT REFERENCES notes)");
    a.exec("INSERT INTO held VALUES ('h', 'n')");
    assert!(a.try_exec("DROP TABLE notes").unwrap_err().message.contains("FOREIGN KEY"));
    a.exec("INSERT INTO notes VALUES ('m')");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

/// What is shown of a row is not all that its registers are: dead and parked rows, and cells that execLocal covers.
#[test]
fn the_digest_loses_what_the_table_had_whatever_that_was() {
    for definition in ["(id TEXT PRIMARY KEY, x, y CHECK (x <> 13))", "(id TEXT PRIMARY KEY, x, y) WITHOUT ROWID"] {
        let (mut a, mut b, mut c) = (peer("a"), peer("b"), peer("c"));
        a.exec("CREATE TABLE stays (id INTEGER PRIMARY KEY, x)");
        a.exec(&format!("CREATE TABLE t {definition}"));
        a.exec(
            "INSERT INTO t VALUES ('1', 1, 1), ('2', 2, 2), ('3', 3, 3), ('4', 4, 4); INSERT INTO stays VALUES (1, 1)",
        );
        sync(&mut a, &mut b);
        c.pull(&b);
        a.exec("DELETE FROM t WHERE id = '2'; UPDATE t SET x = 5 WHERE id = '1'; UPDATE t SET y = 9.5; UPDATE stays SET x = 2");
        b.local(
            "UPDATE t SET x = 'covered' WHERE id = '3'; DELETE FROM t WHERE id = '4'; INSERT INTO t VALUES ('5', 5, 5)",
        );
        sync(&mut a, &mut b);
        b.exec("BEGIN; UPDATE t SET x = 6 WHERE id = '1'; DELETE FROM t WHERE id = '3'; DROP TABLE t; UPDATE stays SET x = 3; COMMIT");
        a.pull(&b);
        c.pull(&a);
        assert_equal(&mut a, &mut b);
        assert_equal(&mut a, &mut c);
        let mut newcomer = peer("newcomer");
        newcomer.pull(&a);
        assert_equal(&mut a, &mut newcomer);
    }
}

#[test]
fn what_this_device_has_on_a_table_stands_when_a_late_drop_makes_the_table_anew() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.at(1000, NOTES);
    a.at(1100, "DROP TABLE notes");
    b.at(2000, NOTES);
    b.exec("INSERT INTO notes VALUES ('1', 'one'); CREATE INDEX everybodys ON notes (content)");
    b.local("CREATE INDEX mine ON notes (content)");
    b.pull(&a);
    assert_eq!(tables(&mut b), [r#""everybodys""#, r#""mine""#, r#""notes""#]);
    a.pull(&b);
    assert_equal(&mut a, &mut b);
}

/// The simulator's seeds 1690 and 2086: a DROP that counts on one which is not here yet was taken for none.
#[test]
fn a_drop_needs_no_other() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.at(1000, NOTES);
    a.exec("DROP TABLE notes");
    a.exec(&format!("BEGIN; {NOTES}; INSERT INTO notes VALUES ('1', 'one'); COMMIT"));
    a.exec("DROP TABLE notes");
    for transaction in a.replica.take_committed(u64::MAX).iter().skip(2) {
        b.replica.apply(transaction.operations.clone().unwrap(), &transaction.covers, b.now()).unwrap();
    }
    assert!(tables(&mut b).is_empty());
    assert_eq!(b.rows("SELECT kind, name FROM rtc_schema"), [r#""dropped table"|"notes""#]);
    assert_eq!(b.rows("SELECT count(*) FROM rtc_waiting"), ["0"], "it is dead");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}

#[test]
fn exec_local_drops_what_is_local() {
    let (mut a, _) = both();
    a.local("CREATE TABLE mine (x)");
    assert!(a.try_local("DROP TABLE notes").unwrap_err().message.contains("exec drops it everywhere"));
    assert!(a.try_exec("DROP TABLE mine").unwrap_err().message.contains("execLocal"));
    a.local("DROP TABLE mine");
    a.exec("CREATE TABLE mine (id TEXT PRIMARY KEY); DROP TABLE mine; CREATE TABLE mine (id TEXT PRIMARY KEY, x)");
    assert_eq!(tables(&mut a), [r#""mine""#, r#""notes""#]);
}

#[test]
fn hostile_drops_do_nothing_stranger() {
    let id = |id: &str| [("id".to_owned(), SqlValue::text(id))].into_iter().collect();
    for (kind, row, values, taken) in [
        (OperationKind::Delete, "notes", None, false),
        (OperationKind::Delete, "", None, false),
        (OperationKind::Update, "rtc_dropped notes(id text binary)", Some(("sql", "9")), false),
        (OperationKind::Insert, "rtc_dropped notes(id text binary)", Some(("x", "9")), false),
        (OperationKind::Insert, "rtc_dropped rtc_schema(id text binary)", Some(("name", "rtc_schema")), false),
        (OperationKind::Insert, "rtc_dropped notes(id text binary)", Some(("name", "other")), false),
        (OperationKind::Insert, "rtc_dropped notes(id text binary)", Some(("kind", "table")), false),
        (OperationKind::Update, "notes(id text binary)", Some(("sql", "x")), false),
        (OperationKind::Delete, "notes(id text binary)", None, true),
        (OperationKind::Delete, "rtc_dropped notes(id text binary)", None, true),
        (OperationKind::Insert, "rtc_dropped notes(id text binary)", Some(("sql", "9")), true),
    ] {
        let (mut a, mut b) = both();
        let since = b.replica.vector().clone();
        a.exec("INSERT INTO notes VALUES ('2', 'two')");
        let (mut operations, covers): (Vec<Operation>, VersionVector) = a.delta(&since);
        let one = &mut operations[0];
        (one.kind, one.table, one.pk) = (kind, "rtc_schema".to_owned(), id(row));
        one.values = values.map(|(column, value)| [(column.to_owned(), SqlValue::text(value))].into_iter().collect());
        let applied = b.replica.apply(operations, &covers, b.now()).unwrap();
        assert_eq!(applied.refused.is_empty(), taken, "{kind:?} {row}: {applied:?}");
        if !taken {
            assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"one""#]);
        }
        b.exec("CREATE TABLE more (id TEXT PRIMARY KEY); INSERT INTO more VALUES ('1')");
        let mut newcomer = peer("newcomer");
        newcomer.pull(&b);
        assert_equal(&mut newcomer, &mut b);
    }
}

/// Found by the simulator, with clocks far apart: of a row's INSERTs the oldest is kept, for when the row was born; a DROP that came late killed it,
/// and the next one was forgotten already, or not yet.
#[test]
fn births_that_a_late_drop_leaves_over_are_no_divergence() {
    let (mut a, mut b) = both();
    a.at(3000, "DROP TABLE notes");
    a.at(6000, NOTES);
    let (mut before, mut after) = (peer("before"), peer("after"));
    after.pull(&a);
    b.at(4000, "INSERT OR REPLACE INTO notes VALUES ('1', 'uno')");
    after.pull(&b);
    b.at(5000, "INSERT OR REPLACE INTO notes VALUES ('1', 'eins')");
    after.pull(&b);
    before.pull(&b);
    before.pull(&a);
    assert_eq!(before.dump(), after.dump());
    assert_eq!(before.rows("SELECT * FROM notes"), [r#""1"|"eins""#]);
    assert_eq!(before.replica.vector(), after.replica.vector());
    assert_eq!(before.replica.digest().unwrap(), after.replica.digest().unwrap());
}
