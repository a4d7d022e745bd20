//! The specification's signaling server for one room, as a function from messages to messages.

use std::collections::BTreeMap;

use rtc_battery_proto::PeerId;
use rtc_battery_proto::signaling::{ClientMessage, ServerMessage};

#[derive(Debug, Default)]
pub(super) struct Server {
    /// Sockets that have joined.
    joined: BTreeMap<u32, PeerId>,
    /// Names that it tells newcomers too, and that are nobody's.
    pub(super) ghosts: Vec<PeerId>,
}

impl Server {
    pub(super) fn handle_text(&mut self, socket: u32, text: &str) -> Vec<(u32, ServerMessage)> {
        let message = ClientMessage::decode(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let (to, relayed) = match (message, self.joined.get(&socket).cloned()) {
            (ClientMessage::Join { peer_id }, None) => return self.join(socket, peer_id),
            (ClientMessage::Join { .. }, Some(_)) | (_, None) => panic!("out of place: {text}"),
            (ClientMessage::Offer { to, sdp }, Some(from)) => (to, ServerMessage::Offer { from, sdp }),
            (ClientMessage::Answer { to, sdp }, Some(from)) => (to, ServerMessage::Answer { from, sdp }),
            (ClientMessage::Ice { to, candidate }, Some(from)) => (to, ServerMessage::Ice { from, candidate }),
        };
        self.joined.iter().find(|(_, peer)| **peer == to).map(|(socket, _)| (*socket, relayed)).into_iter().collect()
    }

    pub(super) fn handle_closed(&mut self, socket: u32) -> Vec<(u32, ServerMessage)> {
        let Some(peer_id) = self.joined.remove(&socket) else { return Vec::new() };
        let leave = |other: &u32| (*other, ServerMessage::PeerLeave { peer_id: peer_id.clone() });
        self.joined.keys().map(leave).collect()
    }

    fn join(&mut self, socket: u32, peer_id: PeerId) -> Vec<(u32, ServerMessage)> {
        let peers = ServerMessage::Peers { peer_ids: self.joined.values().chain(&self.ghosts).cloned().collect() };
        let join = |other: &u32| (*other, ServerMessage::PeerJoin { peer_id: peer_id.clone() });
        let mut told: Vec<_> = self.joined.keys().map(join).collect();
        told.push((socket, peers));
        self.joined.insert(socket, peer_id);
        told
    }
}
