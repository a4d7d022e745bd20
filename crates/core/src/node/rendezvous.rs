//! From the signaling server to links: who is here, whom to offer to, whose offer to answer, and how a link ends.
//!
//! Whoever enters (or comes back) offers to everyone it has no connection with, and those present make way for that offer: whatever was being
//! negotiated with it before may have lost a message. Connections that came about do not depend on signaling and stay.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use rtc_battery_proto::PeerId;
use rtc_battery_proto::sealing::ConnectionId;
use rtc_battery_proto::signaling::{ClientMessage, ServerMessage};
use serde_json::value::{RawValue, to_raw_value};

use super::description::{Candidate, MAX_DESCRIPTION_BYTES, Origin};
use super::io::{DescriptionKind, Effect, ErrorCode, Event, LinkId, LinkState, SessionDescription};
use super::link::Link;
use super::negotiation::{Action, AnswerFor, Negotiation, OfferFor};
use super::outputs::excerpt;
use super::peers::{OFFER_WAIT_MS, Peer};
use super::room::{Ended, Room};
use super::sealing::{Described, Way};

/// Why a link is closed, and so what follows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending<'a> {
    /// It broke or never came about: the user is told, and the peer is dialled again while it is here.
    Lost(&'a str),
    /// Another link takes its place.
    Replaced,
    /// On purpose.
    Meant,
}

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(reason) => f.write_str(&excerpt(reason)),
            Self::Replaced => f.write_str("the connection was replaced"),
            Self::Meant => f.write_str("the connection was closed"),
        }
    }
}

impl Room {
    pub(super) fn handle_signaling(&mut self, text: &str, now_ms: u64) {
        let was_joined = self.signaling.is_joined();
        let message = self.signaling.handle_text(text, now_ms, &mut self.random, &mut self.outputs);
        match message {
            Some(ServerMessage::Peers { peer_ids, count }) => {
                let listed = peer_ids.len() as u64;
                let whole = count.is_none_or(|count| count <= listed);
                let others = count.unwrap_or(0).max(listed);
                self.mesh.counted(others, count.is_some(), !was_joined, now_ms, &mut self.random);
                self.reconcile(peer_ids, whole, !was_joined, now_ms);
            }
            Some(ServerMessage::PeerJoin { peer_id }) => {
                if peer_id != self.me && !self.peers.find(&peer_id).is_some_and(|peer| peer.present) {
                    self.mesh.joined(now_ms, &mut self.random);
                }
                self.expect(&peer_id, true, OFFER_WAIT_MS, now_ms);
            }
            Some(ServerMessage::PeerLeave { peer_id }) => {
                if peer_id != self.me {
                    self.mesh.left(now_ms, &mut self.random);
                }
                self.handle_peer_leave(&peer_id, now_ms);
            }
            Some(ServerMessage::Offer { from, sdp }) => self.handle_offer(&from, &sdp, now_ms),
            Some(ServerMessage::Answer { from, sdp }) => self.handle_answer(&from, &sdp, now_ms),
            Some(ServerMessage::Ice { from, candidate }) => self.handle_candidate(&from, &candidate),
            Some(ServerMessage::Error { .. }) | None => {}
        }
    }

    /// Who is here; all of them where the list is `whole`. `fresh`: it is the answer to our own joining.
    fn reconcile(&mut self, listed: Vec<PeerId>, whole: bool, fresh: bool, now_ms: u64) {
        if fresh {
            self.dialing.forget_crowd();
        }
        let listed: BTreeSet<PeerId> = listed.into_iter().collect();
        let gone: Vec<PeerId> =
            self.peers.iter_mut().map(|(id, _)| id).filter(|id| whole && !listed.contains(id)).cloned().collect();
        for peer in &gone {
            self.handle_peer_leave(peer, now_ms);
        }
        for peer in &listed {
            self.expect(peer, fresh, 0, now_ms);
        }
    }

    /// A peer is here. With `anew` it or we have just come, so that what was being negotiated is begun again, by us after `wait_ms`.
    fn expect(&mut self, id: &PeerId, anew: bool, wait_ms: u64, now_ms: u64) {
        let known = self.peers.find(id).is_some_and(|peer| peer.present);
        let Some(peer) = self.admit(id) else { return };
        if known && !anew {
            return;
        }
        let current = peer.link;
        if let Some(link) = current.and_then(|link| self.links.get_mut(&link)).filter(|link| link.is_settled()) {
            link.repeat_restart(now_ms);
            return;
        }
        if let Some(link) = current {
            self.drop_link(link, Ending::Replaced, now_ms);
        }
        if let Some(peer) = self.peers.find_mut(id) {
            peer.dial_at(now_ms + wait_ms);
        }
    }

