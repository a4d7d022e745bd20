//! Several callers on one node: whose turn it is, and that what is asked again is done once, whoever dies when.

use std::path::PathBuf;

use rtc_battery_core::Now;
use rtc_battery_core::node::{Call, Config, MeshLimits, Node, Output};
use rtc_battery_core::replica::{Params, QueryResult, Replica, Scope, SqlError};
use rtc_battery_proto::{ReplicaId, SqlValue};
use rusqlite::{Connection, ffi};

/// A database file, and the node that has it open.
struct Desk {
    file: PathBuf,
    node: Option<Node>,
    now: Now,
}

impl Desk {
    fn new(name: &str) -> Self {
        let file = std::env::temp_dir().join(format!("rtc-battery-callers-{}-{name}", std::process::id()));
        let mut desk = Self { file, node: None, now: Now { wall_ms: 1_700_000_000_000, mono_ms: 0 } };
        desk.open();
        desk.exec("ada", 1, "CREATE TABLE t (id INTEGER PRIMARY KEY, n)").unwrap();
        desk.exec("ada", 2, "INSERT INTO t VALUES (1, 0)").unwrap();
        desk
    }

    /// Whoever had the node is gone, with all that was not committed.
    fn open(&mut self) {
        self.node = None;
        let connection = Connection::open(&self.file).unwrap();
        connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").unwrap();
        let replica = Replica::open(connection, "room", &ReplicaId::new("a").unwrap()).unwrap();
        let config = Config {
            signaling_url: "ws://server/signal".into(),
            token: "room".into(),
            sealed: false,
            mesh: MeshLimits::default(),
            seed: [0; 32],
        };
        self.node = Some(Node::new(config, replica, self.now));
    }

    fn node(&mut self) -> &mut Node {
        self.node.as_mut().unwrap()
    }

    fn call(&mut self, call: Call<'_>, sql: &str) -> Result<QueryResult, SqlError> {
        let now = self.now;
        self.node().call(call, sql, &Params::None, Scope::Synced, now)
    }

    fn exec(&mut self, caller: &str, number: u64, sql: &str) -> Result<QueryResult, SqlError> {
        self.call(Call { caller, number: Some(number), heard: number, stranded: false }, sql)
    }

    /// Lets time pass until the node has nothing to do.
    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        let now = self.now;
        while !matches!(self.node().poll_output(now).unwrap(), Output::Idle(_)) {}
    }

    fn n(&mut self) -> SqlValue {
        self.exec("reader", 1, "SELECT n FROM t").unwrap().values[0][0].clone()
    }

    fn kept(&mut self) -> SqlValue {
        self.exec("reader", 1, "SELECT count(*) FROM rtc_answers").unwrap().values[0][0].clone()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.node = None;
        let _ = std::fs::remove_file(&self.file);
    }
}

const ADD: &str = "UPDATE t SET n = n + 1 RETURNING n";

#[test]
fn a_call_that_is_asked_again_is_done_once_and_answered_as_before() {
    let mut desk = Desk::new("again");
    let first = desk.exec("ada", 3, ADD);
    assert_eq!(first.as_ref().unwrap().values, [[SqlValue::Integer(1)]]);
    for _ in 0..2 {
        desk.open();
        assert_eq!(desk.exec("ada", 3, ADD), first);
    }
    // Another tab's third call is another call, and the next one is done.
    desk.exec("bob", 3, ADD).unwrap();
    desk.exec("ada", 4, ADD).unwrap();
    assert_eq!(desk.n(), SqlValue::Integer(3));
}

#[test]
fn whatever_writes_is_done_once() {
    for write in [
        "CREATE TABLE other (id INTEGER PRIMARY KEY)",
        "INSERT INTO t DEFAULT VALUES",
        "PRAGMA user_version = 7",
        "SAVEPOINT s; UPDATE t SET n = n + 1; RELEASE s",
        "BEGIN; PRAGMA user_version = 8; COMMIT",
    ] {
        let mut desk = Desk::new("whatever");
        let first = desk.exec("ada", 3, write);
        first.as_ref().unwrap_or_else(|error| panic!("{write}: {error}"));
        assert_eq!(desk.kept(), SqlValue::Integer(1), "{write}");
        desk.open();
        assert_eq!(desk.exec("ada", 3, write), first, "{write}");
        // What only reads is done again.
        assert_eq!(desk.kept(), SqlValue::Integer(1), "{write}");
    }
}

#[test]
fn a_failed_statement_after_one_that_committed_is_not_done_again_either() {
    let mut desk = Desk::new("failed");
    let text = "UPDATE t SET n = n + 1; INSERT INTO t VALUES (1, 0)";
    let first = desk.exec("ada", 3, text);
    assert_eq!(first.as_ref().unwrap_err().code, ffi::SQLITE_CONSTRAINT_PRIMARYKEY);
    desk.open();
    assert_eq!(desk.exec("ada", 3, text), first);
    assert_eq!(desk.n(), SqlValue::Integer(1));
}

