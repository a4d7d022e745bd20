//! Random programs of SQL over tables of every kind.

use proptest::prelude::*;
use proptest::sample::select;
use rtc_battery_core::replica::{Params, Scope};

use super::Peer;

/// Tables of the kinds that capture must mind: keys of every type and collation, with and without rowid, generated columns, triggers' food.
pub(crate) const SCHEMA: &str = r#"
CREATE TABLE ints (k INTEGER PRIMARY KEY, a, b TEXT);
CREATE TABLE texts (k TEXT PRIMARY KEY, a INTEGER, b REAL DEFAULT 1);
CREATE TABLE nocase (k TEXT COLLATE NOCASE PRIMARY KEY, a, b);
CREATE TABLE rtrim (k TEXT COLLATE RTRIM, a, b, PRIMARY KEY (k)) WITHOUT ROWID;
CREATE TABLE pairs (k, a NOT NULL DEFAULT 0, b, PRIMARY KEY (k, a)) WITHOUT ROWID;
CREATE TABLE reals (k REAL PRIMARY KEY, a BLOB, b AS (a || 'x'));
CREATE TABLE strict (k BLOB PRIMARY KEY, a ANY, b INT) STRICT;
CREATE TABLE mixed (k TEXT COLLATE NOCASE, a, b, PRIMARY KEY (k COLLATE BINARY));
CREATE TABLE "quo""ted ""name" ("k" PRIMARY KEY, "a", "b");
CREATE TABLE singles (k INTEGER PRIMARY KEY, a UNIQUE, b TEXT COLLATE NOCASE UNIQUE);
CREATE TABLE parents (k INTEGER PRIMARY KEY, a, b);
CREATE TABLE children (
  k INTEGER PRIMARY KEY,
  a INT REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE,
  b INT REFERENCES parents ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED
);
"#;

/// On the writers' devices only: what triggers do travels, they do not.
pub(crate) const TRIGGERS: &str = "
CREATE TRIGGER copied AFTER INSERT ON ints WHEN new.k % 2 = 1
  BEGIN INSERT OR REPLACE INTO texts (k, a) VALUES (new.k, new.a); END;
CREATE TRIGGER told AFTER DELETE ON texts BEGIN UPDATE ints SET b = old.k WHERE k = 1; END;
CREATE TRIGGER kept BEFORE UPDATE ON nocase WHEN new.a = 2 BEGIN SELECT RAISE(IGNORE); END;
CREATE TRIGGER refused AFTER INSERT ON mixed WHEN new.a = 2 BEGIN SELECT RAISE(FAIL, 'no'); END;
CREATE TRIGGER undone AFTER UPDATE ON reals WHEN new.a = 2 BEGIN SELECT RAISE(ROLLBACK, 'no'); END;
CREATE TRIGGER moved AFTER UPDATE OF k ON parents BEGIN DELETE FROM parents WHERE k = 2; END;
";

const TABLES: [&str; 12] = [
    "ints",
    "texts",
    "nocase",
    "rtrim",
    "pairs",
    "reals",
    "strict",
    "mixed",
    "\"quo\"\"ted \"\"name\"",
    "singles",
    "parents",
    "children",
];

/// What a program does with tables themselves.
pub(crate) const DEFINITIONS: [&str; 7] = [
    "DROP TABLE ints",
    "CREATE TABLE IF NOT EXISTS ints (k INTEGER PRIMARY KEY, a, b TEXT)",
    "DROP TABLE rtrim",
    "CREATE TABLE IF NOT EXISTS rtrim (k TEXT COLLATE RTRIM, a, b, PRIMARY KEY (k)) WITHOUT ROWID",
    "DROP TABLE parents",
    "SAVEPOINT r; CREATE TABLE n (k TEXT COLLATE RTRIM, b, c, a, PRIMARY KEY (k)) WITHOUT ROWID; INSERT INTO n SELECT k, b, 1, a FROM rtrim;
     DROP TABLE rtrim; ALTER TABLE n RENAME TO rtrim; RELEASE r",
    "CREATE TABLE IF NOT EXISTS parents (k INTEGER PRIMARY KEY, a, b)",
];

fn literal() -> impl Strategy<Value = String> {
    const LITERALS: [&str; 24] = [
        "NULL",
        "0",
        "1",
        "2",
        "-1",
        "1.0",
        "-0.0",
        "0.5",
        "1e300",
        "9e999",
        "9223372036854775807",
        "9007199254740993",
        "''",
        "'a'",
        "'A'",
        "'a  '",
        "'1'",
        "'1.0'",
        "'é'",
        "x''",
        "x'61'",
        "CAST(x'ff61' AS TEXT)",
        "random() % 3",
        "'it''s'",
    ];
    select(&LITERALS[..]).prop_map(str::to_owned)
}

/// Few keys, so that rows meet.
fn key() -> impl Strategy<Value = String> {
    const KEYS: [&str; 12] =
        ["1", "2", "3.0", "'a'", "'A'", "'a '", "'b'", "x'61'", "x'62'", "1.5", "9223372036854775807", "NULL"];
    select(&KEYS[..]).prop_map(str::to_owned)
}

