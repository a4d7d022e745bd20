//! Storage that fails at every operation in turn, and a crash at every one: what is stored is always the database at a commit, at or after the
//! last one that was acknowledged, and once the cause is gone everything is saved.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod disk;
mod host;

use disk::{Disk, Fault, Kind};
use host::Host;

const SCHEMA: &str = "BEGIN; CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, step INTEGER, body BLOB);
    CREATE INDEX IF NOT EXISTS by_step ON t (step); COMMIT";

/// A workload of this many operations: rows of all sizes, transactions, savepoints, rollbacks, VACUUM. The same each time.
fn workload(operations: u32) -> Vec<String> {
    let mut random = Random(1);
    let mut open = false;
    let mut statements = Vec::new();
    for step in 0..operations {
        let id = random.below(40);
        let put = format!("REPLACE INTO t VALUES ({id}, {step}, randomblob({}))", random.below(3_000));
        statements.push(match random.below(16) {
            0..=6 => put,
            7 | 8 => format!("UPDATE t SET step = {step}, body = randomblob(100) WHERE id % 5 = {}", id % 5),
            9 => format!(
                "DELETE FROM t WHERE id BETWEEN {id} AND {id} + 15; INSERT INTO t VALUES (100 + {step}, {step}, x'')"
            ),
            10 => format!("SAVEPOINT s; {put}; ROLLBACK TO s; REPLACE INTO t VALUES (50, {step}, x''); RELEASE s"),
            11 | 12 if open => {
                open = false;
                "COMMIT".to_owned()
            }
            13 if open => {
                open = false;
                "ROLLBACK".to_owned()
            }
            14 if !open => "VACUUM".to_owned(),
            _ if !open => {
                open = true;
                format!("BEGIN; {put}")
            }
            _ => put,
        });
    }
    if open {
        statements.push("COMMIT".to_owned());
    }
    statements
}

/// Numbers that are the same each time (an LCG by Knuth).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Opens the database; where the disk does not let it, waits until it does.
fn open(disk: &mut Disk) -> Host {
    loop {
        if let Some(mut host) = Host::open(disk) {
            host.execute(SCHEMA);
            return host;
        }
        disk.mend();
    }
}

/// Lets the disk perform some requests; `look` sees each. Gives the host that goes on: another one where the connection was lost.
fn work(mut host: Host, disk: &mut Disk, requests: u64, look: &mut impl FnMut(&Host, &Disk)) -> Host {
    for _ in 0..requests {
        let word = disk.work();
        let connected = word.is_none_or(|word| host.hear(word));
        look(&host, disk);
        if !connected {
            host.survives(disk.stored());
            host = open(disk);
        }
    }
    host
}

/// Runs the workload while the disk, which is slower or faster by turns, saves what it commits. Then the disk is mended and saves the rest.
fn run(disk: &mut Disk, statements: &[String], mut look: impl FnMut(&Host, &Disk)) {
    let mut random = Random(2);
    let mut host = open(disk);
    for statement in statements {
        // The transaction that it would end may have gone with a lost connection.
        if host.in_transaction() || !["COMMIT", "ROLLBACK"].contains(&statement.as_str()) {
            host.execute(statement);
        }
        host.flush(disk);
        let requests = random.below(40);
        host = work(host, disk, requests, &mut look);
    }
    host.survives(disk.stored());
    disk.mend();
    while !host.is_saved() {
        host.flush(disk);
        host = work(host, disk, 1, &mut look);
    }
    assert!(host.survives(disk.stored()), "what was committed last is not stored");
}

/// Fails operation 1, then operation 2 and so on, each in a run of its own, until a run is over before the fault strikes.
fn fail_each_operation(kind: Kind, lasts: bool) {
    let statements = workload(40);
    let mut struck = 0;
    for at in 1.. {
        let mut disk = Disk::new(Some(Fault { at, kind, lasts }));
        run(&mut disk, &statements, |_, _| ());
        if disk.operations() < at {
            break;
        }
        struck = at;
    }
    assert!(struck > 200, "only {struck} operations were struck: this test shows little");
}

#[test]
fn a_crash_at_any_operation_leaves_a_commit_that_is_not_older_than_the_last_acknowledged() {
    let mut disk = Disk::default();
    let mut crashes = 0;
    run(&mut disk, &workload(200), |host, disk| {
        host.survives(disk.stored());
        crashes += 1;
    });
    assert!(crashes > 1_000, "only {crashes} crashes: this test shows little");
}

#[test]
fn a_transaction_that_is_aborted_once_is_saved_by_the_next() {
    fail_each_operation(Kind::Abort, false);
}

#[test]
fn a_disk_that_stays_full_keeps_the_last_commit_it_took() {
    fail_each_operation(Kind::Abort, true);
}

#[test]
fn a_connection_that_is_lost_takes_what_was_not_acknowledged_at_most() {
    fail_each_operation(Kind::Lose { complete: false }, false);
    fail_each_operation(Kind::Lose { complete: true }, false);
}

#[test]
fn a_disk_that_stays_away_keeps_the_last_commit_it_took() {
    fail_each_operation(Kind::Lose { complete: true }, true);
}
