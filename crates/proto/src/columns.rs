//! Values by column name: what an operation says of a row.
//!
//! Rows have few columns, and rows of one table have the same: a sorted list with shared names takes a tenth of a map's memory, and making a
//! hundred thousand of them is what a large merge begins with.

use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::SqlValue;

/// Values by column name, in order of names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Columns(Vec<(Arc<str>, SqlValue)>);

impl Columns {
    /// No columns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a column.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SqlValue> {
        self.find(name).ok().map(|at| &self.0[at].1)
    }

    /// Whether it has a value for the column.
    #[must_use]
    pub fn contains_key(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// Sets a column's value.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: SqlValue) {
        let name = name.into();
        match self.find(&name) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// Names and values, in order of names.
    pub fn iter(&self) -> <&Self as IntoIterator>::IntoIter {
        self.into_iter()
    }

    /// The names, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The values, in order of names.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &SqlValue> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, SqlValue)> for Columns {
    /// Of two with one name the later stands.
    fn from_iter<I: IntoIterator<Item = (N, SqlValue)>>(columns: I) -> Self {
        let mut all: Vec<(Arc<str>, SqlValue)> =
            columns.into_iter().map(|(name, value)| (name.into(), value)).collect();
        if !all.is_sorted_by(|(one, _), (other, _)| one < other) {
            // Stable, so the later ones come first of their name.
            all.reverse();
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all.dedup_by(|(one, _), (other, _)| one == other);
        }
        Self(all)
    }
}

impl<N: Into<Arc<str>>> Extend<(N, SqlValue)> for Columns {
    fn extend<I: IntoIterator<Item = (N, SqlValue)>>(&mut self, columns: I) {
        columns.into_iter().for_each(|(name, value)| self.insert(name, value));
    }
}

impl<N: Into<Arc<str>>, const COUNT: usize> From<[(N, SqlValue); COUNT]> for Columns {
    fn from(columns: [(N, SqlValue); COUNT]) -> Self {
        columns.into_iter().collect()
    }
}

impl IntoIterator for Columns {
    type Item = (Arc<str>, SqlValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Columns {
    type Item = (&'a str, &'a SqlValue);
    type IntoIter =
        std::iter::Map<std::slice::Iter<'a, (Arc<str>, SqlValue)>, fn(&(Arc<str>, SqlValue)) -> (&str, &SqlValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl fmt::Debug for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry::<String, SqlValue>()? {
                    columns.push(column);
                }
                Ok(columns.into_iter().collect())
            }
        }
        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_map(entries in prop::collection::vec(("[a-e]{0,2}", any::<i64>()), 0..9), more in "[a-f]{0,2}") {
            let entries = entries.into_iter().map(|(name, value)| (name, SqlValue::Integer(value)));
            let model: BTreeMap<String, SqlValue> = entries.clone().collect();
            let mut one_by_one = Columns::new();
            one_by_one.extend(entries.clone());
            let columns: Columns = entries.collect();
            prop_assert_eq!(&columns, &one_by_one);
            prop_assert!(columns.iter().eq(model.iter().map(|(name, value)| (name.as_str(), value))));
            prop_assert_eq!((columns.get(&more), columns.contains_key(&more)), (model.get(&more), model.contains_key(&more)));
            let json = serde_json::to_string(&columns).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&model).unwrap());
            prop_assert_eq!(serde_json::from_str::<Columns>(&json).unwrap(), columns);
        }
    }
}
