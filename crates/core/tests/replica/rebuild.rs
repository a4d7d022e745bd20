//! SQLite's twelve steps, as applications do them: a new table, the rows copied, the old one dropped, the new one renamed; in one transaction.

use crate::common::orders::Step::{Exec, Meet};
use crate::common::orders::in_every_order;
use crate::common::{Peer, assert_equal, both, peer, sync};

fn schema(peer: &mut Peer) -> Vec<String> {
    peer.rows("SELECT type, name, sql FROM sqlite_schema WHERE tbl_name NOT GLOB 'rtc_*' AND sql IS NOT NULL ORDER BY type, name")
}

/// What Django, Alembic and others run, with foreign keys off.
const REBUILD: &str = "PRAGMA foreign_keys = OFF; BEGIN;
CREATE TABLE new_notes (id TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL CHECK (body <> ''), stars INTEGER);
INSERT INTO new_notes (id, body) SELECT id, content FROM notes;
DROP TABLE notes;
ALTER TABLE new_notes RENAME TO notes;
CREATE INDEX by_body ON notes (body);
PRAGMA foreign_key_check;
COMMIT; PRAGMA foreign_keys = ON";

#[test]
fn a_rebuilt_table_is_the_same_for_all_time_and_again() {
    for at_hand in [1 << 20, 0] {
        let (mut a, mut b) = both();
        a.replica.keep_at_hand(at_hand);
        a.exec("CREATE INDEX by_content ON notes (content); CREATE TABLE items (id TEXT PRIMARY KEY, note TEXT REFERENCES notes)");
        a.exec("INSERT INTO notes VALUES ('2', 'two'); INSERT INTO items VALUES ('i', '1')");
        b.pull(&a);
        a.exec(REBUILD);
        assert_eq!(b.pull(&a).refused, Vec::<String>::new());
        assert_equal(&mut a, &mut b);
        assert_eq!(schema(&mut a), schema(&mut b));
        assert_eq!(b.rows("SELECT * FROM notes ORDER BY id"), [r#""1"|"one"|NULL"#, r#""2"|"two"|NULL"#]);
        assert_eq!(
            b.rows("SELECT name FROM rtc_schema WHERE kind = 'table' ORDER BY name"),
            [r#""items""#, r#""notes""#]
        );
        b.exec("UPDATE notes SET body = 'uno', stars = 1 WHERE id = '1'; DELETE FROM notes WHERE id = '2'; INSERT INTO notes VALUES ('3', 'three', 3)");
        sync(&mut a, &mut b);
        assert_equal(&mut a, &mut b);
        // The next one has the same name for the new table.
        b.exec("PRAGMA foreign_keys = OFF; BEGIN; CREATE TABLE new_notes (id TEXT PRIMARY KEY, content TEXT); INSERT INTO new_notes SELECT id, body FROM notes; DROP TABLE notes;
                ALTER TABLE new_notes RENAME TO notes; COMMIT");
        assert_eq!(a.pull(&b).refused, Vec::<String>::new());
        assert_equal(&mut a, &mut b);
        assert_eq!(schema(&mut a), schema(&mut b));
        assert_eq!(a.rows("SELECT * FROM notes ORDER BY id"), [r#""1"|"uno""#, r#""3"|"three""#]);
        let mut newcomer = peer("newcomer");
        assert_eq!(newcomer.pull(&a).refused, Vec::<String>::new());
        assert_equal(&mut a, &mut newcomer);
    }
}

#[test]
fn a_rebuild_and_what_others_write_meanwhile_converge_in_every_order() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('1', 1); COMMIT"),
            Meet(0, 1),
            Exec(1, 1500, "INSERT INTO t VALUES ('early', 1)"),
            Exec(
                0,
                2000,
                "BEGIN; CREATE TABLE n (id TEXT PRIMARY KEY, x, y DEFAULT 5); INSERT INTO n (id, x) SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT",
            ),
            Exec(1, 2500, "UPDATE t SET x = 2 WHERE id = '1'"),
            Exec(0, 3000, "UPDATE t SET y = 6 WHERE id = '1'"),
        ],
        |peer| assert_eq!(peer.rows("SELECT id, x, y FROM t"), [r#""1"|2|6"#]),
    );
}

/// Found by `replay_makes_the_same_database`: the second one leaves the definition as it is, and so told only that the table was dropped.
#[test]
fn a_rebuild_that_changes_nothing_more_is_told_whole() {
    const REBUILD: &str = "BEGIN; CREATE TABLE n (id TEXT PRIMARY KEY, y DEFAULT 5, x); INSERT INTO n (id, x) SELECT id, x FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT";
    in_every_order(
        1,
        &[
            Exec(0, 1000, "CREATE TABLE t (id TEXT PRIMARY KEY, x)"),
            Exec(0, 2000, REBUILD),
            Exec(0, 3000, REBUILD),
            Exec(0, 4000, "INSERT INTO t (id, x) VALUES ('1', 1)"),
        ],
        |peer| assert_eq!(peer.rows("SELECT id, y, x FROM t"), [r#""1"|5|1"#]),
    );
}

#[test]
fn the_same_rebuild_on_two_devices_leaves_one_table() {
    const REBUILD: &str = "BEGIN; CREATE TABLE n (id INTEGER PRIMARY KEY, x TEXT); INSERT INTO n SELECT * FROM t; DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT";
    in_every_order(
        2,
        &[
            Exec(
                0,
                1000,
                "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, x); INSERT INTO t VALUES ('1', 1), ('2', 2); COMMIT",
            ),
            Meet(0, 1),
            Exec(0, 2000, REBUILD),
            Exec(1, 2500, REBUILD),
            Exec(1, 2600, "UPDATE t SET x = 'two' WHERE id = 2"),
        ],
        |peer| assert_eq!(peer.rows("SELECT * FROM t"), [r#"1|"1""#, r#"2|"two""#]),
    );
}

#[test]
fn a_table_that_the_transaction_made_can_be_altered_in_every_way() {
    let (mut a, mut b) = both();
    a.exec(
        "BEGIN; CREATE TABLE u (id TEXT PRIMARY KEY, x, y); INSERT INTO u VALUES ('1', 1, 2); CREATE INDEX by_x ON u (x);
         CREATE VIEW v AS SELECT x FROM u; ALTER TABLE u ADD COLUMN z DEFAULT 3; ALTER TABLE u DROP COLUMN y; ALTER TABLE u RENAME COLUMN x TO w;
         INSERT INTO u VALUES ('2', 1, 1); ALTER TABLE u RENAME TO \"it's\"; UPDATE \"it's\" SET z = 4 WHERE id = '1'; COMMIT",
    );
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    assert_equal(&mut a, &mut b);
    assert_eq!(schema(&mut a), schema(&mut b));
    assert_eq!(b.rows("SELECT id, w, z FROM \"it's\""), [r#""1"|1|4"#, r#""2"|1|1"#]);
    assert_eq!(b.rows("SELECT * FROM v"), ["1", "1"]);
    // Undone, in part and as a whole.
    a.exec("BEGIN; CREATE TABLE s (id TEXT PRIMARY KEY, x); INSERT INTO s VALUES ('1', 1); SAVEPOINT p; ALTER TABLE s RENAME TO r; INSERT INTO r VALUES ('2', 2); ROLLBACK TO p; COMMIT");
    a.exec("BEGIN; CREATE TABLE n (id TEXT PRIMARY KEY); DROP TABLE s; ALTER TABLE n RENAME TO s; ROLLBACK");
    b.pull(&a);
    assert_equal(&mut a, &mut b);
    assert_eq!(b.rows("SELECT * FROM s"), [r#""1"|1"#]);
}

#[test]
fn what_would_not_be_the_same_everywhere_is_refused() {
    let (mut a, mut b) = both();
    a.exec("CREATE TABLE others (id TEXT PRIMARY KEY, note TEXT REFERENCES later)");
    for (sql, why) in [
        ("BEGIN; CREATE TABLE later (id TEXT PRIMARY KEY); ALTER TABLE later RENAME TO x", "table others names later"),
        ("BEGIN; CREATE TABLE x (id TEXT PRIMARY KEY); ALTER TABLE x RENAME TO rtc_x", "rtc_x"),
        (
            "BEGIN; CREATE TABLE x (id TEXT PRIMARY KEY); ALTER TABLE x RENAME TO notes",
            "there is already another table",
        ),
    ] {
        let before = schema(&mut a);
        let error = a.try_exec(sql).unwrap_err();
        assert!(error.message.contains(why), "{sql}: {error}");
        a.exec("ROLLBACK");
        assert_eq!(schema(&mut a), before);
        // What is refused undoes itself and nothing else.
        let _ = a.try_exec(sql);
        a.exec("UPDATE notes SET content = content || '!'; COMMIT");
        b.pull(&a);
        assert_equal(&mut a, &mut b);
        a.exec("DROP TABLE IF EXISTS later; DROP TABLE IF EXISTS x");
    }
    b.pull(&a);
    assert_equal(&mut a, &mut b);
}
