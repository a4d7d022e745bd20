//! A host of one node: what it keeps for it, and what it remembers for the test.

use std::collections::BTreeMap;

use rtc_battery_core::Now;
use rtc_battery_core::node::{ErrorCode, Event, Input, LinkId};
use rtc_battery_proto::frame::{Body, Reassembly};
use rtc_battery_proto::packed::{Extent, Packed};
use rtc_battery_proto::{Message, PeerId};

use super::connection::{Connection, Lane};
use super::network::Happening;
use super::{Disk, Member};

/// A host of one node.
#[derive(Debug)]
pub struct Host {
    /// The node.
    pub node: Member,
    /// The open signaling socket.
    pub socket: Option<u32>,
    /// Its peer connections.
    pub links: BTreeMap<LinkId, Connection>,
    /// When the node wants to be polled, on its monotonic clock.
    pub wake_at_ms: Option<u64>,
    /// What its clocks say.
    pub clock: HostClock,
    /// Where its database is kept. A host without one only says that it saves.
    pub disk: Option<Disk>,
    /// What it takes in a millisecond, where it is slow.
    pub takes_bytes_per_ms: Option<u64>,
    /// How long its storage takes, where that is slow, in milliseconds.
    pub save_ms: Option<(u64, u64)>,
    /// The node's version when it was last copied out to be saved.
    pub copied_version: u64,
    /// While set, storage is slow without end.
    pub saves_held: bool,
    /// While set, it always has something else to report: it does not come to yielding.
    pub busy: bool,
    /// It was asked to yield meanwhile.
    pub(super) is_to_yield: bool,
    /// While the machine sleeps, what happens to it waits here.
    pub(super) asleep: Option<Vec<Happening>>,
    /// Gone without a word, for good.
    pub dead: bool,
    /// What it told its user.
    pub events: Vec<Event>,
    /// What it said to peers, in order.
    pub said: Vec<Said>,
    /// The most bytes that were in one channel's buffer.
    pub most_buffered: u64,
    /// The version that was last reported saved.
    pub saved_version: u64,
    /// Whether its connections go through a relay, as its browser would say.
    pub relayed: bool,
    /// How many connections it made.
    pub opened: usize,
    /// How many signaling sockets it opened.
    pub sockets: usize,
    /// When what arrived last had been sent.
    pub(super) heard_sent_ms: u64,
    reassembly: BTreeMap<(LinkId, Lane), Reassembly>,
}

/// A device's own clocks: off by as much as people leave them.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostClock {
    /// How far the wall clock is ahead, in milliseconds; negative where it is behind.
    pub ahead_ms: i64,
    /// Virtual time at which the monotonic clock said 0; it grows where the clock stands still.
    pub mono_zero_ms: u64,
}

impl HostClock {
    /// What the clocks say when a right one says `wall_ms`.
    #[must_use]
    pub fn read(self, wall_ms: u64, now_ms: u64) -> Now {
        Now { wall_ms: wall_ms.saturating_add_signed(self.ahead_ms), mono_ms: now_ms - self.mono_zero_ms }
    }
}

/// A message that was handed to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// To whom.
    pub to: PeerId,
    /// Its type.
    pub kind: &'static str,
    /// How many operations it carries.
    pub operations: usize,
    /// Whether it ends a series, or is none.
    pub ends: bool,
    /// Whether it is packed, not JSON.
    pub packed: bool,
}

impl Host {
    /// One that has done nothing yet.
    #[must_use]
    pub fn new(node: Member) -> Self {
        Self {
            copied_version: node.version(),
            node,
            socket: None,
            links: BTreeMap::new(),
            wake_at_ms: None,
            clock: HostClock::default(),
            disk: None,
            takes_bytes_per_ms: None,
            save_ms: None,
            saves_held: false,
            busy: false,
            is_to_yield: false,
            asleep: None,
            dead: false,
            events: Vec::new(),
            said: Vec::new(),
            most_buffered: 0,
            saved_version: 0,
            relayed: false,
            opened: 0,
            sockets: 0,
            heard_sent_ms: 0,
            reassembly: BTreeMap::new(),
        }
    }

    /// Whether all that its node committed is saved.
    #[must_use]
    pub fn is_saved(&self) -> bool {
        let written = self.disk.as_ref().is_none_or(Disk::is_clean);
        written && !self.saves_held && self.copied_version == self.node.version()
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep.is_some()
    }

