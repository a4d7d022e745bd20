//! How long a word takes to a peer and back, by its last answer to a ping. Pure.

/// A measurement is as good as new for so long, in milliseconds.
const FRESH_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    /// When the ping went out whose answer comes next.
    asked_at_ms: Option<u64>,
    /// How long the last one took, and when its answer came.
    measured: Option<(u64, u64)>,
}

impl RoundTrip {
    /// A ping went out. The first that is not answered is the one that the next answer is to.
    pub(super) fn asked(&mut self, now_ms: u64) {
        self.asked_at_ms.get_or_insert(now_ms);
    }

    /// An answer came.
    pub(super) fn answered(&mut self, now_ms: u64) {
        if let Some(asked_at_ms) = self.asked_at_ms.take() {
            self.measured = Some((now_ms.saturating_sub(asked_at_ms), now_ms));
        }
    }

    /// The machine slept: what was asked before says nothing.
    pub(super) fn forget_question(&mut self) {
        self.asked_at_ms = None;
    }

    /// Whether it is time to ask for whoever wants to know.
    pub(super) fn is_stale(&self, now_ms: u64) -> bool {
        let measured_at_ms = self.measured.map(|(_, at_ms)| at_ms);
        self.asked_at_ms.is_none() && measured_at_ms.is_none_or(|at_ms| now_ms >= at_ms + FRESH_MS)
    }

    /// How long it took last, in milliseconds.
    pub(super) fn last_ms(&self) -> Option<u64> {
        self.measured.map(|(took_ms, _)| took_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_to_the_first_ping_that_was_not_answered() {
        let mut round_trip = RoundTrip::default();
        assert!(round_trip.is_stale(0));
        round_trip.answered(5);
        assert_eq!(round_trip.last_ms(), None, "nobody asked");
        round_trip.asked(10);
        round_trip.asked(20);
        assert!(!round_trip.is_stale(9_000), "the answer is on its way");
        round_trip.answered(60);
        assert_eq!(round_trip.last_ms(), Some(50));
        round_trip.answered(70);
        assert_eq!(round_trip.last_ms(), Some(50), "to the second ping, whose time nobody kept");
        assert!(!round_trip.is_stale(1_059) && round_trip.is_stale(1_060));
    }

    #[test]
    fn what_was_asked_before_a_sleep_is_not_measured() {
        let mut round_trip = RoundTrip::default();
        round_trip.asked(10);
        round_trip.forget_question();
        round_trip.answered(3_600_000);
        assert_eq!(round_trip.last_ms(), None);
    }
}
