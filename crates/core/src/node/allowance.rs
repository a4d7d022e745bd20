//! What one peer may make us do and keep, over one link: so much at once, and so much in a second. Who goes beyond it is dropped, and left alone
//! for a while (`peers`); the others notice nothing.
//!
//! Each bound is where no honest peer comes, whatever it has to tell. What it keeps to anyway bounds most of it: credit (`flow`) what is on its
//! way, its own queue what is told live (256 KiB, then our asking). So a relay that slept and wakes is as far from these as one that did not.
//! A peer that comes back under another name has a new allowance: that costs it a connection each time, and `dialing` bounds those.

use super::flow::WINDOW_BYTES;
use super::meter::Meter;
use rtc_battery_proto::frame::MAX_MESSAGE_BYTES;
use rtc_battery_proto::{MAX_ORIGINS, Operation};

/// All that comes. Browsers' channels carry 24 MiB a second at most, and the largest answer that is taken is 512 MiB.
const BYTES: (u64, u64) = (512 << 20, 32 << 20);

/// Beyond the window that it knows of: one message of any length that was begun within it, and vectors, which are said beside it.
const MAX_OVERRUN_BYTES: u64 = WINDOW_BYTES + (MAX_MESSAGE_BYTES + (32 << 20)) as u64;

/// What brings no operations. The longest vector there may be is 16 MiB, and it is told once in 10 s at most.
const WORDS_BYTES: (u64, u64) = (64 << 20, 4 << 20);

/// What a message takes to be looked at, beside its length, in bytes: what is short is not free.
const WORD_BYTES: u64 = 64;

/// Operations that nobody asked for; those of an answer are bounded by what can be staged. A person who imports a table tells 100,000 rows in one
/// transaction, an application that tells 20,000 changes a second for minutes is none that others could follow.
const OPERATIONS: (u64, u64) = (2_000_000, 20_000);

/// Of operations that are not unpacked yet their memory is known: about so many bytes are as much work as one.
const PACKED_BYTES: usize = 1024;

/// Replicas that nobody here has heard of: as many as a vector holds. No honest peer has more to tell, whatever others told it, so nobody is blamed for
/// passing on what it believed, nor by a newcomer that learns of all at once.
const ORIGINS: (u64, u64) = (MAX_ORIGINS as u64, 1);

/// How much of each there is left.
#[derive(Debug)]
pub(super) struct Allowance {
    bytes: Meter,
    words: Meter,
    operations: Meter,
    origins: Meter,
}

/// What a peer has overdone, for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Overdone {
    #[error("it sends more bytes than a channel carries")]
    Bytes,
    #[error("it sends more than it was told that there is room for")]
    Window,
    #[error("it talks more than it tells")]
    Words,
    #[error("it tells more operations than can be merged")]
    Operations,
    #[error("it names more replicas than one peer may bring")]
    Origins,
}

impl Default for Allowance {
    fn default() -> Self {
        let meter = |(burst, per_second)| Meter::new(burst, per_second);
        Self { bytes: meter(BYTES), words: meter(WORDS_BYTES), operations: meter(OPERATIONS), origins: meter(ORIGINS) }
    }
}

impl Allowance {
    /// A frame came; `untaken_bytes`: how much has come that the peer, which knows of the window, was not told to be taken.
    pub(super) fn bytes(&mut self, bytes: usize, untaken_bytes: Option<u64>, now_ms: u64) -> Result<(), Overdone> {
        if untaken_bytes.is_some_and(|bytes| bytes > MAX_OVERRUN_BYTES) {
            return Err(Overdone::Window);
        }
        self.bytes.spend(bytes as u64, now_ms).then_some(()).ok_or(Overdone::Bytes)
    }

    /// A message came that brings no operations.
    pub(super) fn words(&mut self, bytes: usize, now_ms: u64) -> Result<(), Overdone> {
        self.words.spend(bytes as u64 + WORD_BYTES, now_ms).then_some(()).ok_or(Overdone::Words)
    }

    /// Operations came that nobody asked for.
    pub(super) fn operations(&mut self, operations: u64, now_ms: u64) -> Result<(), Overdone> {
        self.operations.spend(operations, now_ms).then_some(()).ok_or(Overdone::Operations)
    }

    /// Something was told of so many replicas that are new here.
    pub(super) fn origins(&mut self, origins: usize, now_ms: u64) -> Result<(), Overdone> {
        self.origins.spend(origins as u64, now_ms).then_some(()).ok_or(Overdone::Origins)
    }
}

/// How much work operations are, as a number of operations.
pub(super) fn work_of(operations: &[Operation]) -> u64 {
    operations.len() as u64
}

/// The same of such as are packed, by the memory that they take.
pub(super) fn work_of_packed(size_bytes: usize) -> u64 {
    1 + (size_bytes / PACKED_BYTES) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_bounded_by_itself_and_comes_back() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.bytes(512 << 20, None, 0), Ok(()));
        assert_eq!(allowance.bytes(1, None, 0), Err(Overdone::Bytes));
        assert_eq!(allowance.bytes(32 << 20, None, 1_000), Ok(()));
        let words = (0..10_000_000).take_while(|_| allowance.words(0, 0).is_ok()).count();
        assert_eq!((words, allowance.words(0, 0)), (1 << 20, Err(Overdone::Words)), "what is short is not free");
        assert_eq!(allowance.operations(2_000_000, 0), Ok(()));
        assert_eq!(allowance.operations(20_001, 1_000), Err(Overdone::Operations));
        assert_eq!(allowance.operations(20_000, 1_000), Ok(()));
        assert_eq!(allowance.origins(MAX_ORIGINS, 0), Ok(()));
        assert_eq!(allowance.origins(1, 999), Err(Overdone::Origins));
        assert_eq!(allowance.origins(0, 999), Ok(()));
        assert_eq!(allowance.origins(1, 1_000), Ok(()));
    }

    #[test]
    fn the_window_is_for_those_who_know_of_it() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.bytes(1, Some(MAX_OVERRUN_BYTES), 0), Ok(()));
        assert_eq!(allowance.bytes(1, Some(MAX_OVERRUN_BYTES + 1), 0), Err(Overdone::Window));
        assert_eq!(allowance.bytes(1, None, 0), Ok(()));
    }

    #[test]
    fn what_is_packed_is_work_by_its_memory() {
        assert_eq!([0, PACKED_BYTES, 1 << 20].map(work_of_packed), [1, 2, 1_025]);
    }
}
