//! An open channel of a link: whose turn it is to speak, what waits to go out, and what is counted of what came; pure.

use rtc_battery_proto::Message;
use rtc_battery_proto::frame::{Body, Reassembly};

use super::allowance::{Allowance, Overdone};
use super::bulk::{Bulk, Lane};
use super::courtesy::{Courtesy, Turn};
use super::flow::Flow;
use super::keepalive::Keepalive;
use super::outbox::Outbox;
use super::round_trip::RoundTrip;
use crate::Now;

/// Where more than this waits to be applied, the peer is not told that what it sent was taken. In bytes.
const MAX_UNTAKEN_BYTES: usize = 1024 * 1024;

/// An open channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) courtesy: Courtesy,
    pub(super) outbox: Outbox,
    pub(super) reassembly: Reassembly,
    pub(super) keepalive: Keepalive,
    pub(super) bulk: Bulk,
    pub(super) flow: Flow,
    pub(super) opened_at_ms: u64,
    pub(super) round_trip: RoundTrip,
    /// How many links the peer says that it has.
    pub(super) links: Option<u64>,
    /// Our `bye` is for this link alone: we stay in the room.
    pub(super) stays: bool,
    /// The same of the peer's.
    pub(super) peer_stays: bool,
    pub(super) allowance: Allowance,
}

impl Channel {
    pub(super) fn new(opened_by_us: bool, max_message_bytes: Option<u32>, now_ms: u64) -> Self {
        Self {
            courtesy: Courtesy::new(opened_by_us, now_ms),
            outbox: Outbox::new(max_message_bytes),
            reassembly: Reassembly::default(),
            keepalive: Keepalive::new(now_ms),
            bulk: Bulk::new(opened_by_us),
            flow: Flow::default(),
            opened_at_ms: now_ms,
            round_trip: RoundTrip::default(),
            links: None,
            stays: false,
            peer_stays: false,
            allowance: Allowance::default(),
        }
    }

    /// Whose turn it is to speak; what courtesy demands is said here.
    /// `links`: how many we have.
    pub(super) fn turn(&mut self, now: Now, links: u64) -> Turn {
        if !self.outbox.wants_message() {
            return Turn::Silence;
        }
        let pings = self.courtesy.ping_is_due();
        let turn = self.courtesy.turn(now.wall_ms, links);
        let Turn::Say(message) = turn else { return turn };
        if pings && !self.courtesy.ping_is_due() {
            self.round_trip.asked(now.mono_ms);
        }
        self.say(message.into());
        Turn::Silence
    }

    /// Takes the next message, asked for by [`turn`](Self::turn).
    pub(super) fn say(&mut self, message: Body) {
        let framed = !self.courtesy.is_plain();
        self.outbox.push(message, framed);
    }

    /// Says `bye`, if that is due: on both channels where there are two.
    pub(super) fn say_bye(&mut self) {
        if self.courtesy.last_word() {
            let bulk = self.bulk.say_bye();
            self.say(Body::Text(Message::Bye { bulk, stays: self.stays }.encode()));
        }
    }

    /// Whether the next message for the bulk channel can go out now.
    pub(super) fn wants_bulk(&self) -> bool {
        let may = self.courtesy.has_greeted() && !self.courtesy.has_parted() && !self.courtesy.is_plain();
        may && self.bulk.lane() == Lane::Own && self.bulk.outbox.wants_message() && self.flow.has_room_for_bulk()
    }

    /// Says how much was taken in, if it is time to, and not so much of it still waits to be applied.
    pub(super) fn report_taken(&mut self, unapplied_bytes: usize) {
        if self.courtesy.is_ready()
            && self.outbox.wants_message()
            && unapplied_bytes <= MAX_UNTAKEN_BYTES
            && let Some(bytes) = self.flow.report(self.bulk.waiting.bytes() as u64)
        {
            self.say(Body::Text(Message::Taken { bytes }.encode()));
        }
    }

    /// So many bytes came.
    pub(super) fn received(&mut self, bytes: usize, now_ms: u64) -> Result<(), Overdone> {
        self.flow.received(bytes);
        self.allowance.bytes(bytes, self.flow.untaken_bytes(), now_ms)
    }

    /// How much is held of messages that have not come whole, in bytes.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.reassembly.held_bytes() + self.bulk.reassembly.held_bytes() + self.bulk.waiting.held_bytes()
    }
}
