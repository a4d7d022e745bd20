//! The specification's `WebRTCManager`: a room and operations, without a database.
//!
//! It speaks the specification and nothing else, so its first word is `ping`: whoever hears that need not wait for a `hello`. It keeps
//! nothing and answers `sync-request` with nothing. What peers send is told as it came, also what they send twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rtc_battery_proto::{DecodeError, Message, Operation, PeerId, Ping};

use super::courtesy::Turn;
use super::exchange::{Exchange, Taken, size_in_memory};
use super::io::{ErrorCode, Event, Input, LinkId, Output, RequestId};
use super::mesh::MeshLimits;
use super::room::{Config, Heard, Room, Said};
use crate::Now;
use crate::replica::operations_of_file;

/// Most that answers which are not complete hold, for all peers together, in bytes of memory.
const MAX_ANSWER_BYTES: usize = 512 * 1024 * 1024;

/// There is no such peer, or it cannot be talked to now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no peer {0} can be talked to")]
pub struct UnknownPeer(pub PeerId);

/// A peer of a room that sends and receives operations and keeps none. See the [module](super).
#[derive(Debug)]
pub struct Messenger {
    room: Room,
    /// Of links whose channels are open.
    exchanges: BTreeMap<LinkId, Exchange>,
    next_request: u32,
}

impl Messenger {
    /// A messenger that is offline.
    #[must_use]
    pub fn new(config: &Config, now: Now) -> Self {
        // It passes nothing on, so it reaches those only whom it is linked with.
        let mesh = MeshLimits { full: usize::MAX, ..config.mesh };
        let config = Config { mesh, ..config.clone() };
        Self { room: Room::new(&config, now), exchanges: BTreeMap::new(), next_request: 0 }
    }

    /// Enters the room, and stays or comes back until [`disconnect`](Self::disconnect).
    pub fn connect(&mut self, now: Now) {
        self.room.connect(now);
    }

    /// Leaves the room, when the peers have taken what was broadcast, or do not within 2 s. Then comes [`Event::Closed`].
    pub fn disconnect(&mut self, now: Now) {
        self.room.disconnect(now.mono_ms);
    }

    /// Sends an operation to every peer that can be talked to, with the specification's fields and no others. Who cannot be told of it
    /// is named in an [`Event::Error`].
    pub fn broadcast(&mut self, operation: Operation, now: Now) {
        let message: Arc<str> = Message::Op { payload: operation.into_plain() }.encode().into();
        for (peer, id) in self.room.joined_links() {
            let Some(channel) = self.room.channel(id) else { continue };
            let max_message_bytes = channel.outbox.max_message_bytes();
            if message.len() > max_message_bytes {
                let text = format!(
                    "Peer {peer} takes messages of at most {max_message_bytes} bytes; it was not sent an operation of {}.",
                    message.len()
                );
                self.room.outputs.error(ErrorCode::TooLarge, text, Some(&peer));
            } else if !self.exchanges.entry(id).or_default().push(&message) {
                let text = format!("Peer {peer} does not keep up: its connection is closed, and made anew.");
                self.room.outputs.error(ErrorCode::Link, text, Some(&peer));
                self.room.lose(id, "it does not keep up", now.mono_ms);
            }
        }
        self.release_ended();
    }

    /// Asks a peer for all its operations. The end is exactly one [`Event::Answered`] or [`Event::Unanswered`] of this number.
    ///
    /// # Errors
    /// [`UnknownPeer`].
    pub fn request_sync(&mut self, peer: &PeerId, now: Now) -> Result<RequestId, UnknownPeer> {
        let entry = self.room.peers.find(peer).filter(|entry| entry.joined);
        let link = entry.and_then(|entry| entry.link).ok_or_else(|| UnknownPeer(peer.clone()))?;
        let id = RequestId(self.next_request);
        self.next_request = self.next_request.wrapping_add(1);
        self.exchanges.entry(link).or_default().request(id, now.mono_ms);
        Ok(id)
    }

