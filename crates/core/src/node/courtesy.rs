//! What is said on every channel, whatever else is told over it: a first word, ping and pong, `bye`. And what language the peer speaks.
//!
//! Invariant: nothing goes out before the first word, nothing but the first word before the peer's language is known, nothing after `bye`. What the
//! first word is, and what follows it, is for others to say ([`Turn`]).

use rtc_battery_proto::{Message, Ping, Pong};

/// How long we wait for a first message before we take the peer for one that speaks only the specification, in milliseconds.
const FIRST_WORD_TIMEOUT_MS: u64 = 2_000;

/// How long the side that did not open the channel holds its first word back, in milliseconds. Chromium reports a channel that the peer opened as
/// open slightly too early, and drops what is sent then, without an error (seen in 31 of 4,273 connections): a message from the peer
/// is proof, or time.
const HOLD_MS: u64 = 1_000;

/// What is known of the peer's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// It has said nothing yet. Nothing but our first word is sent.
    Unknown {
        /// When we stop waiting.
        until_ms: u64,
    },
    /// It said `hello`, and we speak that too.
    Ours,
    /// The specification only.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstWord {
    /// Held back until the peer speaks, or this time.
    Held {
        until_ms: u64,
    },
    Due,
    Said,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bye {
    No,
    Due,
    Said,
}

/// Who has something to say next.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// Nobody.
    Silence,
    /// The first word is due, whatever it is.
    FirstWord,
    /// This message is due.
    Say(String),
    /// Whoever has something to tell this peer. When `leaving`, only what must not be lost: `bye` follows, or the end of the link where `bye`
    /// is not understood.
    Open {
        /// Whether this is the end.
        leaving: bool,
    },
}

#[derive(Debug)]
pub(super) struct Courtesy {
    language: Language,
    first_word: FirstWord,
    /// The last ping that was not answered.
    pong_due: Option<Ping>,
    ping_due: bool,
    bye: Bye,
}

impl Courtesy {
    /// For a channel that this side opened, or the peer.
    pub(super) fn new(opened_by_us: bool, now_ms: u64) -> Self {
        Self {
            language: Language::Unknown { until_ms: now_ms + FIRST_WORD_TIMEOUT_MS },
            first_word: if opened_by_us { FirstWord::Due } else { FirstWord::Held { until_ms: now_ms + HOLD_MS } },
            pong_due: None,
            ping_due: false,
            bye: Bye::No,
        }
    }

    pub(super) fn language(&self) -> Language {
        self.language
    }

    pub(super) fn is_plain(&self) -> bool {
        self.language == Language::Plain
    }

    /// Whether it is known how to speak to the peer, so that what waits for it can be said.
    pub(super) fn is_understood(&self) -> bool {
        !matches!(self.language, Language::Unknown { .. })
    }

    /// Whether messages of ours beyond the specification's are understood, and the link is not about to close.
    pub(super) fn is_ready(&self) -> bool {
        self.language == Language::Ours && self.bye == Bye::No
    }

    /// Whether our first word is out.
    pub(super) fn has_greeted(&self) -> bool {
        self.first_word == FirstWord::Said
    }

    /// Whether we have begun to leave, on our own account or in answer to the peer.
    pub(super) fn is_leaving(&self) -> bool {
        self.bye != Bye::No
    }

    /// Whether our `bye` is out: nothing follows it.
    pub(super) fn has_parted(&self) -> bool {
        self.bye == Bye::Said
    }

    /// The peer has spoken: the channel carries what we say.
    pub(super) fn heard(&mut self) {
        if matches!(self.first_word, FirstWord::Held { .. }) {
            self.first_word = FirstWord::Due;
        }
    }

    /// The peer's first message was no `hello`, or one that we do not speak.
    pub(super) fn take_for_plain(&mut self) {
        if matches!(self.language, Language::Unknown { .. }) {
            self.language = Language::Plain;
        }
    }

    /// The peer said `hello`.
    pub(super) fn take_for_ours(&mut self) {
        self.language = Language::Ours;
    }

    pub(super) fn handle_ping(&mut self, ping: Ping) {
        self.pong_due = Some(ping);
    }

    pub(super) fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Whether a ping is to be said.
    pub(super) fn ping_is_due(&self) -> bool {
        self.ping_due
    }

