//! UNIQUE beyond the key: two devices give two rows one value, and everybody shows the same one of them.

use crate::common::{Peer, assert_equal, assert_same_lines, peer, sync};
use proptest::prelude::*;
use rtc_battery_proto::VersionVector;

const USERS: &str = "CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT UNIQUE, name TEXT)";

/// Which of two indexes SQLite names, and which of two rows in the way is noted, is no part of what must be alike.
const PARKED: &str = "SELECT \"table\", pk FROM rtc_conflicts ORDER BY 1, 2";

const CONFLICTS: &str = "SELECT * FROM rtc_conflicts ORDER BY 1, 2";

fn alike(a: &mut Peer, b: &mut Peer) {
    assert_equal(a, b);
    assert_same_lines(&a.rows(PARKED), &b.rows(PARKED));
    for peer in [a, b] {
        assert_eq!(peer.rows("PRAGMA integrity_check"), ["\"ok\""]);
    }
}

fn two(schema: &str) -> (Peer, Peer) {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(schema);
    sync(&mut a, &mut b);
    (a, b)
}

#[test]
fn the_newer_of_two_rows_is_shown_and_the_other_comes_back_when_it_can() {
    let (mut a, mut b) = two(USERS);
    a.at(2000, "INSERT INTO users VALUES ('1', 'x@example.org', 'Anna')");
    b.at(3000, "INSERT INTO users VALUES ('2', 'x@example.org', 'Ben')");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT name FROM users"), ["\"Ben\""]);
    let listed = r#""users"|"[\"1\"]"|"UNIQUE constraint failed: users.email"|"[\"2\"]""#;
    assert_eq!(a.rows(CONFLICTS), [listed]);
    // Told once, on the device that showed it and on the one it came to.
    for peer in [&mut a, &mut b] {
        let told = peer.replica.take_conflicts();
        assert_eq!(told.len(), 1);
        let why = r#"the row ["1"] of table users is kept and cannot be shown: UNIQUE constraint failed: users.email; the row ["2"] has it"#;
        assert_eq!(told[0].to_string(), why);
    }
    // It still merges.
    b.at(4000, "UPDATE users SET email = 'ben@example.org'");
    assert_eq!(b.rows("SELECT name FROM users ORDER BY 1"), ["\"Anna\"", "\"Ben\""]);
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows(CONFLICTS), Vec::<String>::new());
    let mut newcomer = peer("newcomer");
    newcomer.pull(&a);
    alike(&mut a, &mut newcomer);
}

#[test]
fn a_write_to_what_no_index_reads_makes_no_row_newer() {
    let (mut a, mut b) = two(USERS);
    a.at(2000, "INSERT INTO users VALUES ('1', 'x', 'Anna')");
    b.at(3000, "INSERT INTO users VALUES ('2', 'x', 'Ben')");
    a.at(4000, "UPDATE users SET name = 'Anna B.'");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT name FROM users"), ["\"Ben\""]);
    b.at(5000, "DELETE FROM users");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT name FROM users"), ["\"Anna B.\""]);
}

