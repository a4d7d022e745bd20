//! Writes the user's own changes into the registers.
//!
//! What the user commits is newer than everything that is here: the clock has seen it all. So most changes need no merge. An INSERT of a row
//! without a past is one operation; an UPDATE takes its columns from the operations that showed them. Only where a row dies, or comes
//! back, are its registers read as a whole.

use std::borrow::Cow;

use rtc_battery_proto::{Hlc, OperationKind, SqlValue, TransactionExtent};
use rusqlite::Connection;

use super::commit::Change;
use super::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::log::columns::ColumnSet;
use crate::replica::log::digest::{Content, Registers};
use crate::replica::log::in_a_row::InARow;
use crate::replica::log::rows::{self, Entry, Tally};
use crate::replica::log::store::{self, Origins, Place, Tx};
use crate::replica::schema::dropped;
use crate::replica::schema::table::{Addressing, Table};
use crate::replica::unique::admission::Unsettled;
use crate::replica::unique::parked;

/// Records the changes of one transaction, DELETEs before INSERTs.
pub(crate) struct Recorder<'a> {
    connection: &'a Connection,
    origins: &'a Origins,
    /// The transaction, until it is stored: at the end, with the digest after it, or as soon as operations of it may be read back.
    unstored: Option<(Tx, TransactionExtent)>,
    /// INSERTs of rows without a past that stand one after the other: they come into the log at once.
    in_a_row: Option<InARow<'a>>,
    tally: Tally,
}

impl<'a> Recorder<'a> {
    /// `transaction` is what the changes are told as, if they are told.
    pub(crate) fn new(
        connection: &'a Connection,
        origins: &'a Origins,
        transaction: Option<(Tx, TransactionExtent)>,
    ) -> Self {
        let mut tally = Tally::default();
        if let Some((tx, _)) = transaction {
            tally.runs.begin(tx);
        }
        Self { connection, origins, unstored: transaction, in_a_row: None, tally }
    }

    /// Records a change as an operation.
    pub(crate) fn record(&mut self, change: &Change<'_>, place: Place, hlc: Hlc) -> Result<(), StorageError> {
        self.unsettle(change);
        let Change { table, kind, slot, .. } = change;
        let new = change.new.as_deref().unwrap_or_default();
        match (kind, change.old.as_deref()) {
            (OperationKind::Insert, _) if self.has_no_past(table)? => {
                let content = table.names.content_of(new.iter().enumerate());
                self.insert(table, slot, place, &hlc, content)
            }
            (OperationKind::Update, Some(old)) => {
                let written: ColumnSet = change.written().into_iter().collect();
                let Self { connection, origins, tally, .. } = self;
                if !rows::overwrite(connection, origins, table, slot, &written, (old, &hlc), tally)? {
                    return self.merge(change, Some((place, hlc)));
                }
                let content = table.names.content_of(written.iter().map(|column| (column, &new[column])));
                self.tally.registers.add_cells(&hlc, content);
                rows::insert(self.connection, (place, *kind), table, slot, &written, None, &mut self.tally)
            }
            _ => self.merge(change, Some((place, hlc))),
        }
    }

    /// Records that a row was inserted.
    pub(crate) fn record_unread(
        &mut self,
        table: &'a Table,
        slot: &Slot,
        content: Content,
        (place, hlc): (Place, Hlc),
    ) -> Result<(), StorageError> {
        match slot {
            Slot::Rowid(row) if self.has_no_past(table)? => {
                self.tally.registers.insert(&table.names, &hlc, content);
                if !self.in_a_row.as_mut().is_some_and(|rows| rows.goes_on(table, *row, place)) {
                    self.store_rows()?;
                    let listed = self.tally.runs.lists(table, slot, place);
                    self.in_a_row = Some(InARow { table, first: *row, place, n: 1, listed });
                }
                Ok(())
            }
            _ => self.merge(&self.read(table, slot)?, Some((place, hlc))),
        }
    }

    fn store_rows(&mut self) -> Result<(), StorageError> {
        self.in_a_row.take().map_or(Ok(()), |rows| rows.store(self.connection))
    }

    /// Records an INSERT of a row without a past.
    fn insert(
        &mut self,
        table: &Table,
        slot: &Slot,
        place: Place,
        hlc: &Hlc,
        content: Content,
    ) -> Result<(), StorageError> {
        self.tally.registers.insert(&table.names, hlc, content);
        let columns = (0..table.columns.len()).collect();
        let new = (place, OperationKind::Insert);
        rows::insert(self.connection, new, table, slot, &columns, None, &mut self.tally)
    }

    /// `execLocal` wrote over a row: its operations keep the values that the table no longer shows, and nobody else hears of it.
    pub(crate) fn cover(&mut self, change: &Change<'_>) -> Result<(), StorageError> {
        self.unsettle(change);
        if change.kind == OperationKind::Insert && self.has_no_past(change.table)? {
            return Ok(());
        }
        self.merge(change, None)
    }