    /// Says `bye` after what must not be lost; nothing follows it.
    pub(super) fn say_bye(&mut self) {
        if self.bye == Bye::No {
            self.bye = Bye::Due;
        }
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now_ms: u64) {
        if matches!(self.first_word, FirstWord::Held { until_ms } if until_ms <= now_ms) {
            self.first_word = FirstWord::Due;
        }
        if matches!(self.language, Language::Unknown { until_ms } if until_ms <= now_ms) {
            self.language = Language::Plain;
        }
    }

    /// When time changes something next.
    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let held = match self.first_word {
            FirstWord::Held { until_ms } => Some(until_ms),
            FirstWord::Due | FirstWord::Said => None,
        };
        let unknown = match self.language {
            Language::Unknown { until_ms } => Some(until_ms),
            Language::Ours | Language::Plain => None,
        };
        [held, unknown].into_iter().flatten().min()
    }

    /// Whose turn it is, now that the channel takes a message, at this time by the wall clock. What is returned counts as said.
    /// `links`: how many we have.
    pub(super) fn turn(&mut self, wall_ms: u64, links: u64) -> Turn {
        if self.first_word == FirstWord::Due {
            self.first_word = FirstWord::Said;
            return Turn::FirstWord;
        }
        let mute = self.bye == Bye::Said || matches!(self.language, Language::Unknown { .. });
        if !self.has_greeted() || mute {
            return Turn::Silence;
        }
        // Plain peers are told what the specification says.
        let wall = Some(wall_ms).filter(|_| !self.is_plain());
        if let Some(ping) = self.pong_due.take() {
            let pinged = ping.wall.filter(|_| wall.is_some());
            let wall = wall.filter(|_| pinged.is_some());
            return Turn::Say(Message::Pong(Pong { wall, pinged }).encode());
        }
        if std::mem::take(&mut self.ping_due) {
            return Turn::Say(Message::Ping(Ping { wall, links: wall.map(|_| links) }).encode());
        }
        Turn::Open { leaving: self.is_leaving() }
    }

    /// Whether `bye` is to be said now; asked when nobody has anything left that must not be lost.
    pub(super) fn last_word(&mut self) -> bool {
        let due = self.bye == Bye::Due;
        if due {
            self.bye = Bye::Said;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_open_the_channel_waits_for_a_word_or_a_second() {
        for speaks in [true, false] {
            let mut courtesy = Courtesy::new(false, 0);
            courtesy.handle_timeout(999);
            assert_eq!(courtesy.turn(0, 3), Turn::Silence);
            if speaks {
                courtesy.heard();
            } else {
                courtesy.handle_timeout(1_000);
            }
            assert_eq!((courtesy.turn(0, 3), courtesy.turn(0, 3)), (Turn::FirstWord, Turn::Silence));
        }
    }

    #[test]
    fn the_silent_speak_the_specification_after_two_seconds() {
        let mut courtesy = Courtesy::new(true, 0);
        assert_eq!((courtesy.turn(0, 3), courtesy.wake_at_ms()), (Turn::FirstWord, Some(2_000)));
        courtesy.handle_timeout(2_000);
        assert_eq!((courtesy.turn(0, 3), courtesy.wake_at_ms()), (Turn::Open { leaving: false }, None));
        // Too late for another first word, not for hello.
        courtesy.take_for_ours();
        assert!(courtesy.is_ready());
        courtesy.take_for_plain();
        assert!(!courtesy.is_plain());
    }

    #[test]
    fn pongs_go_first_and_nothing_follows_bye() {
        let mut courtesy = Courtesy::new(true, 0);
        courtesy.turn(0, 3);
        courtesy.take_for_ours();
        courtesy.ping();
        courtesy.handle_ping(Ping { wall: Some(5), links: None });
        courtesy.say_bye();
        assert!(courtesy.is_leaving() && !courtesy.is_ready());
        let pong = Message::Pong(Pong { wall: Some(7), pinged: Some(5) });
        for message in [pong, Message::Ping(Ping { wall: Some(7), links: Some(3) })] {
            assert_eq!(courtesy.turn(7, 3), Turn::Say(message.encode()));
        }
        assert_eq!(courtesy.turn(0, 3), Turn::Open { leaving: true });
        assert_eq!((courtesy.last_word(), courtesy.last_word()), (true, false));
        courtesy.say_bye();
        courtesy.handle_ping(Ping { wall: Some(5), links: None });
        assert_eq!((courtesy.turn(0, 3), courtesy.last_word()), (Turn::Silence, false));
    }
}
