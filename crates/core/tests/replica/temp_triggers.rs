//! TEMP triggers: what one device does when a row changes, whoever wrote it.

use crate::common::{Peer, assert_equal, both, peer, sync};
use proptest::prelude::*;

const NOTES: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, title TEXT UNIQUE, body TEXT)";

/// A full-text index of this device's own.
const SEARCH: &str = "
    CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5 (title, body, content = notes, content_rowid = rowid);
    INSERT INTO search (search) VALUES ('rebuild');
    CREATE TEMP TRIGGER IF NOT EXISTS search_insert AFTER INSERT ON notes BEGIN
      INSERT INTO search (rowid, title, body) VALUES (new.rowid, new.title, new.body);
    END;
    CREATE TEMP TRIGGER IF NOT EXISTS search_delete AFTER DELETE ON notes BEGIN
      INSERT INTO search (search, rowid, title, body) VALUES ('delete', old.rowid, old.title, old.body);
    END;
    CREATE TEMP TRIGGER IF NOT EXISTS search_update AFTER UPDATE ON notes BEGIN
      INSERT INTO search (search, rowid, title, body) VALUES ('delete', old.rowid, old.title, old.body);
      INSERT INTO search (rowid, title, body) VALUES (new.rowid, new.title, new.body);
    END;";

/// Panics where the index says anything else than the table.
fn assert_indexed(peer: &mut Peer) {
    peer.local("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)");
    for word in ["milk", "bread", "oats"] {
        let found = peer.rows(&format!(
            "SELECT id FROM notes WHERE rowid IN (SELECT rowid FROM search WHERE search MATCH '{word}') ORDER BY 1"
        ));
        let there =
            peer.rows(&format!("SELECT id FROM notes WHERE title LIKE '%{word}%' OR body LIKE '%{word}%' ORDER BY 1"));
        assert_eq!(found, there, "{word}");
    }
}

#[test]
fn a_full_text_index_is_kept_by_each_device_whoever_writes() {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(NOTES);
    a.exec("INSERT INTO notes VALUES ('1', 'shopping', 'milk and bread')");
    sync(&mut a, &mut b);
    a.local(SEARCH);
    b.local(SEARCH);
    a.exec("INSERT INTO notes VALUES ('2', 'breakfast', 'oats with milk')");
    a.exec("UPDATE notes SET body = 'milk' WHERE id = '1'");
    sync(&mut a, &mut b);
    assert_indexed(&mut b);
    assert_eq!(b.rows("SELECT title FROM search WHERE search MATCH 'oats'"), ["\"breakfast\""]);
    b.exec("DELETE FROM notes WHERE id = '2'");
    sync(&mut a, &mut b);
    assert_indexed(&mut a);
    assert_equal_notes(&mut a, &mut b);
    // Nobody is told of the index.
    assert_eq!(a.rows("SELECT DISTINCT \"table\" FROM rtc_log ORDER BY 1"), ["\"notes\"", "\"rtc_schema\""]);
}

fn assert_equal_notes(a: &mut Peer, b: &mut Peer) {
    assert_eq!(a.rows("SELECT * FROM notes ORDER BY id"), b.rows("SELECT * FROM notes ORDER BY id"));
    assert_eq!(a.log(), b.log());
    assert_eq!(a.replica.digest().unwrap(), b.replica.digest().unwrap());
}

fn statement() -> impl Strategy<Value = String> {
    let word = || prop::sample::select(vec!["milk", "bread", "oats", "milk oats", ""]);
    (0..6u8, 0..4u8, word(), word()).prop_map(|(kind, id, title, body)| match kind {
        0 | 1 => format!("INSERT OR IGNORE INTO notes VALUES ('{id}', '{title}', '{body}')"),
        2 => format!("UPDATE OR IGNORE notes SET title = '{title}' WHERE id = '{id}'"),
        3 => format!("UPDATE notes SET body = '{body}' WHERE id <= '{id}'"),
        4 => format!("DELETE FROM notes WHERE id = '{id}'"),
        _ => format!("UPDATE OR IGNORE notes SET id = '{}' WHERE id = '{id}'", (id + 1) % 4),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..crate::common::programs::cases(60) })]

    /// Rows that come, change, die, are parked and come back.
    #[test]
    fn the_index_is_that_of_the_table(rounds in prop::collection::vec((any::<bool>(), any::<bool>(), statement()), 1..30)) {
        let (mut a, mut b) = (peer("a"), peer("b"));
        a.exec(NOTES);
        sync(&mut a, &mut b);
        a.local(SEARCH);
        b.local(SEARCH);
        for (n, (writer, meet, statement)) in rounds.iter().enumerate() {
            let writer = if *writer { &mut a } else { &mut b };
            writer.at(2000 + n as u64, statement);
            if *meet {
                sync(&mut a, &mut b);
                assert_indexed(&mut a);
                assert_indexed(&mut b);
            }
        }
        sync(&mut a, &mut b);
        assert_equal_notes(&mut a, &mut b);
        assert_indexed(&mut a);
        assert_indexed(&mut b);
    }
}

