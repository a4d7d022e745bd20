//! Reads the log for a replica that lacks some of it.
//!
//! Invariant: what a whole delta holds, applied at its end to what its reader had, is the fold of whole transactions. Transactions that
//! are committed while it is being read may overwrite what it has told already or not yet; they are added to its end.

use std::collections::VecDeque;

use rtc_battery_proto::{
    Adopted, Columns, Dot, Operation, OperationKind, SqlValue, Tick, TransactionExtent, VersionVector,
};
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::columns::ColumnSet;
use super::rows;
use super::runs::Run;
use super::store::{Place, Tx};
use crate::replica::capture::hook::Slot;
use crate::replica::error::StorageError;
use crate::replica::schema::table::Table;
use crate::replica::state::State;

/// Where the reading of a delta stands.
#[derive(Debug, Default)]
pub struct DeltaReader {
    since: VersionVector,
    /// What has been read, or is among `transactions`: what we have beyond it was committed after the last look.
    noted: VersionVector,
    /// Transactions still to be read: an origin's number, and its sequence numbers from the first to the last.
    transactions: VecDeque<(i64, u64, u64)>,
    /// The next operation of the first transaction.
    pub(crate) next_index: u32,
    /// How often the floor had been raised when the reading began.
    raises: u64,
}

impl DeltaReader {
    /// What its reader has.
    pub(crate) fn since(&self) -> &VersionVector {
        &self.since
    }
}

/// A part of a delta.
#[derive(Debug)]
pub struct DeltaChunk {
    /// The next operations.
    pub operations: Vec<Operation>,
    /// Set on the last part.
    pub end: Option<DeltaEnd>,
}

/// The end of a delta.
#[derive(Debug)]
pub struct DeltaEnd {
    /// With all the parts' operations, the reader of the delta has these dots.
    pub covers: VersionVector,
    /// The end may be told to a peer only once this version is saved.
    pub version: u64,
}

/// A transaction as stored.
pub(crate) struct Stored {
    pub(crate) tx: Tx,
    pub(crate) dot: Dot,
    pub(crate) extent: TransactionExtent,
    pub(crate) run: Option<Run>,
}

/// A transaction's operations that do not stand in its run, and those that wait or are set aside, in order.
const LISTED: &str = "SELECT idx, kind, tbl, row, cols, vals, hlc, NULL FROM rtc_operations
     WHERE listed AND origin = ?1 AND seq = ?2 AND idx >= ?3
     UNION ALL SELECT idx, NULL, NULL, NULL, NULL, NULL, NULL, operation FROM rtc_waiting
     WHERE origin = ?1 AND seq = ?2 AND idx >= ?3
     UNION ALL SELECT idx, NULL, NULL, NULL, NULL, NULL, NULL, operation FROM rtc_quarantine
     WHERE origin = ?1 AND seq = ?2 AND idx >= ?3
     ORDER BY 1";

/// Those that stand in its run, in order.
const IN_RUN: &str = "SELECT idx, kind, tbl, row, cols, vals, hlc, NULL FROM rtc_operations
     WHERE tbl = ?1 AND row BETWEEN ?2 AND ?3 AND origin = ?4 AND seq = ?5 AND idx >= ?6 AND NOT listed
     ORDER BY tbl, row";

impl State {
    /// Begins to read what a replica that has `since` lacks.
    pub(crate) fn delta(&self, connection: &Connection, since: &VersionVector) -> Result<DeltaReader, StorageError> {
        let (transactions, next_index) = Default::default();
        let (noted, since, raises) = (since.clone(), since.clone(), self.raises);
        let mut reader = DeltaReader { since, noted, transactions, next_index, raises };
        self.note_rest(connection, &mut reader)?;
        Ok(reader)
    }

    /// Notes what we have and the reader neither has nor has noted.
    fn note_rest(&self, connection: &Connection, reader: &mut DeltaReader) -> Result<(), StorageError> {
        let mut select = connection.prepare_cached("SELECT id FROM rtc_origins WHERE node = ?1")?;
        for (origin, ranges) in self.vector.minus(&reader.noted).iter() {
            let Some(id) = select.query_row([origin.as_str()], |row| row.get(0)).optional()? else { continue };
            reader.transactions.extend(ranges.iter().map(|(first, last)| (id, first, last)));
        }
        reader.noted.merge(&self.vector);
        Ok(())
    }

    /// Whether something was forgotten since the reading began: of a row that is gone the first half may have been read.
    pub(crate) fn is_cut(&self, reader: &DeltaReader) -> bool {
        reader.raises != self.raises
    }

