//! The state machine: a file of pages, what was written since the last commit, what was committed since the last batch, and the
//! batch that is being saved.
//!
//! Invariants:
//! - The file has no holes: a write beyond its end makes the pages between, as zeros, and they count as written. So a batch
//!   that follows a truncation brings every page that came after it, and storage never keeps a page of an older file.
//! - A commit captures its pages at once and without copying them: pages are shared, and a write to a shared one replaces it.
//!   So what is taken later is what was committed, not what an open transaction has written since; and a commit costs what it
//!   wrote, whatever the size of the database.
//! - The digest of the file is a sum over its pages, so a commit brings it up to date from the pages that it wrote.
//! - At most one batch is in flight. Commits meanwhile merge; a batch that failed merges below them.
//!
//! It knows neither SQLite nor the storage: writes, truncations and commits come in, batches go out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use crate::record::sound;

/// The contents of one page: shared between the file and the batches that contain it, never changed while it is.
pub type Page = Arc<[u8]>;

/// The pages that differ from what was last saved, up to the end of a commit. Saved all or nothing.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Names this batch in [`PageStore::batch_saved`](crate::PageStore::batch_saved) and
    /// [`batch_failed`](crate::PageStore::batch_failed); grows with each batch.
    pub generation: u64,
    /// The last commit it contains, counted from 1 since the store was made.
    pub commit: u64,
    /// How many pages the file has; saved pages beyond it are to be deleted.
    pub page_count: u32,
    /// Of the whole file, as [`PageStore::digest`](crate::PageStore::digest) is after these pages were loaded.
    pub digest: u64,
    /// Page numbers, from 1 and ascending, with their contents.
    pub pages: Vec<(u32, Page)>,
}

/// The batch that was reported on is not the one being saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("batch {0} is not being saved")]
pub struct NotInFlight(pub u64);

/// Why pages from storage were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The database has been opened or written already.
    #[error("pages are loaded before the database is opened")]
    InUse,
    /// A page is missing, or came twice.
    #[error("expected page {expected}, got page {found}")]
    OutOfOrder {
        /// The page that follows what is loaded.
        expected: u32,
        /// The page that came.
        found: u32,
    },
    /// Not a whole number of pages.
    #[error("{0} bytes are not whole pages")]
    Torn(usize),
    /// The database's header names another page size.
    #[error("the database has pages of {found} bytes, this store of {expected}")]
    PageSize {
        /// The store's.
        expected: u32,
        /// The file's.
        found: u32,
    },
}

/// A write that a file of whole pages cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAPage;

/// What some commits changed.
#[derive(Debug, Clone)]
struct Changes {
    commit: u64,
    page_count: u32,
    digest: u64,
    pages: BTreeMap<u32, Page>,
}

impl Changes {
    /// These changes, then newer ones. The newer ones contain every page they added, so what the older ones had beyond the
    /// newer end is gone.
    fn then(mut self, newer: Self) -> Self {
        self.pages.split_off(&newer.page_count.saturating_add(1));
        self.pages.extend(newer.pages);
        Self { pages: self.pages, ..newer }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Pages {
    page_size: usize,
    open: bool,
    full: bool,
    file: Vec<Page>,
    zeros: Page,
    /// Since the last commit.
    written: BTreeSet<u32>,
    /// Of each of the file's pages at the last commit.
    digests: Vec<u64>,
    /// Their sum.
    digest: u64,
    commits: u64,
    /// Since the last batch.
    committed: Option<Changes>,
    in_flight: Option<(u64, Changes)>,
    generations: u64,
}

impl Pages {
    pub(crate) fn new(page_size: u32) -> Self {
        let page_size = page_size as usize;
        Self {
            page_size,
            open: false,
            full: false,
            file: Vec::new(),
            zeros: vec![0; page_size].into(),
            written: BTreeSet::new(),
            digests: Vec::new(),
            digest: 0,
            commits: 0,
            committed: None,
            in_flight: None,
            generations: 0,
        }
    }

    pub(crate) fn page_size(&self) -> u32 {
        self.page_size as u32
    }

    pub(crate) fn page_count(&self) -> u32 {
        self.file.len() as u32
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.len() as u64 * self.page_size as u64
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Whether every commit has been saved.
    pub(crate) fn is_clean(&self) -> bool {
        self.committed.is_none() && self.in_flight.is_none()
    }

    /// Takes the file for one connection; false if another has it.
    pub(crate) fn open(&mut self) -> bool {
        !std::mem::replace(&mut self.open, true)
    }

    pub(crate) fn close(&mut self) {
        self.open = false;
    }

    /// Whether nothing more may be written.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Appends saved pages, in order from page 1, before the file is opened and written.
    pub(crate) fn load(&mut self, first_page: u32, bytes: &[u8]) -> Result<(), LoadError> {
        if self.open || self.commits > 0 {
            return Err(LoadError::InUse);
        }
        let expected = self.page_count() + 1;
        if first_page != expected {
            return Err(LoadError::OutOfOrder { expected, found: first_page });
        }
        if !bytes.len().is_multiple_of(self.page_size) {
            return Err(LoadError::Torn(bytes.len()));
        }
        if first_page == 1
            && let Some(found) = page_size_in_header(bytes)
            && found != self.page_size()
        {
            return Err(LoadError::PageSize { expected: self.page_size(), found });
        }
        for page in bytes.chunks_exact(self.page_size) {
            self.file.push(page.into());
            self.keep_digest(self.page_count());
        }
        Ok(())
    }

    /// Appends the page of a record, or zeros where that is not what was saved. Tells which.
    pub(crate) fn load_sound(&mut self, record: &[u8]) -> Result<bool, LoadError> {
        if self.open || self.commits > 0 {
            return Err(LoadError::InUse);
        }
        let page = sound(self.page_count() + 1, record, self.page_size);
        let is_sound = page.is_some();
        self.file.push(page.unwrap_or_else(|| Arc::clone(&self.zeros)));
        self.keep_digest(self.page_count());
        Ok(is_sound)
    }

    /// Reads what there is of a range; returns how many bytes.
    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let Ok(mut position) = usize::try_from(offset) else { return 0 };
        let mut done = 0;
        while done < buffer.len() {
            let Some(page) = self.file.get(position / self.page_size) else { break };
            let from = &page[position % self.page_size..];
            let count = from.len().min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&from[..count]);
            done += count;
            position += count;
        }
        done
    }

    /// Writes one whole page.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> Result<(), NotAPage> {
        let page_size = self.page_size as u64;
        if bytes.len() != self.page_size || !offset.is_multiple_of(page_size) {
            return Err(NotAPage);
        }
        let number = u32::try_from(offset / page_size + 1).map_err(|_| NotAPage)?;
        while self.page_count() < number {
            self.file.push(Arc::clone(&self.zeros));
            self.written.insert(self.page_count());
        }
        let page = &mut self.file[number as usize - 1];
        match Arc::get_mut(page) {
            Some(unshared) => unshared.copy_from_slice(bytes),
            None => *page = bytes.into(),
        }
        self.written.insert(number);
        Ok(())
    }