#[test]
fn a_trigger_that_would_write_what_is_synced_is_refused() {
    let (mut a, _) = both();
    a.exec("CREATE TABLE log (id TEXT PRIMARY KEY, what)");
    a.local("CREATE TABLE mine (what); CREATE VIEW hatch AS SELECT what FROM mine; CREATE TEMP TABLE scratch (what)");
    for (trigger, why) in [
        (
            "CREATE TEMP TRIGGER x AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.id, 1); END",
            "writes the synced table log",
        ),
        (
            "CREATE TEMP TRIGGER x BEFORE UPDATE OF content ON notes BEGIN DELETE FROM log; END",
            "writes the synced table log",
        ),
        (
            "CREATE TEMP TRIGGER x AFTER DELETE ON notes BEGIN UPDATE notes SET content = 1; END",
            "writes the synced table notes",
        ),
        (
            "CREATE TEMP TRIGGER x AFTER DELETE ON notes BEGIN DELETE FROM rtc_operations; END",
            "writes the synced table rtc_operations",
        ),
        ("CREATE TEMP TRIGGER x AFTER DELETE ON notes BEGIN INSERT INTO nowhere VALUES (1); END", "no such table"),
    ] {
        for outcome in [a.try_exec(trigger), a.try_local(trigger)] {
            let error = outcome.expect_err(trigger);
            assert!(error.code == 23 && error.message.contains(why), "{trigger}: {error}");
        }
        assert_eq!(a.rows("SELECT count(*) FROM sqlite_temp_schema WHERE type = 'trigger'"), ["0"], "{trigger}");
    }
    // By what else fires.
    a.local("CREATE TEMP TRIGGER over INSTEAD OF INSERT ON hatch BEGIN INSERT INTO log VALUES (new.what, 1); END");
    let error = a
        .try_local("CREATE TEMP TRIGGER x AFTER INSERT ON notes BEGIN INSERT INTO hatch VALUES (new.id); END")
        .unwrap_err();
    assert!(error.message.contains("writes the synced table log"), "{error}");
    a.local("CREATE TEMP TRIGGER x AFTER INSERT ON notes BEGIN INSERT INTO mine VALUES (new.id); INSERT INTO scratch VALUES (new.id); END");
    // What it writes cannot become everybody's, nor go.
    let error = a.try_local("DROP TABLE mine").unwrap_err();
    assert!(error.message.contains("no such table"), "{error}");
    a.exec("INSERT INTO notes VALUES ('9', 'nine')");
    assert_eq!(a.rows("SELECT what FROM mine, scratch USING (what)"), ["\"9\""]);
}

#[test]
fn a_trigger_that_a_merge_makes_unfit_is_dropped_and_told() {
    let (mut a, mut b) = both();
    b.local("CREATE TEMP TABLE log (id PRIMARY KEY); CREATE TABLE seen (id PRIMARY KEY)");
    b.local("CREATE TEMP TRIGGER x AFTER INSERT ON notes BEGIN INSERT INTO seen VALUES (new.id); END");
    a.exec("CREATE TABLE seen (id TEXT PRIMARY KEY); CREATE VIEW v AS SELECT 1; INSERT INTO notes VALUES ('2', 'two')");
    // The name is taken here by a table of this device: the trigger goes on.
    let refused = b.pull(&a).refused;
    assert!(refused.iter().all(|why| why.contains("is taken")), "{refused:?}");
    assert_eq!(b.rows("SELECT id FROM seen"), ["\"2\""]);
    b.local("CREATE TEMP TRIGGER y AFTER INSERT ON notes BEGIN INSERT INTO seen SELECT new.id || 'y' WHERE (SELECT 1 FROM v); END");
    a.exec("DROP VIEW v; INSERT INTO notes VALUES ('3', 'three')");
    let refused = b.pull(&a).refused;
    assert!(refused.iter().any(|why| why.contains("the TEMP trigger y was dropped")), "{refused:?}");
    assert_eq!(b.rows("SELECT content FROM notes WHERE id = '3'"), ["\"three\""]);
    assert_eq!(a.log(), b.log());
    b.exec("INSERT INTO notes VALUES ('4', 'four')");
    a.pull(&b);
    assert_eq!(a.rows("SELECT count(*) FROM notes"), ["4"]);
}

#[test]
fn a_row_that_a_trigger_refuses_is_parked_here_and_nowhere_else() {
    let (mut a, mut b) = both();
    b.local("CREATE TEMP TRIGGER x BEFORE INSERT ON notes WHEN new.content = 'no' BEGIN SELECT RAISE(ABORT, 'not here'); END");
    a.exec("INSERT INTO notes VALUES ('2', 'no'), ('3', 'yes')");
    b.pull(&a);
    assert_eq!(b.rows("SELECT id FROM notes ORDER BY 1"), ["\"1\"", "\"3\""]);
    assert_eq!(b.rows("SELECT pk, reason FROM rtc_conflicts"), [r#""[\"2\"]"|"not here""#]);
    b.local("DROP TRIGGER x");
    assert_eq!(b.rows("SELECT count(*) FROM notes"), ["3"]);
    assert_equal(&mut a, &mut b);
}
