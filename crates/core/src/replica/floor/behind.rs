//! Catching up with a peer that has forgotten what we never heard of: we take what it has instead of what we had.
//!
//! The peer tells all that it keeps. What we know by transactions that it has too, and that it keeps no longer, is overwritten or gone, and is dropped. What it
//! does not have (our own edits, made while we were away) stays: it is merged as ever where the peer knows the row. Where it does not the row was deleted, and
//! forgotten; an edit of ours brings it back, so the rest of it is told again. So nothing that was edited here is lost, and nothing else comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use rtc_battery_proto::{Floor, Operation, OperationKind, VersionVector};
use rusqlite::{Connection, params};

use crate::Now;
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::log::again::{self, Again};
use crate::replica::log::rows::{self, Entry};
use crate::replica::log::store::{Place, SCHEMA_TABLE, Tx};
use crate::replica::log::whole::{self, Row};
use crate::replica::merge::apply::Applied;
use crate::replica::merge::join::{self, Known};
use crate::replica::merge::merging::Merge;
use crate::replica::quarantine::TOLERANCE_MS;
use crate::replica::state::State;

/// What a peer has told, as all that it keeps.
struct Told<'a> {
    /// What we had before.
    had: VersionVector,
    /// What it has.
    covers: &'a VersionVector,
    floor: &'a Floor,
    /// Those of its operations that were here already.
    kept: BTreeSet<(Tx, u32)>,
}

impl State {
    /// Takes what a peer keeps, all of it, and its floor.
    pub(crate) fn catch_up(
        &mut self,
        connection: &Connection,
        operations: Vec<Operation>,
        covers: &VersionVector,
        floor: &Floor,
        now: Now,
    ) -> Result<Applied, StorageError> {
        if !connection.is_autocommit() {
            return Err(StorageError::InTransaction);
        }
        if !covers.covers(&floor.vector) {
            return Ok(Applied::nothing("it has less than it says to have forgotten".to_owned()));
        }
        let admitted = self.admit(&operations, covers, now);
        if let Some(why) = admitted.why_not_all() {
            return Ok(Applied::nothing(why));
        }
        let known = operations.iter().filter_map(|operation| {
            let (dot, _, index) = operation.place().filter(|(dot, ..)| self.vector.contains(dot))?;
            Some((Tx { origin: self.origins.known(&dot.origin)?, seq: dot.seq }, index))
        });
        let told = Told { had: self.vector.clone(), covers, floor, kept: known.collect() };
        let (applied, raised, news) = self.in_merge(connection, true, |state| {
            let mut merge = Merge::new(connection, state)?;
            merge.verdicts = admitted.verdicts;
            merge.run(operations, &admitted.news)?;
            let again = told.prune(&mut merge)?;
            merge.settle()?;
            let Merge { mut applied, mut tally, state, .. } = merge;
            let mut news = admitted.news;
            let mut dot = state.next_dot();
            let own = news.origin(&state.node).and_then(|own| own.last()).unwrap_or(0);
            dot.seq = dot.seq.max(own + 1);
            if !again.is_empty() {
                let of_row = |again: &Again| (again.table.id, again.slot.clone());
                applied.brought_back = again.iter().map(of_row).collect::<BTreeSet<_>>().len();
                again::tell(connection, &mut state.origins, &dot, &again, &mut tally)?;
                news.insert(dot.clone());
                dot.seq += 1;
            }
            // What is written from now on is newer than what was forgotten; nothing that is ahead of time gets into the clock.
            if floor.clock.ts <= now.wall_ms.saturating_add(TOLERANCE_MS) {
                state.clock.advance(floor.clock);
            }
            let mut joined = state.floor.clone();
            joined.merge(floor);
            let raised = state.raise(connection, joined, (dot, news.clone()), &mut tally)?;
            Ok((true, ((applied, raised, news), tally.conflicts)))
        })?;
        self.note_raised(raised, news);
        Ok(applied)
    }
}

