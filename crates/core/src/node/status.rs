//! How it stands with each peer, for whoever shows it or looks for what is wrong.
//!
//! Asking for it is a command: where what is known of a peer is not fresh, it is asked again, so that who looks now and then sees what is.

use rtc_battery_proto::PeerId;
use serde::Serialize;

use super::channel::Channel;
use super::courtesy::Language;
use super::link::Link;
use super::node::Node;
use super::peers::Peer;
use crate::Now;

/// How it stands with the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Status {
    /// Whether the signaling server has us in the room now: whether new peers can be met.
    pub online: bool,
    /// How many others are in the room, as far as the server says.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub others: u64,
    /// Everyone who is in the room, as far as is known, in the order of their names. In a room that is too large for links between everybody, those there
    /// is a link with, or was to be.
    pub peers: Vec<PeerStatus>,
}

/// How it stands with one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct PeerStatus {
    /// Who.
    pub peer: PeerId,
    /// Whether it can be talked to.
    pub state: PeerState,
    /// How long a word takes there and back, by the last answer to a ping, in milliseconds.
    #[cfg_attr(feature = "ts", ts(type = "number | null"))]
    pub round_trip_ms: Option<u64>,
    /// Whether the connection goes through a relay (TURN); `null` where the browser has not said yet.
    pub relayed: Option<bool>,
    /// Bytes of messages that were sent over the present connection.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub sent_bytes: u64,
    /// Bytes of messages that came over it.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub received_bytes: u64,
    /// How many transactions this database has and the peer lacks, as far as is known; `null` of one that does not say what it has.
    #[cfg_attr(feature = "ts", ts(type = "number | null"))]
    pub peer_lacks: Option<u64>,
    /// How many it has and this one lacks.
    #[cfg_attr(feature = "ts", ts(type = "number | null"))]
    pub we_lack: Option<u64>,
}

/// Whether a peer can be talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum PeerState {
    /// It is in the room, and there is no connection: it is tried again.
    Waiting,
    /// A connection is being made.
    Connecting,
    /// It can be talked to.
    Connected,
    /// It could be, and nothing gets through at the moment.
    Interrupted,
    /// It speaks a newer protocol, and is left alone.
    Refused,
}

impl Node {
    /// How it stands with each peer. Poll the outputs afterwards: peers whose answer is not fresh are asked for another.
    pub fn status(&mut self, now: Now) -> Status {
        let all = !self.room.mesh.is_bounded();
        let listed = |peer: &Peer| all && peer.present || peer.joined || peer.refused || peer.link.is_some();
        let peers: Vec<_> = self.room.peers.iter().filter(|(_, peer)| listed(peer)).collect();
        let peers = peers.into_iter().map(|(id, peer)| self.status_of(id, peer)).collect();
        self.room.look_at_links(now.mono_ms);
        Status { online: self.room.signaling.is_joined(), others: self.room.mesh.others(), peers }
    }

    fn status_of(&self, id: &PeerId, peer: &Peer) -> PeerStatus {
        let link = peer.link.and_then(|link| self.room.links.get(&link));
        let channel = link.and_then(|link| link.channel.as_ref());
        let flow = |bytes: fn(&Channel) -> u64| channel.map_or(0, bytes);
        let session = peer.link.and_then(|link| self.sessions.get(&link));
        let session = session.filter(|_| link.and_then(Link::language) == Some(Language::Ours));
        PeerStatus {
            peer: id.clone(),
            state: state_of(peer, link),
            round_trip_ms: channel.and_then(|channel| channel.round_trip.last_ms()),
            relayed: link.and_then(|link| link.relayed),
            sent_bytes: flow(|channel| channel.flow.handed_bytes()),
            received_bytes: flow(|channel| channel.flow.received_bytes()),
            peer_lacks: session.map(|session| session.lacks(&self.saved.vector).dot_count()),
            we_lack: session.map(|session| session.is_ahead_by(self.replica.vector()).dot_count()),
        }
    }
}

fn state_of(peer: &Peer, link: Option<&Link>) -> PeerState {
    match link {
        _ if peer.refused => PeerState::Refused,
        None => PeerState::Waiting,
        Some(link) if link.is_interrupted() => PeerState::Interrupted,
        Some(_) if peer.joined => PeerState::Connected,
        Some(_) => PeerState::Connecting,
    }
}
