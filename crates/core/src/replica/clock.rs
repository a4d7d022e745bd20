//! The hybrid logical clock of one replica.
//!
//! Invariant: what [`Clock::next`] gives is after everything issued or observed before, also across restarts (the last tick is stored with
//! each commit), and never waits for the wall clock. Issuing does not move the clock: only [`Clock::advance`], called when a transaction
//! really committed, does. A failed batch that left the clock advanced would be a hole (actual #8904).

use rtc_battery_proto::{MAX_TS_MS, Tick};

/// The last tick issued or observed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    last: Tick,
}

impl Clock {
    pub(super) fn new(last: Tick) -> Self {
        Self { last }
    }

    pub(super) fn last(self) -> Tick {
        self.last
    }

    /// The first tick of a transaction that starts now. `None` at the end of time.
    pub(super) fn next(self, wall_ms: u64) -> Option<Tick> {
        let wall_ms = wall_ms.min(MAX_TS_MS);
        if wall_ms > self.last.ts { Some(Tick { ts: wall_ms, counter: 0 }) } else { self.last.checked_add(1) }
    }

    /// A tick was used or seen.
    pub(super) fn advance(&mut self, tick: Tick) {
        self.last = self.last.max(tick);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_issued_only_grows(steps in prop::collection::vec((0..20u64, 0..20u64, 0..3u32), 1..50)) {
            let mut clock = Clock::default();
            for (wall_ms, remote_ts, counter) in steps {
                let before = clock.last();
                let next = clock.next(wall_ms).unwrap();
                prop_assert!(next > before && next.ts >= wall_ms);
                prop_assert_eq!(clock.last(), before);
                clock.advance(next);
                clock.advance(Tick { ts: remote_ts, counter });
                prop_assert!(clock.last() >= next);
            }
        }
    }

    #[test]
    fn the_end_of_time_is_an_answer_not_a_panic() {
        let clock = Clock::new(Tick { ts: MAX_TS_MS, counter: u32::MAX });
        assert_eq!(clock.next(u64::MAX), None);
    }
}