#[test]
fn values_that_are_swapped_are_no_conflict() {
    let (mut a, mut b) = two(USERS);
    a.exec("INSERT INTO users VALUES ('1', 'x', 'Anna'), ('2', 'y', 'Ben')");
    sync(&mut a, &mut b);
    a.exec("BEGIN; UPDATE users SET email = 'z' WHERE id = '1'; UPDATE users SET email = 'x' WHERE id = '2'; UPDATE users SET email = 'y' WHERE id = '1'; COMMIT");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(b.rows("SELECT id, email FROM users ORDER BY 1"), [r#""1"|"y""#, r#""2"|"x""#]);
    assert_eq!(b.replica.take_conflicts(), []);
}

#[test]
fn a_chain_is_followed_to_its_end() {
    // 3 keeps 2 out, 2 kept 1 out: so 1 is shown beside 3.
    let (mut a, mut b) = two("CREATE TABLE t (id INTEGER PRIMARY KEY, x UNIQUE, y UNIQUE)");
    a.at(2000, "INSERT INTO t VALUES (1, 'p', NULL)");
    let mut c = peer("c");
    c.pull(&b);
    b.at(3000, "INSERT INTO t VALUES (2, 'p', 'q')");
    c.at(4000, "INSERT INTO t VALUES (3, NULL, 'q')");
    a.pull(&b);
    assert_eq!(a.rows("SELECT id FROM t"), ["2"]);
    a.pull(&c);
    assert_eq!(a.rows("SELECT id FROM t ORDER BY 1"), ["1", "3"]);
    c.pull(&b);
    c.pull(&a);
    alike(&mut a, &mut c);
    c.at(5000, "DELETE FROM t WHERE id = 3");
    assert_eq!(c.rows("SELECT id FROM t ORDER BY 1"), ["2"]);
    a.pull(&c);
    alike(&mut a, &mut c);
}

#[test]
fn an_index_over_rows_that_do_not_fit_it_shows_the_newest_of_them() {
    let (mut a, mut b) = two("CREATE TABLE t (id INTEGER PRIMARY KEY, x, y DEFAULT 0)");
    b.at(2000, "INSERT INTO t (id, x) VALUES (1, 'p'), (2, 'P'), (3, 'q')");
    a.at(3000, "CREATE UNIQUE INDEX i ON t (lower(x)) WHERE y = 0");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT id FROM t ORDER BY 1"), ["2", "3"]);
    // Out of the WHERE, and the others are back.
    a.at(4000, "UPDATE t SET y = 1 WHERE id = 2");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(b.rows("SELECT id FROM t ORDER BY 1"), ["1", "2", "3"]);
    a.at(5000, "UPDATE t SET x = 'same' WHERE id = 3");
    b.at(6000, "UPDATE t SET x = 'same', y = 0 WHERE id = 2");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(b.rows("SELECT id FROM t ORDER BY 1"), ["1", "2"]);
    a.at(7000, "DROP INDEX i");
    assert_eq!(a.rows("SELECT id FROM t ORDER BY 1"), ["1", "2", "3"]);
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    // What this device alone has stays, and the index waits.
    b.local("INSERT INTO t VALUES (8, 'l', 0), (9, 'l', 0)");
    a.at(8000, "UPDATE t SET x = id; CREATE UNIQUE INDEX j ON t (x)");
    let refused = b.pull(&a).refused;
    assert!(refused.len() == 1 && refused[0].contains("index j cannot be made here"), "{refused:?}");
    assert_eq!(b.rows("SELECT count(*) FROM t"), ["5"]);
}

#[test]
fn what_this_device_alone_has_is_not_taken_away() {
    let (mut a, mut b) = two(USERS);
    b.local("INSERT INTO users VALUES ('mine', 'x', 'only here')");
    a.exec("INSERT INTO users VALUES ('1', 'x', 'Anna')");
    b.pull(&a);
    assert_eq!(b.rows("SELECT id FROM users"), ["\"mine\""]);
    assert_eq!(b.rows(CONFLICTS).len(), 1);
    assert_eq!(a.log(), b.log());
    b.local("DELETE FROM users WHERE id = 'mine'");
    assert_eq!(b.rows("SELECT id FROM users"), ["\"1\""]);
    alike(&mut a, &mut b);
}

#[test]
fn a_local_statement_is_held_to_it_and_may_write_a_parked_row_anew() {
    let (mut a, mut b) = two(USERS);
    a.at(2000, "INSERT INTO users VALUES ('1', 'x', 'Anna')");
    b.at(3000, "INSERT INTO users VALUES ('2', 'x', 'Ben')");
    sync(&mut a, &mut b);
    let error = a.try_exec("INSERT INTO users VALUES ('1', 'x', 'again')").unwrap_err();
    assert_eq!((error.message.as_str(), error.code), ("UNIQUE constraint failed: users.email", 2067));
    a.at(4000, "INSERT INTO users VALUES ('1', 'other', 'again')");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows(CONFLICTS), Vec::<String>::new());
    // REPLACE takes the value from who has it.
    b.at(5000, "INSERT OR REPLACE INTO users VALUES ('3', 'x', 'Cleo')");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT id FROM users ORDER BY 1"), ["\"1\"", "\"3\""]);
}

#[test]
fn a_rolled_back_transaction_parks_and_unparks_nothing() {
    let (mut a, mut b) = two(USERS);
    a.at(2000, "INSERT INTO users VALUES ('1', 'x', 'Anna')");
    b.at(3000, "INSERT INTO users VALUES ('2', 'x', 'Ben')");
    sync(&mut a, &mut b);
    let before = (a.dump(), a.rows(CONFLICTS));
    a.exec("BEGIN; DELETE FROM users; ROLLBACK");
    a.exec("BEGIN; SAVEPOINT s; CREATE UNIQUE INDEX i ON users (name); DELETE FROM users; ROLLBACK TO s; COMMIT");
    assert_eq!((a.dump(), a.rows(CONFLICTS)), before);
    alike(&mut a, &mut b);
}

