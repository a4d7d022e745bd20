//! From channels to messages: what a peer says in any language.
//!
//! Whatever comes, the session goes on: what is no message is dropped and told, seldom, with the peer's name. Only broken framing and
//! more than fits close a link. Unknown types are ignored: they are what later versions add.

use rtc_battery_proto::frame::{Body, FrameError, MAX_MESSAGE_BYTES};
use rtc_battery_proto::packed::Packed;
use rtc_battery_proto::{DecodeError, Message, PeerId};

use super::allowance::Overdone;
use super::channel::Channel;
use super::courtesy::Language;
use super::io::{ErrorCode, Event, LinkId};
use super::link::Link;
use super::outputs::excerpt;
use super::rendezvous::Ending;
use super::room::{Heard, Room, Said};
use super::skew::Pong;
use crate::planted::{Bug, planted};

/// Most bytes of messages that have not come whole, for all links together: two of the largest.
const MAX_UNFINISHED_BYTES: usize = 2 * MAX_MESSAGE_BYTES;

impl Room {
    pub(super) fn handle_text(&mut self, id: LinkId, text: &str, now_ms: u64) -> Option<Heard> {
        let link = self.links.get_mut(&id)?;
        if planted(Bug::LostFirstMessage) && !link.is_open() {
            return None;
        }
        // A message is as good as word that the channel is open.
        link.open_channel(None, now_ms);
        let channel = link.channel.as_mut()?;
        channel.keepalive.heard(now_ms);
        let within = channel.received(text.len(), now_ms);
        if self.is_beyond(id, within, now_ms) {
            return None;
        }
        if text.len() > MAX_MESSAGE_BYTES {
            self.cut_off(id, "it sent more than fits", now_ms);
            return None;
        }
        self.handle_message(id, text, now_ms)
    }

    pub(super) fn handle_binary(&mut self, id: LinkId, bytes: &[u8], now_ms: u64) -> Option<Heard> {
        let link = self.links.get_mut(&id)?;
        link.open_channel(None, now_ms);
        let channel = link.channel.as_mut()?;
        channel.keepalive.heard(now_ms);
        let within = channel.received(bytes.len(), now_ms);
        let whole = channel.reassembly.push(bytes);
        if self.is_beyond(id, within, now_ms) {
            return None;
        }
        self.handle_frame(id, whole, now_ms)
    }

    /// A frame of the bulk channel: it waits, where both have agreed on that channel.
    pub(super) fn handle_bulk(&mut self, id: LinkId, bytes: Vec<u8>, now_ms: u64) -> Option<Heard> {
        let channel = self.channel(id)?;
        channel.keepalive.heard(now_ms);
        let within = channel.received(bytes.len(), now_ms);
        if self.is_beyond(id, within, now_ms) {
            return None;
        }
        let channel = self.channel(id)?;
        if !channel.bulk.heard() {
            return self.take_bulk(id, &bytes, now_ms);
        }
        channel.bulk.waiting.push(bytes);
        self.bound_unfinished(now_ms);
        None
    }

    /// Looks at a frame of the bulk channel.
    pub(super) fn take_bulk(&mut self, id: LinkId, bytes: &[u8], now_ms: u64) -> Option<Heard> {
        let whole = self.channel(id)?.bulk.reassembly.push(bytes);
        let is_bye = |text: &str| matches!(Message::decode(text), Ok(Message::Bye { .. }));
        if matches!(&whole, Ok(Some(Body::Text(text))) if is_bye(text)) {
            let peer = self.links.get(&id)?.peer.clone();
            self.handle_bye(id, &peer, (true, false), false, now_ms);
            return None;
        }
        self.handle_frame(id, whole, now_ms)
    }

    /// The bulk channel does not close before the link does, so what it was about to bring is lost.
    pub(super) fn handle_bulk_closed(&mut self, id: LinkId, now_ms: u64) {
        if self.channel(id).is_some_and(|channel| !channel.courtesy.is_leaving()) {
            self.lose(id, "the bulk channel was closed", now_ms);
        }
    }

