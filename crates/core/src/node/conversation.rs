//! What a peer's messages mean for the replica: in our language, and in the specification's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rtc_battery_proto::packed::{self, Extent, Packed};
use rtc_battery_proto::{
    DecodeError, Dot, Hello, Message, Operation, PROTOCOL, PeerId, SyncRequest, SyncResponse, VersionVector,
};

use super::allowance::{Overdone, work_of};
use super::digests::Digests;
use super::inbox::{Part, Work};
use super::io::{Effect, ErrorCode, Event, LinkId};
use super::node::Node;
use super::replication::Asking;
use super::room::{Heard, Said};
use super::session::Session;
use crate::replica::is_for_names;

/// Longest message that only tells what somebody has, in bytes: the largest vector there may be, and something.
const MAX_VECTOR_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

impl Node {
    pub(super) fn handle_heard(&mut self, heard: Heard, now_ms: u64) {
        let Heard { link: id, peer, said, size_bytes } = heard;
        let message = match said {
            Said::Message(Ok(message)) => message,
            Said::Message(Err(DecodeError::Fields { kind, .. })) if kind == "sync-response" => {
                return self.handle_unread(id, &peer);
            }
            Said::Message(Err(_)) => return,
            Said::Packed(Ok(packed)) => return self.handle_packed(id, &peer, packed, size_bytes, now_ms),
            Said::Packed(Err(_)) => return self.handle_unread(id, &peer),
        };
        let tells_vector = matches!(
            message,
            Message::Hello(_) | Message::Vector { .. } | Message::Floor { .. } | Message::SyncRequest(_)
        );
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

    /// Part of a series may have been among what cannot be read, even its end.
    fn handle_unread(&mut self, id: LinkId, peer: &PeerId) {
        if self.sessions.get_mut(&id).is_some_and(Session::break_off) {
            self.inbox.drop_staged(id, peer);
        }
    }

    fn handle_hello(&mut self, id: LinkId, peer: &PeerId, hello: Hello, now_ms: u64) {
        self.look_for_clone(&hello.node_id);
        self.look_for_clones_writes(&hello.vector);
        let Some(channel) = self.room.channel(id) else { return };
        channel.courtesy.take_for_ours();
        channel.links = hello.links;
        let session = self.sessions.entry(id).or_default();
        session.reads_packed = hello.packed >= packed::VERSION;
        session.handle_hello(&channel.courtesy, hello.node_id, hello.vector, &self.saved);
        if hello.protocol <= PROTOCOL {
            channel.flow.agree(hello.window);
            let opens = hello.bulk && channel.bulk.agree(now_ms);
            if opens {
                self.room.outputs.effect(Effect::OpenBulk { link: id });
            }
            self.ask_due = true;
            self.greeted.push(id);
            self.handle_floor(id, hello.floor);
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
        request.vector.iter().for_each(|vector| self.look_for_clones_writes(vector));
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
                self.look_for_clones_writes(&vector);
                self.sessions.entry(id).or_default().handle_vector(vector);
            }
            Message::SyncProgress { done, total } => {
                self.note_progress(id, now_ms);
                let progress = &mut self.sessions.entry(id).or_default().progress;
                if let Some((done, total)) = progress.note(done, total, now_ms) {
                    self.room.outputs.event(Event::SyncProgress { peer: peer.clone(), done, total });
                }
            }
            Message::Digest { vector, registers, floor } => {
                self.handle_digests(id, peer, Digests { vector, registers, floor });
            }
            Message::Floor { floor } => self.handle_floor(id, floor),
            _ => {}
        }
    }

    /// What a peer says that speaks only the specification.
    fn handle_plain(&mut self, id: LinkId, peer: &PeerId, message: Message, size_bytes: usize, now_ms: u64) {
        let work = match message {
            Message::Op { payload } if is_for_names(&payload) => return,
            Message::Op { payload } => Work::Adopt(vec![payload]),
            Message::SyncResponse(mut response) => {
                response.operations.retain(|operation| !is_for_names(operation));
                Work::Adopt(response.operations)
            }
            Message::SyncFull { database } => match BASE64.decode(database) {
                Ok(file) => Work::Import(file),
                Err(_) => return self.room.complain(peer, "it sent a sync-full that is no base64", now_ms),
            },
            _ => return,
        };
        self.take_in(id, peer, work, size_bytes, now_ms);
    }

