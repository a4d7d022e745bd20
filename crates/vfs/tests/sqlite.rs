//! Real SQLite on page stores: what was saved opens as a sound database with the rows of a commit.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use rtc_battery_vfs::{Batch, PageStore, VFS_NAME};
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// Small pages and a small cache, so that transactions reach the file before they commit.
const PAGE_SIZE: u32 = 512;

fn open(store: &PageStore) -> Connection {
    let db = Connection::open_with_flags_and_vfs(store.file_name(), OpenFlags::default(), VFS_NAME).unwrap();
    db.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = 8;").unwrap();
    db
}

/// What IndexedDB is in a browser.
#[derive(Debug, Clone, Default)]
struct Storage(BTreeMap<u32, Vec<u8>>);

impl Storage {
    fn store(&mut self, batch: &Batch) {
        self.0.extend(batch.pages.iter().map(|(number, page)| (*number, page.to_vec())));
        self.0.split_off(&(batch.page_count + 1));
    }

    fn load(&self) -> PageStore {
        let store = PageStore::new(PAGE_SIZE).unwrap();
        for (number, page) in &self.0 {
            store.load(*number, page).unwrap();
        }
        store
    }
}

type Rows = BTreeMap<i64, Vec<u8>>;

fn rows(db: &Connection) -> Rows {
    let mut select = db.prepare("SELECT id, body FROM t").unwrap();
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Put { id: i64, length: usize },
    Delete { from: i64, to: i64 },
    Begin,
    Commit,
    Rollback,
    Vacuum,
    Take,
    Saved,
    Failed { stored: bool },
    Crash { stored: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..40_i64, 0..3_000_usize).prop_map(|(id, length)| Step::Put { id, length }),
        2 => (0..40_i64, 0..20_i64).prop_map(|(from, length)| Step::Delete { from, to: from + length }),
        3 => Just(Step::Begin),
        3 => Just(Step::Commit),
        2 => Just(Step::Rollback),
        1 => Just(Step::Vacuum),
        4 => Just(Step::Take),
        3 => Just(Step::Saved),
        1 => any::<bool>().prop_map(|stored| Step::Failed { stored }),
        2 => any::<bool>().prop_map(|stored| Step::Crash { stored }),
    ]
}

struct World {
    store: PageStore,
    db: Connection,
    storage: Storage,
    in_flight: Option<Batch>,
    /// The rows after each commit since the last crash.
    commits: BTreeMap<u64, Rows>,
    acknowledged: u64,
    stored: u64,
}

