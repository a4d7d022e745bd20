//! How fast one client may speak: so many frames a second, and a burst of so many that has to be saved up.
//!
//! Who is faster is not told and not closed: its frames are read no sooner, and TCP makes it wait. Nothing is lost that way when a peer
//! offers to a large room at once, and a flood costs no more than the bound. (The generic cell rate algorithm: one instant is all its state.)

use std::time::Duration;

use tokio::time::Instant;

use crate::Limits;

#[derive(Debug)]
pub(crate) struct Pace {
    per_frame: Duration,
    burst: Duration,
    /// When all that was sent so far has been paid for.
    paid_at: Instant,
}

impl Pace {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let per_frame = Duration::from_secs(1) / limits.messages_per_second.max(1);
        Self { per_frame, burst: per_frame * limits.message_burst.max(1), paid_at: now }
    }

    /// Counts a frame. Until when to read no other, if that is not now.
    pub(crate) fn count(&mut self, now: Instant) -> Option<Instant> {
        self.paid_at = self.paid_at.max(now) + self.per_frame;
        self.paid_at.checked_sub(self.burst).filter(|next| *next > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_then_a_burst_that_was_saved_up() {
        let start = Instant::now();
        let limits = Limits { messages_per_second: 50, message_burst: 600, ..Limits::default() };
        let mut pace = Pace::new(&limits, start);
        assert!((0..600).all(|_| pace.count(start).is_none()));
        let step = Duration::from_millis(20);
        let mut now = start;
        for _ in 0..100 {
            let next = pace.count(now).unwrap();
            assert_eq!(next, now + step);
            now = next;
        }
        // Twelve seconds save up the whole burst; a day saves up no more.
        for rest in [Duration::from_secs(12), Duration::from_secs(86_400)] {
            now += rest;
            assert!((0..600).all(|_| pace.count(now).is_none()));
            now = pace.count(now).unwrap();
        }
    }
}
