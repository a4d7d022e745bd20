//! What is local stays local, whatever stands beside it; what is synced is told, however much of it there is.

use crate::common::{Peer, assert_equal, peer};
use rtc_battery_core::replica::Committed;

/// What was committed since the last look.
fn news(peer: &mut Peer) -> Vec<Committed> {
    peer.replica.take_committed(u64::MAX)
}

/// A synced table of one row, and nothing to tell.
fn with_table() -> Peer {
    let mut a = peer("a");
    a.exec("CREATE TABLE synced (k INTEGER PRIMARY KEY, v TEXT); INSERT INTO synced VALUES (1, 'one')");
    news(&mut a);
    a
}

/// `make` is execLocal's. Each of `writes` tells nothing by itself, and lets a synced write beside it be told, alone.
fn assert_local(make: &str, writes: &[&str]) {
    let mut a = with_table();
    let log = a.log();
    a.local(make);
    assert_eq!((news(&mut a).len(), a.log()), (0, log.clone()), "{make}");
    for write in writes {
        a.exec(write);
        a.local(write);
        a.exec(&format!("BEGIN; {write}; COMMIT"));
        assert_eq!((news(&mut a).len(), a.log()), (0, log.clone()), "{write}");
    }
    for (n, write) in writes.iter().enumerate() {
        a.exec(&format!("BEGIN; {write}; UPDATE synced SET v = 'beside {n}'; {write}; COMMIT"));
        let told = news(&mut a);
        assert_eq!(told.len(), 1, "{write}");
        let operations = told[0].operations.as_ref().unwrap();
        assert_eq!((operations.len(), operations[0].table.as_str()), (1, "synced"), "{write}");
    }
    let mut b = peer("b");
    b.pull(&a);
    assert_eq!(a.log(), b.log());
    let tables = "SELECT name FROM sqlite_schema WHERE name NOT GLOB 'rtc_*' AND name NOT GLOB 'sqlite_*'";
    assert_eq!(b.rows(tables), ["\"synced\""]);
}

#[test]
fn temp_tables_are_local() {
    assert_local(
        "CREATE TEMP TABLE mine (k INTEGER PRIMARY KEY, v)",
        &[
            "INSERT INTO mine (v) VALUES (1)",
            "UPDATE mine SET v = v + 1",
            "REPLACE INTO mine VALUES (1, 2)",
            "DELETE FROM mine",
        ],
    );
    // One that hides a synced table.
    let mut a = with_table();
    let log = a.log();
    a.exec("CREATE TEMP TABLE synced (k INTEGER PRIMARY KEY, v); INSERT INTO synced VALUES (1, 'hides'); DELETE FROM synced");
    assert_eq!((news(&mut a).len(), a.log()), (0, log));
    a.exec("INSERT INTO synced VALUES (2, 'temp'); INSERT INTO main.synced VALUES (2, 'main')");
    assert_eq!(news(&mut a).len(), 1);
    assert_eq!(a.rows("SELECT v FROM main.synced ORDER BY k"), ["\"one\"", "\"main\""]);
}

#[test]
fn attached_databases_are_local() {
    let writes = [
        "INSERT INTO aux.synced (v) SELECT v FROM main.synced",
        "UPDATE aux.synced SET v = 'x'",
        "DELETE FROM aux.synced",
    ];
    assert_local("ATTACH ':memory:' AS aux; CREATE TABLE aux.synced (k INTEGER PRIMARY KEY, v)", &writes);
    assert_local(
        "ATTACH '' AS aux; CREATE TABLE aux.synced (k PRIMARY KEY, v) WITHOUT ROWID; CREATE TABLE aux.w (x)",
        &["INSERT OR IGNORE INTO aux.synced VALUES (1, 2)", "INSERT INTO aux.w SELECT k FROM main.synced"],
    );
}

#[test]
fn virtual_tables_and_their_shadows_are_local() {
    assert_local(
        "CREATE VIRTUAL TABLE words USING fts5 (text)",
        &[
            "INSERT INTO words (text) SELECT v FROM synced",
            "UPDATE words SET text = text || ' more'",
            "DELETE FROM words WHERE words MATCH 'more'",
            "INSERT INTO words (words) VALUES ('optimize')",
        ],
    );
    assert_local(
        "CREATE VIRTUAL TABLE boxes USING rtree (id, x0, x1)",
        &["INSERT INTO boxes (x0, x1) VALUES (1, 2)", "UPDATE boxes SET x1 = 5", "DELETE FROM boxes WHERE x0 < 3"],
    );
    assert_local(
        "CREATE VIRTUAL TABLE temp.words USING fts5 (text)",
        &["INSERT INTO words VALUES ('a')", "DELETE FROM words"],
    );
}

#[test]
fn tables_that_exec_local_made_are_local() {
    assert_local(
        "CREATE TABLE mine (k INTEGER PRIMARY KEY, v); CREATE TABLE yours (k PRIMARY KEY) WITHOUT ROWID; CREATE TABLE keyless (x)",
        &[
            "INSERT INTO mine (v) VALUES (1)",
            "INSERT OR IGNORE INTO yours VALUES ('x')",
            "INSERT INTO keyless SELECT k FROM mine",
            "UPDATE mine SET k = k + 100",
            "DELETE FROM mine",
        ],
    );
}

