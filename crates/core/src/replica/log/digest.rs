//! A 64-bit digest of all registers: two replicas with equal version vectors must have equal ones. Where they do not, somebody wrote two things
//! under one name (a copied database, a forger), or a bug did; that is what it is there to tell.
//!
//! It is a sum over the registers, modulo 2^64, so their order does not matter and a commit changes it by what it changed. Each register
//! is a product: a stamp, which is an odd hash of its clock value, times a hash of what stands there. So the cells of one operation are hashed
//! before it has a clock value, and stamped together. Only what decides is counted (see [`RowState::decides_as`]): what compaction forgets
//! was not in it. When a row was born is not: of its INSERTs only the oldest is kept for that, so where that one dies (with a table, or because the row was gone for so
//! long that it was forgotten) the next one is here or not, depending on when it was compacted.
//!
//! The hashes are xxh64, of bytes that do not depend on the platform; names count as SQLite compares them. It detects mistakes, not malice: who
//! forges contents can forge a sum.

use std::ops::{AddAssign, SubAssign};

use rtc_battery_proto::{Digest, Floor, Hlc, SqlValue, VersionVector};
use rusqlite::types::ValueRef;
use xxhash_rust::xxh64::xxh64;

use super::store;
use crate::replica::merge::rules::RowState;
use crate::replica::sql::value_ref;

/// The sum, and differences of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Registers(u64);

/// What a table and its columns are called, hashed.
#[derive(Debug)]
pub(crate) struct Names {
    columns: Vec<u64>,
    live: u64,
    deleted: u64,
}

/// Cells of one operation, not stamped yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Content(u64);

impl Registers {
    /// As it is stored: SQLite's integers have a sign.
    pub(crate) fn to_stored(self) -> i64 {
        self.0.cast_signed()
    }

    pub(crate) fn from_stored(stored: i64) -> Self {
        Self(stored.cast_unsigned())
    }

    /// As it is told.
    pub(crate) fn digest(self) -> Digest {
        Digest(self.0)
    }

    /// An INSERT of a row that had no register.
    pub(crate) fn insert(&mut self, names: &Names, hlc: &Hlc, content: Content) {
        self.add(hlc, content.0.wrapping_add(names.live));
    }

    /// Cells of the operation at `hlc`.
    pub(crate) fn add_cells(&mut self, hlc: &Hlc, content: Content) {
        self.add(hlc, content.0);
    }

    /// Cells of the operation at `hlc` that another overwrites.
    pub(crate) fn remove_cells(&mut self, hlc: &Hlc, content: Content) {
        self.add(hlc, content.0.wrapping_neg());
    }

    /// A row that is there is kept alive by another operation.
    pub(crate) fn move_live(&mut self, names: &Names, from: &Hlc, to: &Hlc) {
        self.add(from, names.live.wrapping_neg());
        self.add(to, names.live);
    }

    /// A row's registers change.
    pub(crate) fn change(&mut self, before: Self, after: Self) {
        *self -= before;
        *self += after;
    }

    fn add(&mut self, hlc: &Hlc, what: u64) {
        self.0 = self.0.wrapping_add(stamp(hlc).wrapping_mul(what));
    }
}

impl AddAssign for Registers {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl SubAssign for Registers {
    fn sub_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_sub(other.0);
    }
}

impl Names {
    pub(crate) fn new<'a>(table: &str, columns: impl Iterator<Item = &'a str>) -> Self {
        let hash = |name: &str, seed| xxh64(name.to_ascii_lowercase().as_bytes(), seed);
        let table = hash(table, 0);
        let row = |register: &str| xxh64(register.as_bytes(), table);
        Self {
            columns: columns.map(|column| hash(column, table)).collect(),
            live: row("live"),
            deleted: row("deleted"),
        }
    }

    /// Some cells.
    pub(crate) fn content<'a>(&self, cells: impl IntoIterator<Item = (usize, ValueRef<'a>)>) -> Content {
        let cell = |sum: u64, (column, value): (usize, ValueRef<'_>)| {
            sum.wrapping_add(self.columns.get(column).map_or(0, |name| cell(*name, value)))
        };
        Content(cells.into_iter().fold(0, cell))
    }

    /// The same of values that are read already.
    pub(crate) fn content_of<'a>(&self, cells: impl IntoIterator<Item = (usize, &'a SqlValue)>) -> Content {
        self.content(cells.into_iter().map(|(column, value)| (column, value_ref(value))))
    }

    /// All registers of one row, `key` being its canonical primary key.
    pub(crate) fn row(&self, state: &RowState, key: &str) -> Registers {
        let mut row = Registers::default();
        for (column, cell) in state.cells() {
            row.add_cells(&cell.hlc, self.content_of([(column, &cell.value)]));
        }
        if let Some(live) = state.live() {
            row.add(live, self.live);
        }
        if let Some(deleted) = state.deleted() {
            // Nothing else tells which row it was.
            row.add(deleted, xxh64(key.as_bytes(), self.deleted));
        }
        row
    }
}

