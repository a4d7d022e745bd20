//! ALTER TABLE DROP COLUMN and RENAME COLUMN, as every device of a room sees them.

use crate::common::orders::Step::{Exec, Meet};
use crate::common::orders::in_every_order;
use crate::common::{Peer, assert_equal, both, peer, sync};

const TABLE: &str = "CREATE TABLE t (id TEXT PRIMARY KEY, a, b DEFAULT 'none')";
const TABLE_AND_ROW: &str =
    "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, a, b DEFAULT 'none'); INSERT INTO t VALUES ('0', 'a', 'b'); COMMIT";

fn columns(peer: &mut Peer) -> Vec<String> {
    peer.rows("SELECT name FROM pragma_table_info('t')")
}

#[test]
fn a_renamed_column_is_called_so_everywhere_and_no_row_is_told_for_it() {
    let (mut a, mut b) = both();
    a.exec("CREATE INDEX by_content ON notes (content); CREATE VIEW texts AS SELECT content FROM notes");
    a.exec("CREATE TRIGGER trimmed AFTER UPDATE OF content ON notes BEGIN UPDATE notes SET content = trim(new.content) WHERE id = new.id; END");
    sync(&mut a, &mut b);
    let before = a.replica.written();
    a.exec("ALTER TABLE notes RENAME COLUMN content TO body");
    assert_eq!(a.replica.written() - before, 1 + 6, "the name, and each object that names it anew");
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    b.exec("UPDATE notes SET body = ' x '");
    sync(&mut a, &mut b);
    for who in [&mut a, &mut b] {
        assert_eq!(who.rows("SELECT body FROM notes"), [r#""x""#]);
        assert_eq!(who.rows("SELECT * FROM texts"), [r#""x""#]);
        assert_eq!(
            who.rows("SELECT sql FROM sqlite_schema WHERE name = 'by_content'"),
            [r#""CREATE INDEX by_content ON notes (body)""#]
        );
    }
    assert_equal(&mut a, &mut b);
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&b).refused, Vec::<String>::new());
    assert_equal(&mut newcomer, &mut a);
}

#[test]
fn what_is_written_under_the_old_name_meanwhile_is_in_the_renamed_column() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t RENAME COLUMN a TO z"),
            Exec(1, 2500, "INSERT INTO t (id, a) VALUES ('1', 'unaware')"),
            Exec(0, 3000, "INSERT INTO t (id, z) VALUES ('2', 'aware')"),
        ],
        |peer| {
            assert_eq!(columns(peer), [r#""id""#, r#""z""#, r#""b""#]);
            assert_eq!(peer.rows("SELECT id, z FROM t ORDER BY id"), [r#""1"|"unaware""#, r#""2"|"aware""#]);
        },
    );
}

#[test]
fn what_is_written_to_a_dropped_column_is_nothing_and_the_rest_of_it_stands() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE_AND_ROW),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t DROP COLUMN a"),
            Exec(
                1,
                2500,
                "BEGIN; INSERT INTO t VALUES ('1', 'unaware', 'b'); UPDATE t SET a = 'late', b = 'new' WHERE id = '0'; COMMIT",
            ),
        ],
        |peer| {
            assert_eq!(columns(peer), [r#""id""#, r#""b""#]);
            assert_eq!(peer.rows("SELECT * FROM t ORDER BY id"), [r#""0"|"new""#, r#""1"|"b""#]);
        },
    );
}

#[test]
fn a_column_made_anew_has_nothing_of_the_old_one_of_its_name() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE_AND_ROW),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a DEFAULT 'new'"),
            Exec(
                1,
                2500,
                "BEGIN; INSERT INTO t VALUES ('1', 'unaware', 'b'); UPDATE t SET a = 'late' WHERE id = '0'; COMMIT",
            ),
            Exec(0, 3000, "INSERT INTO t (id, a) VALUES ('2', 'aware')"),
        ],
        |peer| {
            assert_eq!(
                peer.rows("SELECT id, a FROM t ORDER BY id"),
                [r#""0"|"new""#, r#""1"|"new""#, r#""2"|"aware""#]
            );
        },
    );
}

#[test]
fn a_name_that_a_rename_freed_is_another_columns() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t RENAME COLUMN a TO z; ALTER TABLE t ADD COLUMN a"),
            Exec(1, 2500, "INSERT INTO t (id, a) VALUES ('1', 'unaware')"),
            Exec(0, 3000, "INSERT INTO t (id, a, z) VALUES ('2', 'a', 'z')"),
        ],
        |peer| {
            assert_eq!(peer.rows("SELECT id, a, z FROM t ORDER BY id"), [r#""1"|NULL|"unaware""#, r#""2"|"a"|"z""#]);
        },
    );
}

