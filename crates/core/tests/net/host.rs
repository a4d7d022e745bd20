//! A host of one node: what it keeps for it, and what it remembers for the test.

use std::collections::BTreeMap;

use rtc_battery_core::node::{ErrorCode, Event, Input, LinkId};
use rtc_battery_proto::frame::Reassembly;
use rtc_battery_proto::{Message, PeerId};

use super::Member;
use super::connection::Connection;

pub struct Host {
    pub node: Member,
    pub socket: Option<u32>,
    pub links: BTreeMap<LinkId, Connection>,
    pub wake_at_ms: Option<u64>,
    /// The node's version when it was last copied out to be saved.
    pub copied_version: u64,
    /// While set, storage is slow without end.
    pub saves_held: bool,
    /// While the machine sleeps, what happens waits here.
    pub asleep: Option<Vec<Input>>,
    pub dead: bool,
    pub events: Vec<Event>,
    /// What it said to peers, in order.
    pub said: Vec<Said>,
    pub most_buffered: u64,
    /// How many connections it made.
    pub opened: usize,
    /// How many signaling sockets it opened.
    pub sockets: usize,
    reassembly: BTreeMap<LinkId, Reassembly>,
}

/// A message that was handed to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub to: PeerId,
    pub kind: &'static str,
    pub operations: usize,
    pub ends: bool,
}

impl Host {
    pub fn new(node: Member) -> Self {
        Self {
            copied_version: node.version(),
            node,
            socket: None,
            links: BTreeMap::new(),
            wake_at_ms: None,
            saves_held: false,
            asleep: None,
            dead: false,
            events: Vec::new(),
            said: Vec::new(),
            most_buffered: 0,
            opened: 0,
            sockets: 0,
            reassembly: BTreeMap::new(),
        }
    }

    /// Remembers a frame that went to a channel.
    pub fn note_frame(&mut self, link: LinkId, frame: &Frame) {
        let Some(connection) = self.links.get(&link) else { return };
        let text = match frame {
            Frame::Text(text) => text.clone(),
            Frame::Binary(bytes) => match self.reassembly.entry(link).or_default().push(bytes).unwrap() {
                Some(text) => text,
                None => return,
            },
        };
        let to = connection.peer.clone();
        let (kind, operations, ends) = match Message::decode(&text).unwrap() {
            Message::Hello(_) => ("hello", 0, true),
            Message::Op { .. } => ("op", 1, true),
            Message::SyncRequest(_) => ("sync-request", 0, true),
            Message::SyncResponse(response) => ("sync-response", response.operations.len(), !response.more),
            Message::SyncFull { .. } => ("sync-full", 0, true),
            Message::Vector { .. } => ("vector", 0, true),
            Message::Digest { .. } => ("digest", 0, true),
            Message::Ping => ("ping", 0, true),
            Message::Pong => ("pong", 0, true),
            Message::Bye => ("bye", 0, true),
        };
        self.said.push(Said { to, kind, operations, ends });
    }

    /// What it said, pings and pongs left out.
    pub fn data(&self) -> Vec<&Said> {
        self.said.iter().filter(|said| !matches!(said.kind, "ping" | "pong")).collect()
    }

    pub fn count(&self, kind: &str) -> usize {
        self.said.iter().filter(|said| said.kind == kind).count()
    }

    pub fn operations_said(&self) -> usize {
        self.said.iter().map(|said| said.operations).sum()
    }

    pub fn errors(&self) -> Vec<ErrorCode> {
        let code = |event: &Event| match event {
            Event::Error { code, .. } => Some(*code),
            _ => None,
        };
        self.events.iter().filter_map(code).collect()
    }

    /// Joins (`true`) and leaves.
    pub fn comings(&self) -> Vec<(bool, PeerId)> {
        let coming = |event: &Event| match event {
            Event::PeerJoin { peer } => Some((true, peer.clone())),
            Event::PeerLeave { peer } => Some((false, peer.clone())),
            _ => None,
        };
        self.events.iter().filter_map(coming).collect()
    }
}

#[derive(Debug, Clone)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
}

impl Frame {
    pub fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Binary(bytes) => bytes.len() as u64,
        }
    }
}