    /// How many bytes came to it while it stood still.
    #[must_use]
    pub fn unheard_bytes(&self) -> u64 {
        let bytes = |happening: &Happening| match happening {
            Happening::Report { input: Input::ChannelText { text, .. }, .. } => text.len(),
            Happening::Report {
                input: Input::ChannelBinary { bytes, .. } | Input::BulkBinary { bytes, .. }, ..
            } => bytes.len(),
            _ => 0,
        };
        self.asleep.iter().flatten().map(bytes).sum::<usize>() as u64
    }

    /// Whether the event was told.
    #[must_use]
    pub fn told(&self, event: &Event) -> bool {
        self.events.contains(event)
    }

    /// Remembers a frame that went to a channel. Whether it tells, or ends telling, a live transaction of one operation.
    pub fn note_frame(&mut self, link: LinkId, lane: Lane, frame: &Frame) -> bool {
        let Some(connection) = self.links.get(&link) else { return false };
        let to = connection.peer.clone();
        let text = match frame.message(self.reassembly.entry((link, lane)).or_default()) {
            Some(Body::Text(text)) => text,
            Some(Body::Packed(bytes)) => {
                let said = said_packed(to, bytes);
                let tells = said.kind == "op";
                self.said.push(said);
                return tells;
            }
            None => return false,
        };
        let (kind, operations, ends) = match Message::decode(&text).unwrap() {
            Message::Hello(_) => ("hello", 0, true),
            Message::Op { .. } => ("op", 1, true),
            Message::SyncRequest(_) => ("sync-request", 0, true),
            Message::SyncResponse(response) => ("sync-response", response.operations.len(), !response.more),
            Message::SyncProgress { .. } => ("sync-progress", 0, true),
            Message::SyncFull { .. } => ("sync-full", 0, true),
            Message::Vector { .. } => ("vector", 0, true),
            Message::Floor { .. } => ("floor", 0, true),
            Message::Digest { .. } => ("digest", 0, true),
            Message::Ping(_) => ("ping", 0, true),
            Message::Pong(_) => ("pong", 0, true),
            Message::Taken { .. } => ("taken", 0, true),
            // The one on the other channel is the same one.
            Message::Bye { .. } if lane == Lane::Bulk => return false,
            Message::Bye { .. } => ("bye", 0, true),
        };
        self.said.push(Said { to, kind, operations, ends, packed: false });
        kind == "op"
    }

    /// What it said, pings, pongs, progress and counts of what was taken in left out.
    #[must_use]
    pub fn data(&self) -> Vec<&Said> {
        self.said.iter().filter(|said| !matches!(said.kind, "ping" | "pong" | "taken" | "sync-progress")).collect()
    }

    /// How many messages of a type it said.
    #[must_use]
    pub fn count(&self, kind: &str) -> usize {
        self.said.iter().filter(|said| said.kind == kind).count()
    }

    /// How many operations it said, however often.
    #[must_use]
    pub fn operations_said(&self) -> usize {
        self.said.iter().map(|said| said.operations).sum()
    }

    /// The errors that it told.
    #[must_use]
    pub fn errors(&self) -> Vec<ErrorCode> {
        let code = |event: &Event| match event {
            Event::Error { code, .. } => Some(*code),
            _ => None,
        };
        self.events.iter().filter_map(code).collect()
    }

    /// Joins (`true`) and leaves.
    #[must_use]
    pub fn comings(&self) -> Vec<(bool, PeerId)> {
        let coming = |event: &Event| match event {
            Event::PeerJoin { peer } => Some((true, peer.clone())),
            Event::PeerLeave { peer } => Some((false, peer.clone())),
            _ => None,
        };
        self.events.iter().filter_map(coming).collect()
    }
}

/// The same as in JSON: packed, a single operation is no other message than a series.
fn said_packed(to: PeerId, bytes: Vec<u8>) -> Said {
    let packed = Packed::read(bytes).unwrap();
    let operations = packed.operations().unwrap().len();
    let kind = if operations == 1 && matches!(packed.extent(), Extent::Whole(_)) { "op" } else { "sync-response" };
    Said { to, kind, operations, ends: *packed.extent() != Extent::Part, packed: true }
}

/// What a channel carries in one piece.
#[derive(Debug, Clone)]
pub enum Frame {
    /// A text message.
    Text(String),
    /// A binary one.
    Binary(Vec<u8>),
}

impl Frame {
    /// The message that it is, or is the end of.
    pub(super) fn message(&self, reassembly: &mut Reassembly) -> Option<Body> {
        match self {
            Self::Text(text) => Some(Body::Text(text.clone())),
            Self::Binary(bytes) => reassembly.push(bytes).unwrap(),
        }
    }

    /// In bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Binary(bytes) => bytes.len() as u64,
        }
    }
}