impl World {
    fn new() -> Self {
        let store = PageStore::new(PAGE_SIZE).unwrap();
        let db = open(&store);
        db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)").unwrap();
        let mut storage = Storage::default();
        let batch = store.take_batch().unwrap();
        storage.store(&batch);
        store.batch_saved(batch.generation).unwrap();
        let commit = store.commits();
        let commits = BTreeMap::from([(commit, Rows::new())]);
        Self { store, db, storage, in_flight: None, commits, acknowledged: commit, stored: commit }
    }

    fn store(&mut self, batch: &Batch) {
        self.storage.store(batch);
        self.stored = batch.commit;
    }

    fn run(&mut self, step: &Step) {
        let open = !self.db.is_autocommit();
        match *step {
            Step::Put { id, length } => {
                let body = vec![id as u8 ^ length as u8; length];
                self.db.execute("REPLACE INTO t VALUES (?, ?)", (id, body)).unwrap();
            }
            Step::Delete { from, to } => {
                self.db.execute("DELETE FROM t WHERE id BETWEEN ? AND ?", (from, to)).unwrap();
            }
            Step::Begin if !open => self.db.execute_batch("BEGIN").unwrap(),
            Step::Commit if open => self.db.execute_batch("COMMIT").unwrap(),
            Step::Rollback if open => self.db.execute_batch("ROLLBACK").unwrap(),
            Step::Vacuum if !open => self.db.execute_batch("VACUUM").unwrap(),
            Step::Begin | Step::Commit | Step::Rollback | Step::Vacuum => {}
            Step::Take => self.in_flight = self.in_flight.take().or_else(|| self.store.take_batch()),
            Step::Saved => {
                if let Some(batch) = self.in_flight.take() {
                    self.store(&batch);
                    self.store.batch_saved(batch.generation).unwrap();
                    self.acknowledged = batch.commit;
                }
            }
            Step::Failed { stored } => {
                if let Some(batch) = self.in_flight.take() {
                    if stored {
                        self.store(&batch);
                    }
                    self.store.batch_failed(batch.generation).unwrap();
                }
            }
            Step::Crash { stored } => {
                if let Some(batch) = self.in_flight.take().filter(|_| stored) {
                    self.store(&batch);
                }
                self.crash();
            }
        }
        if self.db.is_autocommit() {
            self.commits.entry(self.store.commits()).or_insert_with(|| rows(&self.db));
        }
    }

    /// Starts again from storage.
    fn crash(&mut self) {
        assert!(self.stored >= self.acknowledged);
        let expected = self.commits[&self.stored].clone();
        self.store = self.storage.load();
        self.db = open(&self.store);
        let sound: String = self.db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        assert_eq!(rows(&self.db), expected);
        self.commits = BTreeMap::from([(0, expected)]);
        (self.acknowledged, self.stored) = (0, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_saved_is_a_sound_database_at_a_commit(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        for step in [Step::Rollback, Step::Saved, Step::Take, Step::Saved] {
            world.run(&step);
        }
        prop_assert!(world.store.is_clean());
        prop_assert_eq!(world.stored, world.store.commits());
        world.crash();
    }
}

#[test]
fn a_batch_has_what_was_committed_and_not_what_was_written_since() {
    let mut world = World::new();
    world.run(&Step::Begin);
    for id in 0..20 {
        world.run(&Step::Put { id, length: 2_000 });
    }
    world.run(&Step::Commit);
    let committed = world.store.page_count();
    world.run(&Step::Begin);
    for id in 0..40 {
        world.run(&Step::Put { id, length: 3_000 });
    }
    assert!(world.store.page_count() > committed, "nothing was spilled: this test shows nothing");
    for step in [Step::Take, Step::Saved] {
        world.run(&step);
    }
    world.crash();
    assert_eq!(rows(&world.db).len(), 20);
}

#[test]
fn a_rollback_saves_nothing() {
    let mut world = World::new();
    world.run(&Step::Begin);
    for id in 0..40 {
        world.run(&Step::Put { id, length: 3_000 });
    }
    world.run(&Step::Rollback);
    assert!(world.store.is_clean());
    assert!(world.store.take_batch().is_none());
}

#[test]
fn while_the_storage_is_full_writes_fail_and_are_undone_and_reads_go_on() {
    let mut world = World::new();
    world.run(&Step::Put { id: 1, length: 2_000 });
    world.run(&Step::Begin);
    world.run(&Step::Put { id: 2, length: 2_000 });
    world.store.set_full(true);
    let full = |db: &Connection, sql: &str| {
        let code = db.execute_batch(sql).unwrap_err().sqlite_error_code();
        assert_eq!(code, Some(ErrorCode::DiskFull), "{sql}");
        assert!(db.is_autocommit(), "{sql} left its transaction open");
        assert_eq!(rows(db).keys().collect::<Vec<_>>(), [&1]);
    };
    full(&world.db, "COMMIT");
    full(&world.db, "INSERT INTO t VALUES (3, x'')");
    full(&world.db, "DELETE FROM t");
    full(&world.db, "CREATE TABLE u (x)");
    world.db.execute_batch("CREATE TEMP TABLE scratch (x); INSERT INTO scratch VALUES (1)").unwrap();
    world.store.set_full(false);
    world.run(&Step::Put { id: 4, length: 2_000 });
    for step in [Step::Take, Step::Saved] {
        world.run(&step);
    }
    world.crash();
    assert_eq!(rows(&world.db).keys().collect::<Vec<_>>(), [&1, &4]);
}

#[test]
fn commits_come_out_with_synchronous_off() {
    let mut world = World::new();
    world.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
    world.run(&Step::Put { id: 7, length: 7 });
    for step in [Step::Take, Step::Saved] {
        world.run(&step);
    }
    world.crash();
}

#[test]
fn a_small_commit_in_a_large_database_is_small() {
    let store = PageStore::new(PAGE_SIZE).unwrap();
    let db = open(&store);
    let rows =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i, zeroblob(400) FROM n";
    db.execute_batch(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB); INSERT INTO t {rows}")).unwrap();
    let all = store.take_batch().unwrap();
    assert!(all.pages.len() > 5_000);
    store.batch_saved(all.generation).unwrap();
    db.execute("UPDATE t SET body = x'01' WHERE id = 2500", []).unwrap();
    let batch = store.take_batch().unwrap();
    assert_eq!(batch.pages.len(), 2, "the row's page, and page 1 with the change counter");
    assert_eq!(batch.page_count, all.page_count);
}

#[test]
fn vacuum_shortens_what_is_saved() {
    let mut world = World::new();
    for id in 0..40 {
        world.run(&Step::Put { id, length: 3_000 });
    }
    for step in [Step::Take, Step::Saved, Step::Delete { from: 0, to: 39 }, Step::Vacuum] {
        world.run(&step);
    }
    let before = world.storage.0.len();
    for step in [Step::Take, Step::Saved] {
        world.run(&step);
    }
    assert!(world.storage.0.len() * 10 < before);
    world.crash();
}

#[test]
fn what_a_page_store_cannot_honour_is_refused_and_nothing_is_harmed() {
    let store = PageStore::new(PAGE_SIZE).unwrap();
    let db = open(&store);
    db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    for pragma in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA journal_mode = 'delete'",
        "PRAGMA main.journal_mode = OFF",
        "PRAGMA Journal_Mode(persist)",
        "PRAGMA page_size = 4096",
    ] {
        let message = db.execute_batch(pragma).unwrap_err().to_string();
        assert!(message.contains("this database"), "{pragma}: {message}");
    }
    for pragma in ["PRAGMA journal_mode = memory", "PRAGMA journal_mode", "PRAGMA page_size = 512", "PRAGMA page_size"]
    {
        db.execute_batch(pragma).unwrap();
    }
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "memory");

    assert!(db.execute("ATTACH 'other.db' AS other", []).is_err());
    assert!(db.execute("ATTACH ? AS again", [store.file_name()]).is_err());
    assert!(db.execute("VACUUM INTO 'copy.db'", []).is_err());
    db.execute_batch("ATTACH ':memory:' AS scratch; CREATE TABLE scratch.s (x)").unwrap();
    db.execute_batch("BEGIN; INSERT INTO t VALUES (2); INSERT INTO scratch.s VALUES (3); COMMIT").unwrap();
    let sum: i64 = db.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 3);
}

