//! Sync with one peer over one link: what it has, what it asked, what we asked, and what to say next.
//!
//! Messages are made one at a time, when a channel takes one ([`Session::next_message`], [`Session::next_large`]): the rest are marks that
//! something is due. So nothing piles up, and what matters most goes first. What is large, an answer or a large transaction, is a series of messages
//! and has a channel of its own where there is one; between its first message and its end no other series goes to the same peer: the receiver stages
//! by link. A live message of a peer that reads packed operations says itself that it is whole, so it may come in between.
//!
//! Invariant: nothing that is not saved is told, except in parts that the receiver only stages: their end is held back. The session knows
//! neither the link under it nor the other sessions; a new link begins with a new session, whatever the old one knew.

use std::sync::Arc;

use rtc_battery_proto::frame::Body;
use rtc_battery_proto::packed;
use rtc_battery_proto::{Floor, Hello, Message, PROTOCOL, ReplicaId, SyncRequest, SyncResponse, VersionVector};

use super::answer::{Answer, Next};
use super::bulk::Lane;
use super::courtesy::Courtesy;
use super::digests::{Comparison, Digests};
use super::floor::{Ends, Forgetting};
use super::flow::WINDOW_BYTES;
use super::inbox::{Part, Work};
use super::live::{Live, LiveQueue};
use super::plain::Plain;
use super::progress::Progress;
use crate::Replica;
use crate::planted::{Bug, planted};
use crate::replica::StorageError;

/// What our storage holds.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) vector: VersionVector,
    pub(super) version: u64,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    announce_due: bool,
    floor_due: bool,
    /// Up to where we last said to have forgotten.
    told_floor: Floor,
    /// What we have is to be said although the peer should have it: it says that it has something else.
    reconcile_due: bool,
    /// What the peer last said that it has.
    said: VersionVector,
    /// What went over this link, either way.
    shared: VersionVector,
    /// What we last said that we have.
    told: VersionVector,
    /// What the peer said that it has and did not give when asked.
    unmet: VersionVector,
    ask_due: bool,
    /// The peer's request that is answered next, as what it has.
    requested: Option<VersionVector>,
    answer: Option<Answer>,
    live: LiveQueue,
    /// Live transactions that are large.
    large: LiveQueue,
    plain: Plain,
    pub(super) comparison: Comparison,
    /// Whether the peer said that it reads packed operations.
    pub(super) reads_packed: bool,
    /// Whether a series of the peer's is being staged.
    pub(super) is_staging: bool,
    /// How far it is.
    pub(super) progress: Progress,
    /// Whose database it is.
    pub(super) replica: Option<ReplicaId>,
    pub(super) forgetting: Forgetting,
}

impl Session {
    pub(super) fn handle_hello(
        &mut self,
        courtesy: &Courtesy,
        replica: ReplicaId,
        vector: VersionVector,
        saved: &Saved,
    ) {
        self.replica = Some(replica);
        self.said = vector;
        // What was saved between our hello and theirs was told to nobody.
        self.announce_if_lacking(courtesy, saved);
    }

    pub(super) fn handle_vector(&mut self, vector: VersionVector) {
        self.said = vector;
    }

    pub(super) fn handle_request(&mut self, courtesy: &Courtesy, request: SyncRequest, ours: &VersionVector) {
        if courtesy.is_plain() {
            return self.plain.handle_request();
        }
        let theirs = request.vector.unwrap_or_default();
        self.note_shared(&theirs, ours);
        self.requested = Some(theirs);
    }

    /// Tells what was just saved; `None` where it is not at hand.
    pub(super) fn tell(&mut self, courtesy: &Courtesy, covers: &VersionVector, live: Option<&Arc<Live>>) {
        if courtesy.is_plain() {
            if !courtesy.is_leaving() && !self.has(covers) {
                self.plain.tell(live.map(|live| live.plain.as_slice()));
            }
            return;
        }
        // Our hello and our announcement tell what is saved at the time they go out.
        if self.forgetting.is_behind() {
            self.announce_due = true;
            return;
        }
        if !courtesy.is_ready() || !courtesy.has_greeted() || self.announce_due || self.has(covers) {
            return;
        }
        let reads_packed = self.reads_packed;
        let queued = live.is_some_and(|live| {
            let queue = if live.is_large(reads_packed) { &mut self.large } else { &mut self.live };
            queue.push(live)
        });
        if !queued {
            self.announce_due = true;
        }
    }