/// What registers are counted. Who counts others is never found to have the same vector, and compares nothing.
const COUNTS: u64 = store::FORMAT.cast_unsigned();

/// Of a version vector.
pub(crate) fn of_vector(vector: &VersionVector) -> Digest {
    let origin = |(node, ranges): (&rtc_battery_proto::ReplicaId, &rtc_battery_proto::SeqRanges)| {
        let node = xxh64(node.as_str().as_bytes(), COUNTS);
        ranges.iter().fold(0u64, |sum, (first, last)| sum.wrapping_add(numbers(first, last, node)))
    };
    Digest(vector.iter().map(origin).fold(0, u64::wrapping_add))
}

/// Of a floor.
pub(crate) fn of_floor(floor: &Floor) -> Digest {
    let clock = numbers(floor.clock.ts, floor.clock.counter.into(), 0);
    Digest(numbers(of_vector(&floor.vector).0, clock, 0))
}

fn stamp(hlc: &Hlc) -> u64 {
    let tick = numbers(hlc.tick.ts, hlc.tick.counter.into(), 0);
    xxh64(hlc.node.as_str().as_bytes(), tick) | 1
}

fn numbers(one: u64, other: u64, seed: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&one.to_le_bytes());
    bytes[8..].copy_from_slice(&other.to_le_bytes());
    xxh64(&bytes, seed)
}

/// A value is its type and its bytes.
fn cell(name: u64, value: ValueRef<'_>) -> u64 {
    let typed = |kind: u64| name.wrapping_add(kind);
    match value {
        ValueRef::Null => xxh64(&[], name),
        ValueRef::Integer(integer) => xxh64(&integer.to_le_bytes(), typed(1)),
        ValueRef::Real(real) => xxh64(&real.to_bits().to_le_bytes(), typed(2)),
        ValueRef::Text(text) => xxh64(text, typed(3)),
        ValueRef::Blob(blob) => xxh64(blob, typed(4)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// These bytes are part of the protocol: a change of them tells every peer of another version that it diverged.
    #[test]
    fn the_hashes_are_what_they_were() {
        let names = Names::new("Notes", ["ID", "content"].into_iter());
        let hlc: Hlc = "018c0ffee000-00000002-node".parse().unwrap();
        let mut registers = Registers::default();
        registers.insert(&names, &hlc, names.content_of([(0, &SqlValue::text("a")), (1, &SqlValue::Null)]));
        assert_eq!(registers.digest().to_string(), "eb9aa80743fad1a2");
    }

    #[test]
    fn type_bytes_place_and_clock_all_count() {
        let names = Names::new("t", ["a", "b"].into_iter());
        let values = [
            SqlValue::Null,
            SqlValue::Integer(0),
            SqlValue::Real(0.0),
            SqlValue::Real(-0.0),
            SqlValue::text(""),
            SqlValue::text("0"),
            SqlValue::Blob(vec![]),
            SqlValue::Blob(b"0".to_vec()),
        ];
        let mut seen = BTreeSet::new();
        let (early, late) = ("000000000001-00000000-n".parse().unwrap(), "000000000000-00000001-n".parse().unwrap());
        for hlc in [early, late] {
            for column in 0..2 {
                for value in &values {
                    let mut registers = Registers::default();
                    registers.add_cells(&hlc, names.content_of([(column, value)]));
                    assert!(seen.insert(registers.to_stored()), "{hlc} {column} {value:?}");
                }
            }
        }
    }

    #[test]
    fn a_vector_is_its_dots() {
        let digest = |json: &str| of_vector(&serde_json::from_str(json).unwrap());
        assert_eq!(digest(r#"{"a":[],"b":[[1,2]]}"#), digest(r#"{"b":[[1,2]]}"#));
        let all = [r"{}", r#"{"a":[[1,1]]}"#, r#"{"a":[[1,2]]}"#, r#"{"a":[[2,2]]}"#, r#"{"b":[[1,1]]}"#];
        assert_eq!(all.map(digest).into_iter().map(|digest| digest.0).collect::<BTreeSet<_>>().len(), all.len());
    }
}
