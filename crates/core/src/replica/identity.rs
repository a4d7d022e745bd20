//! A new id for a database: where its file was copied, or put back to an older state, somebody else may write under the old one.
//!
//! A dot must name one transaction, and a clock value one operation. Both are true as long as one writer at a time counts on from what its file says. So who
//! opens a copy takes a new id before it writes, and who finds out that there is another (a peer knows more of our transactions than we do) takes one then.
//! What was written stays under the old id, which is from then on an origin like any other; the clock goes on, and the next transaction is the first of
//! the new one.

use rtc_battery_proto::{ReplicaId, VersionVector};
use rusqlite::{Connection, params};

use super::Replica;
use super::error::StorageError;
use super::log::store::{self, Progress};
use super::state::State;
use crate::planted::{Bug, planted};

impl Replica {
    /// Makes this database another replica, of an id that nobody else has. To be done before the first write where the file is a copy, or was put back to an older
    /// state: somebody else writes, or wrote, under the id that it has.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open.
    pub fn take_new_id(&mut self, fresh: &ReplicaId) -> Result<(), StorageError> {
        self.state.take_new_id(&self.connection, fresh)
    }

    /// Whether what was written under this replica's id was [withdrawn](Self::step_back), so that another goes on for it: this one is a copy from before.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn is_withdrawn(&mut self) -> Result<bool, StorageError> {
        self.state.is_withdrawn(&self.connection)
    }

    /// Whether somebody who knows this knows transactions of this replica that it does not know itself: there is, or was, another writer of its id.
    #[must_use]
    pub fn is_behind_itself(&self, theirs: &VersionVector) -> bool {
        self.state.is_behind_itself(theirs)
    }
}

impl State {
    /// From now on this replica is `fresh`.
    pub(super) fn take_new_id(&mut self, connection: &Connection, fresh: &ReplicaId) -> Result<(), StorageError> {
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        if planted(Bug::CloneUnnoticed) || *fresh == self.node {
            return Ok(());
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let written = self.write_new_id(connection, fresh).and_then(|()| Ok(connection.execute_batch("COMMIT")?));
        if let Err(error) = written {
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            self.reload_origins(connection)?;
            return Err(error);
        }
        self.node = fresh.clone();
        self.version += 1;
        self.note_merged(VersionVector::default(), None);
        Ok(())
    }

    pub(super) fn write_new_id(&mut self, connection: &Connection, fresh: &ReplicaId) -> Result<(), StorageError> {
        // Our own entry is stored with merges only; nobody adds what we committed since to another's.
        let old = self.node.clone();
        if self.vector.origin(&old).is_some() {
            self.save_dots(connection, &old, [])?;
        }
        connection.execute("UPDATE rtc_replica SET node = ?1", params![fresh.as_str()])?;
        let seq = self.vector.origin(fresh).and_then(|have| have.last()).unwrap_or(0);
        store::save_progress(connection, Progress { version: self.version + 1, seq, ..self.progress() })
    }

    /// Whether a peer knows transactions of ours that we do not: there is, or was, another writer of our id.
    pub(super) fn is_behind_itself(&self, theirs: &VersionVector) -> bool {
        let last = |vector: &VersionVector| vector.origin(&self.node).and_then(|own| own.last()).unwrap_or(0);
        last(theirs) > last(&self.vector)
    }
}