    /// Says what we have if the peer lacks some of it and was not told so. An answer on its way tells it, and an announcement would wait for the answer's
    /// end, and all that is live with it.
    pub(super) fn announce_if_lacking(&mut self, courtesy: &Courtesy, saved: &Saved) {
        let is_told = self.told.covers(&saved.vector) || self.has(&saved.vector) || self.is_answering();
        self.announce_due |= courtesy.is_ready() && courtesy.has_greeted() && !is_told;
    }

    /// Tells what we hold to a peer that understands it.
    pub(super) fn tell_digests(&mut self, courtesy: &Courtesy, ours: Digests) {
        if courtesy.is_ready() && courtesy.has_greeted() {
            self.comparison.tell(ours);
        }
    }

    /// Says what we have to a peer that should have it all and says that it has not the same, once for all that we have: what we told it may never
    /// have come there, or come by way of one that lost it.
    pub(super) fn reconcile(&mut self, courtesy: &Courtesy, ours: Digests, saved: &Saved) {
        let differs = self.comparison.theirs.is_some_and(|theirs| theirs.vector != ours.vector);
        // Who is behind a peer's floor tells it nothing yet.
        if differs
            && !self.forgetting.is_behind()
            && courtesy.is_ready()
            && courtesy.has_greeted()
            && self.told != saved.vector
        {
            self.reconcile_due = true;
        }
    }

    /// The peer has what we have and holds something else. Everything is asked for, if it was not before.
    pub(super) fn ask_for_everything(&mut self, ours: &VersionVector) -> bool {
        let begins = self.comparison.begin(ours);
        self.ask_due |= begins;
        begins
    }

    /// What the peer has and we lack, as far as it is worth asking for. Who is behind `floor`, ours, has to catch up first.
    pub(super) fn offers(&self, courtesy: &Courtesy, ours: &VersionVector, floor: &Floor) -> VersionVector {
        if !courtesy.is_ready() || self.ask_due || self.forgetting.is_behind() || !self.has(&floor.vector) {
            return VersionVector::default();
        }
        let mut lacking = self.said.minus(ours).minus(&self.unmet);
        if planted(Bug::ScalarVersion) {
            let last = |vector: &VersionVector, origin| vector.origin(origin).and_then(|ranges| ranges.last());
            for (origin, _) in self.said.iter().filter(|(origin, _)| last(ours, origin) >= last(&self.said, origin)) {
                lacking.replace_origin(origin.clone(), Default::default());
            }
        }
        lacking
    }

    pub(super) fn ask(&mut self) {
        self.ask_due = true;
    }

    /// The answer to our request has ended, or is not waited for: what it did not give is not asked for again. A request that is still not
    /// out stays due.
    pub(super) fn note_unmet(&mut self, asked_for: &VersionVector, ours: &VersionVector) {
        if !self.ask_due {
            self.unmet = asked_for.minus(ours);
        }
    }

    /// What it did not give, or we could not take, may be asked for again.
    pub(super) fn forget_unmet(&mut self) {
        self.unmet = VersionVector::default();
    }

    /// The peer has what of `covers` is ours: it gave it, or asked from there on.
    pub(super) fn note_shared(&mut self, covers: &VersionVector, ours: &VersionVector) {
        self.shared.merge(&covers.minus(&covers.minus(ours)));
    }

    /// The first word.
    pub(super) fn hello(&mut self, replica: &Replica, saved: &Saved, links: u64) -> String {
        self.told = saved.vector.clone();
        let (protocol, node_id, packed) = (PROTOCOL, replica.id().clone(), packed::VERSION);
        let (vector, bulk, window) = (self.told.clone(), true, Some(WINDOW_BYTES));
        self.told_floor = replica.floor().clone();
        let floor = self.told_floor.clone();
        Message::Hello(Hello { protocol, node_id, vector, floor, packed, bulk, window, links: Some(links) }).encode()
    }

