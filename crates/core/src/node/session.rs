//! Sync with one peer over one link: what it has, what it asked, what we asked, and what to say next.
//!
//! Messages are made one at a time, when the link takes one ([`Session::next_message`]): the rest are marks that something is due. So
//! nothing piles up, and what matters most goes first. Between the first message of a series (an answer, a large transaction) and its end
//! no other series goes to the same peer: the receiver stages by link.
//!
//! Invariant: nothing that is not saved is told, except in parts that the receiver only stages: their end is held back. The session knows
//! neither the link under it nor the other sessions; a new link begins with a new session, whatever the old one knew.

use std::sync::Arc;

use rtc_battery_proto::{Hello, Message, PROTOCOL, SyncRequest, VersionVector};

use super::PART_BYTES;
use super::live::{Live, LiveQueue, encode_end, encode_part};
use super::plain::Plain;
use crate::Replica;
use crate::replica::{DeltaEnd, DeltaReader, StorageError};

/// How long we wait for a first message before we take the peer for one that speaks only the specification, in milliseconds.
const HELLO_TIMEOUT_MS: u64 = 2_000;

/// How long the side that did not open the channel holds its first word back, in milliseconds. Chromium reports a channel that the peer opened as
/// open slightly too early, and drops what is sent then, without an error (seen in 31 of 4,273 connections): a message from the peer
/// is proof, or time.
const HOLD_MS: u64 = 1_000;

/// What our storage holds.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) vector: VersionVector,
    pub(super) version: u64,
}

/// What is known of the peer's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has said nothing yet. Nothing but our `hello` is sent.
    Unknown {
        /// When we stop waiting.
        until_ms: u64,
    },
    /// It said `hello`.
    Ours,
    /// It speaks the specification only.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    /// Held back until the peer speaks, or this time.
    Held {
        until_ms: u64,
    },
    Due,
    Sent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bye {
    No,
    Due,
    Sent,
}

/// An answer to a sync-request on its way.
#[derive(Debug)]
struct Answer {
    reader: DeltaReader,
    /// The last part, while what it stands for is not saved.
    end: Option<(String, DeltaEnd)>,
}

#[derive(Debug)]
pub(super) struct Session {
    kind: Kind,
    greeting: Greeting,
    pong_due: bool,
    ping_due: bool,
    announce_due: bool,
    bye: Bye,
    /// What the peer last said that it has.
    said: VersionVector,
    /// What went over this link, either way.
    shared: VersionVector,
    /// What we last said that we have.
    told: VersionVector,
    /// What the peer said that it has and did not give when asked.
    unmet: VersionVector,
    ask_due: bool,
    /// The peer's request that is answered next, as what it has.
    requested: Option<VersionVector>,
    answer: Option<Answer>,
    live: LiveQueue,
    plain: Plain,
}

