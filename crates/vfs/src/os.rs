//! Time, randomness and sleep for SQLite, borrowed from the platform's default VFS: the operating system natively, JavaScript
//! in WebAssembly.

use std::time::Duration;

use rsqlite_vfs::ffi::{SQLITE_OK, sqlite3_vfs, sqlite3_vfs_find};
use rsqlite_vfs::{OsCallback, VfsError, VfsErrorCode, VfsResult};

/// Milliseconds from SQLite's epoch (noon, 24 November 4714 BC) to 1970.
const UNIX_EPOCH_MS: i64 = 210_866_760_000_000;

/// The platform's default VFS.
pub(crate) struct DefaultVfs;

impl DefaultVfs {
    fn find() -> Option<*mut sqlite3_vfs> {
        // SAFETY: a null name asks for the default VFS. SQLite calls us, so it is initialized, and nobody unregisters the
        // default VFS while connections are open.
        let vfs = unsafe { sqlite3_vfs_find(std::ptr::null()) };
        (!vfs.is_null()).then_some(vfs)
    }
}

impl OsCallback for DefaultVfs {
    fn sleep(&self, duration: Duration) {
        let Some(vfs) = Self::find() else { return };
        let microseconds = i32::try_from(duration.as_micros()).unwrap_or(i32::MAX);
        // SAFETY: `vfs` is registered, and its methods take it as their first argument.
        unsafe {
            if let Some(sleep) = (*vfs).xSleep {
                sleep(vfs, microseconds);
            }
        }
    }

    fn random(&self, buffer: &mut [u8]) -> usize {
        let Some(vfs) = Self::find() else { return 0 };
        let length = i32::try_from(buffer.len()).unwrap_or(i32::MAX);
        // SAFETY: as above; `buffer` has at least `length` writable bytes.
        let filled = unsafe { (*vfs).xRandomness.map_or(0, |random| random(vfs, length, buffer.as_mut_ptr().cast())) };
        usize::try_from(filled).unwrap_or(0)
    }

    fn epoch_timestamp_in_ms(&self) -> VfsResult<i64> {
        let mut time = 0;
        let ok = Self::find().is_some_and(|vfs| {
            // SAFETY: as above; `time` is writable. Both default VFSs are version 2 or later, which have this method.
            unsafe { (*vfs).xCurrentTimeInt64.is_some_and(|now| now(vfs, &raw mut time) == SQLITE_OK) }
        });
        if !ok {
            return Err(VfsError::new(VfsErrorCode::Error, "the platform's clock cannot be read".into()));
        }
        Ok(time - UNIX_EPOCH_MS)
    }
}