    /// The next thing to say over the first channel, now that it takes one; what is large only where that has no channel of its own. When `leaving`,
    /// only what must not be lost. Operations only while the peer `takes` more of them.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn next_message(
        &mut self,
        replica: &Replica,
        saved: &Saved,
        lane: Lane,
        leaving: bool,
        takes: bool,
    ) -> Result<Option<Body>, StorageError> {
        if let Some(end) = self.plain.break_off() {
            return Ok(Some(end.into()));
        }
        if std::mem::take(&mut self.ask_due) {
            return Ok(Some(Message::SyncRequest(self.request(replica.vector())).encode().into()));
        }
        // Before anything that was read after it.
        if std::mem::take(&mut self.floor_due) {
            return Ok(Some(self.floor_message(replica)));
        }
        if takes && let Some(message) = self.next_live() {
            return Ok(Some(message));
        }
        if takes
            && lane == Lane::Shared
            && let Some(message) = self.next_large_live()
        {
            return Ok(Some(message));
        }
        if leaving {
            return Ok(None);
        }
        if !self.is_answering()
            && (std::mem::take(&mut self.announce_due) && !self.has(&saved.vector)
                || std::mem::take(&mut self.reconcile_due))
        {
            self.reconcile_due = false;
            self.told = saved.vector.clone();
            return Ok(Some(Message::Vector { vector: self.told.clone() }.encode().into()));
        }
        if takes
            && lane == Lane::Shared
            && let Some(message) = self.next_of_answer(replica, saved)?
        {
            return Ok(Some(message));
        }
        Ok(if self.is_answering() { None } else { self.comparison.next_message().map(Body::Text) })
    }

    /// The next thing to say over the channel for what is large, now that it takes one.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn next_large(
        &mut self,
        replica: &Replica,
        saved: &Saved,
        leaving: bool,
    ) -> Result<Option<Body>, StorageError> {
        match self.next_large_live() {
            None if !leaving => self.next_of_answer(replica, saved),
            message => Ok(message),
        }
    }

    /// What the peer may have forgotten and we have not heard of, as far as it is worth asking for: then everything is asked for, if anything.
    pub(super) fn missed(&self, courtesy: &Courtesy, ours: &VersionVector) -> VersionVector {
        if !courtesy.is_ready() || self.ask_due || !self.forgetting.is_behind() {
            return VersionVector::default();
        }
        self.forgetting.floor.vector.minus(ours).minus(&self.unmet)
    }

    /// Asks for everything, to catch up.
    pub(super) fn ask_to_catch_up(&mut self) {
        self.forgetting.catch_up();
        self.ask_due = true;
    }

    /// Tells up to where we have forgotten.
    pub(super) fn tell_floor(&mut self) {
        self.floor_due = true;
    }

    /// The same, to a peer of ours that has not forgotten all of that, as far as is known, and was not told so.
    pub(super) fn tell_floor_if_lower(&mut self, courtesy: &Courtesy, ours: &Floor) {
        let is_known = self.forgetting.floor.covers(ours) || self.told_floor.covers(ours);
        if courtesy.is_ready() && courtesy.has_greeted() && !is_known {
            self.floor_due = true;
        }
    }

    /// Whether what covers this is everything, as it was asked for.
    pub(super) fn is_everything(&self, covers: &VersionVector) -> bool {
        self.forgetting.is_everything(covers) || self.comparison.is_answered_by(covers)
    }

    /// What is to be done with the end of a series that covers this.
    pub(super) fn end_of_series(&mut self, part: Part, covers: VersionVector) -> Work {
        self.progress.end();
        match self.forgetting.ends(&covers) {
            Ends::CatchUp(floor) => Work::CatchUp(part, covers, floor),
            // It was asked for before we knew that it would not tell all.
            Ends::TooLate => Work::DropStaged,
            Ends::Delta if self.comparison.ends(&covers) => {
                Work::Reconcile(part, covers, self.forgetting.floor.clone())
            }
            Ends::Delta => Work::ApplyStaged(part, covers),
        }
    }

    /// Whether there is something to tell that must not be lost.
    pub(super) fn has_to_tell(&self) -> bool {
        !self.live.is_empty() || !self.large.is_empty() && !self.is_answering()
    }

    /// The same for a peer that speaks only the specification, in messages that it takes.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn next_plain_message(
        &mut self,
        replica: &Replica,
        saved: &Saved,
        max_message_bytes: usize,
        leaving: bool,
    ) -> Result<Option<String>, StorageError> {
        self.plain.next_message(replica, saved, max_message_bytes, leaving)
    }

    /// How many operations the peer could not be sent because they are too large for it, since last asked.
    pub(super) fn take_skipped(&mut self) -> u32 {
        self.plain.take_skipped()
    }

    /// The rest of the series that is being staged will not come, or cannot be read. Whether there was one.
    pub(super) fn break_off(&mut self) -> bool {
        self.progress.break_off();
        std::mem::take(&mut self.is_staging)
    }

    /// What of `ours` the peer does not have, as far as is known.
    pub(super) fn lacks(&self, ours: &VersionVector) -> VersionVector {
        ours.minus(&self.said).minus(&self.shared)
    }

    /// What the peer said that it has and we have not.
    pub(super) fn is_ahead_by(&self, ours: &VersionVector) -> VersionVector {
        self.said.minus(ours)
    }

    /// For all that is lacking; while we compare, or catch up, for everything.
    fn request(&self, ours: &VersionVector) -> SyncRequest {
        let everything = self.forgetting.is_catching_up() || self.comparison.is_asking();
        let vector = if everything { VersionVector::default() } else { ours.clone() };
        SyncRequest { from_version: 0, vector: Some(vector) }
    }

    fn has(&self, covers: &VersionVector) -> bool {
        self.lacks(covers).is_empty()
    }

    fn is_answering(&self) -> bool {
        self.answer.is_some() || self.requested.is_some()
    }

    fn next_live(&mut self) -> Option<Body> {
        // In JSON it would be taken for the end of a series.
        let may = self.reads_packed || !(self.is_answering() || self.large.in_series());
        let queue = may.then_some(&mut self.live)?;
        next_of(queue, self.reads_packed, &self.said, &mut self.shared)
    }

    fn next_large_live(&mut self) -> Option<Body> {
        // An answer in progress will contain it; only what it did not is told after its end.
        let may = self.large.in_series() || !self.is_answering();
        let queue = may.then_some(&mut self.large)?;
        next_of(queue, self.reads_packed, &self.said, &mut self.shared)
    }

    fn next_of_answer(&mut self, replica: &Replica, saved: &Saved) -> Result<Option<Body>, StorageError> {
        if self.large.in_series() {
            return Ok(None);
        }
        // Rows are read where the user's open transaction may have changed them.
        if replica.in_transaction() {
            return Ok(None);
        }
        if self.answer.is_none() {
            let Some(since) = self.requested.take() else { return Ok(None) };
            if !since.is_empty() && !since.covers(&replica.floor().vector) {
                // It has not heard that it would have to catch up.
                self.floor_due = true;
                return Ok(None);
            }
            self.answer = Some(Answer::begin(replica, &since)?);
        }
        if let Some(answer) = self.answer.take_if(|answer| answer.is_cut(replica)) {
            self.requested.get_or_insert_with(|| answer.since().clone());
            return Ok(answer.is_begun().then(break_off));
        }
        let Some(answer) = &mut self.answer else { return Ok(None) };
        Ok(match answer.next(replica, saved, self.reads_packed)? {
            Next::Nothing => None,
            Next::Part(message) => Some(message),
            Next::Floor => Some(self.floor_message(replica)),
            Next::End(message, covers) => {
                self.answer = None;
                self.shared.merge(&covers);
                Some(message)
            }
        })
    }

    /// Up to where we have forgotten.
    fn floor_message(&mut self, replica: &Replica) -> Body {
        self.told_floor = replica.floor().clone();
        Message::Floor { floor: self.told_floor.clone() }.encode().into()
    }
}

/// The end of a series that is not what it was to be: the peer drops it.
fn break_off() -> Body {
    Message::SyncResponse(SyncResponse::default()).encode().into()
}

/// The next message of what waits; with the last one of something the peer has that.
fn next_of(
    queue: &mut LiveQueue,
    reads_packed: bool,
    said: &VersionVector,
    shared: &mut VersionVector,
) -> Option<Body> {
    let (message, told) = queue.pop(reads_packed, |covers| covers.minus(said).minus(shared).is_empty())?;
    if let Some(live) = told {
        shared.merge(&live.covers);
    }
    Some(message)
}
