//! A SQLite VFS whose database file is pages in memory, and whose every commit comes out as a batch of pages to save.
//!
//! A browser's storage is asynchronous and SQLite is not, so the file that SQLite sees is in memory, and what a commit changed
//! is saved afterwards. The rule that makes this safe: **what has been saved is always exactly the database at a commit**,
//! at or after the last one that was reported saved. So a crash loses at most commits nobody was told are safe, and never
//! leaves half of one.
//!
//! A [`PageStore`] is one such file. The host fills it from storage ([`PageStore::load`]), opens it
//! (file name [`PageStore::file_name`], VFS [`VFS_NAME`]), sets `PRAGMA journal_mode = MEMORY`, and after running statements
//! saves what [`PageStore::take_batch`] gives, one batch at a time, each all or nothing:
//!
//! ```
//! use rtc_battery_vfs::{PageStore, VFS_NAME};
//! use rusqlite::{Connection, OpenFlags};
//!
//! let store = PageStore::new(8192)?;
//! let db = Connection::open_with_flags_and_vfs(store.file_name(), OpenFlags::default(), VFS_NAME)?;
//! db.pragma_update(None, "journal_mode", "MEMORY")?;
//! db.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);")?;
//!
//! let batch = store.take_batch().ok_or("two commits are to be saved")?;
//! // ... put batch.pages, delete what lies beyond batch.page_count, in one transaction; when it is complete:
//! store.batch_saved(batch.generation)?;
//! assert!(store.is_clean());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate does not know where pages are saved, and it reads no clock: SQLite's own time and randomness are the
//! platform's default VFS's.

#[allow(unsafe_code, reason = "calls the default VFS through its C interface")]
mod os;
mod pages;
mod pragma;
mod record;
mod store;
#[allow(unsafe_code, reason = "is called by SQLite through its C interface")]
mod vfs;

pub use pages::{Batch, LoadError, NotInFlight, Page};
pub use record::{DIGEST_BYTES, digest_of_record};
pub use store::{CreateError, PageStore};
pub use vfs::VFS_NAME;
