//! Version vectors with gaps: which transactions of each origin a replica has.
//!
//! A scalar version loses operations when a third peer relays (cr-sqlite #30, thali #268); a set of dots per origin does not. As JSON:
//! `{"nodeId": [[first, last], ...]}`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::operation::MAX_SEQ;
use crate::{Dot, ReplicaId};

/// Most origins of one vector, and so of one room: every database that ever wrote in it is one. At 128 bytes a name they are 9 MiB of JSON,
/// which is what two who meet tell each other at most.
pub const MAX_ORIGINS: usize = 65_536;

/// Most ranges of one vector, over all origins: one each, and as many gaps. At most 5 MiB of JSON.
pub const MAX_RANGES: usize = 2 * MAX_ORIGINS;

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

    /// How many ranges there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
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
        struct Ranges;
        impl<'de> Visitor<'de> for Ranges {
            type Value = SeqRanges;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of ranges")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut ranges: A) -> Result<SeqRanges, A::Error> {
                let mut set = SeqRanges::default();
                while let Some((first, last)) = ranges.next_element::<(u64, u64)>()? {
                    if first == 0 || first > last || last > MAX_SEQ || set.last().is_some_and(|end| end >= first) {
                        return Err(A::Error::custom("ranges are [first, last] with 1 <= first <= last, in order"));
                    }
                    set.insert(first, last);
                    if set.count() > MAX_RANGES {
                        return Err(A::Error::custom(format_args!("more than {MAX_RANGES} ranges")));
                    }
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Ranges)
    }
}

/// Which transactions a replica has, for every origin it knows. One that is read has at most [`MAX_ORIGINS`] and [`MAX_RANGES`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
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

    /// How many transactions there are, over all origins.
    #[must_use]
    pub fn dot_count(&self) -> u64 {
        let ranges = self.0.values().flat_map(SeqRanges::iter);
        ranges.fold(0, |count: u64, (first, last)| count.saturating_add(last - first + 1))
    }

    /// How many origins there are.
    #[must_use]
    pub fn origin_count(&self) -> usize {
        self.0.len()
    }

    /// How many ranges there are, over all origins.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.0.values().map(SeqRanges::count).sum()
    }

    /// Whether the vector has no dot at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(SeqRanges::is_empty)
    }
}

impl<'de> Deserialize<'de> for VersionVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Origins;
        impl<'de> Visitor<'de> for Origins {
            type Value = VersionVector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of origins and their ranges")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut origins: A) -> Result<VersionVector, A::Error> {
                let (mut vector, mut range_count) = (VersionVector::default(), 0);
                while let Some((origin, ranges)) = origins.next_entry::<ReplicaId, SeqRanges>()? {
                    range_count += ranges.count();
                    vector.0.insert(origin, ranges);
                    if vector.0.len() > MAX_ORIGINS || range_count > MAX_RANGES {
                        let what = format_args!("more than {MAX_ORIGINS} origins or {MAX_RANGES} ranges");
                        return Err(A::Error::custom(what));
                    }
                }
                Ok(vector)
            }
        }
        deserializer.deserialize_map(Origins)
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
    fn what_is_read_is_bounded() {
        let ranges = |count: usize| (0..count).map(|n| format!("[{0},{0}]", 2 * n + 1)).collect::<Vec<_>>().join(",");
        let origins = |count: usize| {
            let origins = (0..count).map(|n| format!("\"{n:0128}\":[[9007199254740990,9007199254740991]]"));
            format!("{{{}}}", origins.collect::<Vec<_>>().join(","))
        };
        let read = |json: &str| serde_json::from_str::<VersionVector>(json).map(|vector| vector.origin_count());
        assert_eq!(read(&origins(MAX_ORIGINS)).unwrap(), MAX_ORIGINS);
        assert!(read(&origins(MAX_ORIGINS + 1)).is_err());
        assert!(read(&format!(r#"{{"x":[{}]}}"#, ranges(MAX_RANGES))).is_ok());
        assert!(read(&format!(r#"{{"x":[{}]}}"#, ranges(MAX_RANGES + 1))).is_err());
        assert!(read(&format!(r#"{{"x":[{0}],"y":[{0}]}}"#, ranges(MAX_RANGES / 2 + 1))).is_err());
        assert!(serde_json::from_str::<SeqRanges>(&format!("[{}]", ranges(MAX_RANGES + 1))).is_err());
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
