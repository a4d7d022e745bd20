//! What a replica knows of itself survives its process, whatever it did last: no sequence number and no clock value is given twice.

use std::path::Path;

use crate::common::{Peer, peer};
use rtc_battery_core::replica::Replica;
use rtc_battery_proto::{Operation, ReplicaId};
use rusqlite::Connection;

fn open(file: &Path) -> Peer {
    let connection = Connection::open(file).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").unwrap();
    // The wall clock stands long before everything that was written.
    Peer { replica: Replica::open(connection, "room", &ReplicaId::new("a").unwrap()).unwrap(), wall_ms: 1 }
}

/// Things that a replica does; `a` is the one that is opened again, `b` another.
const ACTIONS: [fn(&mut Peer, &mut Peer); 7] = [
    |a, _| drop(a.exec("UPDATE t SET x = x + 1")),
    |a, _| drop(a.exec("INSERT INTO t (x) VALUES (0)")),
    |a, _| drop(a.exec("DELETE FROM t WHERE id = (SELECT max(id) FROM t)")),
    // Everything that a wrote last is overwritten, and so forgotten.
    |a, b| {
        b.pull(a);
        b.at(b.wall_ms + 10_000, "UPDATE t SET x = x + 1; DELETE FROM t WHERE id > 1");
        a.pull(b);
    },
    |a, b| {
        let json = format!(
            r#"{{"hlc":{{"ts":{},"counter":0,"nodeId":"plain"}},"type":"UPDATE","table":"t","pk":{{"id":1}},"values":{{"x":7}}}}"#,
            b.wall_ms
        );
        b.wall_ms += 10_000;
        a.replica.adopt(vec![serde_json::from_str::<Operation>(&json).unwrap()], a.now()).unwrap();
    },
    // What came for a table that is made only then.
    |a, b| {
        let _ = b.try_exec("CREATE TABLE u (id INTEGER PRIMARY KEY, x)");
        b.at(b.wall_ms + 10_000, "INSERT OR REPLACE INTO u VALUES (1, 1)");
        let (mut operations, covers) = b.delta(a.replica.vector());
        operations.retain(|operation| operation.table == "u");
        a.replica.apply(operations, &covers, a.now()).unwrap();
        a.exec("CREATE TABLE IF NOT EXISTS u (id INTEGER PRIMARY KEY, x)");
    },
    |a, _| drop(a.local("UPDATE t SET x = 100")),
];

#[test]
fn a_replica_is_reopened_as_it_was_whatever_it_did_last() {
    let dir = std::env::temp_dir().join(format!("rtc-battery-reopen-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let n = ACTIONS.len();
    for sequence in 0..n * n * n {
        let file = dir.join(sequence.to_string());
        let (mut a, mut b) = (open(&file), peer("b"));
        a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 0)");
        for action in [sequence / n / n, sequence / n % n, sequence % n] {
            ACTIONS[action](&mut a, &mut b);
            let was = (a.replica.vector().clone(), a.replica.version(), a.replica.digest().unwrap(), a.log());
            drop(a);
            a = open(&file);
            let is = (a.replica.vector().clone(), a.replica.version(), a.replica.digest().unwrap(), a.log());
            assert_eq!(is, was, "{sequence} after {action}");
        }
        // Later than all it has seen, under a number of its own.
        let seen = a.log();
        let had = a.replica.vector().clone();
        a.exec("INSERT INTO t (x) VALUES (-1)");
        let written = a.replica.take_committed(u64::MAX).pop().unwrap();
        assert!(written.covers.minus(&had) == written.covers, "{sequence} gave a number twice");
        let newest = written.operations.unwrap().pop().unwrap().hlc;
        for operation in seen {
            let operation: Operation = serde_json::from_str(&operation).unwrap();
            assert!(operation.hlc < newest, "{sequence}: {operation:?} is later than {newest}");
        }
        drop(a);
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_database_of_an_earlier_version_gets_what_it_lacks_and_one_that_is_whole_is_left_as_it_is() {
    let file = std::env::temp_dir().join(format!("rtc-battery-{}-earlier", std::process::id()));
    let mut a = open(&file);
    a.exec("CREATE TABLE t (id INTEGER PRIMARY KEY, x UNIQUE); INSERT INTO t VALUES (1, 1)");
    drop(a);
    let whole = std::fs::read(&file).unwrap();
    drop(open(&file));
    assert_eq!(std::fs::read(&file).unwrap(), whole);

    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("DROP VIEW rtc_conflicts; DROP TABLE rtc_parked; DROP TABLE rtc_quarantine").unwrap();
    drop(connection);
    let (mut a, mut b) = (open(&file), peer("b"));
    b.pull(&a);
    b.at(2, "UPDATE t SET x = 2; INSERT INTO t VALUES (2, 1)");
    a.exec("INSERT INTO t VALUES (3, 2)");
    a.pull(&b);
    assert_eq!(a.rows("SELECT pk FROM rtc_conflicts"), ["\"[3]\""]);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_database_whose_digest_counted_what_it_counts_no_more_gets_a_new_one() {
    let file = std::env::temp_dir().join(format!("rtc-battery-{}-digest", std::process::id()));
    let (mut a, mut b) = (open(&file), peer("b"));
    a.exec(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 1), (2, 2); DELETE FROM t WHERE id = 2",
    );
    b.pull(&a);
    b.at(2, "UPDATE t SET x = 2; CREATE INDEX t_x ON t (x)");
    a.pull(&b);
    a.exec("INSERT INTO t VALUES (3, 3)");
    b.pull(&a);
    drop(a);
    let connection = Connection::open(&file).unwrap();
    let of_earlier = "UPDATE rtc_replica SET format = 1, registers = 7; UPDATE rtc_transactions SET registers = 7 WHERE registers IS NOT NULL";
    connection.execute_batch(of_earlier).unwrap();
    drop(connection);
    for _ in 0..2 {
        assert_eq!(open(&file).replica.digest().unwrap(), b.replica.digest().unwrap());
    }
    let mut a = open(&file);
    a.exec("DELETE FROM t WHERE id = 3");
    b.pull(&a);
    assert_eq!(a.replica.digest().unwrap(), b.replica.digest().unwrap());
    std::fs::remove_file(&file).unwrap();
}