#[test]
fn a_store_is_open_once() {
    let store = PageStore::new(PAGE_SIZE).unwrap();
    let db = open(&store);
    let again = || Connection::open_with_flags_and_vfs(store.file_name(), OpenFlags::default(), VFS_NAME);
    assert!(again().is_err());
    drop(db);
    assert!(again().is_ok());
}

#[test]
fn without_the_memory_journal_writes_are_refused() {
    let store = PageStore::new(PAGE_SIZE).unwrap();
    let db = Connection::open_with_flags_and_vfs(store.file_name(), OpenFlags::default(), VFS_NAME).unwrap();
    assert!(db.execute_batch("CREATE TABLE t (x)").is_err());
    assert!(store.is_clean());
}

#[test]
fn a_store_of_another_page_size_than_its_connection_refuses_writes() {
    let store = PageStore::new(1_024).unwrap();
    let db = Connection::open_with_flags_and_vfs(store.file_name(), OpenFlags::default(), VFS_NAME).unwrap();
    db.pragma_update(None, "journal_mode", "MEMORY").unwrap();
    assert!(db.execute_batch("CREATE TABLE t (x)").is_err(), "SQLite's default is 8192");
    assert_eq!(store.page_count(), 0);
    assert!(store.is_clean());
}

#[test]
fn the_clock_and_randomness_are_the_platforms() {
    let store = PageStore::new(PAGE_SIZE).unwrap();
    let db = open(&store);
    let millennium: i64 =
        db.query_row("SELECT unixepoch('now') > 1e9 AND unixepoch('now') < 1e10", [], |row| row.get(0)).unwrap();
    assert_eq!(millennium, 1);
    let differ: bool = db.query_row("SELECT randomblob(16) <> randomblob(16)", [], |row| row.get(0)).unwrap();
    assert!(differ);
}