    /// Cuts the file to a number of bytes, rounded up to whole pages. It never grows.
    pub(crate) fn truncate(&mut self, size: u64) {
        let Ok(count) = u32::try_from(size.div_ceil(self.page_size as u64)) else { return };
        self.file.truncate(count as usize);
        self.written.split_off(&(count + 1));
    }

    /// Closes a transaction: what was written since the last one is what it changed.
    pub(crate) fn commit(&mut self) {
        let page_count = self.page_count();
        if self.written.is_empty() && page_count as usize == self.digests.len() {
            return;
        }
        self.commits += 1;
        let written = std::mem::take(&mut self.written);
        for cut in self.digests.drain(self.digests.len().min(page_count as usize)..) {
            self.digest = self.digest.wrapping_sub(cut);
        }
        for number in &written {
            self.keep_digest(*number);
        }
        let changes = Changes {
            commit: self.commits,
            page_count,
            digest: self.digest,
            pages: written.into_iter().map(|number| (number, Arc::clone(&self.file[number as usize - 1]))).collect(),
        };
        self.committed = Some(match self.committed.take() {
            Some(older) => older.then(changes),
            None => changes,
        });
    }

    /// Of the file at the last commit.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Takes a page into the digest, in place of what it was. The one after the last that is there may come: there are no holes.
    fn keep_digest(&mut self, number: u32) {
        let index = number as usize - 1;
        let digest = page_digest(number, &self.file[index]);
        self.digest = self.digest.wrapping_add(digest);
        match self.digests.get_mut(index) {
            Some(before) => self.digest = self.digest.wrapping_sub(std::mem::replace(before, digest)),
            None => self.digests.push(digest),
        }
    }

    /// Everything committed since the last batch, unless one is still being saved.
    pub(crate) fn take_batch(&mut self) -> Option<Batch> {
        if self.in_flight.is_some() {
            return None;
        }
        let changes = self.committed.take()?;
        self.generations += 1;
        let batch = Batch {
            generation: self.generations,
            commit: changes.commit,
            page_count: changes.page_count,
            digest: changes.digest,
            pages: changes.pages.iter().map(|(number, page)| (*number, Arc::clone(page))).collect(),
        };
        self.in_flight = Some((self.generations, changes));
        Some(batch)
    }

    /// The batch is in storage.
    pub(crate) fn batch_saved(&mut self, generation: u64) -> Result<(), NotInFlight> {
        self.land(generation).map(drop)
    }

    /// The batch is not in storage; the next one contains it.
    pub(crate) fn batch_failed(&mut self, generation: u64) -> Result<(), NotInFlight> {
        let older = self.land(generation)?;
        self.committed = Some(match self.committed.take() {
            Some(newer) => older.then(newer),
            None => older,
        });
        Ok(())
    }

    fn land(&mut self, generation: u64) -> Result<Changes, NotInFlight> {
        match self.in_flight.take_if(|(in_flight, _)| *in_flight == generation) {
            Some((_, changes)) => Ok(changes),
            None => Err(NotInFlight(generation)),
        }
    }
}

/// Of one page under its number: those of all pages add up to the file's.
pub(crate) fn page_digest(number: u32, page: &[u8]) -> u64 {
    xxh64(page, number.into())
}

/// The page size that a database's header names, if this is one: bytes 16 and 17, big-endian, where 1 stands for 65,536.
fn page_size_in_header(bytes: &[u8]) -> Option<u32> {
    let header = bytes.strip_prefix(b"SQLite format 3\0")?;
    match u16::from_be_bytes([*header.first()?, *header.get(1)?]) {
        1 => Some(65_536),
        size => Some(size.into()),
    }
}

#[cfg(test)]
mod tests;