    fn handle_peer_leave(&mut self, id: &PeerId, now_ms: u64) {
        let Some(peer) = self.peers.find_mut(id) else { return };
        peer.present = false;
        let current = peer.link.filter(|link| self.links.get(link).is_some_and(|link| !link.is_settled()));
        if let Some(link) = current {
            self.lose(link, "the peer left", now_ms);
        }
        if let Some(peer) = self.peers.find_mut(id) {
            peer.leave();
        }
    }

    pub(super) fn dial(&mut self, peer: &PeerId, now_ms: u64) {
        let connection = self.sealing.connection(|| self.random.between(0, u64::MAX));
        let link = self.open_link(peer, connection, true, VecDeque::new(), now_ms);
        let mut actions = Vec::new();
        if let Some(link) = self.links.get_mut(&link) {
            link.negotiation.start(&mut actions);
        }
        self.perform(link, actions);
    }

    fn handle_offer(&mut self, from: &PeerId, sdp: &RawValue, now_ms: u64) {
        let Some(offer) = self.read_description(from, sdp, DescriptionKind::Offer, now_ms) else { return };
        let Some(peer) = self.admit(from).filter(|peer| !peer.is_left_alone(now_ms)) else { return };
        if peer.was_closed(Origin::of(&offer.description.sdp).session()) {
            // The peer still holds to a connection that we gave up: offer it another.
            peer.dial_at(now_ms);
            return;
        }
        let current = peer.link;
        let Some(current) = current.filter(|link| self.keeps(*link, now_ms)) else {
            return self.take_offer(from, offer, now_ms);
        };
        let Some(link) = self.links.get_mut(&current) else { return };
        let mut actions = Vec::new();
        match link.negotiation.handle_offer(offer.description.clone(), &mut actions) {
            OfferFor::This => {
                link.restart.note_agreement(now_ms);
                self.perform(current, actions);
            }
            OfferFor::Nobody => {}
            OfferFor::Another if link.challenge(&offer, now_ms) => {}
            OfferFor::Another => self.give_way(current, from, offer, now_ms),
        }
    }

    /// Whether what is being made with a peer may come about: a dial of ours that is answered takes a place, and others may have taken the last one.
    fn keeps(&mut self, id: LinkId, now_ms: u64) -> bool {
        let kept = self.links.get(&id).is_some_and(Link::takes_place) || self.has_place(now_ms);
        if !kept {
            self.drop_link(id, Ending::Replaced, now_ms);
        }
        kept
    }

    /// The offer of somebody we have no link with.
    fn take_offer(&mut self, from: &PeerId, offer: Described, now_ms: u64) {
        if let Some(peer) = self.peers.find_mut(from) {
            // If it cannot be answered now, we offer when it is its turn.
            peer.dial_at(now_ms + OFFER_WAIT_MS);
        }
        if !self.has_place(now_ms) {
            self.make_way(from, offer, now_ms);
        } else if self.take_place(false, now_ms) {
            self.answer(from, offer, VecDeque::new(), now_ms);
        }
    }

    /// The offer in place of a link that did not show that it stands is taken up.
    pub(super) fn replace(&mut self, id: LinkId, peer: &PeerId, now_ms: u64) {
        if let Some(offer) = self.links.get_mut(&id).and_then(Link::take_rival) {
            self.give_way(id, peer, offer, now_ms);
        }
    }

    fn give_way(&mut self, current: LinkId, peer: &PeerId, offer: Described, now_ms: u64) {
        if self.take_place(false, now_ms) {
            let old = self.drop_link(current, Ending::Replaced, now_ms);
            let early = old.map(|link| link.negotiation.into_waiting()).unwrap_or_default();
            self.answer(peer, offer, early, now_ms);
        }
    }

    pub(super) fn answer(&mut self, peer: &PeerId, offer: Described, early: VecDeque<Candidate>, now_ms: u64) {
        let link = self.open_link(peer, offer.connection, false, early, now_ms);
        let mut actions = Vec::new();
        if let Some(link) = self.links.get_mut(&link) {
            link.negotiation.handle_offer(offer.description, &mut actions);
            link.restart.note_agreement(now_ms);
        }
        self.perform(link, actions);
    }

