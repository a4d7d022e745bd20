//! What can still be read of a damaged database, taken into a new replica: the transactions of the old one, which peers may lack, and the definitions of
//! tables, without which its rows would wait. What other replicas wrote comes from them.
//!
//! The operations are adopted: they keep their clock values, so where a peer has one already nothing changes, on either side; and those of a transaction
//! of which a part cannot be read come without that part. Nothing of a damaged database is believed: SQLite reads it as it reads any file, and
//! what it gives is judged as what a stranger says.
//!
//! Whoever brings the database leaves pages out that are not what was saved: a wrong byte in the middle of a value is seen by nobody here.

use rtc_battery_proto::Operation;
use rusqlite::Connection;

use super::error::StorageError;
use super::log::delta::{DeltaReader, Stored, size_bytes};
use super::log::store::SCHEMA_TABLE;
use super::merge::apply::is_schema;
use super::replica::Replica;
use super::state::State;
use crate::Now;

/// What is read before it is adopted, in bytes of its JSON.
const AT_ONCE_BYTES: usize = 8 * 1024 * 1024;

/// What [`Replica::salvage`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// How many operations this replica did not have.
    pub operations: u32,
    /// Whether all of the old replica's log could be read.
    pub complete: bool,
}

impl Replica {
    /// Takes in what can be read of a damaged database of the same room.
    ///
    /// # Errors
    /// [`StorageError`]: this replica's own storage failed, or a transaction is open.
    pub fn salvage(&mut self, damaged: Connection, now: Now) -> Result<Salvaged, StorageError> {
        let room: String = self.connection.query_row("SELECT room FROM rtc_replica", [], |row| row.get(0))?;
        let mut salvaged = Salvaged::default();
        let Ok(damaged) = Self::open_damaged(damaged, &room) else { return Ok(salvaged) };
        let mut reading = Reading { complete: true, ..Reading::default() };
        let (connection, state) = (&damaged.connection, &damaged.state);
        reading.definitions(connection, state);
        let mut ranges = Range::all(&damaged);
        while let Some(range) = ranges.pop() {
            ranges.extend(reading.next(connection, state, range));
            if reading.bytes >= AT_ONCE_BYTES {
                salvaged.operations += self.take_in(&mut reading, now)?;
            }
        }
        salvaged.operations += self.take_in(&mut reading, now)?;
        salvaged.complete = reading.complete;
        Ok(salvaged)
    }

    fn take_in(&mut self, reading: &mut Reading, now: Now) -> Result<u32, StorageError> {
        reading.bytes = 0;
        let plain = std::mem::take(&mut reading.operations).into_iter().map(Operation::into_plain).collect();
        let (applied, _) = self.adopt(plain, now)?;
        Ok(applied.operations + applied.set_aside)
    }
}

/// Transactions of one origin, by its number there.
#[derive(Debug, Clone, Copy)]
struct Range {
    origin: i64,
    first: u64,
    last: u64,
}

impl Range {
    /// The end is not known: which transaction was the newest cannot be read either.
    const OPEN: u64 = i64::MAX.unsigned_abs();

    /// The transactions that the damaged replica knows to be its own, nearest last.
    fn all(damaged: &Replica) -> Vec<Self> {
        // One that never wrote has no number.
        let Some(origin) = damaged.state.origins.known(damaged.id()) else { return vec![] };
        let own = damaged.vector().origin(damaged.id());
        let known = own.into_iter().flat_map(|own| own.iter()).map(|(first, last)| Self { origin, first, last });
        let after = own.and_then(|own| own.last()).map_or(1, |last| last + 1);
        let mut ranges: Vec<_> = known.chain([Self { origin, first: after, last: Self::OPEN }]).collect();
        ranges.reverse();
        ranges
    }

    /// What is left after a beginning that cannot be read, nearest last.
    fn halves(self) -> Vec<Self> {
        let Self { first, last, .. } = self;
        let middle = first + (last - first) / 2;
        if first == last || last == Self::OPEN {
            return vec![];
        }
        vec![Self { first: middle + 1, ..self }, Self { last: middle, ..self }]
    }
}

/// A damaged log on its way.
#[derive(Debug, Default)]
struct Reading {
    operations: Vec<Operation>,
    bytes: usize,
    complete: bool,
}

impl Reading {
    /// What any replica said of tables and other objects.
    fn definitions(&mut self, connection: &Connection, state: &State) {
        let select = "SELECT DISTINCT origin, seq FROM rtc_operations WHERE tbl = ?1";
        let places = connection.prepare(select).and_then(|mut select| {
            let places = select.query_map([SCHEMA_TABLE], |row| Ok((row.get(0)?, row.get(1)?)))?;
            places.collect::<rusqlite::Result<Vec<(i64, u64)>>>()
        });
        let Ok(places) = places else {
            self.complete = false;
            return;
        };
        for (origin, seq) in places {
            match state.stored(connection, origin, seq, seq) {
                Ok(Some(stored)) => self.transaction(connection, state, &stored, is_schema),
                Ok(None) => {}
                Err(_) => self.complete = false,
            }
        }
    }

    /// Reads the first transaction of a range; gives what is left, nearest last.
    fn next(&mut self, connection: &Connection, state: &State, range: Range) -> Vec<Range> {
        match state.stored(connection, range.origin, range.first, range.last) {
            Ok(Some(stored)) => {
                self.transaction(connection, state, &stored, |_| true);
                let rest = Range { first: stored.tx.seq.saturating_add(1), ..range };
                if rest.first <= rest.last { vec![rest] } else { vec![] }
            }
            Ok(None) => vec![],
            Err(_) => {
                self.complete = false;
                range.halves()
            }
        }
    }

    /// Reads those operations of a transaction that can be read.
    fn transaction(&mut self, connection: &Connection, state: &State, stored: &Stored, wanted: fn(&Operation) -> bool) {
        let mut reader = DeltaReader::default();
        let mut read = Vec::new();
        // What cannot be read is the operation after those that were, or does not show any more.
        while reader.next_index < stored.extent.n {
            match state.read_transaction(connection, stored, &mut reader, &mut read, &mut 0, usize::MAX) {
                Ok(_) => break,
                Err(_) => self.complete = false,
            }
            reader.next_index += 1;
        }
        read.retain(wanted);
        self.bytes += read.iter().map(size_bytes).sum::<usize>();
        self.operations.append(&mut read);
    }
}