    fn handle_frame(&mut self, id: LinkId, whole: Result<Option<Body>, FrameError>, now_ms: u64) -> Option<Heard> {
        match whole {
            Ok(Some(Body::Text(text))) => self.handle_message(id, &text, now_ms),
            Ok(Some(Body::Packed(bytes))) => self.handle_packed(id, bytes, now_ms),
            Ok(None) => {
                self.bound_unfinished(now_ms);
                None
            }
            Err(error) => {
                self.cut_off(id, &format!("it sent {error}"), now_ms);
                None
            }
        }
    }

    /// Who holds most of what has not come whole loses its link where all of it is too much.
    fn bound_unfinished(&mut self, now_ms: u64) {
        let held = |link: &Link| link.channel.as_ref().map_or(0, Channel::unfinished_bytes);
        if self.links.values().map(held).sum::<usize>() > MAX_UNFINISHED_BYTES
            && let Some((&id, _)) = self.links.iter().max_by_key(|(_, link)| held(link))
        {
            self.drop_offender(id, "it began a message that does not fit beside those of others", now_ms);
        }
    }

    fn handle_message(&mut self, id: LinkId, text: &str, now_ms: u64) -> Option<Heard> {
        let link = self.links.get_mut(&id)?;
        let peer = link.peer.clone();
        link.channel.as_mut()?.courtesy.heard();
        let message = Message::decode(text);
        let tells = matches!(message, Ok(Message::Op { .. } | Message::SyncResponse(_) | Message::SyncFull { .. }));
        if !tells {
            let within = self.channel(id)?.allowance.words(text.len(), now_ms);
            if self.is_beyond(id, within, now_ms) {
                return None;
            }
        }
        // What hello means is for the owner to say.
        if !matches!(message, Ok(Message::Hello(_))) {
            self.take_for_plain(id, &peer);
        }
        match &message {
            Ok(Message::Ping(ping)) => {
                let channel = self.channel(id)?;
                channel.links = ping.links.or(channel.links);
                channel.courtesy.handle_ping(*ping);
            }
            Ok(Message::Pong(pong)) => {
                self.links.get_mut(&id)?.stand();
                self.channel(id)?.round_trip.answered(now_ms);
                self.compare_clocks(id, *pong);
            }
            Ok(Message::Bye { bulk, stays }) => self.handle_bye(id, &peer, (false, *bulk), *stays, now_ms),
            Ok(Message::Taken { bytes }) => self.channel(id)?.flow.handle_taken(*bytes),
            Ok(_) | Err(DecodeError::UnknownType(_)) => {}
            Err(error) => self.complain(&peer, &format!("it sent {error}"), now_ms),
        }
        Some(Heard { link: id, peer, said: Said::Message(message), size_bytes: text.len() })
    }

    /// Only ours say such a thing, and only to who said that it reads it.
    fn handle_packed(&mut self, id: LinkId, bytes: Vec<u8>, now_ms: u64) -> Option<Heard> {
        let link = self.links.get_mut(&id)?;
        let (peer, channel) = (link.peer.clone(), link.channel.as_mut()?);
        channel.courtesy.heard();
        if channel.courtesy.language() != Language::Ours {
            self.take_for_plain(id, &peer);
            self.complain(&peer, "it sent packed operations and no hello before", now_ms);
            return None;
        }
        let packed = Packed::read(bytes);
        let size_bytes = packed.as_ref().map_or(0, Packed::size_bytes);
        if let Err(error) = &packed {
            self.complain(&peer, &format!("it sent {error}"), now_ms);
        }
        Some(Heard { link: id, peer, said: Said::Packed(packed), size_bytes })
    }

    /// The peer has spoken, and does not speak our language unless it said so before.
    fn take_for_plain(&mut self, id: LinkId, peer: &PeerId) {
        if let Some(channel) = self.channel(id) {
            channel.courtesy.take_for_plain();
        }
        self.welcome(id, peer);
    }