/// What they do to synced tables is told; that they are there is not.
#[test]
fn local_indexes_and_triggers_are_local() {
    assert_local(
        "CREATE INDEX by_v ON synced (v); CREATE VIEW seen AS SELECT v FROM synced; CREATE TABLE audit (v);
         CREATE TRIGGER audited AFTER UPDATE ON synced BEGIN INSERT INTO audit VALUES (new.v); END",
        &["REINDEX by_v", "DELETE FROM audit"],
    );
    let mut a = with_table();
    a.local(
        "CREATE TABLE mine (x); CREATE VIRTUAL TABLE words USING fts5 (v, content = synced, content_rowid = k);
         CREATE TRIGGER indexed AFTER INSERT ON synced BEGIN INSERT INTO words (rowid, v) VALUES (new.k, new.v); END;
         CREATE TRIGGER told AFTER INSERT ON mine BEGIN INSERT INTO synced (v) VALUES ('by trigger'); END",
    );
    a.exec("INSERT INTO mine VALUES (1); INSERT INTO synced VALUES (9, 'nine')");
    let told: Vec<usize> = news(&mut a).iter().map(|committed| committed.operations.as_ref().unwrap().len()).collect();
    assert_eq!(told, [1, 1]);
    assert_eq!(a.rows("SELECT rowid FROM words WHERE words MATCH 'nine OR trigger' ORDER BY rowid"), ["2", "9"]);
    // By execLocal nothing of it is.
    a.local("INSERT INTO mine VALUES (2)");
    assert_eq!(news(&mut a).len(), 0);
    let mut b = peer("b");
    b.pull(&a);
    assert_eq!(b.rows("SELECT v FROM synced ORDER BY k"), ["\"one\"", "\"by trigger\"", "\"nine\""]);
    assert_eq!(
        b.rows("SELECT count(*) FROM sqlite_schema WHERE type IN ('trigger', 'view') AND name NOT GLOB 'rtc_*'"),
        ["0"]
    );
}

/// One statement is one transaction, whole here and there, and a reader never sees a part of it.
#[test]
fn a_hundred_thousand_rows_are_one_transaction() {
    let mut a = with_table();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                INSERT INTO synced SELECT i + 1, 'row ' || i FROM n";
    a.exec(fill);
    assert_eq!(news(&mut a).len(), 1);
    let transaction = "SELECT count(*), max(idx), min(n), max(n) FROM rtc_operations JOIN rtc_transactions USING (origin, seq) WHERE seq = 3";
    assert_eq!(a.rows(transaction), ["100000|99999|100000|100000"]);
    let mut b = peer("b");
    let (operations, covers) = a.delta(b.replica.vector());
    assert_eq!(operations.len(), 100_002);
    for part in operations.chunks(30_000) {
        b.replica.stage(1, part).unwrap();
        assert_eq!(b.rows("SELECT count(*) FROM sqlite_schema WHERE name = 'synced'"), ["0"]);
    }
    let applied = b.replica.apply_staged(1, &covers, b.now()).unwrap();
    assert_eq!((applied.operations, applied.refused.len()), (100_002, 0));
    assert_eq!(b.rows(transaction), ["100000|99999|100000|100000"]);
    let rows = "SELECT count(*), sum(k), max(v), sum(v = 'row ' || (k - 1)) FROM synced";
    assert_eq!(b.rows(rows), ["100001|5000150001|\"row 99999\"|100000"]);
    assert_eq!(a.rows(rows), b.rows(rows));
    assert_eq!(a.replica.vector(), b.replica.vector());
}

/// BEGIN, what it holds and COMMIT need not come in one call; reads, local reads and failures may come between.
#[test]
fn a_transaction_over_several_calls_is_one() {
    let mut a = with_table();
    for (begin, end, told) in [
        ("BEGIN", "COMMIT", 1),
        ("BEGIN IMMEDIATE", "END", 1),
        ("SAVEPOINT outer", "RELEASE outer", 1),
        ("BEGIN", "ROLLBACK", 0),
        ("SAVEPOINT outer", "ROLLBACK TO outer; RELEASE outer", 0),
    ] {
        let before = a.rows("SELECT * FROM synced");
        a.exec(begin);
        a.exec("INSERT OR REPLACE INTO synced VALUES (2, 'two')");
        assert_eq!(a.rows("SELECT v FROM synced WHERE k = 2"), ["\"two\""]);
        a.exec("CREATE TEMP TABLE IF NOT EXISTS beside (x); INSERT INTO beside VALUES (1)");
        a.try_exec("INSERT INTO synced VALUES (2, 'again')").unwrap_err();
        a.exec("SAVEPOINT inner");
        a.exec("DELETE FROM synced");
        a.exec("ROLLBACK TO inner");
        a.exec("UPDATE synced SET v = v || '!' WHERE k = 1");
        assert_eq!(news(&mut a).len(), 0);
        a.exec(end);
        assert!(!a.replica.in_transaction());
        let committed = news(&mut a);
        assert_eq!(committed.len(), told, "{begin} ... {end}");
        if told == 0 {
            assert_eq!(a.rows("SELECT * FROM synced"), before);
        }
    }
    let mut b = peer("b");
    b.pull(&a);
    b.exec("DROP TABLE IF EXISTS temp.beside");
    assert_equal(&mut a, &mut b);
}
