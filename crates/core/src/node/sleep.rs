//! Notices that the machine slept: timers that fire much later than asked, or a wall clock that ran on while the monotonic one
//! stood still. What seems dead after a sleep is asked first (links) or made anew (the signaling socket, which some systems kill without
//! telling). A wall clock that was merely set forward looks the same and costs no more than that.

use crate::Now;

/// A gap above this, in milliseconds, is a sleep.
pub(super) const SLEPT_MS: u64 = 15_000;

/// How often an idle node looks at the clock, in milliseconds, so that a sleep is noticed at all.
pub(super) const LOOK_EVERY_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct SleepWatch {
    last: Now,
    wake_at_ms: Option<u64>,
}

impl SleepWatch {
    pub(super) fn new(now: Now) -> Self {
        Self { last: now, wake_at_ms: None }
    }

    /// To be called whenever time passed. Gives the length of the sleep that just ended, in milliseconds.
    pub(super) fn look(&mut self, now: Now) -> Option<u64> {
        let late_ms = self.wake_at_ms.map_or(0, |asked| now.mono_ms.saturating_sub(asked));
        let wall_ms = now.wall_ms.saturating_sub(self.last.wall_ms);
        let stood_still_ms = wall_ms.saturating_sub(now.mono_ms.saturating_sub(self.last.mono_ms));
        self.last = now;
        if self.wake_at_ms.is_some_and(|asked| asked <= now.mono_ms) {
            self.wake_at_ms = None;
        }
        let gap_ms = late_ms.max(stood_still_ms);
        (gap_ms > SLEPT_MS).then_some(gap_ms)
    }

    /// The clocks when they were last looked at.
    pub(super) fn now(&self) -> Now {
        self.last
    }

    /// What the host was told to wake us at.
    pub(super) fn asked_to_wake(&mut self, wake_at_ms: Option<u64>) {
        self.wake_at_ms = wake_at_ms;
    }

    /// When to look at the clock next.
    pub(super) fn look_at_ms(&self) -> u64 {
        self.last.mono_ms.saturating_add(LOOK_EVERY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(wall_s: u64, mono_s: u64) -> Now {
        Now { wall_ms: wall_s * 1000, mono_ms: mono_s * 1000 }
    }

    #[test]
    fn a_late_timer_is_a_sleep_and_a_long_wait_is_none() {
        let mut watch = SleepWatch::new(now(100, 0));
        watch.asked_to_wake(Some(60_000));
        assert_eq!(watch.look(now(160, 60)), None);
        watch.asked_to_wake(Some(70_000));
        assert_eq!(watch.look(now(190, 90)), Some(20_000));
        assert_eq!(watch.look(now(190, 90)), None);
        watch.asked_to_wake(None);
        assert_eq!(watch.look(now(1190, 1090)), None);
    }

    #[test]
    fn a_monotonic_clock_that_stood_still_is_a_sleep() {
        let mut watch = SleepWatch::new(now(100, 0));
        assert_eq!(watch.look(now(3700, 1)), Some(3_599_000));
        assert_eq!(watch.look(now(50, 2)), None);
    }
}
