//! Another database that writes under our id: a copied file, a backup that was put back, a cloned profile. Noticed by what peers know of us.
//!
//! Four things prove it: a peer that says our very id, one that knows more of our transactions than we do, contents under our own dots that are not ours, and
//! that our id was withdrawn from.
//! Then we take a new id, before we write again; what either wrote is told and merged as two writers' (`digests`: what hides under one dot is adopted).
//! A member of the room can forge all four, so it is done at most once an hour: each id stays in everybody's vector for ever.

use rtc_battery_proto::{ReplicaId, VersionVector};

use super::io::ErrorCode;
use super::node::Node;
use crate::Now;
use crate::replica::StorageError;

/// Between two new ids, in milliseconds.
const EVERY_MS: u64 = 3_600_000;

/// What is known of others of our id.
#[derive(Debug, Default)]
pub(super) struct Clones {
    noticed: bool,
    /// No new id before that, on the monotonic clock.
    not_before_ms: u64,
}

impl Node {
    /// A peer has said that its database has this id.
    pub(super) fn look_for_clone(&mut self, id: &ReplicaId) {
        self.clones.noticed |= id == self.replica.id();
    }

    /// A peer has said what it knows.
    pub(super) fn look_for_clones_writes(&mut self, theirs: &VersionVector) {
        self.clones.noticed |= self.replica.is_behind_itself(theirs);
    }

    /// Contents under our own dots were not ours.
    pub(super) fn note_clone(&mut self) {
        self.clones.noticed = true;
    }

    /// Becomes another where somebody else is who we are. No transaction of the user's is open.
    pub(super) fn part_from_clones(&mut self, now: Now) -> Result<(), StorageError> {
        self.clones.noticed |= self.replica.is_withdrawn()?;
        if !std::mem::take(&mut self.clones.noticed) || now.mono_ms < self.clones.not_before_ms {
            return Ok(());
        }
        self.clones.not_before_ms = now.mono_ms + EVERY_MS;
        let (old, fresh) = (self.replica.id().clone(), self.room.random.replica_id());
        self.replica.take_new_id(&fresh)?;
        let message = format!(
            "Another database writes under the id of this one, {old}: one of them is a copy, or was put back to an older state. This one goes on as {fresh}; \
             what both wrote is kept and merged."
        );
        self.room.outputs.error(ErrorCode::Cloned, message, None);
        Ok(())
    }
}
