//! Our own clock was far ahead and has been set right: what was stamped later than now is told again as of now, under a new id, and [withdrawn](super).

use std::collections::BTreeSet;

use rtc_battery_proto::{Dot, Hlc, Operation, ReplicaId, Tick, TransactionExtent, VersionVector};
use rusqlite::{Connection, params};

use super::late::{At, Late};
use super::{Span, row};
use crate::Now;
use crate::replica::Replica;
use crate::replica::clock::Clock;
use crate::replica::error::StorageError;
use crate::replica::log::digest::Registers;
use crate::replica::log::store::{self, Place, SCHEMA_TABLE, Tx};
use crate::replica::merge::apply::Applied;
use crate::replica::merge::merging::Merge;
use crate::replica::quarantine::{TOLERANCE_MS, newest_ms};
use crate::replica::state::State;
use crate::replica::unique::parked::Conflict;

/// Whose it is, and what becomes of it when this replica steps back.
enum Of {
    /// It is told again, and void.
    Us,
    /// It was not stamped too far ahead, and stays.
    Now,
    /// It is told again, since rows that are not from the future may need it, and set aside.
    Definitions,
    /// It is set aside.
    Others,
}

impl Replica {
    /// Whether the clock is so far ahead of the wall clock that others set aside what is written here, if the wall clock is right.
    #[must_use]
    pub fn is_ahead(&self, now: Now) -> bool {
        self.state.clock.last().ts > now.wall_ms.saturating_add(TOLERANCE_MS)
    }

    /// Withdraws what was written later than it is now, and tells it again as a transaction of `fresh`, an id that nobody else has, which is this replica's from
    /// then on. To be done when the wall clock was ahead, and is known to be right now. What others stamped more than five minutes ahead is set aside, as it
    /// would have been when it came: the clock must be after all that is shown.
    ///
    /// # Errors
    /// [`StorageError`], also while a transaction is open; nothing has changed then.
    pub fn step_back(&mut self, fresh: &ReplicaId, now: Now) -> Result<Applied, StorageError> {
        self.state.step_back(&self.connection, fresh, now)
    }
}

impl State {
    fn step_back(&mut self, connection: &Connection, fresh: &ReplicaId, now: Now) -> Result<Applied, StorageError> {
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        let old = self.node.clone();
        let stepped = self.in_merge(connection, true, |state| {
            let (applied, news, conflicts) = state.tell_at_its_time(connection, fresh, now)?;
            Ok((true, ((applied, news), conflicts)))
        });
        let (applied, news) = stepped.inspect_err(|_| self.node = old)?;
        self.note_merged(news, None);
        Ok(applied)
    }

    fn tell_at_its_time(
        &mut self,
        connection: &Connection,
        fresh: &ReplicaId,
        now: Now,
    ) -> Result<(Applied, VersionVector, Vec<Conflict>), StorageError> {
        let span = Span { after: Tick { ts: now.wall_ms, counter: u32::MAX }, last: self.clock.last() };
        let (old, latest_ms) = (self.node.clone(), now.wall_ms.saturating_add(TOLERANCE_MS));
        let is_of = |late: &Late| {
            if late.hlc.node == old && span.contains(late.hlc.tick) {
                Of::Us
            } else if late.hlc.tick.ts <= latest_ms {
                Of::Now
            } else if late.row().is_some_and(|(table, _)| table == SCHEMA_TABLE) {
                Of::Definitions
            } else {
                Of::Others
            }
        };
        let (mut aside, mut newest) = (Vec::new(), Tick::default());
        for late in self.stamped_since(connection, now.wall_ms)? {
            match is_of(&late) {
                Of::Us => {}
                Of::Now => newest = newest.max(late.hlc.tick),
                Of::Definitions => self.set_aside_again(connection, &late)?,
                Of::Others => {
                    self.set_aside_again(connection, &late)?;
                    aside.push(late);
                }
            }
        }
        let mut merge = Merge::new(connection, self)?;
        merge.take_out(&aside)?;
        // What is left of those rows may stand elsewhere now.
        let late = merge.state.stamped_since(connection, now.wall_ms)?.into_iter();
        let again: Vec<Late> = late.filter(|late| matches!(is_of(late), Of::Us | Of::Definitions)).collect();
        let state = &mut *merge.state;
        state.write_new_id(connection, fresh)?;
        state.node = fresh.clone();
        state.clock = Clock::new(newest);
        let first = state.clock.next(now.wall_ms).ok_or(StorageError::Corrupt("a clock at its end"))?;
        let n = u32::try_from(again.len() + 1).map_err(|_| StorageError::Corrupt("too many operations"))?;
        let (dot, extent) = (state.next_dot(), TransactionExtent { first, n });
        let last = hlc(&dot, extent, n - 1)?;
        let mut news = VersionVector::default();
        news.insert(dot.clone());
        merge.take(row(&old, span, &dot, extent), &news)?;
        merge.move_to(&dot, extent, &again)?;
        merge.settle()?;
        merge.forget_empty()?;
        let Merge { applied, tally, state, .. } = merge;
        (state.floors, state.withdrawn) = (None, None);
        state.clock.advance(last.tick);
        state.registers += tally.registers;
        state.save_news(connection, &news)?;
        Ok((applied, news, tally.conflicts))
    }