    /// The peer has spoken, or need not: it can be talked to.
    pub(super) fn welcome(&mut self, id: LinkId, peer: &PeerId) {
        let current = self.peers.find_mut(peer).filter(|entry| entry.link == Some(id) && !entry.joined);
        if let Some(entry) = current {
            entry.joined = true;
            self.outputs.event(Event::PeerJoin { peer: peer.clone() });
            // How far away it is, and whether our clocks agree. Plain ones are told no more than the specification has them expect.
            if let Some(channel) = self.channel(id).filter(|channel| channel.courtesy.is_ready()) {
                channel.courtesy.ping();
            }
        }
    }

    /// The peer cannot be talked to over this link any more, and another has taken its place.
    pub(super) fn unwelcome(&mut self, peer: &PeerId, id: LinkId) {
        let joined = self.peers.find_mut(peer).filter(|entry| entry.link != Some(id) && entry.joined);
        if let Some(entry) = joined {
            entry.joined = false;
            self.outputs.event(Event::PeerLeave { peer: peer.clone() });
        }
    }

    /// The peer has told its wall clock, in answer to ours.
    fn compare_clocks(&mut self, id: LinkId, pong: rtc_battery_proto::Pong) {
        let (Some(theirs_ms), Some(pinged_ms)) = (pong.wall, pong.pinged) else { return };
        let pong = Pong { pinged_ms, theirs_ms, now: self.now() };
        if let Some(ahead_ms) = self.skew.note(id, pong, |link| self.links.contains_key(&link)) {
            self.outputs.event(Event::ClockSkew { ahead_ms });
        }
    }

    /// `on_bulk`: whether it came over the bulk channel, and whether one there is announced. `stays`: the peer stays in the room.
    fn handle_bye(&mut self, id: LinkId, peer: &PeerId, on_bulk: (bool, bool), stays: bool, now_ms: u64) {
        if let Some(channel) = self.channel(id) {
            channel.peer_stays |= stays;
        }
        if !self.channel(id).is_some_and(|channel| channel.bulk.handle_bye(on_bulk.0, on_bulk.1)) {
            return;
        }
        let left = self.channel(id).is_some_and(|channel| channel.courtesy.is_leaving());
        let stays = self.channel(id).is_some_and(|channel| channel.peer_stays);
        self.leave(id, now_ms);
        if left {
            // Ours was answered, or both have crossed.
            self.drop_link(id, Ending::Meant, now_ms);
        } else if stays {
            self.spare(peer, now_ms);
        } else if let Some(entry) = self.peers.find_mut(peer) {
            entry.leave();
        }
    }

    /// Closes a link over which nothing more is to come, and says so. A new one will be made.
    pub(super) fn cut_off(&mut self, id: LinkId, reason: &str, now_ms: u64) {
        if let Some(peer) = self.links.get(&id).map(|link| link.peer.clone()) {
            self.complain(&peer, reason, now_ms);
            self.lose(id, reason, now_ms);
        }
    }

    /// Whether a peer went beyond what it may do: then it is dropped.
    fn is_beyond(&mut self, id: LinkId, within: Result<(), Overdone>, now_ms: u64) -> bool {
        if let Err(overdone) = within {
            self.drop_offender(id, &overdone.to_string(), now_ms);
        }
        within.is_err()
    }

    /// Closes the link of a peer that overdid it, says why, and leaves it alone for a while.
    pub(super) fn drop_offender(&mut self, id: LinkId, reason: &str, now_ms: u64) {
        let Some(peer) = self.links.get(&id).map(|link| link.peer.clone()) else { return };
        let alone_s = self.peers.find_mut(&peer).map_or(0, |entry| entry.offend(now_ms)) / 1_000;
        let message = format!("Peer {peer} was dropped and is left alone for {alone_s} s: {}.", excerpt(reason));
        self.outputs.error(ErrorCode::BadMessage, message, Some(&peer));
        self.lose(id, reason, now_ms);
    }

    /// Tells the user that a peer sent something bad, unless that was told just before.
    pub(super) fn complain(&mut self, peer: &PeerId, what: &str, now_ms: u64) {
        if self.peers.find_mut(peer).is_some_and(|entry| entry.may_complain(now_ms)) {
            let message = format!("Ignored what peer {peer} sent: {}.", excerpt(what));
            self.outputs.error(ErrorCode::BadMessage, message, Some(peer));
        }
    }
}