#[test]
fn of_two_names_the_later_stands_and_two_columns_that_want_one_get_two() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE_AND_ROW),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t RENAME COLUMN a TO x"),
            Exec(1, 2500, "ALTER TABLE t RENAME COLUMN a TO y"),
            Exec(0, 2600, "ALTER TABLE t RENAME COLUMN b TO z"),
            Exec(1, 2700, "ALTER TABLE t ADD COLUMN z DEFAULT 'new'"),
        ],
        |peer| assert_eq!(peer.rows("SELECT y, b, z FROM t"), [r#""a"|"b"|"new""#]),
    );
}

#[test]
fn names_that_change_places_change_them_everywhere() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE_AND_ROW),
            Meet(0, 1),
            Exec(
                0,
                2000,
                "BEGIN; ALTER TABLE t RENAME COLUMN a TO x; ALTER TABLE t RENAME COLUMN b TO a; ALTER TABLE t RENAME x TO b; COMMIT",
            ),
            Exec(1, 2500, "UPDATE t SET a = 'A'"),
            Exec(0, 2600, "UPDATE t SET a = 'B'"),
        ],
        |peer| assert_eq!(peer.rows("SELECT a, b FROM t"), [r#""B"|"A""#]),
    );
}

#[test]
fn a_dropped_column_stays_dropped_whatever_it_is_called_meanwhile() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t DROP COLUMN a"),
            Exec(1, 2500, "ALTER TABLE t RENAME COLUMN a TO x; CREATE INDEX by_x ON t (x)"),
            Exec(1, 2600, "INSERT INTO t (id, x) VALUES ('1', 'x')"),
        ],
        |peer| assert_eq!(peer.rows("SELECT * FROM t"), [r#""1"|"none""#]),
    );
}

#[test]
fn a_renamed_key_is_the_same_key() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t RENAME COLUMN id TO name"),
            Exec(1, 2500, "INSERT INTO t (id, a) VALUES ('1', 'unaware')"),
            Exec(0, 3000, "INSERT INTO t (name, a) VALUES ('1', 'aware')"),
            Exec(0, 3100, "CREATE TABLE IF NOT EXISTS t (id TEXT PRIMARY KEY, a, b DEFAULT 'none')"),
        ],
        |peer| assert_eq!(peer.rows("SELECT name, a FROM t"), [r#""1"|"aware""#]),
    );
}

