//! What a peer's messages mean for the replica: in our language, and in the specification's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rtc_battery_proto::{Dot, Hello, Message, Operation, PROTOCOL, PeerId, SyncRequest, SyncResponse, VersionVector};

use super::inbox::Work;
use super::io::{ErrorCode, LinkId};
use super::node::Node;
use super::room::Heard;

/// Longest message that only tells what somebody has, in bytes.
const MAX_VECTOR_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Most that is staged for one link, in bytes of messages.
const MAX_STAGED_BYTES: u64 = 256 * 1024 * 1024;

impl Node {
    pub(super) fn handle_heard(&mut self, heard: Heard, now_ms: u64) {
        let Heard { link: id, peer, message: Ok(message), size_bytes } = heard else { return };
        let tells_vector = matches!(message, Message::Hello(_) | Message::Vector { .. } | Message::SyncRequest(_));
        if tells_vector && size_bytes > MAX_VECTOR_MESSAGE_BYTES {
            return self.room.complain(&peer, "it sent a version vector that is too long", now_ms);
        }
        match message {
            Message::Hello(hello) => self.handle_hello(id, &peer, hello, now_ms),
            Message::SyncRequest(request) => self.handle_request(id, request),
            message if self.room.channel(id).is_some_and(|channel| channel.courtesy.is_plain()) => {
                self.handle_plain(id, &peer, message, size_bytes, now_ms);
            }
            message => self.handle_ours(id, &peer, message, size_bytes, now_ms),
        }
    }

    fn handle_hello(&mut self, id: LinkId, peer: &PeerId, hello: Hello, now_ms: u64) {
        let Some(channel) = self.room.channel(id) else { return };
        channel.courtesy.take_for_ours();
        self.sessions.entry(id).or_default().handle_hello(&channel.courtesy, hello.vector, &self.saved);
        if hello.protocol <= PROTOCOL {
            self.ask_due = true;
            return self.room.welcome(id, peer);
        }
        let message = format!(
            "A peer speaks protocol {}, newer than ours ({PROTOCOL}). Reload to get the newer version.",
            hello.protocol
        );
        self.room.outputs.error(ErrorCode::NewerProtocol, message, Some(peer));
        if let Some(peer) = self.room.peers.find_mut(peer) {
            peer.refused = true;
        }
        self.room.leave(id, now_ms);
    }

    fn handle_request(&mut self, id: LinkId, request: SyncRequest) {
        if let Some(channel) = self.room.channel(id) {
            let session = self.sessions.entry(id).or_default();
            session.handle_request(&channel.courtesy, request, self.replica.vector());
        }
    }

    /// What only peers say that said `hello`.
    fn handle_ours(&mut self, id: LinkId, peer: &PeerId, message: Message, size_bytes: usize, now_ms: u64) {
        match message {
            Message::Op { payload } => self.handle_op(id, peer, payload, size_bytes, now_ms),
            Message::SyncResponse(response) => self.handle_response(id, peer, response, size_bytes, now_ms),
            Message::Vector { vector } => {
                self.ask_due = true;
                self.sessions.entry(id).or_default().handle_vector(vector);
            }
            _ => {}
        }
    }

    /// What a peer says that speaks only the specification.
    fn handle_plain(&mut self, id: LinkId, peer: &PeerId, message: Message, size_bytes: usize, now_ms: u64) {
        let work = match message {
            Message::Op { payload } => Work::Adopt(vec![payload]),
            Message::SyncResponse(response) => Work::Adopt(response.operations),
            Message::SyncFull { database } => match BASE64.decode(database) {
                Ok(file) => Work::Import(file),
                Err(_) => return self.room.complain(peer, "it sent a sync-full that is no base64", now_ms),
            },
            _ => return,
        };
        self.take_in(id, peer, work, size_bytes, now_ms);
    }

    fn handle_op(&mut self, id: LinkId, peer: &PeerId, operation: Operation, size_bytes: usize, now_ms: u64) {
        let Some(dot) = dot_of_whole(&operation) else {
            return self.room.complain(peer, "it sent an operation that is no whole transaction", now_ms);
        };
        let mut covers = VersionVector::default();
        covers.insert(dot);
        self.take_in(id, peer, Work::Apply(vec![operation], covers), size_bytes, now_ms);
    }

    fn handle_response(&mut self, id: LinkId, peer: &PeerId, part: SyncResponse, size_bytes: usize, now_ms: u64) {
        self.note_progress(id, now_ms);
        let session = self.sessions.entry(id).or_default();
        let staged_bytes = session.staged_bytes;
        let work = match (part.covers, part.more) {
            (None, true) => {
                session.staged_bytes += size_bytes as u64;
                Work::Stage(part.operations)
            }
            (Some(covers), false) if staged_bytes > 0 => {
                session.staged_bytes = 0;
                Work::ApplyStaged(part.operations, covers)
            }
            (Some(covers), false) => Work::Apply(part.operations, covers),
            (Some(_), true) | (None, false) => {
                return self.room.complain(peer, "it sent a sync-response that neither ends nor goes on", now_ms);
            }
        };
        if staged_bytes > MAX_STAGED_BYTES {
            return self.room.cut_off(id, "it sent an answer without an end", now_ms);
        }
        self.take_in(id, peer, work, size_bytes, now_ms);
    }

    fn take_in(&mut self, id: LinkId, peer: &PeerId, work: Work, size_bytes: usize, now_ms: u64) {
        if !self.inbox.push(id, peer, work, size_bytes) {
            self.room.cut_off(id, "it sent more than can wait for the open transaction", now_ms);
        }
    }
}

/// The transaction that an operation is all of.
fn dot_of_whole(operation: &Operation) -> Option<Dot> {
    let (dot, extent, _) = operation.place()?;
    (extent.n == 1).then_some(dot)
}
