//! What is large waits until the host has nothing else to report. A browser has one queue for all that it tells the core: a live operation, or a call
//! of the user's, would stand in it behind all that a peer may have on its way, and would wait until all channels are full.
//!
//! While there is such work the host is asked to yield. Each time that it has, one message that came over a bulk channel is taken, of one link after
//! the other, and one is made for each bulk channel that takes it.
//!
//! Invariant: what waits is in order, and what ends a link is heard after it.

use std::collections::VecDeque;
use std::ops::Bound;

use super::io::{Effect, Input, LinkId, LinkState};
use super::node::Node;
use super::room::Room;

/// Frames that have come and were not looked at.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// As the peer counts them, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they take in memory, in bytes: a short one is not for nothing.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes + self.frames.len() * size_of::<Vec<u8>>()
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The host was asked to yield and has not yet.
    yielding: bool,
    /// Whose message was taken last.
    last: Option<LinkId>,
    /// Since it yielded last messages were made.
    made: bool,
    /// There may be more to make.
    more: bool,
}

/// Each channel is asked once whether it takes a message.
#[derive(Debug)]
pub(super) struct Round {
    /// It is not the first since the host yielded in which there was something.
    is_late: bool,
    made: bool,
    more: bool,
}

impl Round {
    /// Whether a message may be made for a channel that takes one.
    pub(super) fn may_make(&mut self) -> bool {
        self.more |= self.is_late;
        !self.is_late
    }

    /// One was.
    pub(super) fn made(&mut self) {
        self.made = true;
    }
}

impl Turns {
    pub(super) fn round(&self) -> Round {
        Round { is_late: self.made, made: false, more: false }
    }

    pub(super) fn end_round(&mut self, round: Round) {
        self.made |= round.made;
        self.more |= round.more;
    }
}

impl Node {
    /// Asks the host to yield, if something waits and it was not asked already. Whether it is asked now.
    pub(super) fn ask_to_yield(&mut self) -> bool {
        let is_due = !self.turns.yielding && (self.turns.more || next(&self.room, None).is_some());
        if is_due {
            self.turns.yielding = true;
            self.room.outputs.effect(Effect::Yield);
        }
        is_due
    }

    /// Before anything else is made of an input: takes a message that waits if the host has yielded, and all of a link that may be at its end.
    pub(super) fn take_waiting(&mut self, input: &Input, now_ms: u64) {
        if !self.turns.yielding || matches!(input, Input::Resumed) {
            (self.turns.made, self.turns.more) = (false, false);
        }
        match input {
            Input::Resumed => {
                self.turns.yielding = false;
                self.turns.last = next(&self.room, self.turns.last);
                if let Some(link) = self.turns.last {
                    self.take_message(link, now_ms);
                }
            }
            Input::ChannelClosed { link }
            | Input::BulkClosed { link }
            | Input::LinkFailed { link, .. }
            | Input::LinkState { link, state: LinkState::Failed | LinkState::Closed } => {
                while self.take_message(*link, now_ms) {}
            }
            _ => {}
        }
    }

    /// Takes what waits of a link to the end of a message. Whether there was one.
    fn take_message(&mut self, link: LinkId, now_ms: u64) -> bool {
        while let Some(frame) = self.room.channel(link).and_then(|channel| channel.bulk.waiting.pop()) {
            if let Some(heard) = self.room.take_bulk(link, &frame, now_ms) {
                self.handle_heard(heard, now_ms);
                return true;
            }
        }
        false
    }
}

/// Of the links of which something waits the one after `last`.
fn next(room: &Room, last: Option<LinkId>) -> Option<LinkId> {
    let after = last.map_or(Bound::Unbounded, Bound::Excluded);
    let later = room.links.range((after, Bound::Unbounded));
    let mut waiting = later
        .chain(&room.links)
        .filter(|(_, link)| link.channel.as_ref().is_some_and(|channel| !channel.bulk.waiting.is_empty()));
    waiting.next().map(|(link, _)| *link)
}
