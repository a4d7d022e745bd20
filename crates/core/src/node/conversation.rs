//! From channels to messages: what a peer says, and what becomes of it.
//!
//! Whatever comes, the session goes on: what is no message or no valid operation is dropped and told, seldom, with the peer's name. Only
//! broken framing and more than fits close a link. Unknown types are ignored: they are what later versions add.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rtc_battery_proto::{DecodeError, Dot, Hello, Message, Operation, PROTOCOL, PeerId, SyncResponse, VersionVector};

use super::inbox::Work;
use super::io::{ErrorCode, Event, LinkId};
use super::link::Channel;
use super::node::Node;
use super::outputs::excerpt;
use super::session::Kind;

/// Longest message that only tells what somebody has, in bytes.
const MAX_VECTOR_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Most that is staged for one link, in bytes of messages.
const MAX_STAGED_BYTES: u64 = 256 * 1024 * 1024;

impl Node {
    pub(super) fn handle_text(&mut self, id: LinkId, text: &str, now_ms: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        // A message is as good as word that the channel is open.
        link.open_channel(None, now_ms);
        if let Some(channel) = &mut link.channel {
            channel.keepalive.heard(now_ms);
        }
        if text.len() > rtc_battery_proto::frame::MAX_MESSAGE_BYTES {
            return self.cut_off(id, "it sent more than fits", now_ms);
        }
        self.handle_message(id, text, now_ms);
    }

    pub(super) fn handle_binary(&mut self, id: LinkId, bytes: &[u8], now_ms: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.open_channel(None, now_ms);
        let Some(channel) = &mut link.channel else { return };
        channel.keepalive.heard(now_ms);
        let whole = channel.reassembly.push(bytes);
        self.note_progress(id, now_ms);
        match whole {
            Ok(None) => {}
            Ok(Some(text)) => self.handle_message(id, &text, now_ms),
            Err(error) => self.cut_off(id, &format!("it sent {error}"), now_ms),
        }
    }

    fn handle_message(&mut self, id: LinkId, text: &str, now_ms: u64) {
        let Some(peer) = self.links.get(&id).map(|link| link.peer.clone()) else { return };
        let message = match Message::decode(text) {
            Ok(message) => Some(message),
            Err(DecodeError::UnknownType(_)) => None,
            Err(error) => {
                self.complain(&peer, &format!("it sent {error}"), now_ms);
                None
            }
        };
        if let Some(channel) = self.channel(id) {
            channel.session.release_greeting();
        }
        let short = text.len() <= MAX_VECTOR_MESSAGE_BYTES;
        match message {
            Some(Message::Hello(hello)) if short => return self.handle_hello(id, &peer, hello, now_ms),
            Some(Message::Hello(_) | Message::Vector { .. } | Message::SyncRequest(_)) if !short => {
                return self.complain(&peer, "it sent a version vector that is too long", now_ms);
            }
            _ => {}
        }
        let Some(channel) = self.links.get_mut(&id).and_then(|link| link.channel.as_mut()) else { return };
        channel.session.take_for_plain();
        let ours = channel.session.kind() == Kind::Ours;
        self.welcome(id, &peer);
        match message {
            Some(Message::Ping) => {
                if let Some(session) = self.channel(id).map(|channel| &mut channel.session) {
                    session.handle_ping();
                }
            }
            Some(Message::Bye) => self.handle_bye(id, &peer, now_ms),
            Some(message) if ours => self.handle_ours(id, &peer, message, text.len(), now_ms),
            Some(message) => self.handle_plain(id, &peer, message, text.len(), now_ms),
            None => {}
        }
    }

    /// What only peers say that said `hello`.
    fn handle_ours(&mut self, id: LinkId, peer: &PeerId, message: Message, size_bytes: usize, now_ms: u64) {
        match message {
            Message::Op { payload } => self.handle_op(id, peer, payload, size_bytes, now_ms),
            Message::SyncResponse(response) => self.handle_response(id, peer, response, size_bytes, now_ms),
            Message::SyncRequest(request) => {
                let ours = self.replica.vector();
                if let Some(channel) = self.links.get_mut(&id).and_then(|link| link.channel.as_mut()) {
                    channel.session.handle_request(request, ours);
                }
            }
            Message::Vector { vector } => {
                self.ask_due = true;
                if let Some(channel) = self.links.get_mut(&id).and_then(|link| link.channel.as_mut()) {
                    channel.session.handle_vector(vector);
                }
            }
            Message::Hello(_) | Message::Ping | Message::Pong | Message::Bye | Message::SyncFull { .. } => {}
        }
    }

    /// What a peer says that speaks only the specification.
    fn handle_plain(&mut self, id: LinkId, peer: &PeerId, message: Message, size_bytes: usize, now_ms: u64) {
        let work = match message {
            Message::Op { payload } => Work::Adopt(vec![payload]),
            Message::SyncResponse(response) => Work::Adopt(response.operations),
            Message::SyncFull { database } => match BASE64.decode(database) {
                Ok(file) => Work::Import(file),
                Err(_) => return self.complain(peer, "it sent a sync-full that is no base64", now_ms),
            },
            Message::SyncRequest(request) => {
                let ours = self.replica.vector();
                if let Some(channel) = self.links.get_mut(&id).and_then(|link| link.channel.as_mut()) {
                    channel.session.handle_request(request, ours);
                }
                return;
            }
            Message::Hello(_) | Message::Vector { .. } | Message::Ping | Message::Pong | Message::Bye => return,
        };
        self.take_in(id, peer, work, size_bytes, now_ms);
    }