pub(crate) fn statement() -> impl Strategy<Value = String> {
    let conflict = select(&["", "OR IGNORE", "OR REPLACE", "OR FAIL", "OR ROLLBACK", "OR ABORT"][..]);
    let insert = (conflict.clone(), select(&TABLES[..]), prop::collection::vec((key(), literal(), literal()), 1..4))
        .prop_map(|(conflict, table, rows)| {
            let generated = table == "reals";
            let row = |(k, a, b): &(String, String, String)| {
                if generated { format!("({k}, {a})") } else { format!("({k}, {a}, {b})") }
            };
            let rows = rows.iter().map(row).collect::<Vec<_>>().join(", ");
            let columns = if generated { "(k, a)" } else { "(k, a, b)" };
            format!("INSERT {conflict} INTO {table} {columns} VALUES {rows}")
        });
    let update = (conflict, select(&TABLES[..]), select(&["k", "a", "b"][..]), literal(), key()).prop_map(
        |(conflict, table, column, value, key)| {
            let column = if table == "reals" && column == "b" { "a" } else { column };
            format!("UPDATE {conflict} {table} SET {column} = {value} WHERE k = {key}")
        },
    );
    let upsert = (select(&["ints", "texts", "nocase"][..]), key(), literal()).prop_map(|(table, k, a)| {
        format!("INSERT INTO {table} (k, a) VALUES ({k}, {a}) ON CONFLICT (k) DO UPDATE SET b = excluded.a")
    });
    let delete = (select(&TABLES[..]), key()).prop_map(|(table, key)| format!("DELETE FROM {table} WHERE k = {key}"));
    // Rows move over one another, in an order that SQLite chooses.
    let shift = (select(&["ints", "parents", "children"][..]), select(&["k + 1", "-k", "3 - k", "k * 2 % 3"][..]))
        .prop_map(|(table, k)| format!("UPDATE OR REPLACE {table} SET k = {k}"));
    let sweep = select(&TABLES[..]).prop_map(|table| format!("DELETE FROM {table}"));
    let copy = (select(&["ints", "texts", "nocase"][..]), select(&["ints", "texts", "nocase"][..]))
        .prop_map(|(to, from)| format!("INSERT OR REPLACE INTO {to} SELECT k, a, b FROM {from}"));
    let control = select(
        &["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SAVEPOINT t", "RELEASE t"][..],
    )
    .prop_map(str::to_owned);
    let definition = select(&DEFINITIONS[..]).prop_map(str::to_owned);
    // Names are few, so that they meet, and what is not there is no error of ours.
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let table = select(&["ints", "mixed", "singles", "moved"][..]);
    let alteration =
        (0..6, table, select(&NAMES[..]), select(&NAMES[..])).prop_map(|(kind, table, column, other)| match kind {
            0 => format!("ALTER TABLE {table} DROP COLUMN {column}"),
            1 => format!("ALTER TABLE {table} ADD COLUMN {column} TEXT DEFAULT 'd'"),
            2 => format!("ALTER TABLE {table} ADD COLUMN {column}"),
            3 => format!("ALTER TABLE {table} RENAME TO {}", if table == "moved" { "ints" } else { "moved" }),
            _ => format!("ALTER TABLE {table} RENAME COLUMN {column} TO {other}"),
        });
    prop_oneof![
        24 => insert, 16 => update, 4 => upsert, 8 => delete, 4 => shift, 4 => sweep, 4 => copy, 12 => control, 2 => definition,
        3 => alteration
    ]
}

/// Runs a program; statements may fail, that is their right.
pub(crate) fn run(peer: &mut Peer, program: &[String]) {
    run_in(peer, Scope::Synced, program);
}

/// The same with `exec` or `execLocal`.
pub(crate) fn run_in(peer: &mut Peer, scope: Scope, program: &[String]) {
    for statement in program {
        peer.wall_ms += 1;
        let now = peer.now();
        let _ = peer.replica.exec(statement, &Params::None, scope, now);
    }
    // A NULL in a key cannot be committed.
    if peer.replica.in_transaction() && peer.try_exec("COMMIT").is_err() {
        peer.exec("ROLLBACK");
    }
}

/// Few different statements, so that most come again and are compiled already.
pub(crate) fn program(len: usize) -> impl Strategy<Value = Vec<String>> {
    let statements = prop::collection::vec(statement(), 1..len);
    let order = prop::collection::vec(any::<prop::sample::Index>(), 1..2 * len);
    (statements, order).prop_map(|(statements, order)| order.iter().map(|at| at.get(&statements).clone()).collect())
}

/// Statements on very few cells, so that what is local and what is replicated meet in most of them.
pub(crate) fn meeting() -> impl Strategy<Value = String> {
    let (table, key) = (select(&["nocase", "rtrim"][..]), select(&["'a'", "'A'"][..]));
    let (column, value) = (select(&["a", "b", "k"][..]), select(&["1", "1.0", "'x'", "NULL", "'A'"][..]));
    (0..8, table, key, column, value).prop_map(|(kind, table, k, column, value)| match kind {
        0 => format!("INSERT OR IGNORE INTO {table} VALUES ({k}, {value}, 0)"),
        1 => format!("REPLACE INTO {table} (k, b) VALUES ({k}, {value})"),
        2 => format!("DELETE FROM {table} WHERE k = {k}"),
        _ => format!("UPDATE OR IGNORE {table} SET {column} = {value} WHERE k = {k}"),
    })
}

/// So many cases, or as many as `PROPTEST_CASES` says (`cargo xtask soak`).
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases: usual, ..default } }
}
