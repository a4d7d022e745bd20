//! A browser's storage: records of pages, written in transactions that take their time.
//!
//! What was asked for last may be on the disk in part when the power goes. IndexedDB promises that a transaction that is not complete is
//! undone, so what was torn and what was never begun read alike: whoever opens the file finds it at the end of a complete transaction.

use std::collections::BTreeMap;

use rtc_battery_vfs::{Batch, PageStore, VFS_NAME};
use rusqlite::{Connection, OpenFlags};

/// The page size in browsers.
const PAGE_BYTES: u32 = 8192;

/// What becomes of the transaction under way when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it was written.
    Lost,
    /// Half of it was written, and is undone.
    Torn,
    /// All of it was written, and nobody was told.
    Kept,
}

/// What a disk had at some time.
#[derive(Debug, Clone)]
pub struct Backup(BTreeMap<u32, Vec<u8>>);

impl Backup {
    /// A disk with that, and a connection to it.
    #[must_use]
    pub fn restore(&self) -> (Disk, Connection) {
        Disk::with(self.0.clone())
    }
}

/// A disk, and the page store of the process that has it open.
#[derive(Debug)]
pub struct Disk {
    store: PageStore,
    /// What complete transactions wrote. Half a transaction leaves nothing that is read.
    records: BTreeMap<u32, Vec<u8>>,
    in_flight: Option<(Batch, u64)>,
}

impl Disk {
    /// An empty disk, with a connection to it.
    #[must_use]
    pub fn new() -> (Self, Connection) {
        Self::with(BTreeMap::new())
    }

    fn with(records: BTreeMap<u32, Vec<u8>>) -> (Self, Connection) {
        let store = PageStore::new(PAGE_BYTES).unwrap();
        for (number, page) in &records {
            store.load(*number, page).unwrap();
        }
        let connection = open(&store);
        (Self { store, records, in_flight: None }, connection)
    }

    /// The next transaction, unless one is under way. `version` is the node's now.
    pub fn begin(&mut self, version: u64) -> Option<u64> {
        let batch = self.store.take_batch()?;
        let generation = batch.generation;
        self.in_flight = Some((batch, version));
        Some(generation)
    }

    /// The transaction under way is complete; gives the version that is saved with it.
    pub fn complete(&mut self, generation: u64) -> Option<u64> {
        let (batch, version) = self.in_flight.take_if(|(batch, _)| batch.generation == generation)?;
        write(&mut self.records, &batch);
        self.store.batch_saved(generation).unwrap();
        Some(version)
    }

    /// A copy of what complete transactions wrote.
    #[must_use]
    pub fn back_up(&self) -> Backup {
        Backup(self.records.clone())
    }

    /// How many commits there were since it was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.store.commits()
    }

    /// Whether all commits are in storage.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.store.is_clean()
    }

    /// Whether a transaction is under way.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The power goes, and comes back: what is left, with a new connection to it.
    #[must_use]
    pub fn crash(mut self, fate: Fate) -> (Self, Connection) {
        if let Some((batch, _)) = self.in_flight.take().filter(|_| fate == Fate::Kept) {
            write(&mut self.records, &batch);
        }
        Self::with(self.records)
    }
}

fn write(records: &mut BTreeMap<u32, Vec<u8>>, batch: &Batch) {
    records.extend(batch.pages.iter().map(|(number, page)| (*number, page.to_vec())));
    records.split_off(&(batch.page_count + 1));
}

fn open(store: &PageStore) -> Connection {
    let connection = Connection::open_with_flags_and_vfs(store.file_name(), OpenFlags::default(), VFS_NAME).unwrap();
    connection.pragma_update(None, "journal_mode", "MEMORY").unwrap();
    connection
}