    /// Keeps an operation until its time has come. What waits goes on waiting.
    fn set_aside_again(&mut self, connection: &Connection, late: &Late) -> Result<(), StorageError> {
        let Some(row) = late.row() else { return Ok(()) };
        let operation = self.read_stored(connection, row, late.place)?;
        let until_ms = newest_ms(&operation).saturating_sub(TOLERANCE_MS);
        self.quarantine.keep(connection, late.place, &operation, until_ms)?;
        Ok(())
    }
}

/// The clock value of an operation of a transaction.
fn hlc(dot: &Dot, extent: TransactionExtent, index: u32) -> Result<Hlc, StorageError> {
    let tick = extent.first.checked_add(index.into()).ok_or(StorageError::Corrupt("a clock at its end"))?;
    Ok(Hlc { tick, node: dot.origin.clone() })
}

impl Merge<'_> {
    /// Gives operations, in this order, the places after the first in a transaction of ours, and its clock values. What they show stays as it is.
    fn move_to(&mut self, dot: &Dot, extent: TransactionExtent, late: &[Late]) -> Result<(), StorageError> {
        let tx = Tx { origin: self.state.origins.id(self.connection, &dot.origin)?, seq: dot.seq };
        self.tally.registers -= self.registers_of(late)?;
        let mut update = self.connection.prepare(
            "UPDATE rtc_operations SET origin = ?6, seq = ?7, idx = ?8, listed = 1, hlc = NULL
             WHERE tbl = ?1 AND row = ?2 AND origin = ?3 AND seq = ?4 AND idx = ?5",
        )?;
        let mut delete =
            self.connection.prepare("DELETE FROM rtc_waiting WHERE origin = ?1 AND seq = ?2 AND idx = ?3")?;
        for (index, Late { place, at, .. }) in (1..extent.n).zip(late) {
            let from = (place.tx.origin, place.tx.seq, place.index);
            match at {
                At::Row(table, slot) => {
                    update.execute(params![table, slot, from.0, from.1, from.2, tx.origin, tx.seq, index])?;
                }
                At::Waiting(text) => {
                    delete.execute(params![from.0, from.1, from.2])?;
                    let operation: Operation =
                        serde_json::from_str(text).map_err(|_| StorageError::Corrupt("rtc_waiting.operation"))?;
                    let hlc = hlc(dot, extent, index)?;
                    let operation = Operation { hlc, seq: Some(dot.seq), tx: Some(extent), adopted: None, ..operation };
                    store::wait(self.connection, Place { tx, index }, &operation)?;
                }
            }
            self.tally.thinned.insert(place.tx);
        }
        self.tally.registers += self.registers_of(late)?;
        Ok(())
    }

    /// The digest of the rows that operations stand in.
    fn registers_of(&self, late: &[Late]) -> Result<Registers, StorageError> {
        let (mut sum, mut seen) = (Registers::default(), BTreeSet::new());
        for (table, slot) in late.iter().filter_map(Late::row) {
            let (table, key) = self.key_at(table, slot)?;
            if seen.insert((table.id, key.clone())) {
                sum += table.names.row(&self.known(&table, &key)?.state()?, &key);
            }
        }
        Ok(sum)
    }
}
