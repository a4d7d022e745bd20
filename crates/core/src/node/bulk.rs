//! The second channel of a link, for what is large, so that live operations and pings never wait behind it. Opened between ours only, when both
//! have offered it in `hello`; a peer that speaks the specification sees one channel.
//!
//! Whoever opened the first channel opens this one too, and says `ping` on it: for the other side that is the proof that it carries (Chromium
//! reports what the peer opened slightly too early). Until then what is large waits; where it does not open in time it goes over the first channel.
//!
//! Invariant: a series stays on the channel that it began on, since two channels have no common order.

use rtc_battery_proto::frame::{Body, Reassembly};
use rtc_battery_proto::{Message, Ping};

use super::outbox::Outbox;
use super::waiting::Waiting;

/// How long what is large waits for the channel, in milliseconds.
const OPEN_MS: u64 = 3_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The peer has not offered it.
    Unoffered,
    /// It did not open in time.
    Absent,
    /// Both offered it.
    Awaited { until_ms: u64 },
    /// It carries.
    Open,
}

/// Where what is large goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Over the first channel, among everything else.
    Shared,
    /// Over its own.
    Own,
    /// It waits.
    Awaited,
}

#[derive(Debug)]
pub(super) struct Bulk {
    phase: Phase,
    opened_by_us: bool,
    pub(super) outbox: Outbox,
    pub(super) waiting: Waiting,
    pub(super) reassembly: Reassembly,
    /// The peer said `bye` here: nothing follows on this channel.
    bye_heard: bool,
    /// The peer said `bye` on the first channel, and that one on this channel is to be awaited.
    bye_awaited: bool,
}

impl Bulk {
    /// For a link whose first channel this side opened, or the peer.
    pub(super) fn new(opened_by_us: bool) -> Self {
        Self {
            phase: Phase::Unoffered,
            opened_by_us,
            outbox: Outbox::new(None),
            waiting: Waiting::default(),
            reassembly: Reassembly::default(),
            bye_heard: false,
            bye_awaited: false,
        }
    }

    /// Both have offered it. Whether this side is to open it.
    pub(super) fn agree(&mut self, now_ms: u64) -> bool {
        let agrees = self.phase == Phase::Unoffered;
        if agrees {
            self.phase = Phase::Awaited { until_ms: now_ms + OPEN_MS };
        }
        agrees && self.opened_by_us
    }

    /// The host says that it is open. That is taken from who opened it.
    pub(super) fn handle_opened(&mut self) {
        if self.opened_by_us && matches!(self.phase, Phase::Awaited { .. }) {
            self.phase = Phase::Open;
            self.outbox.push_framed(&Body::Text(Message::Ping(Ping::default()).encode()));
        }
    }

    /// Something came over it. Whether it carries: what comes is to wait.
    pub(super) fn heard(&mut self) -> bool {
        if matches!(self.phase, Phase::Awaited { .. }) {
            self.phase = Phase::Open;
        }
        self.phase == Phase::Open
    }

    /// Where what is large goes.
    pub(super) fn lane(&self) -> Lane {
        match self.phase {
            Phase::Open => Lane::Own,
            Phase::Awaited { .. } => Lane::Awaited,
            Phase::Unoffered | Phase::Absent => Lane::Shared,
        }
    }

    /// Nothing waits for the channel any longer.
    pub(super) fn give_up(&mut self) {
        if matches!(self.phase, Phase::Awaited { .. }) {
            self.phase = Phase::Absent;
        }
    }

    /// Says `bye` here too, where there is a channel. Whether it did.
    pub(super) fn say_bye(&mut self) -> bool {
        let open = self.phase == Phase::Open;
        if open {
            self.outbox.push_framed(&Body::Text(Message::Bye { bulk: false, stays: false }.encode()));
        }
        open
    }

    /// The peer said `bye`, here or (`and_here`: and here too) on the first channel. Whether all that it said before has come.
    pub(super) fn handle_bye(&mut self, here: bool, and_here: bool) -> bool {
        if here {
            self.bye_heard = true;
            return self.bye_awaited;
        }
        self.bye_awaited = and_here && !self.bye_heard;
        !self.bye_awaited
    }

    pub(super) fn handle_timeout(&mut self, now_ms: u64) {
        if self.wake_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.give_up();
        }
    }

    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Awaited { until_ms } => Some(until_ms),
            Phase::Unoffered | Phase::Absent | Phase::Open => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_opened_the_first_channel_opens_it_and_speaks_first() {
        let mut bulk = Bulk::new(true);
        assert_eq!(bulk.lane(), Lane::Shared);
        assert!(bulk.agree(0) && !bulk.agree(1));
        assert_eq!(bulk.lane(), Lane::Awaited);
        bulk.handle_opened();
        assert_eq!(bulk.lane(), Lane::Own);
        assert!(bulk.outbox.pop().is_some());
        let mut other = Bulk::new(false);
        assert!(!other.agree(0));
        other.handle_opened();
        assert_eq!(other.lane(), Lane::Awaited, "it may be told too early");
        other.heard();
        assert_eq!((other.lane(), other.outbox.pop()), (Lane::Own, None));
    }

    #[test]
    fn what_is_large_does_not_wait_for_ever() {
        let mut bulk = Bulk::new(true);
        bulk.agree(0);
        assert_eq!(bulk.wake_at_ms(), Some(OPEN_MS));
        bulk.handle_timeout(OPEN_MS - 1);
        assert_eq!(bulk.lane(), Lane::Awaited);
        bulk.handle_timeout(OPEN_MS);
        bulk.handle_opened();
        assert!(!bulk.agree(OPEN_MS), "a series may have begun on the other one");
        assert_eq!((bulk.lane(), bulk.wake_at_ms()), (Lane::Shared, None));
    }

    #[test]
    fn bye_is_heard_when_both_channels_have_said_it() {
        let mut bulk = Bulk::new(true);
        assert!(bulk.handle_bye(false, false), "there is but one");
        assert_eq!((bulk.handle_bye(false, true), bulk.handle_bye(true, false)), (false, true));
        let mut bulk = Bulk::new(true);
        assert_eq!((bulk.handle_bye(true, false), bulk.handle_bye(false, true)), (false, true));
    }
}
