//! A page as storage keeps it: the page, and after it its digest.
//!
//! That of the whole file says that something is not what was saved, these say where: what the other pages hold can be read by itself
//! (`rtc-battery-core`'s `salvage`). A page under another's number, or a part of one, does not pass.

use crate::pages::{Page, page_digest};

/// How much longer a record is than its page.
pub const DIGEST_BYTES: usize = size_of::<u64>();

/// What stands after the page in its record.
#[must_use]
pub fn digest_of_record(number: u32, page: &[u8]) -> [u8; DIGEST_BYTES] {
    page_digest(number, page).to_le_bytes()
}

/// The page of a record that is what was saved under this number.
pub(crate) fn sound(number: u32, record: &[u8], page_size: usize) -> Option<Page> {
    let (page, digest) = record.split_at_checked(page_size)?;
    (digest == digest_of_record(number, page)).then(|| page.into())
}
