//! What the browser's worker does around a page store (`js/src/worker`: `pages`, `saver`), natively: opens behind a fence, saves one batch at a
//! time, tries a failed one again, and begins anew from the disk where the connection was lost.

use std::collections::BTreeMap;

use rtc_battery_vfs::{Batch, PageStore, VFS_NAME};
use rusqlite::{Connection, OpenFlags};

use crate::disk::{Disk, Fence, Request, Stored, Word};

/// Small pages and a small cache, so that transactions reach the file before they commit.
const PAGE_SIZE: u32 = 512;

/// All that the workload writes.
pub(crate) type Rows = BTreeMap<i64, (i64, Vec<u8>)>;

/// An open database whose commits are on their way to a disk.
pub(crate) struct Host {
    db: Connection,
    store: PageStore,
    fence: Fence,
    in_flight: Option<Batch>,
    /// The rows after each commit since this host opened the database; those it found are commit 0.
    commits: BTreeMap<u64, Rows>,
    /// The last commit that the user was told is safe.
    acknowledged: u64,
}

impl Host {
    /// Opens what is stored, and shuts the writer before out. `None` if the disk did not let it.
    pub(crate) fn open(disk: &mut Disk) -> Option<Self> {
        let (epoch, generation) = disk.stored().newest_fence();
        disk.issue([Request::Add((epoch, generation + 1)), Request::Add((epoch + 1, 0))]);
        while !disk.is_idle() {
            if let Some(Word::Aborted | Word::Lost) = disk.work() {
                return None;
            }
        }
        let (db, store) = open(disk.stored());
        let commits = BTreeMap::from([(0, rows(&db))]);
        Some(Self { db, store, fence: (epoch + 1, 0), in_flight: None, commits, acknowledged: 0 })
    }

    pub(crate) fn execute(&mut self, sql: &str) {
        self.db.execute_batch(sql).unwrap();
        if self.db.is_autocommit() && !self.commits.contains_key(&self.store.commits()) {
            self.commits.insert(self.store.commits(), rows(&self.db));
        }
    }

    pub(crate) fn in_transaction(&self) -> bool {
        !self.db.is_autocommit()
    }

    /// Issues what is committed, unless a batch is on its way.
    pub(crate) fn flush(&mut self, disk: &mut Disk) {
        if let Some(batch) = self.store.take_batch() {
            assert!(self.in_flight.is_none(), "two batches are in flight");
            let pages = batch.pages.iter().cloned().map(|(number, page)| Request::Put(number, page));
            let (epoch, generation) = self.fence;
            disk.issue(
                [Request::Add((epoch, generation + 1))]
                    .into_iter()
                    .chain(pages)
                    .chain([Request::Cut(batch.page_count)]),
            );
            self.in_flight = Some(batch);
        }
    }

    /// Hears of the batch that is on its way. False if the connection is gone.
    pub(crate) fn hear(&mut self, word: Word) -> bool {
        let batch = self.in_flight.take().unwrap();
        match word {
            Word::Complete => {
                self.store.batch_saved(batch.generation).unwrap();
                self.fence.1 += 1;
                self.acknowledged = batch.commit;
                true
            }
            Word::Aborted => {
                self.store.batch_failed(batch.generation).unwrap();
                true
            }
            Word::Lost => false,
        }
    }

    pub(crate) fn is_saved(&self) -> bool {
        self.store.is_clean()
    }

    /// What is stored is sound, and is what some commit left, at or after the last one that was acknowledged. Returns whether it is the last.
    pub(crate) fn survives(&self, stored: &Stored) -> bool {
        let (db, _store) = open(stored);
        let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let recovered = rows(&db);
        let commit = self.commits.range(self.acknowledged..).find(|(_, rows)| **rows == recovered);
        let (commit, _) =
            commit.unwrap_or_else(|| panic!("{} rows are no commit from {} on", recovered.len(), self.acknowledged));
        *commit == self.store.commits()
    }
}

fn open(stored: &Stored) -> (Connection, PageStore) {
    let store = PageStore::new(PAGE_SIZE).unwrap();
    for (number, page) in &stored.pages {
        store.load(*number, page).unwrap();
    }
    let db = Connection::open_with_flags_and_vfs(store.file_name(), OpenFlags::default(), VFS_NAME).unwrap();
    db.execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = 8;").unwrap();
    (db, store)
}

/// None where nothing was committed yet.
fn rows(db: &Connection) -> Rows {
    let Ok(mut select) = db.prepare("SELECT id, step, body FROM t") else { return Rows::new() };
    select.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap().map(Result::unwrap).collect()
}
