//! Operations that are told again: they get a place in a new transaction of this replica, and keep their clock values, as if they were adopted. What they decide
//! stays as it is; whoever has forgotten them hears of them.

use std::sync::Arc;

use rtc_battery_proto::{Dot, Tick, TransactionExtent};
use rusqlite::{Connection, params};

use super::rows::{Entry, Tally};
use super::store::{self, Origins, Tx};
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::schema::table::Table;

/// An operation that is told again.
pub(crate) struct Again {
    pub(crate) table: Arc<Table>,
    /// Where it stands.
    pub(crate) slot: Slot,
    pub(crate) entry: Entry,
}

/// Makes a transaction of them, under this dot.
pub(crate) fn tell(
    connection: &Connection,
    origins: &mut Origins,
    dot: &Dot,
    operations: &[Again],
    tally: &mut Tally,
) -> Result<(), StorageError> {
    let n = u32::try_from(operations.len()).map_err(|_| StorageError::Corrupt("too many operations"))?;
    let tx = Tx { origin: origins.id(connection, &dot.origin)?, seq: dot.seq };
    // The transaction has no place on our clock: its operations have theirs on others'.
    store::insert_transaction(connection, tx, TransactionExtent { first: Tick::default(), n }, None, None)?;
    let mut update = connection.prepare_cached(
        "UPDATE rtc_operations SET origin = ?6, seq = ?7, idx = ?8, listed = 1, hlc = ?9
         WHERE tbl = ?1 AND row = ?2 AND origin = ?3 AND seq = ?4 AND idx = ?5",
    )?;
    for (index, Again { table, slot, entry }) in (0..n).zip(operations) {
        let old = entry.place;
        let hlc = entry.hlc.to_string();
        update.execute(params![table.id, slot, old.tx.origin, old.tx.seq, old.index, tx.origin, tx.seq, index, hlc])?;
        tally.thinned.insert(old.tx);
    }
    Ok(())
}