    /// About how many operations are left, by what the transactions had when they were committed.
    pub(crate) fn rest_of_delta(connection: &Connection, reader: &DeltaReader) -> Result<u64, StorageError> {
        let mut select = connection.prepare_cached(
            "SELECT coalesce(sum(n), 0) FROM rtc_transactions WHERE origin = ?1 AND seq BETWEEN ?2 AND ?3",
        )?;
        let mut operations = 0_u64;
        for (origin, first, last) in &reader.transactions {
            operations += select.query_row(params![origin, first, last], |row| row.get::<_, u64>(0))?;
        }
        Ok(operations.saturating_sub(reader.next_index.into()))
    }

    /// The next part.
    pub(crate) fn read_delta(
        &self,
        connection: &Connection,
        reader: &mut DeltaReader,
        max_bytes: usize,
    ) -> Result<DeltaChunk, StorageError> {
        if !connection.is_autocommit() {
            // The tables show what is not committed.
            return Err(StorageError::InTransaction);
        }
        let (mut operations, mut bytes) = (Vec::new(), 0);
        loop {
            let Some((origin, first, last)) = reader.transactions.front().copied() else {
                self.note_rest(connection, reader)?;
                if reader.transactions.is_empty() {
                    let end = DeltaEnd { covers: self.vector.minus(&reader.since), version: self.version };
                    return Ok(DeltaChunk { operations, end: Some(end) });
                }
                continue;
            };
            // Most transactions have been compacted away in the end.
            let Some(stored) = self.stored(connection, origin, first, last)? else {
                reader.transactions.pop_front();
                reader.next_index = 0;
                continue;
            };
            if stored.tx.seq != first {
                reader.next_index = 0;
            }
            let full = self.read_transaction(connection, &stored, reader, &mut operations, &mut bytes, max_bytes)?;
            let next = if full { stored.tx.seq } else { stored.tx.seq + 1 };
            if let Some(range) = reader.transactions.front_mut() {
                range.1 = next;
            }
            if full {
                return Ok(DeltaChunk { operations, end: None });
            }
            reader.next_index = 0;
        }
    }

    /// The first transaction of an origin from `first` to `last` that still shows.
    pub(crate) fn stored(
        &self,
        connection: &Connection,
        origin: i64,
        first: u64,
        last: u64,
    ) -> Result<Option<Stored>, StorageError> {
        let mut select = connection.prepare_cached(
            "SELECT seq, ts, counter, n, tbl, row FROM rtc_transactions WHERE origin = ?1 AND seq BETWEEN ?2 AND ?3
             ORDER BY seq LIMIT 1",
        )?;
        let mut rows = select.query(params![origin, first, last])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let tx = Tx { origin, seq: row.get(0)? };
        let extent = TransactionExtent { first: Tick { ts: row.get(1)?, counter: row.get(2)? }, n: row.get(3)? };
        let (table, first_row): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
        let run = table.zip(first_row).map(|(table, row)| Run { table, row });
        Ok(Some(Stored { tx, dot: Dot { origin: self.origins.node(origin)?.clone(), seq: tx.seq }, extent, run }))
    }

    /// Reads a transaction from where the reader stands; tells whether the part is full.
    pub(crate) fn read_transaction(
        &self,
        connection: &Connection,
        stored: &Stored,
        reader: &mut DeltaReader,
        operations: &mut Vec<Operation>,
        bytes: &mut usize,
        max_bytes: usize,
    ) -> Result<bool, StorageError> {
        let next = reader.next_index;
        let (mut select_listed, mut select_in_run) =
            (connection.prepare_cached(LISTED)?, connection.prepare_cached(IN_RUN)?);
        let mut listed = select_listed.query(params![stored.tx.origin, stored.tx.seq, next])?;
        let row = |index: u32| stored.run.map(|run| run.row.saturating_add(index.into()));
        let (table, first, last) = (stored.run.map(|run| run.table), row(next), row(stored.extent.n));
        let mut in_run = select_in_run.query(params![table, first, last, stored.tx.origin, stored.tx.seq, next])?;
        listed.advance()?;
        in_run.advance()?;
        loop {
            let index = |row: Option<&Row<'_>>| row.map(|row| row.get::<_, u32>(0)).transpose();
            let (one, other) = (index(listed.get())?, index(in_run.get())?);
            let Some(index) = one.into_iter().chain(other).min() else { return Ok(false) };
            if *bytes >= max_bytes {
                return Ok(true);
            }
            let rows = if one == Some(index) { &mut listed } else { &mut in_run };
            let Some(row) = rows.get() else { return Ok(false) };
            let operation = match row.get::<_, Option<String>>(7)? {
                Some(waiting) => {
                    serde_json::from_str(&waiting).map_err(|_| StorageError::Corrupt("an operation that waits"))?
                }
                None => self.read_operation(connection, stored, index, row)?,
            };
            *bytes += size_bytes(&operation);
            operations.push(operation);
            reader.next_index = index + 1;
            rows.advance()?;
        }
    }