    fn handle_answer(&mut self, from: &PeerId, sdp: &RawValue, now_ms: u64) {
        let answer = self.read_description(from, sdp, DescriptionKind::Answer, now_ms);
        let Some(Described { description: answer, connection }) = answer else { return };
        let Some(peer) = self.peers.find(from).filter(|peer| !peer.was_closed(Origin::of(&answer.sdp).session()))
        else {
            return;
        };
        let Some(current) = peer.link else { return };
        if !self.keeps(current, now_ms) {
            return self.spare(from, now_ms);
        }
        // An answer to an earlier connection's offer may have been held back on the way.
        let Some(link) = self.links.get_mut(&current).filter(|link| link.connection == connection) else { return };
        let mut actions = Vec::new();
        match link.negotiation.handle_answer(answer, &mut actions) {
            AnswerFor::This => {
                link.restart.note_agreement(now_ms);
                self.perform(current, actions);
            }
            AnswerFor::Stray if link.is_settled() => {}
            AnswerFor::Nobody => {}
            AnswerFor::Replaced | AnswerFor::Stray => {
                // The connection at the other end is not the one that this link is for.
                self.drop_link(current, Ending::Replaced, now_ms);
                if let Some(peer) = self.peers.find_mut(from) {
                    peer.dial_again(true, None, now_ms, &mut self.random);
                }
            }
        }
    }

    fn handle_candidate(&mut self, from: &PeerId, json: &RawValue) {
        let way = Way { from, to: &self.me };
        let Some(candidate) = self.sealing.open_candidate(way, json.get()) else { return };
        let Some(peer) = self.peers.find(from).filter(|peer| !peer.refused) else { return };
        let current = peer.link.and_then(|id| Some((id, self.links.get_mut(&id)?)));
        let Some((id, link)) = current.filter(|(_, link)| link.connection == candidate.connection) else {
            return self.early.keep(from, candidate);
        };
        let mut actions = Vec::new();
        link.negotiation.handle_candidate(candidate, &mut actions);
        self.perform(id, actions);
    }

    pub(super) fn handle_local_description(&mut self, id: LinkId, description: SessionDescription) {
        let mut actions = Vec::new();
        if let Some(link) = self.links.get_mut(&id) {
            link.negotiation.handle_local_description(description, &mut actions);
        }
        self.perform(id, actions);
    }

    pub(super) fn handle_local_candidate(&mut self, id: LinkId, candidate: String) {
        let mut actions = Vec::new();
        if let Some(link) = self.links.get_mut(&id) {
            link.negotiation.handle_local_candidate(candidate, &mut actions);
        }
        self.perform(id, actions);
    }

    pub(super) fn handle_link_state(&mut self, id: LinkId, state: LinkState, now_ms: u64) {
        let can_signal = self.links.get(&id).is_some_and(|link| self.can_signal(&link.peer));
        if self.links.get_mut(&id).is_some_and(|link| !link.handle_state(state, can_signal, now_ms)) {
            self.lose(id, "the connection failed", now_ms);
        }
    }

    /// Does what the negotiation of a link wants done.
    fn perform(&mut self, link: LinkId, actions: Vec<Action>) {
        let known = self.links.get(&link).map(|link| (link.peer.clone(), link.connection));
        let Some((to, connection)) = known else { return };
        for action in actions {
            let effect = match action {
                Action::CreateOffer { ice_restart } => Effect::CreateOffer { link, ice_restart },
                Action::SetRemoteDescription(description) => Effect::SetRemoteDescription { link, description },
                Action::AddCandidate(candidate) => Effect::AddCandidate { link, candidate },
                Action::SignalDescription(description) => {
                    let (way, kind) = (Way { from: &self.me, to: &to }, description.kind);
                    let sealed = self.sealing.seal_description(way, connection, description);
                    let Ok(sdp) = to_raw_value(&sealed) else { continue };
                    let to = to.clone();
                    self.signal(match kind {
                        DescriptionKind::Offer => ClientMessage::Offer { to, sdp },
                        DescriptionKind::Answer => ClientMessage::Answer { to, sdp },
                    });
                    continue;
                }
                Action::SignalCandidate(candidate) => {
                    let way = Way { from: &self.me, to: &to };
                    if let Ok(candidate) = self.sealing.seal_candidate(way, connection, candidate) {
                        self.signal(ClientMessage::Ice { to: to.clone(), candidate });
                    }
                    continue;
                }
            };
            self.outputs.effect(effect);
        }
    }

    pub(super) fn signal(&mut self, message: ClientMessage) {
        self.signaling.send(&message, &mut self.outputs);
    }

