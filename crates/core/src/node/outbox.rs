//! What is on its way out of one channel: frames of the current message, and how many bytes the channel holds.
//!
//! Invariant: nothing is handed over while the channel holds 256 KiB or more, and at most one message waits here. Whoever makes messages
//! makes the next one only when asked ([`Outbox::wants_message`]), so what matters most at that moment goes first and a slow link makes
//! nobody's memory grow.

use std::collections::VecDeque;

use rtc_battery_proto::frame::{self, Body};

/// Bytes in a channel from which on nothing more is handed to it.
pub(super) const HIGH_WATER_BYTES: u64 = 256 * 1024;

/// Assumed where the browser does not say (RFC 8841).
const DEFAULT_MAX_MESSAGE_BYTES: u32 = 65_536;

/// One message of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

impl Frame {
    pub(super) fn size_bytes(&self) -> u64 {
        let size_bytes = match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        };
        size_bytes as u64
    }
}

#[derive(Debug)]
pub(super) struct Outbox {
    /// What the peer takes in one message.
    max_message_bytes: usize,
    max_text_bytes: usize,
    frames: VecDeque<Frame>,
    handed_bytes: u64,
    sent_bytes: u64,
}

impl Outbox {
    pub(super) fn new(max_message_bytes: Option<u32>) -> Self {
        let max = max_message_bytes.unwrap_or(DEFAULT_MAX_MESSAGE_BYTES);
        let max_message_bytes = usize::try_from(max).unwrap_or(usize::MAX);
        let max_text_bytes = max_message_bytes.min(frame::FRAME_BYTES);
        Self { max_message_bytes, max_text_bytes, frames: VecDeque::new(), handed_bytes: 0, sent_bytes: 0 }
    }

    /// Whether the next message can go out now.
    pub(super) fn wants_message(&self) -> bool {
        self.frames.is_empty() && self.has_credit()
    }

    /// Whether nothing waits here.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What the peer takes in one message, in bytes.
    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Takes a message; `framed` says whether the peer puts frames together.
    pub(super) fn push(&mut self, message: Body, framed: bool) {
        match message {
            Body::Text(text) if !framed || text.len() <= self.max_text_bytes => {
                self.frames.push_back(Frame::Text(text));
            }
            message => self.push_framed(&message),
        }
    }

    /// Takes a message for a peer that puts frames together, whatever its length.
    pub(super) fn push_framed(&mut self, message: &Body) {
        self.frames.extend(frame::split(message).map(Frame::Binary));
    }

    /// The next frame, if the channel takes one.
    pub(super) fn pop(&mut self) -> Option<Frame> {
        if !self.has_credit() {
            return None;
        }
        let frame = self.frames.pop_front()?;
        self.handed_bytes += frame.size_bytes();
        Some(frame)
    }

    /// The channel has let go of so many bytes in all. Whether those are more than before.
    pub(super) fn handle_drained(&mut self, sent_bytes: u64) -> bool {
        let before = self.sent_bytes;
        self.sent_bytes = before.max(sent_bytes.min(self.handed_bytes));
        self.sent_bytes > before
    }

    fn has_credit(&self) -> bool {
        self.handed_bytes - self.sent_bytes < HIGH_WATER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_never_holds_much_more_than_the_high_water() {
        let mut outbox = Outbox::new(Some(262_144));
        outbox.push("x".repeat(3_000_000).into(), true);
        let (mut frames, mut drains) = (0, 0);
        loop {
            while let Some(frame) = outbox.pop() {
                assert!(frame.size_bytes() <= frame::FRAME_BYTES as u64);
                assert!(outbox.handed_bytes - outbox.sent_bytes < HIGH_WATER_BYTES + frame::FRAME_BYTES as u64);
                frames += 1;
            }
            if outbox.frames.is_empty() {
                break;
            }
            assert!(!outbox.wants_message());
            outbox.handle_drained(outbox.handed_bytes - 1000);
            drains += 1;
        }
        assert_eq!((frames, drains > 8), (184, true));
        assert!(outbox.wants_message());
    }

    #[test]
    fn false_reports_do_not_open_the_gates() {
        let mut outbox = Outbox::new(None);
        outbox.push(Body::Text("a".into()), true);
        assert_eq!(outbox.pop(), Some(Frame::Text("a".into())));
        outbox.handle_drained(u64::MAX);
        outbox.handle_drained(0);
        assert_eq!((outbox.handed_bytes, outbox.sent_bytes), (1, 1));
    }

    #[test]
    fn what_fits_goes_as_text() {
        let mut outbox = Outbox::new(Some(10));
        outbox.push(Body::Text("0123456789".into()), true);
        outbox.push(Body::Text("0123456789a".into()), true);
        assert!(matches!(outbox.pop(), Some(Frame::Text(_))));
        assert!(matches!(outbox.pop(), Some(Frame::Binary(_))));
    }
}
