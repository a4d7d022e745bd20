//! Between messages and the replica: what is saved is told, what came is applied, what is lacking is asked for.
//!
//! One peer is asked at a time: the others have mostly the same, and what they have beyond it is asked for when the answer has ended. A peer
//! that does not answer holds nobody up for long, and what it announced and did not give is not asked for again.

use std::sync::Arc;

use rtc_battery_proto::{PeerId, VersionVector};

use super::courtesy::Language;
use super::inbox::{Item, Part, Work};
use super::io::{Event, LinkId};
use super::link::Link;
use super::live::Live;
use super::node::Node;
use super::room::Ended;
use crate::Now;
use crate::replica::{Applied, Conflict, StorageError};

/// An answer that makes no progress for so long is not waited for any longer, in milliseconds.
const STALL_MS: u64 = 15_000;

/// The request that is out.
#[derive(Debug)]
pub(super) struct Asking {
    link: LinkId,
    asked_for: VersionVector,
    pub(super) progress_at_ms: u64,
}

impl Asking {
    /// Of whom it is asked.
    pub(super) fn link(&self) -> LinkId {
        self.link
    }
}

impl Node {
    /// Storage holds everything up to `version`: now it may be told.
    pub(super) fn handle_saved(&mut self, version: u64) {
        self.saved.version = self.saved.version.max(version.min(self.replica.version()));
        for committed in self.replica.take_committed(self.saved.version) {
            let covers = committed.covers.clone();
            self.saved.vector.merge(&covers);
            if !self.room.links.values().any(Link::is_open) {
                continue;
            }
            let for_plain = self.room.links.values().any(|link| link.language() == Some(Language::Plain));
            let mut sessions = self.sessions.iter();
            let for_json = sessions.any(|(id, session)| self.room.is_ours(*id) && !session.reads_packed);
            let for_plain = for_plain.then_some(&self.replica);
            let live = Live::of(committed, for_json, for_plain).map(Arc::new);
            for (id, session) in &mut self.sessions {
                if let Some(channel) = self.room.channel(*id) {
                    session.tell(&channel.courtesy, &covers, live.as_ref());
                }
            }
        }
    }

    /// Applies what waits, unless the user's transaction is open, and asks for what is lacking then.
    pub(super) fn settle(&mut self, now: Now) -> Result<(), StorageError> {
        self.release_ended(now);
        while !self.replica.in_transaction() {
            self.part_from_clones(now)?;
            self.step_back(now)?;
            self.release(now)?;
            self.look_back(now)?;
            let Some(item) = self.inbox.pop() else {
                self.ask(now.mono_ms);
                break;
            };
            self.work(item, now)?;
        }
        self.tell_conflicts();
        Ok(())
    }

    /// Tells which rows cannot be shown since the last time.
    fn tell_conflicts(&mut self) {
        for Conflict { table, pk, reason, with_pk } in self.replica.take_conflicts() {
            self.room.outputs.event(Event::Conflict { table, pk, reason, with_pk });
        }
    }

    fn work(&mut self, item: Item, now: Now) -> Result<(), StorageError> {
        let Item { link, peer, work, .. } = item;
        self.note_progress(link, now.mono_ms);
        if let Work::Apply(_, covers)
        | Work::ApplyStaged(_, covers)
        | Work::Reconcile(_, covers, _)
        | Work::CatchUp(_, covers, _) = &work
        {
            self.look_for_clones_writes(covers);
            self.part_from_clones(now)?;
        }
        match work {
            Work::Stage(part) => self.stage(link, &part)?,
            Work::DropStaged => self.replica.drop_staged(link.0)?,
            Work::Apply(operations, covers) => {
                let applied = self.replica.apply(operations, &covers, now)?;
                self.note_applied(link, &peer, &covers, applied, now.mono_ms);
            }
            Work::Adopt(operations) => {
                let operations = operations.into_iter().map(|operation| self.replica.by_identity(operation)).collect();
                let (applied, covers) = self.replica.adopt(operations, now)?;
                self.note_applied(link, &peer, &covers, applied, now.mono_ms);
            }
            Work::Import(file) => match self.replica.import(&file, now) {
                Ok((applied, covers)) => self.note_applied(link, &peer, &covers, applied, now.mono_ms),
                Err(error) => self.room.complain(&peer, &error.to_string(), now.mono_ms),
            },
            Work::Reconcile(.., floor) if floor.vector != self.replica.floor().vector => {
                // What only one of us has may be what the other has forgotten since.
                self.replica.drop_staged(link.0)?;
                self.compare_anew(link);
            }
            Work::Reconcile(part, covers, _) => {
                self.stage(link, &part)?;
                let applied = self.replica.reconcile_staged(link.0, &covers, now)?;
                self.note_applied(link, &peer, &covers, applied, now.mono_ms);
                self.tell_end_of_series(link, peer);
            }
            Work::CatchUp(part, covers, floor) => {
                self.stage(link, &part)?;
                let applied = self.replica.catch_up_staged(link.0, &covers, &floor, now)?;
                self.tell_brought_back(&peer, &applied);
                self.note_applied(link, &peer, &covers, applied, now.mono_ms);
                self.tell_end_of_series(link, peer);
            }
            Work::Compare(theirs) => self.compare(link, &peer, theirs)?,
            Work::ApplyStaged(part, covers) => {
                self.stage(link, &part)?;
                let applied = self.replica.apply_staged(link.0, &covers, now)?;
                self.note_applied(link, &peer, &covers, applied, now.mono_ms);
                self.tell_end_of_series(link, peer);
            }
        }
        Ok(())
    }

