//! How a transaction's operations are found: as a run where they stand one after the other, by an index where they do not.
//!
//! `rtc_operations` stands in order of rows. What inserts many rows gives them rowids in a row, and most transactions are one operation; so the
//! transaction itself tells where its operation 0 stands, or would, and operation `n` is looked for `n` rows further. The others are `listed`,
//! and only those are in the index by transaction: a commit writes a page less, and the log of a large one is a third smaller.
//!
//! Invariant: an operation that is not listed stands in the run of its transaction. One that moves is listed from then on.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::store::{Place, Tx};
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::schema::table::Table;

/// Where a transaction's operations stand that are not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The table's number.
    pub(crate) table: i64,
    /// The rowid of operation 0, or where it would be.
    pub(crate) row: i64,
}

/// The runs of the transactions that come into the log in one SQLite transaction. What is added later to one (it waited for its table) is listed.
#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<Tx, Option<Run>>);

impl Run {
    /// The run in which the operation at `place` stands at `slot`.
    fn through(table: &Table, slot: &Slot, place: Place) -> Option<Self> {
        match slot {
            Slot::Rowid(row) => Some(Self { table: table.id, row: row.checked_sub(place.index.into())? }),
            Slot::Key(_) => None,
        }
    }
}

impl Runs {
    /// A transaction that has no operations in the log yet.
    pub(crate) fn begin(&mut self, tx: Tx) {
        self.0.insert(tx, None);
    }

    /// Takes in a new operation. Tells whether it is to be listed.
    pub(crate) fn lists(&mut self, table: &Table, slot: &Slot, place: Place) -> bool {
        let (Some(known), Some(run)) = (self.0.get_mut(&place.tx), Run::through(table, slot, place)) else {
            return true;
        };
        *known.get_or_insert(run) != run
    }

    pub(crate) fn of(&self, tx: Tx) -> Option<Run> {
        self.0.get(&tx).copied().flatten()
    }

    /// Stores them with transactions that are stored already.
    pub(crate) fn store(&mut self, connection: &Connection) -> Result<(), StorageError> {
        let sql = "UPDATE rtc_transactions SET tbl = ?3, row = ?4 WHERE origin = ?1 AND seq = ?2";
        for (tx, run) in std::mem::take(&mut self.0) {
            if let Some(Run { table, row }) = run {
                connection.prepare_cached(sql)?.execute(params![tx.origin, tx.seq, table, row])?;
            }
        }
        Ok(())
    }
}