#[test]
fn a_transaction_that_was_committed_is_not_begun_again() {
    let mut desk = Desk::new("committed");
    let calls = ["BEGIN", ADD, "COMMIT", "SELECT n FROM t"];
    let answers: Vec<_> = (3..).zip(calls).map(|(number, sql)| desk.exec("ada", number, sql)).collect();
    desk.open();
    // The whole row of calls is asked again: none of its answers was heard.
    for ((number, sql), answer) in (3..).zip(calls).zip(answers) {
        let call = Call { caller: "ada", number: Some(number), heard: 3, stranded: false };
        assert_eq!(desk.call(call, sql), answer, "{sql}");
    }
    assert!(!desk.node().replica().in_transaction());
    assert_eq!(desk.n(), SqlValue::Integer(1));
}

#[test]
fn a_call_in_an_open_transaction_that_is_asked_again_is_done_once() {
    let mut desk = Desk::new("open");
    desk.exec("ada", 3, "BEGIN").unwrap();
    let first = desk.exec("ada", 4, ADD);
    assert_eq!(desk.exec("ada", 4, ADD), first);
    assert_eq!(desk.exec("ada", 3, "BEGIN").unwrap().values, Vec::<Vec<SqlValue>>::new());
    desk.exec("ada", 5, "COMMIT").unwrap();
    assert_eq!(desk.n(), SqlValue::Integer(1));
}

#[test]
fn a_transaction_that_died_with_its_tab_is_told_and_leaves_nothing() {
    let mut desk = Desk::new("stranded");
    desk.exec("ada", 3, "BEGIN").unwrap();
    desk.exec("ada", 4, ADD).unwrap();
    desk.open();
    for (number, sql) in [(5, ADD), (6, "COMMIT")] {
        let refused = desk.call(Call { caller: "ada", number: Some(number), heard: 5, stranded: true }, sql);
        assert_eq!(refused.unwrap_err().code, ffi::SQLITE_ABORT_ROLLBACK);
    }
    assert_eq!(desk.n(), SqlValue::Integer(0));
    // It had been committed: the COMMIT that is asked again is answered.
    for (number, sql) in [(7, "BEGIN"), (8, ADD), (9, "COMMIT")] {
        desk.exec("ada", number, sql).unwrap();
    }
    desk.open();
    desk.call(Call { caller: "ada", number: Some(9), heard: 9, stranded: true }, "COMMIT").unwrap();
    assert_eq!(desk.n(), SqlValue::Integer(1));
}

#[test]
fn others_wait_while_a_transaction_is_open_and_it_ends_with_its_caller() {
    let mut desk = Desk::new("turns");
    desk.exec("ada", 3, "BEGIN").unwrap();
    desk.exec("ada", 4, ADD).unwrap();
    assert!(desk.node().may_call("ada") && !desk.node().may_call("bob"));
    assert_eq!(desk.exec("bob", 1, ADD).unwrap_err().code, ffi::SQLITE_BUSY);
    desk.exec("ada", 5, "COMMIT").unwrap();
    assert!(desk.node().may_call("bob"));
    desk.exec("bob", 1, "BEGIN").unwrap();
    desk.exec("bob", 2, ADD).unwrap();
    desk.node().caller_gone("carl").unwrap();
    assert!(!desk.node().may_call("ada"));
    desk.node().caller_gone("bob").unwrap();
    assert!(desk.node().may_call("ada"));
    assert_eq!(desk.n(), SqlValue::Integer(1));
}

#[test]
fn a_transaction_left_idle_is_undone_and_its_caller_told_once() {
    let mut desk = Desk::new("idle");
    desk.exec("ada", 3, "BEGIN").unwrap();
    desk.pass(29_000);
    desk.exec("ada", 4, ADD).unwrap();
    desk.pass(29_000);
    assert!(!desk.node().may_call("bob"), "it was not idle for 30 s");
    desk.pass(1_000);
    assert!(desk.node().may_call("bob"));
    desk.exec("bob", 1, "UPDATE t SET n = 7").unwrap();
    assert_eq!(desk.exec("ada", 5, "COMMIT").unwrap_err().code, ffi::SQLITE_ABORT_ROLLBACK);
    desk.exec("ada", 6, ADD).unwrap();
    assert_eq!(desk.n(), SqlValue::Integer(8));
}

#[test]
fn what_is_kept_of_answers_is_bounded() {
    let mut desk = Desk::new("bounded");
    for number in 3..50 {
        desk.exec("ada", number, ADD).unwrap();
    }
    // Each call said that all before it were heard.
    assert_eq!(desk.kept(), SqlValue::Integer(1));
    for caller in 0..1200 {
        desk.exec(&format!("tab {caller}"), 1, ADD).unwrap();
    }
    assert_eq!(desk.kept(), SqlValue::Integer(1000));
    desk.node().caller_gone("tab 1199").unwrap();
    assert_eq!(desk.kept(), SqlValue::Integer(999));
    let large = "UPDATE t SET n = 0 RETURNING hex(randomblob(1000000))";
    desk.exec("ada", 100, large).unwrap();
    desk.open();
    assert_eq!(desk.exec("ada", 100, large).unwrap_err().code, ffi::SQLITE_TOOBIG);
    assert_eq!(desk.n(), SqlValue::Integer(0));
}