impl Told<'_> {
    /// Drops what the peer does not keep. Gives what is to be told again.
    fn prune(&self, merge: &mut Merge<'_>) -> Result<Vec<Again>, StorageError> {
        let mut told_again = Vec::new();
        for (table, slot) in self.rows_not_kept(merge)? {
            let origins = &merge.state.origins;
            let table = merge.state.tables.by_id(table).cloned().ok_or(StorageError::Corrupt("rtc_operations.tbl"))?;
            let Row { entries, image } = whole::row(merge.connection, origins, &table, &slot, None)?;
            if entries.is_empty() {
                // It stood at two places, and was dealt with at the other.
                continue;
            }
            let key = whole::key(&table, &slot, image.as_deref())?;
            let mut known = Known::of_key(merge.connection, origins, &table, &table.key_values(&key))?;
            let before = known.state()?;
            let (mut is_kept, mut is_ours, mut lost, mut rest) = (false, false, Vec::new(), Vec::new());
            for entry in std::mem::take(&mut known.entries) {
                if self.is_lost(merge, entry.place)? {
                    lost.push(entry);
                    continue;
                }
                let is_peers = merge.state.origins.is_in(self.covers, entry.place.tx)?;
                is_kept |= is_peers;
                is_ours |= !is_peers && entry.kind != OperationKind::Delete && !self.is_old(&entry);
                rest.push(entry);
            }
            if !is_kept && is_ours && before.exists() {
                for entry in lost {
                    let slot = entry.stored_at.clone().unwrap_or_else(|| slot.clone());
                    told_again.push(Again { table: Arc::clone(&table), slot, entry });
                }
                continue;
            }
            if !is_kept && !is_ours {
                lost.append(&mut rest);
            }
            let shown = known.found.as_ref().map(|(_, image)| image.as_slice());
            let after = rows::state(&rest, shown)?;
            let tally = &mut merge.tally;
            tally.registers.change(table.names.row(&before, &key), table.names.row(&after, &key));
            for entry in lost {
                rows::delete(merge.connection, &table, entry.stored_at.as_ref().unwrap_or(&slot), entry.place)?;
                tally.thinned.insert(entry.place.tx);
            }
            known.entries = rest;
            join::write(merge.connection, &table, known, &after, before.exists(), (None, true), tally)?;
        }
        self.prune_unseen(merge)?;
        Ok(told_again)
    }

    /// The rows of which something is not kept.
    fn rows_not_kept(&self, merge: &Merge<'_>) -> Result<BTreeSet<(i64, Slot)>, StorageError> {
        // A newcomer had nothing that the peer knows.
        let nothing_in_common = self.had.minus(self.covers) == self.had;
        let select = "SELECT origin, seq, idx, tbl, row, hlc FROM rtc_operations WHERE tbl <> ?1 AND (hlc IS NOT NULL OR NOT ?2)";
        let mut select = merge.connection.prepare(select)?;
        let mut found = select.query(params![SCHEMA_TABLE, nothing_in_common])?;
        let mut rows = BTreeSet::new();
        while let Some(row) = found.next()? {
            let place = rows::place(row)?;
            let is_old = || -> Result<bool, StorageError> {
                let Some(own) = row.get::<_, Option<String>>(5)? else { return Ok(false) };
                let hlc = own.parse().map_err(|_| StorageError::Corrupt("rtc_operations.hlc"))?;
                Ok(!merge.state.origins.is_in(self.covers, place.tx)? && self.is_older(&hlc))
            };
            if self.is_lost(merge, place)? || is_old()? {
                rows.insert((row.get(3)?, row.get(4)?));
            }
        }
        Ok(rows)
    }

    /// The same of operations that wait for their table, or for their time.
    fn prune_unseen(&self, merge: &mut Merge<'_>) -> Result<(), StorageError> {
        for table in ["rtc_waiting", "rtc_quarantine"] {
            let mut select = merge.connection.prepare(&format!("SELECT origin, seq, idx FROM {table}"))?;
            let places = select.query_map([], rows::place)?.collect::<rusqlite::Result<Vec<_>>>()?;
            let delete = format!("DELETE FROM {table} WHERE origin = ?1 AND seq = ?2 AND idx = ?3");
            let mut delete = merge.connection.prepare(&delete)?;
            for place in places {
                if self.is_lost(merge, place)? {
                    delete.execute(params![place.tx.origin, place.tx.seq, place.index])?;
                    merge.tally.thinned.insert(place.tx);
                }
            }
        }
        merge.state.quarantine.recount(merge.connection)
    }

    /// Whether the peer has the operation's transaction and keeps the operation no longer.
    fn is_lost(&self, merge: &Merge<'_>, place: Place) -> Result<bool, StorageError> {
        let origins = &merge.state.origins;
        Ok(origins.is_in(&self.had, place.tx)?
            && origins.is_in(self.covers, place.tx)?
            && !self.kept.contains(&(place.tx, place.index)))
    }

    /// Whether it came without a name (from a file, a plain peer, or what was read out of a damaged database) and is older than what is remembered of deleted
    /// rows: then it is no edit that was made while we were away.
    fn is_old(&self, entry: &Entry) -> bool {
        entry.adopted && self.is_older(&entry.hlc)
    }

    fn is_older(&self, hlc: &rtc_battery_proto::Hlc) -> bool {
        hlc.tick <= self.floor.clock
    }
}