/// One transaction, as migrations are written.
#[test]
fn a_column_replaced_by_another_in_one_transaction() {
    let (mut a, mut b) = both();
    a.exec("INSERT INTO notes VALUES ('2', 'two'), ('3', 'three')");
    sync(&mut a, &mut b);
    for at_hand in [1 << 20, 0] {
        a.replica.keep_at_hand(at_hand);
        a.exec(
            "BEGIN; UPDATE notes SET content = content || '!'; ALTER TABLE notes ADD COLUMN length INTEGER DEFAULT 0;
             UPDATE notes SET length = length(content); DELETE FROM notes WHERE id = '3'; ALTER TABLE notes DROP COLUMN content;
             INSERT INTO notes (id, length) VALUES ('4', 9); ALTER TABLE notes RENAME COLUMN length TO content; COMMIT",
        );
        assert_eq!(b.pull(&a).refused, Vec::<String>::new());
        assert_eq!(b.rows("SELECT id, content FROM notes ORDER BY id LIMIT 1"), [r#""1"|4"#]);
        assert_equal(&mut a, &mut b);
        a.exec("ALTER TABLE notes ADD COLUMN other DEFAULT 'one'; ALTER TABLE notes DROP COLUMN content; ALTER TABLE notes RENAME other TO content");
        a.exec("DELETE FROM notes WHERE id = '4'; INSERT INTO notes VALUES ('3', 'three')");
        sync(&mut a, &mut b);
        assert_equal(&mut a, &mut b);
    }
}

#[test]
fn a_drop_that_was_rolled_back_never_was() {
    for (undo, at_hand) in [("ROLLBACK TO s; COMMIT", 1 << 20), ("ROLLBACK TO s; COMMIT", 0), ("ROLLBACK", 1 << 20)] {
        let (mut a, mut b) = both();
        a.replica.keep_at_hand(at_hand);
        a.exec("INSERT INTO notes VALUES ('2', 'two')");
        a.exec("BEGIN; UPDATE notes SET content = 'uno' WHERE id = '1'; SAVEPOINT s");
        a.exec(
            "ALTER TABLE notes RENAME COLUMN content TO body; ALTER TABLE notes ADD COLUMN x; UPDATE notes SET x = 1",
        );
        a.exec("ALTER TABLE notes DROP COLUMN body; UPDATE notes SET x = 2; INSERT INTO notes VALUES ('3', 3)");
        a.exec(undo);
        a.exec("UPDATE notes SET content = 'due' WHERE id = '2'");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        assert_eq!(b.rows("SELECT content FROM notes WHERE id = '2'"), [r#""due""#]);
        assert_eq!(b.rows("SELECT count(*) FROM rtc_schema"), ["1"]);
    }
}

/// Simulator seed 3181.
#[test]
fn a_column_that_was_dropped_and_came_back_was_not_written() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN x; UPDATE notes SET x = 5");
    b.pull(&a);
    a.exec("BEGIN; UPDATE notes SET content = 'uno' WHERE id = '1'; SAVEPOINT s; ALTER TABLE notes DROP COLUMN x");
    a.exec("ALTER TABLE notes ADD COLUMN z DEFAULT 'one'; ROLLBACK TO s; ALTER TABLE notes ADD COLUMN z DEFAULT 'two'; COMMIT");
    b.exec("UPDATE notes SET x = 6 WHERE id = '1'");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    assert_eq!(a.rows("SELECT content, x, z FROM notes WHERE id = '1'"), [r#""uno"|6|"two""#]);
    let told = a.rows(r#"SELECT "values" FROM rtc_log WHERE type = 'UPDATE' AND "table" = 'notes' ORDER BY 1"#);
    assert_eq!(told, [r#""content = 'uno'""#, r#""x = 6""#]);
}

/// The migration that every device ships on the same day.
#[test]
fn what_a_peer_has_dropped_or_renamed_is_no_error() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN x; ALTER TABLE notes ADD COLUMN y");
    sync(&mut a, &mut b);
    let migration = "ALTER TABLE notes DROP COLUMN x; ALTER TABLE notes RENAME COLUMN content TO body; ALTER TABLE notes RENAME body TO text";
    a.exec(migration);
    b.pull(&a);
    let before = b.replica.version();
    b.exec("ALTER TABLE notes DROP COLUMN x");
    b.exec("alter table notes rename content to body");
    b.exec("alter table notes rename content to text; ALTER TABLE notes RENAME COLUMN body TO text");
    b.exec(migration);
    assert_eq!(b.replica.version(), before);
    for other in [
        "ALTER TABLE notes DROP COLUMN z",
        "ALTER TABLE notes DROP COLUMN content",
        "ALTER TABLE notes RENAME COLUMN content TO x",
        "ALTER TABLE notes RENAME COLUMN x TO content",
        "ALTER TABLE notes RENAME COLUMN id TO text",
    ] {
        let error = b.try_exec(other).unwrap_err();
        assert!(error.message.contains("column"), "{other}: {error}");
    }
    assert_equal(&mut a, &mut b);
}

#[test]
fn what_a_device_has_beside_a_dropped_column_stays() {
    let (mut a, mut b) = both();
    a.exec("ALTER TABLE notes ADD COLUMN x");
    sync(&mut a, &mut b);
    b.local("CREATE INDEX mine ON notes (content); CREATE TABLE log (id); CREATE INDEX lost ON notes (x)");
    b.local("CREATE TEMP TRIGGER noted AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.id); END");
    a.exec("ALTER TABLE notes DROP COLUMN x; INSERT INTO notes VALUES ('2', 'two')");
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    assert_eq!(
        b.rows("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'notes'"),
        [r#""mine""#]
    );
    assert_eq!(b.rows("SELECT id FROM log"), [r#""2""#]);
}

#[test]
fn dead_parked_and_covered_rows_lose_the_column_too() {
    let (mut a, mut b) = both();
    a.exec("CREATE TABLE u (id TEXT PRIMARY KEY, x, name UNIQUE, y INTEGER)");
    a.exec("INSERT INTO u VALUES ('1', 1, 'one', 1), ('2', 2, 'two', 2), ('3', 3, 'three', 3)");
    sync(&mut a, &mut b);
    a.exec("INSERT INTO u VALUES ('4', 4, 'same', 4)");
    b.exec("INSERT INTO u VALUES ('5', 5, 'same', 5)");
    b.exec("DELETE FROM u WHERE id = '1'; UPDATE u SET y = 22, x = 22 WHERE id = '2'");
    a.exec("UPDATE u SET x = 11 WHERE id = '1'");
    b.local("UPDATE u SET x = 'covered', y = 'covered' WHERE id = '3'");
    sync(&mut a, &mut b);
    a.exec("ALTER TABLE u DROP COLUMN x");
    sync(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM u ORDER BY id"), [r#""2"|"two"|22"#, r#""3"|"three"|3"#, r#""5"|"same"|5"#]);
    assert_eq!(b.rows("SELECT y FROM u WHERE id = '3'"), [r#""covered""#]);
    assert_eq!((a.log(), a.replica.digest().unwrap()), (b.log(), b.replica.digest().unwrap()));
    a.exec("DELETE FROM u WHERE name = 'same'; UPDATE u SET y = 33 WHERE id = '3'");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM u ORDER BY id"), [r#""2"|"two"|22"#, r#""3"|"three"|33"#, r#""4"|"same"|4"#]);
}

#[test]
fn a_column_of_more_than_64() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    let list: Vec<String> = (0..80).map(|n| format!("c{n}")).collect();
    a.exec(&format!("CREATE TABLE wide (id INTEGER PRIMARY KEY, {})", list.join(", ")));
    a.exec("INSERT INTO wide (id, c1, c62, c63, c64, c79) VALUES (1, 1, 62, 63, 64, 79); UPDATE wide SET c64 = 'b', c70 = 'c'");
    b.pull(&a);
    a.exec("ALTER TABLE wide DROP COLUMN c2; ALTER TABLE wide DROP COLUMN c64; ALTER TABLE wide DROP COLUMN c79");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_eq!(b.rows("SELECT c1, c62, c63, c70, c78 FROM wide"), [r#"1|62|63|"c"|NULL"#]);
}

#[test]
fn what_cannot_be_the_same_for_everybody_is_refused_and_changes_nothing() {
    let (mut a, mut b) = both();
    a.exec("CREATE TABLE r (rowid TEXT PRIMARY KEY, oid, x, g AS (x))");
    sync(&mut a, &mut b);
    let before = a.rows("SELECT sql FROM sqlite_schema ORDER BY name");
    for sql in [
        "ALTER TABLE r RENAME COLUMN x TO _rowid_",
        "ALTER TABLE r ADD COLUMN _rowid_",
        "ALTER TABLE r RENAME COLUMN x TO \"RTC_12 x\"",
        "ALTER TABLE r ADD COLUMN \"rtc_2 x\"",
        "ALTER TABLE r DROP COLUMN g",
        "ALTER TABLE r RENAME COLUMN g TO h",
        "CREATE TABLE s (id TEXT PRIMARY KEY, \"rtc_2 x\")",
    ] {
        a.try_exec(sql).unwrap_err();
        assert_eq!(a.rows("SELECT sql FROM sqlite_schema ORDER BY name"), before, "{sql}");
    }
    a.exec("INSERT INTO r VALUES ('1', 2, 3)");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
}

/// SQLite refuses every ALTER TABLE while anything in the schema does not compile.
#[test]
fn what_is_broken_on_a_device_is_in_nobodys_way() {
    let (mut a, mut b) = both();
    a.exec("CREATE TABLE gone (id TEXT PRIMARY KEY); CREATE TABLE t (id TEXT PRIMARY KEY, x, y); INSERT INTO t VALUES ('1', 2, 3)");
    a.exec("CREATE TABLE e (id TEXT PRIMARY KEY)");
    sync(&mut a, &mut b);
    b.local("CREATE TRIGGER mine AFTER INSERT ON notes BEGIN DELETE FROM gone; END; CREATE VIEW \"my view\" AS SELECT id FROM gone");
    b.local("CREATE TEMP VIEW v AS SELECT id FROM gone");
    b.exec("INSERT INTO e VALUES ('1')");
    a.exec("DROP TABLE gone; ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME COLUMN x TO z; ALTER TABLE u DROP COLUMN y; ALTER TABLE e ADD COLUMN n NOT NULL");
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    a.pull(&b);
    assert_eq!(b.rows("SELECT * FROM u"), [r#""1"|2"#]);
    assert_eq!(
        b.rows("SELECT name FROM sqlite_schema WHERE type IN ('view', 'trigger') AND name NOT GLOB 'rtc_*'"),
        [r#""mine""#, r#""my view""#]
    );
    assert_eq!(b.rows("SELECT name FROM temp.sqlite_schema WHERE name = 'v'"), [r#""v""#]);
    assert_equal(&mut a, &mut b);
}

#[test]
fn a_statement_that_was_compiled_before_has_the_columns_that_are() {
    let (mut a, mut b) = both();
    let columns = |peer: &mut Peer| {
        let result = peer.exec("SELECT * FROM notes");
        (result.columns.join(" "), result.values.first().map_or(0, Vec::len))
    };
    assert_eq!((0..3).map(|_| columns(&mut b)).last(), Some(("id content".to_owned(), 2)));
    for (change, expected) in [
        ("ALTER TABLE notes ADD COLUMN x", "id content x"),
        ("ALTER TABLE notes RENAME COLUMN x TO y", "id content y"),
        ("ALTER TABLE notes DROP COLUMN content", "id y"),
    ] {
        a.exec(change);
        b.pull(&a);
        for _ in 0..2 {
            assert_eq!(columns(&mut b), (expected.to_owned(), expected.split(' ').count()), "{change}");
        }
    }
}