    /// Takes what happened outside. Poll the outputs afterwards.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        self.look_at_clock(now);
        if let Input::ChannelBinary { link, .. } = &input
            && let Some(exchange) = self.exchanges.get_mut(link)
        {
            // A part of a message is progress too.
            exchange.note_progress(now.mono_ms);
        }
        if let Some(heard) = self.room.handle_input(input, now.mono_ms) {
            self.handle_heard(heard, now.mono_ms);
        }
        self.release_ended();
    }

    /// The next thing to perform or tell. Poll until [`Output::Idle`]: after each input, after each command, and when it is time to wake.
    pub fn poll_output(&mut self, now: Now) -> Output {
        self.look_at_clock(now);
        loop {
            self.release_ended();
            if let Some(output) = self.room.outputs.pop() {
                return output;
            }
            let stalls = self.exchanges.values().filter_map(Exchange::stall_at_ms);
            let wake_at_ms = stalls.chain(self.room.wake_at_ms()).min();
            if wake_at_ms.is_some_and(|at_ms| at_ms <= now.mono_ms) {
                self.handle_timeouts(now.mono_ms);
            } else if !self.pump(now.mono_ms) && !self.room.has_closed() {
                return self.room.rest(wake_at_ms);
            }
        }
    }

    /// The peers that can be talked to.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.room.joined()
    }

    /// Our name in the room.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.room.me
    }

    fn handle_heard(&mut self, heard: Heard, now_ms: u64) {
        let Heard { link, peer, said, size_bytes } = heard;
        // Nobody was told that we read anything else.
        let Said::Message(message) = said else { return };
        match message {
            Ok(Message::Op { payload }) => self.tell(&peer, payload),
            Ok(Message::SyncRequest(_)) => self.exchanges.entry(link).or_default().handle_request(),
            Ok(Message::SyncResponse(part)) => {
                self.handle_operations(link, &peer, part.operations, part.more, size_bytes, now_ms);
            }
            Ok(Message::SyncFull { database }) => match read_file(&database) {
                Ok((operations, left_out)) => {
                    if let Some(reason) = left_out.first() {
                        self.room.complain(&peer, reason, now_ms);
                    }
                    self.handle_operations(link, &peer, operations, false, size_bytes, now_ms);
                }
                Err(reason) => {
                    self.room.complain(&peer, &reason, now_ms);
                    self.handle_bad_response(link, &peer, &reason, now_ms);
                }
            },
            // Whoever says hello will notice that we do not.
            Ok(
                Message::Hello(_)
                | Message::Vector { .. }
                | Message::SyncProgress { .. }
                | Message::Digest { .. }
                | Message::Floor { .. }
                | Message::Ping(_)
                | Message::Pong(_)
                | Message::Taken { .. }
                | Message::Bye { .. },
            ) => {}
            Err(error) => {
                if matches!(&error, DecodeError::Fields { kind, .. } if kind.starts_with("sync-")) {
                    self.handle_bad_response(link, &peer, &error.to_string(), now_ms);
                }
            }
        }
    }

    fn handle_operations(
        &mut self,
        link: LinkId,
        peer: &PeerId,
        operations: Vec<Operation>,
        more: bool,
        size_bytes: usize,
        now_ms: u64,
    ) {
        let held_bytes: usize = self.exchanges.values().map(Exchange::answer_bytes).sum();
        let room_bytes = MAX_ANSWER_BYTES.saturating_sub(held_bytes);
        let size_bytes = size_in_memory(&operations, size_bytes);
        let exchange = self.exchanges.entry(link).or_default();
        match exchange.handle_response(operations, more, size_bytes, room_bytes, now_ms) {
            Taken::Nothing => {}
            Taken::Unasked(operations) => operations.into_iter().for_each(|operation| self.tell(peer, operation)),
            Taken::Answered(request, operations) => {
                let operations = operations.into_iter().map(Operation::into_plain).collect();
                self.room.outputs.event(Event::Answered { request, peer: peer.clone(), operations });
            }
            Taken::TooLarge(request) => {
                self.fail(request, peer, &format!("its operations do not fit in {MAX_ANSWER_BYTES} bytes of memory"));
            }
        }
    }

    fn handle_bad_response(&mut self, link: LinkId, peer: &PeerId, reason: &str, now_ms: u64) {
        let failed = self.exchanges.entry(link).or_default().handle_bad_response(now_ms);
        if let Some(request) = failed {
            self.fail(request, peer, &format!("its answer cannot be read: {reason}"));
        }
    }

    fn tell(&mut self, peer: &PeerId, operation: Operation) {
        let operation = Box::new(operation.into_plain());
        self.room.outputs.event(Event::Operation { peer: peer.clone(), operation });
    }

    fn fail(&mut self, request: RequestId, peer: &PeerId, reason: &str) {
        self.room.outputs.event(Event::Unanswered { request, peer: peer.clone(), reason: reason.to_owned() });
    }

    fn look_at_clock(&mut self, now: Now) {
        if self.room.look_at_clock(now) {
            self.exchanges.values_mut().for_each(|exchange| exchange.note_progress(now.mono_ms));
        }
    }

    fn handle_timeouts(&mut self, now_ms: u64) {
        self.room.handle_timeouts(now_ms);
        let mut stalled = Vec::new();
        for (id, exchange) in &mut self.exchanges {
            let request = exchange.handle_timeout(now_ms);
            let peer = self.room.links.get(id).map(|link| link.peer.clone());
            stalled.extend(request.zip(peer));
        }
        for (request, peer) in stalled {
            self.fail(request, &peer, "it does not answer");
        }
    }

    /// Forgets what was between us and peers whose links are gone.
    fn release_ended(&mut self) {
        for ended in std::mem::take(&mut self.room.ended) {
            let requests = self.exchanges.remove(&ended.link).map(Exchange::into_requests);
            for request in requests.into_iter().flatten() {
                self.fail(request, &ended.peer, &ended.reason);
            }
            // What was said over the old link may be lost, so it cannot pass for the new one.
            self.room.unwelcome(&ended.peer, ended.link);
        }
    }

    /// Asks for the next message of each channel that takes one, and hands over what there is. Whether anything was handed over.
    fn pump(&mut self, now_ms: u64) -> bool {
        let (mut parted, now, degree) = (Vec::new(), self.room.now(), self.room.degree());
        for (&id, link) in &mut self.room.links {
            let Some(channel) = &mut link.channel else { continue };
            let message = match channel.turn(now, degree) {
                Turn::FirstWord => Some(Message::Ping(Ping::default()).encode()),
                Turn::Open { leaving } => {
                    let message = self.exchanges.entry(id).or_default().next_message(now_ms, leaving);
                    if leaving && message.is_none() {
                        parted.push(id);
                    }
                    message
                }
                Turn::Say(_) | Turn::Silence => None,
            };
            if let Some(message) = message {
                channel.say(message.into());
            }
        }
        let any = self.room.flush(now_ms) || !parted.is_empty();
        self.room.part(parted, now_ms);
        any
    }
}

/// The rows of a `sync-full`, and why some tables are left out.
fn read_file(database: &str) -> Result<(Vec<Operation>, Vec<String>), String> {
    let file = BASE64.decode(database).map_err(|_| "it sent a sync-full that is no base64".to_owned())?;
    operations_of_file(&file).map_err(|error| error.to_string())
}
