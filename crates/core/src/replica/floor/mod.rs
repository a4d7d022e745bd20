//! What is forgotten of rows that were deleted, and who may have missed it.
//!
//! A deleted row keeps what was known of it: its newest DELETE beats older writes that still come, and a newer one brings the whole row back. Both end when nobody
//! can come any more who does not know of the DELETE. A replica notes over time what it has (`history`); what it had [a retention time](DEFAULT_RETENTION_MS) ago,
//! and every replica that it met since has too, is its *floor*, and rows that were deleted at or below it are forgotten (`collect`). Floors are told, and joined by
//! maximum: replicas of one floor that have the same transactions keep the same.
//!
//! Who lacks a transaction of a peer's floor has been away for too long to be told by operations what is gone, and takes what the peer has instead (`behind`).
//!
//! Invariant: the vector covers the floor.

pub(crate) mod behind;
pub(crate) mod collect;
pub(crate) mod history;

use rtc_battery_proto::{Floor, ReplicaId, VersionVector};

use crate::Now;
use crate::replica::error::StorageError;
use crate::replica::log::staging;
use crate::replica::merge::apply::Applied;
use crate::replica::replica::Replica;

/// How long deleted rows are remembered, at least, in milliseconds: 30 days.
pub const DEFAULT_RETENTION_MS: u64 = 30 * 24 * 3_600_000;

impl Replica {
    /// Up to where this replica has forgotten rows that were deleted.
    #[must_use]
    pub fn floor(&self) -> &Floor {
        &self.state.floor
    }

    /// What was here when [`look_back`](Self::look_back) looked last.
    pub(crate) fn noted(&self) -> &VersionVector {
        self.state.history.noted()
    }

    /// A replica is here, or was until now; `in_step` where it has all that was here when [`look_back`](Self::look_back) looked last. What members lack is not forgotten.
    pub fn note_met(&mut self, node: &ReplicaId, in_step: bool, now: Now) {
        self.state.history.note_met(node, in_step, now.wall_ms);
    }

    /// When [`look_back`](Self::look_back) has something to do, by the wall clock, in milliseconds since 1970.
    #[must_use]
    pub fn look_back_at_ms(&self, retention_ms: u64, now: Now) -> u64 {
        self.state.history.due_ms(retention_ms, now.wall_ms)
    }

    /// Forgets rows that were deleted before the retention time, where everybody who was met in it knows. To be called as often as one likes: it does something thirty
    /// times in a retention time.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open and something is due.
    pub fn look_back(&mut self, retention_ms: u64, now: Now) -> Result<(), StorageError> {
        self.state.look_back(&self.connection, retention_ms, now)
    }

    /// Forgets what a peer has forgotten, so that both keep the same. Nothing happens where this replica [is behind](Self::is_behind).
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open.
    pub fn join_floor(&mut self, theirs: &Floor) -> Result<(), StorageError> {
        self.state.join_floor(&self.connection, theirs)
    }

    /// Whether a peer of this floor may have forgotten what this replica has not heard of. Then what it lacks cannot be told by a delta: it has to
    /// [catch up](Self::catch_up_staged).
    #[must_use]
    pub fn is_behind(&self, theirs: &Floor) -> bool {
        !self.state.vector.covers(&theirs.vector)
    }

    /// Takes what was staged under `key`, a delta from nothing, as all that a peer of this floor keeps, in one SQLite transaction: what it has and keeps no longer is
    /// gone here too, but for rows that were edited here and that the peer has not heard of.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn catch_up_staged(
        &mut self,
        key: u32,
        covers: &VersionVector,
        floor: &Floor,
        now: Now,
    ) -> Result<Applied, StorageError> {
        match staging::take(&self.connection, key)? {
            Ok(operations) => {
                let applied = self.state.catch_up(&self.connection, operations, covers, floor, now);
                self.told_columns(applied, now)
            }
            Err(error) => Ok(Applied::nothing(error.to_string())),
        }
    }

    /// How often [`look_back`](Self::look_back) has written something and forgotten nothing, since this was opened.
    #[must_use]
    pub fn notes(&self) -> u64 {
        self.state.notes
    }
}