    /// `execLocal` inserted a row.
    pub(crate) fn cover_unread(&mut self, table: &Table, slot: &Slot) -> Result<(), StorageError> {
        if self.has_no_past(table)? { Ok(()) } else { self.merge(&self.read(table, slot)?, None) }
    }

    /// Forgets what the transaction dropped.
    pub(crate) fn bury(&mut self) -> Result<(), StorageError> {
        dropped::bury(self.connection, &mut self.tally)
    }

    /// The end of the transaction. Gives the digest of all registers after it, `before` being the one before.
    pub(crate) fn finish(mut self, tx: Tx, before: Registers) -> Result<(Registers, Unsettled), StorageError> {
        self.store_rows()?;
        let mut registers = before;
        registers += self.tally.registers;
        match self.unstored.take() {
            Some((tx, extent)) => {
                let run = self.tally.runs.of(tx);
                store::insert_transaction(self.connection, tx, extent, Some(registers), run)?;
            }
            None => {
                store::note_registers(self.connection, tx, registers)?;
                self.tally.runs.store(self.connection)?;
            }
        }
        self.tally.forget_empty(self.connection)?;
        Ok((registers, self.tally.unsettled))
    }

    /// The end of what nobody else hears of.
    pub(crate) fn finish_local(mut self) -> Result<Unsettled, StorageError> {
        self.tally.forget_empty(self.connection)?;
        Ok(self.tally.unsettled)
    }

    /// Rows that this one kept out may come in.
    fn unsettle(&mut self, change: &Change<'_>) {
        let Change { table, kind, .. } = change;
        let old = change.old.as_deref().filter(|_| table.unique.is_some());
        if let Some(key) = old.and_then(|old| table.key_of_row(old)) {
            let written = change.written();
            if table.ranks(*kind, |column| written.contains(&column)) {
                self.tally.unsettled.changed(table, &key);
            }
        }
    }

    /// Whether no row of the table died, so that one which is inserted has no operations yet.
    fn has_no_past(&self, table: &Table) -> Result<bool, StorageError> {
        Ok(table.addressing != Addressing::Key && !rows::has_dead(self.connection, table)?)
    }

    /// What was inserted here.
    fn read<'b>(&self, table: &'b Table, slot: &'b Slot) -> Result<Change<'b>, StorageError> {
        let new = rows::read(self.connection, table, slot)?.map(Cow::Owned);
        Ok(Change { table, kind: OperationKind::Insert, slot, old: None, new })
    }

    /// Joins the change with all that is known of the row.
    fn merge(&mut self, change: &Change<'_>, operation: Option<(Place, Hlc)>) -> Result<(), StorageError> {
        let Change { table, kind, slot, .. } = change;
        let (old, new) = (change.old.as_deref(), change.new.as_deref());
        let key = new.or(old).and_then(|row| table.key_of_row(row));
        let key = key.ok_or(StorageError::Corrupt("a row without a key"))?;
        let by_key = Slot::Key(key.clone());
        if let Some((tx, extent)) = self.unstored.take() {
            store::insert_transaction(self.connection, tx, extent, None, None)?;
        }
        let mut entries = Vec::new();
        rows::load(self.connection, self.origins, table, &by_key, &mut entries)?;
        // A row that is inserted has nothing at its rowid yet: what stood there before was deleted first.
        if **slot != by_key && *kind != OperationKind::Insert {
            rows::load(self.connection, self.origins, table, slot, &mut entries)?;
        }
        let mut state = rows::state(&entries, old)?;
        if state.exists() && old.is_none() && new.is_some() {
            parked::forget(self.connection, table, &key)?;
        }
        if let Some((place, hlc)) = operation {
            let before = table.names.row(&state, &key);
            state.apply(&hlc, *kind, written(old, new));
            self.tally.registers.change(before, table.names.row(&state, &key));
            let columns = ColumnSet::default();
            let (kind, adopted) = (*kind, false);
            entries.push(Entry { place, hlc, adopted, kind, columns, inline: None, stored_at: None });
        }
        let slot = if new.is_some() { *slot } else { &by_key };
        rows::write(self.connection, table, slot, &entries, &state, new, &mut self.tally)
    }
}

/// The columns that differ, with their new values.
fn written(old: Option<&[SqlValue]>, new: Option<&[SqlValue]>) -> Vec<(usize, SqlValue)> {
    let differs = |(column, value): &(usize, &SqlValue)| old.is_none_or(|old| old[*column] != **value);
    let new = new.unwrap_or_default().iter().enumerate();
    new.filter(differs).map(|(column, value)| (column, value.clone())).collect()
}
