//! The specification's signaling server for one room, as a function from messages to messages. It knows resume keys, as ours does.

use std::collections::BTreeMap;

use rtc_battery_proto::PeerId;
use rtc_battery_proto::signaling::{ClientMessage, ResumeKey, ServerMessage, code};

use crate::random::Random;

#[derive(Debug)]
pub(super) struct Server {
    /// Sockets that have joined.
    joined: BTreeMap<u32, PeerId>,
    keys: BTreeMap<u32, ResumeKey>,
    /// Names that it tells newcomers too, and that are nobody's.
    pub(super) ghosts: Vec<PeerId>,
    /// Who is put between, and whose place it takes.
    pub(super) interposed: Option<(PeerId, PeerId)>,
    /// Who asks for a sample is told of so many.
    pub(super) sample_peers: Option<usize>,
    random: Random,
}

impl Server {
    pub(super) fn new(seed: u64) -> Self {
        let (joined, keys, random) = (BTreeMap::new(), BTreeMap::new(), Random::new(seed ^ 0x5e7e));
        Self { joined, keys, ghosts: Vec::new(), interposed: None, sample_peers: None, random }
    }

    /// All that it knew is gone.
    pub(super) fn forget(&mut self) {
        self.joined.clear();
        self.keys.clear();
    }

    pub(super) fn handle_text(&mut self, socket: u32, text: &str) -> Vec<(u32, ServerMessage)> {
        let message = ClientMessage::decode(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let (mut to, mut relayed) = match (message, self.joined.get(&socket).cloned()) {
            (ClientMessage::Join { peer_id, resume, sample }, None) => {
                return self.join(socket, peer_id, resume, sample);
            }
            (ClientMessage::Sample, Some(me)) => return vec![(socket, self.list(Some(&me), true))],
            (ClientMessage::Join { .. }, Some(_)) | (_, None) => panic!("out of place: {text}"),
            (ClientMessage::Offer { to, sdp }, Some(from)) => (to, ServerMessage::Offer { from, sdp }),
            (ClientMessage::Answer { to, sdp }, Some(from)) => (to, ServerMessage::Answer { from, sdp }),
            (ClientMessage::Ice { to, candidate }, Some(from)) => (to, ServerMessage::Ice { from, candidate }),
        };
        if let Some((between, victim)) = &self.interposed {
            speak_as(victim, between, &mut relayed);
            if to == *victim && !text.contains("sealed-1") {
                to = between.clone();
            }
        }
        self.joined.iter().find(|(_, peer)| **peer == to).map(|(socket, _)| (*socket, relayed)).into_iter().collect()
    }

    pub(super) fn handle_closed(&mut self, socket: u32) -> Vec<(u32, ServerMessage)> {
        let Some(peer_id) = self.joined.remove(&socket) else { return Vec::new() };
        self.keys.remove(&socket);
        let leave = |other: &u32| (*other, ServerMessage::PeerLeave { peer_id: peer_id.clone() });
        self.joined.keys().map(leave).collect()
    }

    fn join(
        &mut self,
        socket: u32,
        peer_id: PeerId,
        resume: Option<ResumeKey>,
        sample: bool,
    ) -> Vec<(u32, ServerMessage)> {
        let holder = self.joined.iter().find(|(_, peer)| **peer == peer_id).map(|(socket, _)| *socket);
        if let Some(holder) = holder {
            if resume.is_none() || self.keys.get(&holder) != resume.as_ref() {
                let message = "it belongs to another socket".into();
                return vec![(socket, ServerMessage::Error { code: code::PEER_ID_IN_USE.into(), message })];
            }
            self.joined.remove(&holder);
        }
        let peers = self.list(None, sample);
        let join = |other: &u32| (*other, ServerMessage::PeerJoin { peer_id: peer_id.clone() });
        let mut told: Vec<_> = self.joined.keys().filter(|_| holder.is_none()).map(join).collect();
        told.push((socket, peers));
        self.keys.extend(resume.map(|key| (socket, key)));
        self.joined.insert(socket, peer_id);
        told
    }
}

impl Server {
    /// Those who are there, or some of them.
    fn list(&mut self, asks: Option<&PeerId>, sample: bool) -> ServerMessage {
        let everybody = self.joined.values().chain(&self.ghosts).filter(|peer| Some(*peer) != asks);
        let mut peer_ids: Vec<PeerId> = everybody.cloned().collect();
        let Some(most) = self.sample_peers.filter(|_| sample) else {
            return ServerMessage::Peers { peer_ids, count: None };
        };
        let count = Some(peer_ids.len() as u64);
        while peer_ids.len() > most {
            let drawn = self.random.between((0, peer_ids.len() as u64 - 1)) as usize;
            peer_ids.swap_remove(drawn);
        }
        ServerMessage::Peers { peer_ids, count }
    }
}

/// What one says is told as if another had.
fn speak_as(victim: &PeerId, between: &PeerId, message: &mut ServerMessage) {
    let (ServerMessage::Offer { from, .. } | ServerMessage::Answer { from, .. } | ServerMessage::Ice { from, .. }) =
        message
    else {
        return;
    };
    if from == between {
        *from = victim.clone();
    }
}