impl Session {
    /// A session on a channel that this side opened, or the peer.
    pub(super) fn new(opened_by_us: bool, now_ms: u64) -> Self {
        Self {
            kind: Kind::Unknown { until_ms: now_ms + HELLO_TIMEOUT_MS },
            greeting: if opened_by_us { Greeting::Due } else { Greeting::Held { until_ms: now_ms + HOLD_MS } },
            pong_due: false,
            ping_due: false,
            announce_due: false,
            bye: Bye::No,
            said: VersionVector::default(),
            shared: VersionVector::default(),
            told: VersionVector::default(),
            unmet: VersionVector::default(),
            ask_due: false,
            requested: None,
            answer: None,
            live: LiveQueue::default(),
            plain: Plain::default(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether messages of ours beyond the specification's are understood, and the link is not about to close.
    pub(super) fn is_ready(&self) -> bool {
        self.kind == Kind::Ours && self.bye == Bye::No
    }

    /// The peer has spoken: the channel carries what we say.
    pub(super) fn release_greeting(&mut self) {
        if matches!(self.greeting, Greeting::Held { .. }) {
            self.greeting = Greeting::Due;
        }
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now_ms: u64) {
        if matches!(self.greeting, Greeting::Held { until_ms } if until_ms <= now_ms) {
            self.greeting = Greeting::Due;
        }
        if matches!(self.kind, Kind::Unknown { until_ms } if until_ms <= now_ms) {
            self.kind = Kind::Plain;
        }
    }

    /// When time changes something next.
    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let held = match self.greeting {
            Greeting::Held { until_ms } => Some(until_ms),
            Greeting::Due | Greeting::Sent => None,
        };
        let unknown = match self.kind {
            Kind::Unknown { until_ms } => Some(until_ms),
            Kind::Ours | Kind::Plain => None,
        };
        [held, unknown].into_iter().flatten().min()
    }

    /// The peer's first message was no `hello`.
    pub(super) fn take_for_plain(&mut self) {
        if matches!(self.kind, Kind::Unknown { .. }) {
            self.kind = Kind::Plain;
        }
    }

    pub(super) fn handle_hello(&mut self, vector: VersionVector, saved: &Saved) {
        self.kind = Kind::Ours;
        self.said = vector;
        // What was saved between our hello and theirs was told to nobody.
        self.announce_if_lacking(saved);
    }

    pub(super) fn handle_vector(&mut self, vector: VersionVector) {
        self.said = vector;
    }

    pub(super) fn handle_request(&mut self, request: SyncRequest, ours: &VersionVector) {
        if self.kind == Kind::Plain {
            return self.plain.handle_request();
        }
        let theirs = request.vector.unwrap_or_default();
        self.note_shared(&theirs, ours);
        self.requested = Some(theirs);
    }

    pub(super) fn handle_ping(&mut self) {
        self.pong_due = true;
    }

    pub(super) fn ping(&mut self) {
        self.ping_due = true;
    }

    /// Says `bye` after what is due; nothing follows it.
    pub(super) fn say_bye(&mut self) {
        if self.bye == Bye::No {
            self.bye = Bye::Due;
        }
    }

    /// Whether we have begun to leave, on our own account or in answer to the peer.
    pub(super) fn is_leaving(&self) -> bool {
        self.bye != Bye::No
    }

    /// Tells what was just saved; `None` where it is not at hand.
    pub(super) fn tell(&mut self, covers: &VersionVector, live: Option<&Arc<Live>>) {
        if self.kind == Kind::Plain {
            if self.bye == Bye::No && !self.has(covers) {
                self.plain.tell(live.map(|live| live.plain.as_slice()));
            }
            return;
        }
        // Our hello and our announcement tell what is saved at the time they go out.
        if !self.is_ready() || self.greeting != Greeting::Sent || self.announce_due || self.has(covers) {
            return;
        }
        if !live.is_some_and(|live| self.live.push(live)) {
            self.announce_due = true;
        }
    }

    /// Says what we have if the peer lacks some of it and was not told so.
    pub(super) fn announce_if_lacking(&mut self, saved: &Saved) {
        if self.is_ready()
            && self.greeting == Greeting::Sent
            && !self.told.covers(&saved.vector)
            && !self.has(&saved.vector)
        {
            self.announce_due = true;
        }
    }

    /// What the peer has and we lack, as far as it is worth asking for.
    pub(super) fn offers(&self, ours: &VersionVector) -> VersionVector {
        if !self.is_ready() || self.ask_due {
            return VersionVector::default();
        }
        self.said.minus(ours).minus(&self.unmet)
    }

    pub(super) fn ask(&mut self) {
        self.ask_due = true;
    }

    /// The answer to our request has ended, or is not waited for: what it did not give is not asked for again. A request that is still not
    /// out stays due.
    pub(super) fn note_unmet(&mut self, asked_for: &VersionVector, ours: &VersionVector) {
        if !self.ask_due {
            self.unmet = asked_for.minus(ours);
        }
    }

    /// The peer has what of `covers` is ours: it gave it, or asked from there on.
    pub(super) fn note_shared(&mut self, covers: &VersionVector, ours: &VersionVector) {
        self.shared.merge(&covers.minus(&covers.minus(ours)));
    }

    /// The next thing to say, now that the link takes one.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn next_message(
        &mut self,
        replica: &Replica,
        saved: &Saved,
        max_message_bytes: usize,
    ) -> Result<Option<String>, StorageError> {
        if self.greeting == Greeting::Due {
            self.greeting = Greeting::Sent;
            self.told = saved.vector.clone();
            let (protocol, node_id) = (PROTOCOL, replica.id().clone());
            return Ok(Some(Message::Hello(Hello { protocol, node_id, vector: self.told.clone() }).encode()));
        }
        if self.greeting != Greeting::Sent || self.bye == Bye::Sent || matches!(self.kind, Kind::Unknown { .. }) {
            return Ok(None);
        }
        if std::mem::take(&mut self.pong_due) {
            return Ok(Some(Message::Pong.encode()));
        }
        if std::mem::take(&mut self.ping_due) {
            return Ok(Some(Message::Ping.encode()));
        }
        if self.kind == Kind::Plain && self.bye == Bye::No {
            return self.plain.next_message(replica, saved, max_message_bytes);
        }
        if std::mem::take(&mut self.ask_due) {
            let vector = Some(replica.vector().clone());
            return Ok(Some(Message::SyncRequest(SyncRequest { from_version: 0, vector }).encode()));
        }
        if let Some(message) = self.next_live() {
            return Ok(Some(message));
        }
        if self.bye == Bye::Due {
            self.bye = Bye::Sent;
            return Ok(Some(Message::Bye.encode()));
        }
        if !self.is_answering() && std::mem::take(&mut self.announce_due) && !self.has(&saved.vector) {
            self.told = saved.vector.clone();
            return Ok(Some(Message::Vector { vector: self.told.clone() }.encode()));
        }
        self.next_of_answer(replica, saved)
    }

    /// How many operations the peer could not be sent because they are too large for it, since last asked.
    pub(super) fn take_skipped(&mut self) -> u32 {
        self.plain.take_skipped()
    }

    fn has(&self, covers: &VersionVector) -> bool {
        covers.minus(&self.said).minus(&self.shared).is_empty()
    }

    fn is_answering(&self) -> bool {
        self.answer.is_some() || self.requested.is_some()
    }

    fn next_live(&mut self) -> Option<String> {
        // An answer in progress will contain it; only what it did not is told after its end.
        if self.is_answering() && !self.live.in_series() {
            return None;
        }
        let (said, shared) = (&self.said, &self.shared);
        let (message, told) = self.live.pop(|covers| covers.minus(said).minus(shared).is_empty())?;
        if let Some(live) = told {
            self.shared.merge(&live.covers);
        }
        Some(message)
    }

    fn next_of_answer(&mut self, replica: &Replica, saved: &Saved) -> Result<Option<String>, StorageError> {
        // Rows are read where the user's open transaction may have changed them.
        if replica.in_transaction() {
            return Ok(None);
        }
        if self.answer.is_none() {
            let Some(since) = self.requested.take() else { return Ok(None) };
            self.answer = Some(Answer { reader: replica.delta(&since)?, end: None });
        }
        let Some(answer) = &mut self.answer else { return Ok(None) };
        if answer.end.is_none() {
            let part = replica.read_delta(&mut answer.reader, PART_BYTES)?;
            let Some(end) = part.end else { return Ok(Some(encode_part(part.operations))) };
            answer.end = Some((encode_end(part.operations, end.covers.clone()), end));
        }
        let Some((message, end)) = answer.end.take_if(|(_, end)| end.version <= saved.version) else { return Ok(None) };
        self.answer = None;
        self.shared.merge(&end.covers);
        Ok(Some(message))
    }
}
