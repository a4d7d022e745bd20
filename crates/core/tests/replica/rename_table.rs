//! ALTER TABLE RENAME TO, as every device of a room sees it.

use crate::common::orders::Step::{Exec, Meet};
use crate::common::orders::in_every_order;
use crate::common::{Peer, assert_equal, both, peer, sync};

const TABLE_AND_ROW: &str =
    "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, a, b DEFAULT 'none'); INSERT INTO t VALUES ('0', 'a', 'b'); COMMIT";

fn tables(peer: &mut Peer) -> Vec<String> {
    peer.rows("SELECT name FROM pragma_table_list WHERE schema = 'main' AND name NOT GLOB 'rtc_*' AND name NOT GLOB 'sqlite_*' ORDER BY 1")
}

#[test]
fn a_renamed_table_is_called_so_everywhere() {
    let (mut a, mut b) = both();
    a.exec(
        "CREATE TABLE marks (id TEXT PRIMARY KEY, note REFERENCES notes); CREATE INDEX by_content ON notes (content)",
    );
    a.exec("CREATE VIEW texts AS SELECT content FROM notes; CREATE TRIGGER t AFTER DELETE ON notes BEGIN DELETE FROM marks WHERE note = old.id; END");
    sync(&mut a, &mut b);
    a.rows("SELECT * FROM rtc_log");
    b.rows("SELECT * FROM rtc_log");
    b.local("CREATE TEMP TABLE seen (id); CREATE TEMP TRIGGER s AFTER INSERT ON notes BEGIN INSERT INTO seen VALUES (new.id); END");
    a.exec("ALTER TABLE notes RENAME TO texts_of_mine");
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    b.exec("INSERT INTO texts_of_mine VALUES ('2', 'two'); INSERT INTO marks VALUES ('m', '2'); DELETE FROM texts_of_mine WHERE id = '1'");
    sync(&mut a, &mut b);
    for who in [&mut a, &mut b] {
        assert_eq!(tables(who), [r#""marks""#, r#""texts""#, r#""texts_of_mine""#]);
        assert_eq!(who.rows("SELECT * FROM texts"), [r#""two""#]);
        assert_eq!(
            who.rows("SELECT tbl_name FROM sqlite_schema WHERE name IN ('by_content', 't')"),
            [r#""texts_of_mine""#; 2]
        );
        assert_eq!(who.rows("SELECT \"table\" FROM pragma_foreign_key_list('marks')"), [r#""texts_of_mine""#]);
        assert_eq!(
            who.rows("SELECT DISTINCT \"table\" FROM rtc_log ORDER BY 1"),
            [r#""marks""#, r#""rtc_schema""#, r#""texts_of_mine""#]
        );
    }
    assert_eq!(b.rows("SELECT * FROM seen"), [r#""2""#]);
    assert_equal(&mut a, &mut b);
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&b).refused, Vec::<String>::new());
    assert_equal(&mut newcomer, &mut a);
}

#[test]
fn what_is_written_to_the_old_name_meanwhile_is_in_the_renamed_table_and_not_in_another_of_the_name() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE_AND_ROW),
            Meet(0, 1),
            Exec(
                0,
                2000,
                "BEGIN; ALTER TABLE t RENAME TO u; CREATE TABLE t (id TEXT PRIMARY KEY, a); INSERT INTO t VALUES ('new', 1); COMMIT",
            ),
            Exec(1, 2500, "INSERT INTO t VALUES ('1', 'unaware', 2); ALTER TABLE t RENAME COLUMN a TO z"),
            Exec(0, 3000, "UPDATE u SET b = 'aware' WHERE id = '0'"),
        ],
        |peer| {
            assert_eq!(tables(peer), [r#""t""#, r#""u""#]);
            assert_eq!(peer.rows("SELECT id, z, b FROM u ORDER BY id"), [r#""0"|"a"|"aware""#, r#""1"|"unaware"|2"#]);
            assert_eq!(peer.rows("SELECT * FROM t"), [r#""new"|1"#]);
        },
    );
}

#[test]
fn of_two_names_of_a_table_the_later_stands_and_two_tables_that_want_one_get_two() {
    in_every_order(
        2,
        &[
            Exec(
                0,
                1000,
                "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY); CREATE TABLE q (id INTEGER PRIMARY KEY); COMMIT",
            ),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t RENAME TO x"),
            Exec(1, 2500, "ALTER TABLE t RENAME TO y"),
            Exec(0, 2600, "ALTER TABLE q RENAME TO z"),
            Exec(1, 2700, "BEGIN; CREATE TABLE z (id TEXT PRIMARY KEY); INSERT INTO z VALUES ('z'); COMMIT"),
        ],
        |peer| {
            assert_eq!(tables(peer), [r#""q""#, r#""y""#, r#""z""#]);
            assert_eq!(peer.rows("SELECT * FROM z"), [r#""z""#]);
        },
    );
}

#[test]
fn a_renamed_table_is_dropped_and_made_again() {
    in_every_order(
        2,
        &[
            Exec(0, 1000, TABLE_AND_ROW),
            Meet(0, 1),
            Exec(0, 2000, "ALTER TABLE t RENAME TO u"),
            Exec(1, 2100, "INSERT INTO t (id) VALUES ('early')"),
            Exec(0, 2500, "DROP TABLE u"),
            Exec(1, 2600, "INSERT INTO t (id) VALUES ('late')"),
            Exec(
                0,
                3000,
                "BEGIN; CREATE TABLE t (id TEXT PRIMARY KEY, b, a); INSERT INTO t VALUES ('new', 1, 2); COMMIT",
            ),
        ],
        |peer| {
            assert_eq!(tables(peer), [r#""t""#]);
            assert_eq!(peer.rows("SELECT id, b FROM t ORDER BY id"), [r#""late"|"none""#, r#""new"|1"#]);
        },
    );
}

#[test]
fn a_rename_that_was_rolled_back_never_was_and_one_that_a_peer_has_done_is_no_error() {
    let (mut a, mut b) = both();
    a.exec("BEGIN; UPDATE notes SET content = 'uno'; SAVEPOINT s; ALTER TABLE notes RENAME TO n; UPDATE n SET content = 'due'; CREATE TABLE notes (id INTEGER PRIMARY KEY)");
    a.exec("INSERT INTO notes VALUES (7); ROLLBACK TO s; COMMIT");
    sync(&mut a, &mut b);
    assert_equal(&mut a, &mut b);
    assert_eq!(b.rows("SELECT * FROM notes"), [r#""1"|"uno""#]);
    a.exec("ALTER TABLE notes RENAME TO n; ALTER TABLE n RENAME TO m");
    b.pull(&a);
    let before = b.replica.version();
    b.exec("ALTER TABLE notes RENAME TO n; ALTER TABLE n RENAME TO m");
    assert_eq!(b.replica.version(), before);
    b.try_exec("ALTER TABLE notes RENAME TO o").unwrap_err();
    assert!(b.try_exec("ALTER TABLE m RENAME TO rtc_m").unwrap_err().message.contains("rtc_m"));
    assert_equal(&mut a, &mut b);
}

#[test]
fn of_two_tables_of_one_name_and_other_keys_there_is_one_and_it_has_the_name() {
    let (mut a, mut b, mut newcomer) = (peer("a"), peer("b"), peer("newcomer"));
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY); INSERT INTO t VALUES ('a')");
    b.exec("CREATE TABLE T (k INTEGER PRIMARY KEY)");
    a.pull(&b);
    newcomer.pull(&a);
    for who in [&mut a, &mut newcomer] {
        assert_eq!(tables(who).iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>(), [r#""t""#]);
    }
}
