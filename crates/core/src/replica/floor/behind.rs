//! Catching up with a peer that has forgotten what we never heard of: we take what it has instead of what we had.
//!
//! The peer tells all that it keeps. What we know by transactions that it has too, and that it keeps no longer, is overwritten or gone, and is dropped. What it
//! does not have (our own edits, made while we were away) stays: it is merged as ever where the peer knows the row. Where it does not the row was deleted, and
//! forgotten; an edit of ours brings it back, so the rest of it is told again. So nothing that was edited here is lost, and nothing else comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rtc_battery_proto::{Floor, Operation, OperationKind, VersionVector};
use rusqlite::{Connection, params};

use crate::Now;
use crate::replica::error::StorageError;
use crate::replica::log::again::{self, Again};
use crate::replica::log::rows::{self, Entry};
use crate::replica::log::store::{Place, SCHEMA_TABLE, Tx};
use crate::replica::log::whole::{self, Row};
use crate::replica::merge::apply::{Applied, is_schema};
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

/// A row: its table's number and its canonical key.
type RowKey = (i64, String);

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
            let mut news = admitted.news;
            let (schema, rows): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_schema);
            merge.take_schema(schema, &news)?;
            let not_kept = told.rows_not_kept(&merge, &rows, &news)?;
            merge.take_rows(rows, &news)?;
            let again = told.prune(&mut merge, not_kept)?;
            let mut dot = merge.state.next_dot();
            let own = news.origin(&merge.state.node).and_then(|own| own.last()).unwrap_or(0);
            dot.seq = dot.seq.max(own + 1);
            if !again.is_empty() {
                let of_row = |again: &Again| (again.table.id, again.slot.clone());
                merge.applied.brought_back = again.iter().map(of_row).collect::<BTreeSet<_>>().len();
                again::tell(connection, &mut merge.state.origins, &dot, &again, &mut merge.tally)?;
                news.insert(dot.clone());
                dot.seq += 1;
            }
            merge.settle()?;
            merge.forget_empty()?;
            let Merge { applied, mut tally, state, .. } = merge;
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
    fn prune(
        &self,
        merge: &mut Merge<'_>,
        not_kept: BTreeMap<RowKey, Vec<Operation>>,
    ) -> Result<Vec<Again>, StorageError> {
        let mut told_again = Vec::new();
        for ((table, key), named) in not_kept {
            let origins = &merge.state.origins;
            let table = merge.state.tables.by_id(table).cloned().ok_or(StorageError::Corrupt("rtc_operations.tbl"))?;
            let mut known = Known::of_key(merge.connection, origins, &table, &table.key_values(&key))?;
            let before = known.state()?;
            let (mut is_kept, mut is_ours, mut lost, mut rest) = (!named.is_empty(), false, Vec::new(), Vec::new());
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
                    let slot = entry.stored_at.clone().unwrap_or_else(|| known.by_key.clone());
                    told_again.push(Again { table: Arc::clone(&table), slot, entry });
                }
                continue;
            }
            if !is_kept && !is_ours {
                lost.append(&mut rest);
            }
            let mut here: BTreeSet<Place> = rest.iter().map(|entry| entry.place).collect();
            known.entries = rest;
            join::take_out(merge.connection, &table, known, &before, lost, &mut merge.tally)?;
            // What is gone has beaten some of what the peer keeps.
            named.into_iter().try_for_each(|operation| merge.take_once_more(&operation, &mut here))?;
        }
        self.prune_unseen(merge)?;
        Ok(told_again)
    }

    /// The rows of which something is not kept, each with what has come of it.
    fn rows_not_kept(
        &self,
        merge: &Merge<'_>,
        came: &[Operation],
        news: &VersionVector,
    ) -> Result<BTreeMap<RowKey, Vec<Operation>>, StorageError> {
        // A newcomer had nothing that the peer knows.
        let nothing_in_common = self.had.minus(self.covers) == self.had;
        let Merge { connection, state: State { origins, tables, .. }, .. } = merge;
        let select = "SELECT origin, seq, idx, tbl, row, hlc FROM rtc_operations WHERE tbl <> ?1 AND (hlc IS NOT NULL OR NOT ?2)";
        let mut select = connection.prepare(select)?;
        let mut found = select.query(params![SCHEMA_TABLE, nothing_in_common])?;
        let mut slots = BTreeSet::new();
        while let Some(row) = found.next()? {
            let place = rows::place(row)?;
            let is_old = || -> Result<bool, StorageError> {
                let Some(own) = row.get::<_, Option<String>>(5)? else { return Ok(false) };
                let hlc = own.parse().map_err(|_| StorageError::Corrupt("rtc_operations.hlc"))?;
                Ok(!origins.is_in(self.covers, place.tx)? && self.is_older(&hlc))
            };
            if self.is_lost(merge, place)? || is_old()? {
                slots.insert((row.get(3)?, row.get(4)?));
            }
        }
        let mut not_kept = BTreeMap::<RowKey, Vec<Operation>>::new();
        for (id, slot) in slots {
            let table = tables.by_id(id).ok_or(StorageError::Corrupt("rtc_operations.tbl"))?;
            let Row { image, .. } = whole::row(connection, origins, table, &slot, None)?;
            not_kept.insert((id, whole::key(table, &slot, image.as_deref())?), Vec::new());
        }
        if not_kept.is_empty() {
            return Ok(not_kept);
        }
        let mut places = BTreeSet::new();
        for operation in came {
            let Some((dot, _, index)) = operation.place() else { continue };
            let is_taken = news.contains(&dot) && !merge.verdicts.contains_key(&dot) && places.insert((dot, index));
            if is_taken
                && let Some(table) = tables.of_identity(&operation.table)
                && let Some(key) = join::canonical_key(connection, table, operation)?
                && let Some(named) = not_kept.get_mut(&(table.id, key))
            {
                named.push(operation.clone());
            }
        }
        Ok(not_kept)
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
