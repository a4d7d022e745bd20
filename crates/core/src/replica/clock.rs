//! The hybrid logical clock of one replica.
//!
//! Invariant: what [`Clock::next`] gives is after everything issued or observed before, also across restarts (the last tick is stored with
//! each commit), and never waits for the wall clock. Issuing does not move the clock: only [`Clock::advance`], called when a transaction
//! really committed, does. A failed batch that left the clock advanced would be a hole (actual #8904).

use rtc_battery_proto::Tick;

/// Operations beyond this time, in milliseconds since 1970 (the year 6429), are nobody's: to follow them would bring the clock to its end. So
/// none is issued there either: what others refuse must not be accepted here.
pub(super) const MAX_OPERATION_TS_MS: u64 = 1 << 47;

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

    /// The first tick of a transaction that starts now. `None` beyond [`MAX_OPERATION_TS_MS`].
    pub(super) fn next(self, wall_ms: u64) -> Option<Tick> {
        let now = Tick { ts: wall_ms, counter: 0 };
        let next = if wall_ms > self.last.ts { Some(now) } else { self.last.checked_add(1) };
        next.filter(|next| next.ts <= MAX_OPERATION_TS_MS)
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
        let last = Tick { ts: MAX_OPERATION_TS_MS, counter: u32::MAX };
        assert_eq!(Clock::new(Tick { counter: u32::MAX - 1, ..last }).next(0), Some(last));
        assert_eq!(Clock::new(last).next(0), None);
        assert_eq!(Clock::new(Tick { ts: rtc_battery_proto::MAX_TS_MS, counter: u32::MAX }).next(0), None);
        assert_eq!(Clock::default().next(MAX_OPERATION_TS_MS + 1), None);
        assert_eq!(Clock::default().next(u64::MAX), None);
    }
}
