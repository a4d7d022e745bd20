//! A tab's watch over the tab that leads: whether anybody is there.
//!
//! The lock of the database says who leads, and a tab that is closed or crashes lets go of it. One that is frozen or whose process stands still
//! keeps it, and answers nothing. So a tab that hears nothing asks, sooner while it waits for an answer, and takes the lead over where that is not
//! answered either. The leader's worker answers, and so does its page, since a worker may be busy with one statement for minutes.
//!
//! A wrong guess costs time and no data: the fence of the storage keeps the writes of who was replaced out. So that two tabs which are both too busy
//! to answer do not take it from each other for ever, a tab has twice the patience after each time.

/// Silence after which a tab that waits for an answer asks, in milliseconds.
const ASK_WAITING_MS: u64 = 1000;

/// The same where it waits for nothing: what peers wrote would not be seen any more.
const ASK_IDLE_MS: u64 = 10_000;

/// Silence after having asked that means nobody is there, in milliseconds.
const PATIENCE_MS: u64 = 3000;

/// How often patience doubles.
const MAX_DOUBLINGS: u32 = 5;

/// A clock that is looked at so much later than asked means that this tab stood still itself, in milliseconds: then it asks again.
const LATE_MS: u64 = 1000;

/// What to do about a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Ask whether anybody is there.
    Ask,
    /// Nobody is: take the lead over.
    TakeOver,
}

/// One tab's watch, while it does not lead.
#[derive(Debug)]
pub struct Vigil {
    /// What makes two tabs lose patience at different moments.
    jitter_ms: u64,
    waiting: bool,
    quiet_since_ms: u64,
    /// When nobody is there, if nothing is heard until then.
    give_up_at_ms: Option<u64>,
    doublings: u32,
}

impl Vigil {
    /// Begins; `jitter_ms` is drawn by lot below a second.
    #[must_use]
    pub fn new(jitter_ms: u64, now_ms: u64) -> Self {
        Self { jitter_ms, waiting: false, quiet_since_ms: now_ms, give_up_at_ms: None, doublings: 0 }
    }

    /// Whether an answer is waited for.
    pub fn expect(&mut self, waiting: bool, now_ms: u64) {
        // What the leader did before is no sign of what it does now; what it was asked before may have been answered just now.
        if waiting && !self.waiting && self.give_up_at_ms.is_none() {
            self.quiet_since_ms = now_ms;
        }
        self.waiting = waiting;
    }

    /// Somebody leads: it said something, or the lead has just changed.
    pub fn heard(&mut self, now_ms: u64) {
        self.quiet_since_ms = now_ms;
        self.give_up_at_ms = None;
    }

    /// What to do now, if anything.
    pub fn look(&mut self, now_ms: u64) -> Option<Doubt> {
        if now_ms < self.wake_at_ms() {
            return None;
        }
        match self.give_up_at_ms {
            Some(at_ms) if now_ms <= at_ms + LATE_MS => {
                self.doublings = (self.doublings + 1).min(MAX_DOUBLINGS);
                self.heard(now_ms);
                Some(Doubt::TakeOver)
            }
            _ => {
                self.give_up_at_ms = Some(now_ms + (PATIENCE_MS << self.doublings) + self.jitter_ms);
                Some(Doubt::Ask)
            }
        }
    }

    /// When to look again.
    #[must_use]
    pub fn wake_at_ms(&self) -> u64 {
        let ask_after_ms = if self.waiting { ASK_WAITING_MS } else { ASK_IDLE_MS };
        self.give_up_at_ms.unwrap_or(self.quiet_since_ms + ask_after_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks whenever it is time to, until somebody is to be replaced; gives the moment.
    fn replaced_at_ms(vigil: &mut Vigil) -> u64 {
        loop {
            let now_ms = vigil.wake_at_ms();
            if vigil.look(now_ms) == Some(Doubt::TakeOver) {
                return now_ms;
            }
        }
    }

    #[test]
    fn a_leader_that_answers_nothing_is_asked_and_then_replaced() {
        let mut vigil = Vigil::new(7, 0);
        vigil.expect(true, 500);
        assert_eq!(vigil.look(1499), None);
        assert_eq!(vigil.look(1500), Some(Doubt::Ask));
        assert_eq!(vigil.look(4506), None);
        assert_eq!(vigil.look(4507), Some(Doubt::TakeOver));
    }

    #[test]
    fn whatever_is_heard_of_it_is_a_sign_of_life() {
        let mut vigil = Vigil::new(0, 0);
        vigil.expect(true, 0);
        assert_eq!(vigil.look(1000), Some(Doubt::Ask));
        vigil.heard(3999);
        assert_eq!(vigil.look(4000), None);
        assert_eq!(vigil.wake_at_ms(), 4999);
        assert_eq!(vigil.look(4999), Some(Doubt::Ask));
    }

    #[test]
    fn who_waits_for_nothing_asks_seldom() {
        let mut vigil = Vigil::new(0, 0);
        assert_eq!(vigil.look(9999), None);
        assert_eq!(vigil.look(10_000), Some(Doubt::Ask));
        assert_eq!(replaced_at_ms(&mut vigil), 13_000);
    }

    #[test]
    fn who_stood_still_itself_asks_again() {
        let mut vigil = Vigil::new(0, 0);
        assert_eq!(vigil.look(10_000), Some(Doubt::Ask));
        assert_eq!(vigil.look(3_600_000), Some(Doubt::Ask));
        assert_eq!(vigil.wake_at_ms(), 3_603_000);
    }

    #[test]
    fn each_time_it_has_twice_the_patience() {
        let mut vigil = Vigil::new(0, 0);
        vigil.expect(true, 0);
        let mut before_ms = 0;
        for patience_ms in [3000, 6000, 12_000, 24_000, 48_000, 96_000, 96_000] {
            let at_ms = replaced_at_ms(&mut vigil);
            assert_eq!(at_ms - before_ms, ASK_WAITING_MS + patience_ms);
            before_ms = at_ms;
        }
    }
}