    fn stage(&mut self, link: LinkId, part: &Part) -> Result<(), StorageError> {
        match part {
            Part::Loose(operations) => self.replica.stage(link.0, operations),
            Part::Packed(packed) => self.replica.stage_packed(link.0, packed),
        }
    }

    fn tell_end_of_series(&mut self, link: LinkId, peer: PeerId) {
        let total = self.sessions.get_mut(&link).and_then(|session| session.progress.applied());
        if let Some(total) = total {
            self.room.outputs.event(Event::SyncProgress { peer, done: total, total });
        }
    }

    fn note_applied(&mut self, id: LinkId, peer: &PeerId, covers: &VersionVector, applied: Applied, now_ms: u64) {
        if applied.operations > 0 {
            self.room.outputs.event(Event::Sync { peer: peer.clone(), operations: applied.operations });
        }
        if let Some(reason) = applied.refused.first() {
            self.room.complain(peer, reason, now_ms);
        }
        self.tell_set_aside(peer, &applied, now_ms);
        if applied.from_clone {
            self.note_clone();
        }
        self.note_caught_up();
        let ours = self.replica.vector();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.note_shared(covers, ours);
        }
        // An answer ends, also where some of it was refused.
        let ended =
            |asking: &Asking| ours.covers(&asking.asked_for) || asking.link == id && covers.covers(&asking.asked_for);
        if self.asking.as_ref().is_some_and(ended) {
            self.stop_asking();
        }
    }

    /// Asks somebody who has what we lack, unless somebody is being asked.
    fn ask(&mut self, now_ms: u64) {
        if self.asking.is_some() || !std::mem::take(&mut self.ask_due) {
            return;
        }
        let (ours, floor) = (self.replica.vector(), self.replica.floor());
        for (&link, session) in &mut self.sessions {
            let Some(channel) = self.room.channel(link) else { continue };
            let asked_for = session.offers(&channel.courtesy, ours, floor);
            if !asked_for.is_empty() {
                session.ask();
                self.asking = Some(Asking { link, asked_for, progress_at_ms: now_ms });
                return;
            }
        }
        // Who still knows what was deleted has been asked: what they had may be all that we missed.
        for (&link, session) in &mut self.sessions {
            let Some(channel) = self.room.channel(link) else { continue };
            let asked_for = session.missed(&channel.courtesy, ours);
            if !asked_for.is_empty() {
                session.ask_to_catch_up();
                self.asking = Some(Asking { link, asked_for, progress_at_ms: now_ms });
                return;
            }
        }
    }

    /// The answer has ended, or is not waited for any longer: somebody else may be asked.
    pub(super) fn stop_asking(&mut self) {
        let Some(asking) = self.asking.take() else { return };
        self.ask_due = true;
        let ours = self.replica.vector();
        if let Some(session) = self.sessions.get_mut(&asking.link) {
            session.note_unmet(&asking.asked_for, ours);
        }
    }

    /// Whoever was asked does not answer as it was asked.
    pub(super) fn stop_asking_of(&mut self, id: LinkId) {
        self.asking.take_if(|asking| asking.link == id);
        self.ask_due = true;
    }

    /// Something of an answer came.
    pub(super) fn note_progress(&mut self, id: LinkId, now_ms: u64) {
        if let Some(asking) = self.asking.as_mut().filter(|asking| asking.link == id) {
            asking.progress_at_ms = now_ms;
        }
    }

    /// When the one that is being asked has had its time. While the user's transaction is open nobody can be blamed.
    pub(super) fn stall_at_ms(&self) -> Option<u64> {
        let asking = self.asking.as_ref().filter(|_| !self.replica.in_transaction())?;
        Some(asking.progress_at_ms + STALL_MS)
    }

    /// Forgets the sessions of links that are gone, and what they were about to bring.
    fn release_ended(&mut self, now: Now) {
        for Ended { link, peer, .. } in std::mem::take(&mut self.room.ended) {
            let session = self.sessions.remove(&link);
            if let Some(session) = &session {
                session.note_met(&mut self.replica, now);
            }
            if session.is_some_and(|session| session.is_staging) {
                self.inbox.drop_staged(link, &peer);
            }
            if self.asking.as_ref().is_some_and(|asking| asking.link == link) {
                self.asking = None;
                self.ask_due = true;
            }
        }
    }
}