    fn handle_op(&mut self, id: LinkId, peer: &PeerId, operation: Operation, size_bytes: usize, now_ms: u64) {
        if is_for_names(&operation) {
            // It takes us for one that speaks only the specification, and will tell it again when it has heard us.
            return;
        }
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
        let work = match (part.covers, part.more) {
            (None, true) => {
                session.is_staging = true;
                Work::Stage(Part::Loose(part.operations))
            }
            (Some(covers), false) => {
                let is_series = std::mem::take(&mut session.is_staging);
                if !is_series && !session.is_everything(&covers) {
                    Work::Apply(part.operations, covers)
                } else {
                    session.end_of_series(Part::Loose(part.operations), covers)
                }
            }
            // The end of an answer to one that was taken for plain: it does not say what it covers, so what it brought is asked for again.
            (None, false) if session.break_off() => return self.inbox.drop_staged(id, peer),
            (Some(_), true) | (None, false) => {
                return self.room.complain(peer, "it sent a sync-response that neither ends nor goes on", now_ms);
            }
        };
        self.take_in(id, peer, work, size_bytes, now_ms);
    }

    /// The same, packed; it says itself what it is a part of.
    fn handle_packed(&mut self, id: LinkId, peer: &PeerId, packed: Packed, size_bytes: usize, now_ms: u64) {
        self.note_progress(id, now_ms);
        let session = self.sessions.entry(id).or_default();
        let work = match packed.extent().clone() {
            Extent::Part => {
                session.is_staging = true;
                Work::Stage(Part::Packed(packed))
            }
            Extent::End(covers) => {
                session.is_staging = false;
                session.end_of_series(Part::Packed(packed), covers)
            }
            Extent::Whole(covers) => match packed.operations() {
                Ok(operations) => Work::Apply(operations, covers),
                Err(error) => return self.room.complain(peer, &format!("it sent {error}"), now_ms),
            },
        };
        self.take_in(id, peer, work, size_bytes, now_ms);
    }

    /// Whether the peer may have us do this.
    fn allow(&mut self, id: LinkId, work: &Work, now_ms: u64) -> Result<(), Overdone> {
        let answers = self.asking.as_ref().is_some_and(|asking| asking.link() == id);
        let Some(channel) = self.room.channel(id) else { return Ok(()) };
        let (operations, covers) = match work {
            Work::Apply(operations, covers) => (work_of(operations), Some(covers)),
            Work::Adopt(operations) => (work_of(operations), None),
            Work::Stage(part) => (part.work(), None),
            Work::ApplyStaged(part, covers) | Work::Reconcile(part, covers, _) | Work::CatchUp(part, covers, _) => {
                (part.work(), Some(covers))
            }
            Work::Import(_) | Work::Compare(_) | Work::DropStaged => (0, None),
        };
        // What can be staged bounds an answer.
        let in_series =
            matches!(work, Work::Stage(_) | Work::ApplyStaged(..) | Work::Reconcile(..) | Work::CatchUp(..));
        if !(answers && in_series) {
            channel.allowance.operations(operations, now_ms)?;
        }
        let ours = self.replica.vector();
        let new = covers.map_or(0, |covers| covers.iter().filter(|(origin, _)| ours.origin(origin).is_none()).count());
        channel.allowance.origins(new, now_ms)
    }

    fn take_in(&mut self, id: LinkId, peer: &PeerId, work: Work, size_bytes: usize, now_ms: u64) {
        if let Err(overdone) = self.allow(id, &work, now_ms) {
            return self.room.drop_offender(id, &overdone.to_string(), now_ms);
        }
        let asked = self.asking.as_ref().map(Asking::link);
        while let Some(holder) = self.inbox.in_the_way(id, size_bytes, asked) {
            self.inbox.forget(holder);
            self.room.drop_offender(holder, "it sent more than can be kept until it is applied", now_ms);
            if holder == id {
                return;
            }
        }
        self.inbox.push(id, peer, work, size_bytes);
    }
}

/// The transaction that an operation is all of.
fn dot_of_whole(operation: &Operation) -> Option<Dot> {
    let (dot, extent, _) = operation.place()?;
    (extent.n == 1).then_some(dot)
}