    /// One operation, by where it stands.
    pub(crate) fn read_stored(
        &self,
        connection: &Connection,
        (table, slot): (i64, &Slot),
        Place { tx, index }: Place,
    ) -> Result<Operation, StorageError> {
        let mut select = connection.prepare_cached(
            "SELECT o.idx, o.kind, o.tbl, o.row, o.cols, o.vals, o.hlc, t.ts, t.counter, t.n
             FROM rtc_operations o JOIN rtc_transactions t ON t.origin = o.origin AND t.seq = o.seq
             WHERE o.tbl = ?1 AND o.row = ?2 AND o.origin = ?3 AND o.seq = ?4 AND o.idx = ?5",
        )?;
        let mut rows = select.query(params![table, slot, tx.origin, tx.seq, index])?;
        let row = rows.next()?.ok_or(StorageError::Corrupt("an operation that is not where it was"))?;
        let extent = TransactionExtent { first: Tick { ts: row.get(7)?, counter: row.get(8)? }, n: row.get(9)? };
        let dot = Dot { origin: self.origins.node(tx.origin)?.clone(), seq: tx.seq };
        self.read_operation(connection, &Stored { tx, dot, extent, run: None }, index, row)
    }

    /// An operation, of a row that tells index, kind, table, row, columns, values and clock value.
    pub(crate) fn read_operation(
        &self,
        connection: &Connection,
        stored: &Stored,
        index: u32,
        row: &Row<'_>,
    ) -> Result<Operation, StorageError> {
        let kind = rows::kind_of_number(row.get(1)?)?;
        let table = self.tables.by_id(row.get(2)?).ok_or(StorageError::Corrupt("rtc_operations.tbl"))?;
        let (slot, columns): (Slot, ColumnSet) = (row.get(3)?, row.get(4)?);
        let inline = rows::parse_values(row.get(5)?)?;
        let needs_image = matches!(slot, Slot::Rowid(_)) || (inline.is_none() && !columns.is_empty());
        let image = if needs_image { rows::read(connection, table, &slot)? } else { None };
        let own: Option<String> = row.get(6)?;
        let origin = &stored.dot.origin;
        let adopted = own.is_some().then(|| Adopted { by: origin.clone(), index });
        let values = (kind != OperationKind::Delete)
            .then(|| values(table, &columns, inline.as_deref(), image.as_deref()))
            .transpose()?;
        Ok(Operation {
            hlc: rows::hlc(own, stored.extent.first, index, origin)?,
            kind,
            table: table.made_by.clone(),
            pk: pk(table, &slot, image.as_deref())?,
            values,
            prev: None,
            seq: Some(stored.dot.seq),
            tx: Some(stored.extent),
            adopted,
        })
    }
}

fn pk(table: &Table, slot: &Slot, image: Option<&[SqlValue]>) -> Result<Columns, StorageError> {
    let values: Vec<SqlValue> = match (image, slot) {
        (Some(image), _) => table.key.iter().map(|column| image[*column].clone()).collect(),
        (None, Slot::Key(key)) => table.key_values(key),
        (None, Slot::Rowid(_)) => return Err(StorageError::Corrupt("an operation whose row is nowhere")),
    };
    let name = |column: &usize| table.columns[*column].identity.clone();
    Ok(table.key.iter().map(name).zip(values).collect())
}

fn values(
    table: &Table,
    columns: &ColumnSet,
    inline: Option<&[SqlValue]>,
    image: Option<&[SqlValue]>,
) -> Result<Columns, StorageError> {
    let value = |(place, column): (usize, usize)| {
        let value = match inline {
            Some(values) => values.get(place),
            None => image.and_then(|image| image.get(column)),
        };
        let value = value.ok_or(StorageError::Corrupt("an operation whose value is nowhere"))?;
        let column = table.columns.get(column).ok_or(StorageError::Corrupt("rtc_operations.cols"))?;
        Ok((column.identity.clone(), value.clone()))
    };
    columns.iter().enumerate().map(value).collect()
}

/// About what the operation takes as JSON.
pub(crate) fn size_bytes(operation: &Operation) -> usize {
    let columns =
        |columns: &Columns| columns.iter().map(|(name, value)| name.len() + value.size_bytes() + 8).sum::<usize>();
    200 + operation.table.len() + columns(&operation.pk) + operation.values.as_ref().map_or(0, columns)
}
