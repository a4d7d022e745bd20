//! The handle that the host holds, and the directory in which the VFS finds the file by its name.
//!
//! The VFS is one for the process; each store is a file in it, under a name of its own that nobody else knows. A store lives as
//! long as a handle or an open connection does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::pages::{Batch, LoadError, NotInFlight, Pages};
use crate::vfs;

static DIRECTORY: Mutex<BTreeMap<String, Weak<File>>> = Mutex::new(BTreeMap::new());
static NEXT_NAME: AtomicU64 = AtomicU64::new(1);

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// SQLite's page sizes are the powers of two from 512 to 65,536.
    #[error("{0} is no page size")]
    PageSize(u32),
    /// SQLite did not take the VFS.
    #[error(transparent)]
    Register(#[from] rsqlite_vfs::RegisterVfsError),
}

/// One database file: pages in memory, and what of them is still to be saved.
#[derive(Debug, Clone)]
pub struct PageStore {
    name: Arc<str>,
    file: Arc<File>,
}

impl PageStore {
    /// An empty file with pages of this many bytes.
    ///
    /// # Errors
    /// A size that SQLite does not have, or a VFS that cannot be registered.
    pub fn new(page_size: u32) -> Result<Self, CreateError> {
        if !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
            return Err(CreateError::PageSize(page_size));
        }
        vfs::register()?;
        let name: Arc<str> = format!("pages-{}", NEXT_NAME.fetch_add(1, Ordering::Relaxed)).into();
        let file = Arc::new(File(Mutex::new(Pages::new(page_size))));
        let mut directory = lock(&DIRECTORY);
        directory.retain(|_, file| file.strong_count() > 0);
        directory.insert(name.to_string(), Arc::downgrade(&file));
        Ok(Self { name, file })
    }

    /// The name to open, together with [`VFS_NAME`](crate::VFS_NAME). One connection at a time can have it open.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.name
    }

    /// Appends pages from storage: in order, from page 1, before the database is opened.
    ///
    /// # Errors
    /// Pages that are torn, missing, of another size, or too late. What was loaded before stays.
    pub fn load(&self, first_page: u32, bytes: &[u8]) -> Result<(), LoadError> {
        self.file.pages().load(first_page, bytes)
    }

    /// Appends the next page of a damaged file, of its [record](crate::digest_of_record); zeros where that is not what was saved. Tells which.
    ///
    /// # Errors
    /// The database has been opened already.
    pub fn load_sound(&self, record: &[u8]) -> Result<bool, LoadError> {
        self.file.pages().load_sound(record)
    }

    /// How many pages the file has, those of an open transaction included.
    #[must_use]
    pub fn page_count(&self) -> u32 {
        self.file.pages().page_count()
    }

    /// How many commits have changed the file since the store was made. A [`Batch`] says which is its last.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.file.pages().commits()
    }

    /// What tells this file from others, as of the last commit: of what was loaded, if nothing was committed since. A [`Batch`] says what it will be.
    /// It detects mistakes of a storage, not malice.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.file.pages().digest()
    }

    /// Whether every commit has been saved.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.file.pages().is_clean()
    }

    /// Says whether the storage takes nothing more. While it does not, transactions that write fail with `SQLITE_FULL`, open ones at COMMIT, and
    /// are undone; what is there can be read.
    pub fn set_full(&self, full: bool) {
        self.file.pages().set_full(full);
    }

    /// Every commit since the last batch, merged; `None` if there is none, or while a batch is being saved.
    #[must_use = "a batch is in flight until it is reported saved or failed"]
    pub fn take_batch(&self) -> Option<Batch> {
        self.file.pages().take_batch()
    }

    /// Storage has the batch.
    ///
    /// # Errors
    /// The batch is not the one in flight; nothing changed.
    pub fn batch_saved(&self, generation: u64) -> Result<(), NotInFlight> {
        self.file.pages().batch_saved(generation)
    }

    /// Storage does not have the batch, or may not: the next one contains it.
    ///
    /// # Errors
    /// The batch is not the one in flight; nothing changed.
    pub fn batch_failed(&self, generation: u64) -> Result<(), NotInFlight> {
        self.file.pages().batch_failed(generation)
    }
}

/// What a handle and an open connection share.
#[derive(Debug)]
pub(crate) struct File(Mutex<Pages>);

impl File {
    /// The file of this name, if its store still lives.
    pub(crate) fn find(name: &str) -> Option<Arc<Self>> {
        lock(&DIRECTORY).get(name)?.upgrade()
    }

    pub(crate) fn pages(&self) -> MutexGuard<'_, Pages> {
        lock(&self.0)
    }
}

/// A panic elsewhere does not make the pages wrong: every change to them is complete before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