    fn open_link(
        &mut self,
        peer: &PeerId,
        connection: Option<ConnectionId>,
        offers: bool,
        mut early: VecDeque<Candidate>,
        now_ms: u64,
    ) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link += 1;
        early.append(&mut self.early.take(peer));
        early.retain(|candidate| candidate.connection == connection);
        if let Some(entry) = self.peers.find_mut(peer) {
            entry.link = Some(id);
        }
        let polite = self.me < *peer;
        self.links.insert(id, Link::new(peer.clone(), Negotiation::new(polite, early), connection, offers, now_ms));
        self.outputs.effect(Effect::OpenLink { link: id, peer: peer.clone(), offers });
        id
    }

    /// Restarts ICE.
    pub(super) fn restart(&mut self, id: LinkId, now_ms: u64) {
        let mut actions = Vec::new();
        if let Some(link) = self.links.get_mut(&id) {
            let begun = link.negotiation.restart(&mut actions);
            link.restart.note(begun, now_ms);
        }
        self.perform(id, actions);
    }

    /// A link broke or never came about.
    pub(super) fn lose(&mut self, id: LinkId, reason: &str, now_ms: u64) {
        self.drop_link(id, Ending::Lost(reason), now_ms);
    }

    /// Closes a link and forgets it. What follows for the peer follows only if this was its current link.
    pub(super) fn drop_link(&mut self, id: LinkId, ending: Ending<'_>, now_ms: u64) -> Option<Link> {
        let link = self.links.remove(&id)?;
        self.outputs.effect(Effect::CloseLink { link: id });
        self.ended.push(Ended { link: id, peer: link.peer.clone(), reason: ending.to_string() });
        let Some(peer) = self.peers.find_mut(&link.peer).filter(|peer| peer.link == Some(id)) else {
            return Some(link);
        };
        peer.link = None;
        if let Some(session) = link.negotiation.remote_session() {
            peer.close_session(session);
        }
        if let Ending::Lost(reason) = ending {
            let open_ms = link.channel.as_ref().map(|channel| now_ms.saturating_sub(channel.opened_at_ms));
            let first = peer.dial_again(link.offered_first, open_ms, now_ms, &mut self.random);
            if std::mem::take(&mut peer.joined) {
                self.outputs.event(Event::PeerLeave { peer: link.peer.clone() });
            } else if first && peer.present && !self.mesh.is_bounded() && self.dialing.may_tell_failure(now_ms) {
                let message = format!("No connection to a peer ({}). It is tried again.", excerpt(reason));
                self.outputs.error(ErrorCode::Link, message, Some(&link.peer));
            }
        }
        Some(link)
    }

    /// Begins to leave: lets out what must not be lost, then says `bye` where that is understood and closes where it is not. For the user the
    /// peer is gone.
    pub(super) fn leave(&mut self, id: LinkId, now_ms: u64) {
        self.detach(id);
        let Some(link) = self.links.get_mut(&id) else { return };
        match &mut link.channel {
            Some(channel) if channel.courtesy.is_leaving() => {}
            Some(channel) if channel.courtesy.is_understood() => {
                channel.courtesy.say_bye();
                link.leave(now_ms);
            }
            _ => {
                self.drop_link(id, Ending::Meant, now_ms);
            }
        }
    }

    /// Takes its link from a peer while the link itself still has something to say.
    fn detach(&mut self, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let Some(peer) = self.peers.find_mut(&link.peer).filter(|peer| peer.link == Some(id)) else { return };
        peer.link = None;
        if let Some(session) = link.negotiation.remote_session() {
            peer.close_session(session);
        }
        if std::mem::take(&mut peer.joined) {
            self.outputs.event(Event::PeerLeave { peer: link.peer.clone() });
        }
    }

    /// The entry of another peer that is here and that we talk to.
    fn admit(&mut self, id: &PeerId) -> Option<&mut Peer> {
        if *id == self.me {
            return None;
        }
        self.peers.admit(id, &mut self.random);
        if !self.mesh.is_bounded() {
            self.dialing.look_at_crowd(&self.peers, &mut self.outputs);
        }
        self.peers.find_mut(id).filter(|peer| !peer.refused)
    }

    fn read_description(
        &mut self,
        from: &PeerId,
        sdp: &RawValue,
        kind: DescriptionKind,
        now_ms: u64,
    ) -> Option<Described> {
        let short = Some(sdp.get()).filter(|sdp| sdp.len() <= MAX_DESCRIPTION_BYTES);
        let description = short.and_then(|sdp| serde_json::from_str::<SessionDescription>(sdp).ok());
        let description = description.filter(|description| description.kind == kind);
        if description.is_none() {
            // Who it is from is the server's word only.
            let message = format!("What should be a session description of peer {from} is none; it was ignored.");
            self.signaling.complain(message, now_ms, &mut self.outputs);
        }
        let opened = self.sealing.open_description(Way { from, to: &self.me }, description?);
        if let Err(refused) = &opened {
            let message = format!("A session description of peer {from} was ignored: {refused}.");
            self.signaling.complain(message, now_ms, &mut self.outputs);
        }
        opened.ok()
    }
}
