//! How far the series is that a peer is sending, for whoever shows it. The peer says how much there is and how much is out; it decides nothing.
//!
//! Invariant: what is told has `done` below `total` until the series is applied, and is `total` of `total` then. A series that breaks off has no end.

use std::collections::VecDeque;

/// Told at most once in this time, the end excepted. In milliseconds.
const TELL_EVERY_MS: u64 = 100;

/// Largest number that JavaScript counts exactly.
const MAX_TOTAL: u64 = (1 << 53) - 1;

/// What is known of the series of one peer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Of the series that is coming: how much there is, and when that was told last.
    coming: Option<(u64, u64)>,
    /// Of those that have come whole and are not applied, in order; `None` where the peer did not say.
    waiting: VecDeque<Option<u64>>,
}

impl Progress {
    /// The peer says how far it is. Gives what is to be told: done, and all.
    pub(super) fn note(&mut self, done: u64, total: u64, now_ms: u64) -> Option<(u64, u64)> {
        let total = total.clamp(1, MAX_TOTAL);
        let told_at_ms = self.coming.map(|(_, told_at_ms)| told_at_ms);
        let due = told_at_ms.is_none_or(|at_ms| now_ms >= at_ms + TELL_EVERY_MS);
        self.coming = Some((total, told_at_ms.filter(|_| !due).unwrap_or(now_ms)));
        due.then_some((done.min(total - 1), total))
    }

    /// The end of a series has come.
    pub(super) fn end(&mut self) {
        self.waiting.push_back(self.coming.take().map(|(total, _)| total));
    }

    /// The rest of the series will not come.
    pub(super) fn break_off(&mut self) {
        self.coming = None;
    }

    /// The first series that has come whole is applied. Gives how much it was, where that is to be told.
    pub(super) fn applied(&mut self) -> Option<u64> {
        self.waiting.pop_front().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_now_and_then_and_at_the_end() {
        let mut progress = Progress::default();
        let told: Vec<_> = (0..10).filter_map(|n| progress.note(n * 10, 100, 1_000 + n * 30)).collect();
        assert_eq!(told, [(0, 100), (40, 100), (80, 100)]);
        assert_eq!(progress.applied(), None, "its end has not come");
        progress.end();
        progress.note(0, 7, 2_000);
        assert_eq!(progress.applied(), Some(100), "of the first, though the second has begun");
        progress.end();
        assert_eq!((progress.applied(), progress.applied()), (Some(7), None));
    }

    #[test]
    fn a_series_without_a_word_and_one_that_breaks_off_have_no_end() {
        let mut progress = Progress::default();
        progress.end();
        progress.note(0, 9, 0);
        progress.break_off();
        progress.end();
        assert_eq!((progress.applied(), progress.applied(), progress.applied()), (None, None, None));
    }

    #[test]
    fn what_a_peer_makes_up_is_never_more_than_all() {
        let mut progress = Progress::default();
        assert_eq!(progress.note(u64::MAX, 0, 0), Some((0, 1)));
        assert_eq!(progress.note(u64::MAX, u64::MAX, 100), Some((MAX_TOTAL - 1, MAX_TOTAL)));
    }
}
