//! Version vectors with gaps: which transactions of each origin a replica has.
//!
//! A scalar version loses operations when a third peer relays (cr-sqlite #30, thali #268); a set of dots per origin does not. As JSON:
//! `{"nodeId": [[first, last], ...]}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::operation::MAX_SEQ;
use crate::{Dot, ReplicaId};

/// A set of sequence numbers as sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SeqRanges(Vec<(u64, u64)>);

impl SeqRanges {
    /// Whether `seq` is in the set.
    #[must_use]
    pub fn contains(&self, seq: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= seq);
        after > 0 && self.0[after - 1].1 >= seq
    }

    /// Adds `first..=last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // What touches the new range, adjacent ones included, becomes one with it.
        let from = self.0.partition_point(|(_, l)| l.saturating_add(1) < first);
        let to = self.0.partition_point(|(f, _)| *f <= last.saturating_add(1));
        let merged = match self.0.get(from..to) {
            Some([]) | None => (first, last),
            Some(touched) => (first.min(touched[0].0), last.max(touched[touched.len() - 1].1)),
        };
        self.0.splice(from..to.max(from), [merged]);
    }

    /// The ranges that are here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for &(first, last) in &self.0 {
            let mut next = first;
            let from = other.0.partition_point(|(_, l)| *l < first);
            for &(hole_first, hole_last) in &other.0[from..] {
                if hole_first > last {
                    break;
                }
                if hole_first > next {
                    left.push((next, hole_first - 1));
                }
                next = hole_last + 1;
            }
            if next <= last {
                left.push((next, last));
            }
        }
        Self(left)
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The largest number in the set.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }
}

impl<'de> Deserialize<'de> for SeqRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges = Vec::<(u64, u64)>::deserialize(deserializer)?;
        let mut set = Self::default();
        for (first, last) in ranges {
            if first == 0 || first > last || last > MAX_SEQ || set.last().is_some_and(|end| end >= first) {
                return Err(serde::de::Error::custom("ranges are [first, last] with 1 <= first <= last, in order"));
            }
            set.insert(first, last);
        }
        Ok(set)
    }
}

/// Which transactions a replica has, for every origin it knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionVector(BTreeMap<ReplicaId, SeqRanges>);

impl VersionVector {
    /// Whether the vector has this dot.
    #[must_use]
    pub fn contains(&self, dot: &Dot) -> bool {
        self.0.get(&dot.origin).is_some_and(|ranges| ranges.contains(dot.seq))
    }

    /// Adds one dot.
    pub fn insert(&mut self, dot: Dot) {
        self.0.entry(dot.origin).or_default().insert(dot.seq, dot.seq);
    }

    /// Adds everything of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (origin, ranges) in &other.0 {
            let mine = self.0.entry(origin.clone()).or_default();
            for (first, last) in ranges.iter() {
                mine.insert(first, last);
            }
        }
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let left = self.0.iter().filter_map(|(origin, ranges)| {
            let left = other.0.get(origin).map_or_else(|| ranges.clone(), |theirs| ranges.minus(theirs));
            (!left.is_empty()).then(|| (origin.clone(), left))
        });
        Self(left.collect())
    }

    /// Whether everything in `other` is here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(origin, theirs)| {
            self.0.get(origin).map_or_else(|| theirs.is_empty(), |mine| theirs.minus(mine).is_empty())
        })
    }

    /// What the vector has of one origin.
    #[must_use]
    pub fn origin(&self, origin: &ReplicaId) -> Option<&SeqRanges> {
        self.0.get(origin)
    }

    /// Replaces what the vector says of one origin.
    pub fn replace_origin(&mut self, origin: ReplicaId, ranges: SeqRanges) {
        self.0.insert(origin, ranges);
    }

    /// Origins and their ranges, in order of origin.
    pub fn iter(&self) -> impl Iterator<Item = (&ReplicaId, &SeqRanges)> {
        self.0.iter()
    }

    /// Whether the vector has no dot at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(SeqRanges::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set_of(ranges: &SeqRanges) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| first..=last).collect()
    }

    fn ranges_of(set: &BTreeSet<u64>) -> SeqRanges {
        let mut ranges = SeqRanges::default();
        set.iter().for_each(|seq| ranges.insert(*seq, *seq));
        ranges
    }

    fn any_set() -> impl Strategy<Value = BTreeSet<u64>> {
        prop::collection::btree_set(1..30u64, 0..20)
    }

    proptest! {
        #[test]
        fn ranges_behave_as_a_set(parts in prop::collection::vec((1..30u64, 0..6u64), 0..12)) {
            let (mut ranges, mut model) = (SeqRanges::default(), BTreeSet::new());
            for (first, len) in parts {
                ranges.insert(first, first + len);
                model.extend(first..=first + len);
            }
            prop_assert_eq!(set_of(&ranges), model.clone());
            prop_assert!((0..40).all(|seq| ranges.contains(seq) == model.contains(&seq)));
            let apart = ranges.iter().zip(ranges.iter().skip(1)).all(|(a, b)| a.1 + 1 < b.0);
            prop_assert!(apart, "{ranges:?}");
            let json = serde_json::to_string(&ranges).unwrap();
            prop_assert_eq!(serde_json::from_str::<SeqRanges>(&json).unwrap(), ranges);
        }

        #[test]
        fn minus_is_set_difference(a in any_set(), b in any_set()) {
            let left = ranges_of(&a).minus(&ranges_of(&b));
            prop_assert_eq!(set_of(&left), a.difference(&b).copied().collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn hostile_ranges_are_refused() {
        for bad in ["[[0,1]]", "[[2,1]]", "[[1,3],[2,4]]", "[[5,6],[1,2]]", "[[1,9007199254740992]]", "[[1]]"] {
            assert!(serde_json::from_str::<SeqRanges>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_vector_covers_what_it_merged() {
        let vector = |json: &str| serde_json::from_str::<VersionVector>(json).unwrap();
        let (a, b) = (vector(r#"{"x":[[1,4]],"y":[[2,2]]}"#), vector(r#"{"x":[[3,6]],"z":[[1,1]]}"#));
        assert!(!a.covers(&b) && !b.covers(&a));
        let mut both = a.clone();
        both.merge(&b);
        assert!(both.covers(&a) && both.covers(&b));
        assert_eq!(both.minus(&a), vector(r#"{"x":[[5,6]],"z":[[1,1]]}"#));
    }
}
