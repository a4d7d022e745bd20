//! Indexes, views and triggers, as every device of a room has them.

use crate::common::{NOTES, Peer, assert_equal, both, peer, sync};
use rtc_battery_proto::SqlValue;

/// The schema but for our tables.
fn schema(peer: &mut Peer) -> Vec<String> {
    peer.rows("SELECT type, name, sql FROM sqlite_schema WHERE tbl_name NOT GLOB 'rtc_*' AND sql IS NOT NULL ORDER BY type, name")
}

fn assert_alike(a: &mut Peer, b: &mut Peer) {
    assert_equal(a, b);
    assert_eq!(schema(a), schema(b));
}

#[test]
fn what_one_device_makes_all_have_and_what_it_drops_none() {
    let (mut a, mut b) = both();
    a.exec("CREATE INDEX by_content ON notes (content COLLATE NOCASE) WHERE content > ''");
    a.exec("CREATE VIEW short AS SELECT id FROM notes WHERE length(content) < 4");
    a.exec("CREATE TABLE log (id TEXT PRIMARY KEY DEFAULT (uuid7()), what TEXT)");
    a.exec("CREATE TRIGGER noted AFTER UPDATE ON notes BEGIN INSERT INTO log (what) VALUES (new.content); END");
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    assert_alike(&mut a, &mut b);
    assert_eq!(schema(&mut b).len(), 5);
    assert_eq!(b.rows("SELECT * FROM short"), [r#""1""#]);
    // It runs where the statement runs, and not again where what it wrote arrives.
    b.exec("UPDATE notes SET content = 'uno'");
    sync(&mut a, &mut b);
    assert_eq!(a.rows("SELECT what FROM log"), [r#""uno""#]);
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&a).refused, Vec::<String>::new());
    assert_alike(&mut a, &mut newcomer);

    b.exec("DROP INDEX by_content; DROP VIEW short; DROP TRIGGER noted");
    sync(&mut a, &mut b);
    assert_alike(&mut a, &mut b);
    assert_eq!(schema(&mut a).len(), 2);
    newcomer.pull(&a);
    assert_alike(&mut a, &mut newcomer);
    let mut later = peer("later");
    assert_eq!(later.pull(&a).refused, Vec::<String>::new());
    assert_alike(&mut a, &mut later);
}

#[test]
fn of_two_texts_under_one_name_the_later_stands_everywhere() {
    let (mut a, mut b) = both();
    a.at(2000, "CREATE VIEW v AS SELECT id FROM notes");
    b.at(3000, "CREATE VIEW v AS SELECT content FROM notes");
    sync(&mut a, &mut b);
    assert_alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM v"), [r#""one""#]);
    let mut newcomer = peer("newcomer");
    assert_eq!(newcomer.pull(&a).refused, Vec::<String>::new());
    assert_alike(&mut a, &mut newcomer);
    // Dropped on one and made anew on the other: the later wins too.
    a.at(4000, "DROP VIEW v");
    b.at(5000, "DROP VIEW v; CREATE VIEW v AS SELECT 'new'");
    sync(&mut a, &mut b);
    assert_alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT * FROM v"), [r#""new""#]);
    newcomer.pull(&b);
    assert_alike(&mut a, &mut newcomer);
}

#[test]
fn what_was_rolled_back_was_never_made() {
    let (mut a, mut b) = both();
    a.exec("BEGIN; CREATE INDEX i ON notes (content); ROLLBACK; BEGIN; SAVEPOINT s; CREATE VIEW v AS SELECT 1; ROLLBACK TO s; COMMIT");
    b.pull(&a);
    assert_alike(&mut a, &mut b);
    assert_eq!(schema(&mut a).len(), 1);
}

#[test]
fn what_cannot_be_made_here_is_told_and_made_when_it_can_be() {
    let (mut a, mut b) = both();
    b.local("CREATE VIEW v AS SELECT 'of this device'");
    a.exec("CREATE VIEW v AS SELECT 'of all'");
    let refused = b.pull(&a).refused;
    assert!(refused.len() == 1 && refused[0].contains("has its name"), "{refused:?}");
    assert_eq!(b.rows("SELECT * FROM v"), [r#""of this device""#]);
    b.local("DROP VIEW v");
    a.exec("CREATE INDEX i ON notes (content)");
    assert_eq!(b.pull(&a).refused, Vec::<String>::new());
    assert_eq!(b.rows("SELECT * FROM v"), [r#""of all""#]);
    assert_alike(&mut a, &mut b);
}

#[test]
fn an_index_comes_before_its_table_and_waits() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(NOTES);
    let since = a.replica.vector().clone();
    let (table, table_covers) = a.delta(b.replica.vector());
    a.exec("CREATE INDEX i ON notes (content)");
    let (index, index_covers) = a.delta(&since);
    assert_eq!(b.replica.apply(index, &index_covers, b.now()).unwrap().refused.len(), 1);
    assert_eq!(b.replica.apply(table, &table_covers, b.now()).unwrap().refused, Vec::<String>::new());
    assert_alike(&mut a, &mut b);
    // The user's own CREATE TABLE brings it too.
    let mut c = peer("c");
    let (index, index_covers) = a.delta(&since);
    c.replica.apply(index, &index_covers, c.now()).unwrap();
    c.exec(NOTES);
    assert_eq!(schema(&mut c), schema(&mut a));
}

#[test]
fn a_hostile_text_makes_nothing() {
    for (text, kind) in [
        ("CREATE VIEW v AS SELECT 1; DROP TABLE notes", "view"),
        ("DROP TABLE notes", "view"),
        ("CREATE TABLE v (x PRIMARY KEY)", "view"),
        ("CREATE VIEW other AS SELECT 1", "view"),
        ("CREATE TEMP VIEW v AS SELECT 1", "view"),
        ("CREATE VIEW v AS SELECT * FROM rtc_replica", "view"),
        ("CREATE INDEX v ON RTC_operations (row)", "index"),
        ("CREATE INDEX v ON sqlite_schema (name)", "index"),
        ("CREATE TRIGGER v AFTER INSERT ON notes BEGIN DELETE FROM rtc_operations; END", "trigger"),
        ("CREATE TEMP TRIGGER v AFTER INSERT ON notes BEGIN SELECT 1; END", "trigger"),
        ("CREATE TRIGGER v AFTER INSERT ON sqlite_schema BEGIN SELECT 1; END", "trigger"),
        ("PRAGMA user_version = 9", "trigger"),
        ("", "trigger"),
    ] {
        let (mut a, mut b) = both();
        let since = b.replica.vector().clone();
        a.exec("CREATE VIEW v AS SELECT 1");
        let (mut operations, covers) = a.delta(&since);
        for operation in &mut operations {
            let id = SqlValue::text(&format!("{kind} v"));
            operation.pk.insert("id".to_owned(), id.clone());
            let values = operation.values.as_mut().unwrap();
            values.insert("id".to_owned(), id);
            values.insert("kind".to_owned(), SqlValue::text(kind));
            values.insert("sql".to_owned(), SqlValue::text(text));
        }
        let before = b.rows("SELECT * FROM sqlite_schema");
        let applied = b.replica.apply(operations, &covers, b.now()).unwrap();
        assert_eq!(applied.refused.len(), 1, "{text}: {applied:?}");
        assert_eq!(b.rows("SELECT * FROM sqlite_schema"), before, "{text}");
        b.exec("INSERT INTO notes VALUES ('2', 'two')");
    }
}