#[test]
fn enforcement_stands_while_rows_come_back() {
    let schema = "CREATE TABLE p (id TEXT PRIMARY KEY);
        CREATE TABLE t (id TEXT PRIMARY KEY, x UNIQUE ON CONFLICT REPLACE, p REFERENCES p, n INT CHECK (n < 9));
        CREATE TABLE log (id TEXT PRIMARY KEY DEFAULT (uuid7()), what);
        CREATE TRIGGER t1 AFTER INSERT ON t BEGIN INSERT INTO log (what) VALUES (new.id); END;
        CREATE TRIGGER t2 AFTER DELETE ON t BEGIN INSERT INTO log (what) VALUES ('-' || old.id); END";
    let (mut a, mut b) = two(schema);
    a.at(2000, "INSERT INTO p VALUES ('p'); INSERT INTO t VALUES ('1', 'x', 'p', 1)");
    b.at(3000, "INSERT INTO t VALUES ('2', 'x', NULL, 1)");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(a.rows("SELECT id FROM t"), ["\"2\""]);
    // Its parent goes: nothing of the row is here that could refuse. It comes back all the same.
    b.at(4000, "DELETE FROM p");
    b.at(5000, "DELETE FROM t");
    assert_eq!(b.rows("SELECT id, p FROM t"), [r#""1"|"p""#]);
    assert_eq!(b.rows("SELECT what FROM log ORDER BY 1"), ["\"-2\"", "\"1\"", "\"2\""]);
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert!(b.try_exec("INSERT INTO t VALUES ('4', 'y', 'nobody', 1)").is_err(), "foreign keys are on again");
    assert!(b.try_exec("INSERT INTO t VALUES ('4', 'y', NULL, 10)").is_err(), "CHECKs are on again");
}

/// Statements of three devices over tables with several, partial and expression indexes.
fn statement() -> impl Strategy<Value = String> {
    let table = prop::sample::select(vec!["t", "w"]);
    let value = || prop::sample::select(vec!["1", "2", "3", "'a'", "'A'", "NULL"]);
    (table, 0..7u8, 0..5u8, value(), value(), value()).prop_map(|(table, kind, key, x, y, z)| match kind {
        0 | 1 => format!("INSERT OR IGNORE INTO {table} (id, x, y, z) VALUES ({key}, {x}, {y}, {z})"),
        2 => format!("UPDATE OR IGNORE {table} SET x = {x} WHERE id = {key}"),
        3 => format!("UPDATE OR IGNORE {table} SET y = {y}, z = {z} WHERE id = {key}"),
        4 => format!("UPDATE OR IGNORE {table} SET z = {z}"),
        5 => format!("DELETE FROM {table} WHERE id = {key}"),
        _ => format!("INSERT OR REPLACE INTO {table} (id, x, y, z) VALUES ({key}, {x}, {y}, {z})"),
    })
}

/// Which rows are shown, told from all rows there are: newest first, each that wants nothing of those before it.
fn greedy(log: &Peer, table: &str) -> Vec<String> {
    use std::collections::BTreeMap;
    let mut rows: BTreeMap<String, BTreeMap<String, (String, String)>> = BTreeMap::new();
    let mut live: BTreeMap<String, String> = BTreeMap::new();
    let mut deleted: BTreeMap<String, String> = BTreeMap::new();
    for operation in log.delta(&VersionVector::default()).0 {
        if operation.table != table {
            continue;
        }
        let key = format!("{:?}", operation.pk.get("id").unwrap());
        let hlc = operation.hlc.to_string();
        let Some(values) = operation.values else {
            let newest = deleted.entry(key).or_default();
            *newest = hlc.max(newest.clone());
            continue;
        };
        let newest = live.entry(key.clone()).or_default();
        *newest = hlc.clone().max(newest.clone());
        for (column, value) in values {
            let cell = rows.entry(key.clone()).or_default().entry(column.to_string()).or_default();
            *cell = (hlc.clone(), format!("{value:?}")).max(cell.clone());
        }
    }
    rows.retain(|key, _| live[key] > deleted.get(key).cloned().unwrap_or_default());
    let cell = |row: &BTreeMap<String, (String, String)>, column: &str| row.get(column).cloned().unwrap_or_default();
    let mut order: Vec<_> = rows.iter().collect();
    order.sort_by_key(|(key, row)| {
        let newest = ["x", "y", "z"].map(|column| cell(row, column).0).into_iter().max().unwrap();
        (std::cmp::Reverse(newest), (*key).clone())
    });
    let wants = |row: &BTreeMap<String, (String, String)>| -> Vec<(u8, String)> {
        let [x, y, z] = ["x", "y", "z"].map(|column| cell(row, column).1);
        let mut wants = vec![];
        if x != "NULL" {
            wants.push((0, x.to_lowercase()));
        }
        if y != "NULL" && z != "NULL" {
            wants.push((1, format!("{y} {z}")));
        }
        if z == "1" && y != "NULL" {
            wants.push((2, y));
        }
        wants
    };
    let (mut taken, mut shown) = (std::collections::BTreeSet::new(), Vec::new());
    for (key, row) in order {
        let wants = wants(row);
        if wants.iter().all(|want| !taken.contains(want)) {
            taken.extend(wants);
            shown.push(key.clone());
        }
    }
    shown.sort();
    shown
}

const TABLES: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, x, y, z, UNIQUE (y, z));
    CREATE TABLE w (id INTEGER PRIMARY KEY, x, y, z, UNIQUE (y, z)) WITHOUT ROWID;
    CREATE UNIQUE INDEX tx ON t (lower(x)); CREATE UNIQUE INDEX wx ON w (x COLLATE NOCASE);
    CREATE UNIQUE INDEX ty ON t (y) WHERE z = 1; CREATE UNIQUE INDEX wy ON w (y) WHERE z = 1;";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..crate::common::programs::cases(100) })]

    #[test]
    fn what_is_shown_is_a_function_of_the_operations(
        rounds in prop::collection::vec((0..3usize, 0..3usize, prop::collection::vec(statement(), 1..6), any::<bool>()), 1..14),
    ) {
        let mut first = peer("a");
        first.exec(TABLES);
        let mut peers = [first, peer("b"), peer("c")];
        for n in 1..3 {
            let (left, right) = peers.split_at_mut(n);
            right[0].pull(&left[0]);
        }
        let pull = |peers: &mut [Peer; 3], to: usize, from: usize| {
            let (low, high) = (to.min(from), to.max(from));
            let (left, right) = peers.split_at_mut(high);
            let (low, high) = (&mut left[low], &mut right[0]);
            if to < from { low.pull(high) } else { high.pull(low) };
        };
        for (n, (writer, source, statements, together)) in rounds.into_iter().enumerate() {
            peers[writer].wall_ms = 2000 + 7 * (n as u64 % 5);
            if together {
                peers[writer].exec(&format!("BEGIN; {}; COMMIT", statements.join("; ")));
            } else {
                statements.iter().for_each(|statement| { peers[writer].exec(statement); });
            }
            if source != writer {
                pull(&mut peers, writer, source);
            }
        }
        for (to, from) in [(0, 1), (2, 0), (1, 2), (0, 2)] {
            pull(&mut peers, to, from);
        }
        let [a, b, c] = &mut peers;
        alike(a, b);
        alike(a, c);
        let mut newcomer = peer("newcomer");
        newcomer.pull(a);
        alike(a, &mut newcomer);
        for table in ["t", "w"] {
            prop_assert_eq!(a.rows(&format!("SELECT id FROM {table} ORDER BY id")), greedy(a, table));
        }
    }
}

#[test]
fn a_row_that_sqlite_refused_is_tried_again_when_the_schema_changes() {
    let (mut a, mut b) = two("CREATE TABLE t (id INTEGER PRIMARY KEY, j)");
    b.at(2000, "CREATE INDEX i ON t (j ->> 'a')");
    a.at(3000, "INSERT INTO t VALUES (1, 'no JSON')");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(b.rows("SELECT pk, reason, with_pk FROM rtc_conflicts"), [r#""[1]"|"malformed JSON"|NULL"#]);
    a.at(4000, "DROP INDEX i");
    sync(&mut a, &mut b);
    alike(&mut a, &mut b);
    assert_eq!(b.rows("SELECT j FROM t"), ["\"no JSON\""]);
}