    fn handle_hello(&mut self, id: LinkId, peer: &PeerId, hello: Hello, now_ms: u64) {
        let Some(channel) = self.links.get_mut(&id).and_then(|link| link.channel.as_mut()) else { return };
        channel.session.handle_hello(hello.vector, &self.saved);
        if hello.protocol <= PROTOCOL {
            self.ask_due = true;
            return self.welcome(id, peer);
        }
        let message = format!(
            "A peer speaks protocol {}, newer than ours ({PROTOCOL}). Reload to get the newer version.",
            hello.protocol
        );
        self.outputs.error(ErrorCode::NewerProtocol, message, Some(peer));
        if let Some(peer) = self.peers.find_mut(peer) {
            peer.refused = true;
        }
        self.leave(id, now_ms);
    }

    /// The peer has spoken: it can be talked to.
    pub(super) fn welcome(&mut self, id: LinkId, peer: &PeerId) {
        let current = self.peers.find_mut(peer).filter(|entry| entry.link == Some(id) && !entry.joined);
        if let Some(entry) = current {
            entry.joined = true;
            self.outputs.event(Event::PeerJoin { peer: peer.clone() });
        }
    }

    fn handle_bye(&mut self, id: LinkId, peer: &PeerId, now_ms: u64) {
        let left = self.channel(id).is_some_and(|channel| channel.session.is_leaving());
        self.leave(id, now_ms);
        if left {
            // Ours was answered, or both have crossed.
            self.drop_link(id, super::rendezvous::Ending::Meant, now_ms);
        } else if let Some(entry) = self.peers.find_mut(peer) {
            entry.leave();
        }
    }

    fn handle_op(&mut self, id: LinkId, peer: &PeerId, operation: Operation, size_bytes: usize, now_ms: u64) {
        let Some(dot) = dot_of_whole(&operation) else {
            return self.complain(peer, "it sent an operation that is no whole transaction", now_ms);
        };
        let mut covers = VersionVector::default();
        covers.insert(dot);
        self.take_in(id, peer, Work::Apply(vec![operation], covers), size_bytes, now_ms);
    }

    fn handle_response(&mut self, id: LinkId, peer: &PeerId, part: SyncResponse, size_bytes: usize, now_ms: u64) {
        self.note_progress(id, now_ms);
        let Some(channel) = self.channel(id) else { return };
        let staged_bytes = channel.staged_bytes;
        let work = match (part.covers, part.more) {
            (None, true) => {
                channel.staged_bytes += size_bytes as u64;
                Work::Stage(part.operations)
            }
            (Some(covers), false) if staged_bytes > 0 => {
                channel.staged_bytes = 0;
                Work::ApplyStaged(part.operations, covers)
            }
            (Some(covers), false) => Work::Apply(part.operations, covers),
            (Some(_), true) | (None, false) => {
                return self.complain(peer, "it sent a sync-response that neither ends nor goes on", now_ms);
            }
        };
        if staged_bytes > MAX_STAGED_BYTES {
            return self.cut_off(id, "it sent an answer without an end", now_ms);
        }
        self.take_in(id, peer, work, size_bytes, now_ms);
    }

    fn take_in(&mut self, id: LinkId, peer: &PeerId, work: Work, size_bytes: usize, now_ms: u64) {
        if !self.inbox.push(id, peer, work, size_bytes) {
            self.cut_off(id, "it sent more than can wait for the open transaction", now_ms);
        }
    }

    /// Closes a link over which nothing more is to come, and says so. A new one will be made.
    fn cut_off(&mut self, id: LinkId, reason: &str, now_ms: u64) {
        if let Some(peer) = self.links.get(&id).map(|link| link.peer.clone()) {
            self.complain(&peer, reason, now_ms);
            self.lose(id, reason, now_ms);
        }
    }

    /// Tells the user that a peer sent something bad, unless that was told just before.
    pub(super) fn complain(&mut self, peer: &PeerId, what: &str, now_ms: u64) {
        if self.peers.find_mut(peer).is_some_and(|entry| entry.may_complain(now_ms)) {
            let message = format!("Ignored what peer {peer} sent: {}.", excerpt(what));
            self.outputs.error(ErrorCode::BadMessage, message, Some(peer));
        }
    }

    fn channel(&mut self, id: LinkId) -> Option<&mut Channel> {
        self.links.get_mut(&id)?.channel.as_mut()
    }
}

/// The transaction that an operation is all of.
fn dot_of_whole(operation: &Operation) -> Option<Dot> {
    let (dot, extent, _) = operation.place()?;
    (extent.n == 1).then_some(dot)
}
