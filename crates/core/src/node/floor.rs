//! What peers have forgotten of deleted rows: it is forgotten here too, or, where we have not heard of it, we catch up.
//!
//! Floors are told in `hello`, and where peers that have the same transactions find that they have not the same floor (`digests`). They are joined a few at a time, with the
//! announcements: each time all deleted rows are looked at. Who is behind a peer's floor tells it nothing and takes no delta of it; the peer asks it for
//! nothing. Whoever else is in the room and still knows what was deleted is asked first; then the peer, for everything.

use rtc_battery_proto::{Floor, PeerId, Tick, VersionVector};

use super::io::{ErrorCode, LinkId};
use super::node::Node;
use super::session::Session;
use crate::Now;
use crate::Replica;
use crate::replica::{Applied, StorageError, TOLERANCE_MS};

/// Wall clocks are set, and timers of browsers do not run while the machine sleeps: it is looked at so often whether it is time, in milliseconds.
const LOOK_EVERY_MS: u64 = 3_600_000;

/// What a peer has forgotten, over one link.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    pub(super) floor: Floor,
    /// Whether we lack some of what it may have forgotten.
    is_behind: bool,
    /// Whether everything was asked for.
    is_catching_up: bool,
}

/// What the end of a series is.
pub(super) enum Ends {
    /// A delta.
    Delta,
    /// Everything that a peer of this floor keeps.
    CatchUp(Floor),
    /// A delta of a peer that may have forgotten what we have not heard of.
    TooLate,
}

impl Forgetting {
    /// The peer has forgotten up to there.
    fn note(&mut self, floor: &Floor, ours: &Replica) {
        self.floor.merge(floor);
        self.look(ours);
    }

    /// Whether we are behind.
    fn look(&mut self, ours: &Replica) {
        self.is_behind = ours.is_behind(&self.floor);
    }

    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    pub(super) fn is_catching_up(&self) -> bool {
        self.is_catching_up
    }

    /// Everything is asked for.
    pub(super) fn catch_up(&mut self) {
        self.is_catching_up = true;
    }

    /// Whether what covers this is the answer that was asked for.
    pub(super) fn is_everything(&self, covers: &VersionVector) -> bool {
        self.is_catching_up && covers.covers(&self.floor.vector)
    }

    /// A series has ended that covers this.
    pub(super) fn ends(&mut self, covers: &VersionVector) -> Ends {
        let everything = self.is_everything(covers);
        if everything {
            self.is_catching_up = false;
        }
        match (self.is_behind, everything) {
            (true, true) => Ends::CatchUp(self.floor.clone()),
            (true, false) => Ends::TooLate,
            (false, _) => Ends::Delta,
        }
    }
}

impl Session {
    /// The peer is here, or was until now.
    pub(super) fn note_met(&self, replica: &mut Replica, now: Now) {
        if let Some(node) = &self.replica {
            let in_step = self.lacks(replica.noted()).is_empty();
            replica.note_met(node, in_step, now);
        }
    }
}

impl Node {
    /// A peer has told its floor.
    pub(super) fn handle_floor(&mut self, id: LinkId, mut floor: Floor) {
        if floor.is_empty() {
            return;
        }
        if floor.clock.ts > self.room.now().wall_ms.saturating_add(TOLERANCE_MS) {
            // One of us has a clock that is wrong. What is gone is gone; how new it was, nobody believes.
            floor.clock = Tick::default();
        }
        let session = self.sessions.entry(id).or_default();
        session.forgetting.note(&floor, &self.replica);
        if session.forgetting.is_behind() {
            session.forget_unmet();
            if !session.forgetting.is_catching_up() {
                // What was asked before we knew is not answered.
                self.stop_asking_of(id);
            }
        }
    }

    /// Forgets what peers have forgotten, as far as it is known here.
    pub(super) fn join_floors(&mut self) -> Result<(), StorageError> {
        if self.replica.in_transaction() {
            return Ok(());
        }
        // One by one: whoever has forgotten a row up to there may lack what came to it since, however far we have forgotten ourselves.
        let known = self.sessions.values().map(|session| &session.forgetting).filter(|peer| !peer.is_behind());
        for peer in known {
            self.replica.join_floor(&peer.floor)?;
        }
        self.tell_floor();
        Ok(())
    }

    /// Tells those who do not have it up to where we have forgotten.
    fn tell_floor(&mut self) {
        let ours = self.replica.floor();
        for (id, session) in &mut self.sessions {
            if let Some(channel) = self.room.channel(*id) {
                session.tell_floor_if_lower(&channel.courtesy, ours);
            }
        }
    }

    /// Whoever was behind may not be any more.
    pub(super) fn note_caught_up(&mut self) {
        for session in self.sessions.values_mut().filter(|session| session.forgetting.is_behind()) {
            session.forgetting.look(&self.replica);
        }
    }

    /// Forgets what was deleted long ago. No transaction of the user's is open.
    pub(super) fn look_back(&mut self, now: Now) -> Result<(), StorageError> {
        for id in std::mem::take(&mut self.greeted) {
            if let Some(session) = self.sessions.get(&id) {
                session.note_met(&mut self.replica, now);
            }
        }
        if self.replica.look_back_at_ms(self.retention_ms, now) > now.wall_ms {
            return Ok(());
        }
        self.join_floors()?;
        self.sessions.values().for_each(|session| session.note_met(&mut self.replica, now));
        self.replica.look_back(self.retention_ms, now)?;
        self.tell_floor();
        Ok(())
    }

    /// When to look again, on the monotonic clock.
    pub(super) fn look_back_at_ms(&self, now: Now) -> Option<u64> {
        if self.replica.in_transaction() {
            return None;
        }
        let wait_ms = self.replica.look_back_at_ms(self.retention_ms, now).saturating_sub(now.wall_ms);
        Some(now.mono_ms + wait_ms.min(LOOK_EVERY_MS))
    }

    /// Tells the user that rows are back which others had deleted.
    pub(super) fn tell_brought_back(&mut self, peer: &PeerId, applied: &Applied) {
        if applied.brought_back == 0 {
            return;
        }
        let message = format!(
            "This device was away for longer than deleted rows are remembered. {} rows that others had deleted meanwhile are back, since they were edited here; delete \
             them again if they should be gone.",
            applied.brought_back
        );
        self.room.outputs.error(ErrorCode::BroughtBack, message, Some(peer));
    }
}
