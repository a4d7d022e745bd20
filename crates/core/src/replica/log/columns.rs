//! A set of a table's columns, as it is stored in `rtc_operations.cols`: an integer for the first 63, a blob beyond.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};

/// A set of column positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ColumnSet {
    /// No trailing zero words.
    words: Vec<u64>,
}

impl ColumnSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    pub(crate) fn contains(&self, column: usize) -> bool {
        self.words.get(column / 64).is_some_and(|word| word >> (column % 64) & 1 == 1)
    }

    /// Adds a position; `false` if it was there.
    pub(crate) fn insert(&mut self, column: usize) -> bool {
        let is_new = !self.contains(column);
        if self.words.len() <= column / 64 {
            self.words.resize(column / 64 + 1, 0);
        }
        self.words[column / 64] |= 1 << (column % 64);
        is_new
    }

    /// The positions that `other` does not have.
    pub(crate) fn without(&self, other: &Self) -> Self {
        self.iter().filter(|column| !other.contains(*column)).collect()
    }

    /// The positions, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let bits = |(n, word): (usize, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| n * 64 + bit)
        };
        self.words.iter().enumerate().flat_map(bits)
    }
}

impl FromIterator<usize> for ColumnSet {
    fn from_iter<I: IntoIterator<Item = usize>>(columns: I) -> Self {
        let mut set = Self::default();
        columns.into_iter().for_each(|column| {
            set.insert(column);
        });
        set
    }
}

impl ToSql for ColumnSet {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self.words.as_slice() {
            [] => Value::Integer(0),
            [word] if *word <= i64::MAX as u64 => Value::Integer(word.cast_signed()),
            words => Value::Blob(words.iter().flat_map(|word| word.to_le_bytes()).collect()),
        };
        Ok(ToSqlOutput::Owned(value))
    }
}

impl FromSql for ColumnSet {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let words = match value {
            ValueRef::Integer(0) => vec![],
            ValueRef::Integer(word) if word > 0 => vec![word.cast_unsigned()],
            ValueRef::Blob(bytes) if bytes.len() % 8 == 0 => {
                let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
                bytes.chunks(8).map(word).collect()
            }
            _ => return Err(FromSqlError::InvalidType),
        };
        Ok(Self { words })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    proptest! {
        #[test]
        fn sets_survive_sql(columns in prop::collection::btree_set(0..200usize, 0..20)) {
            let set: ColumnSet = columns.iter().copied().collect();
            let connection = Connection::open_in_memory().unwrap();
            let back: ColumnSet = connection.query_row("SELECT ?1", [&set], |row| row.get(0)).unwrap();
            prop_assert_eq!(back.iter().collect::<BTreeSet<_>>(), columns);
            prop_assert_eq!(back, set);
        }
    }
}
