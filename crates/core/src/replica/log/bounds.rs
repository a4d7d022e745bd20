//! What a version vector can learn without growing beyond what replicas take of one another: more, and nobody would listen to us any longer.

use rtc_battery_proto::{MAX_ORIGINS, MAX_RANGES, VersionVector};

/// What of the news can be learned, and how many origins cannot. An origin is taken whole or not at all; those that are known and leave
/// no new gap always are.
pub(crate) fn within_bounds(have: &VersionVector, news: &VersionVector) -> (VersionVector, usize) {
    let (mut origins, mut more_ranges) = (have.origin_count(), 0);
    // Counted only when somebody is new or leaves gaps, which is rare.
    let mut ranges = None;
    let (mut fitting, mut left_out) = (VersionVector::default(), 0);
    for (origin, theirs) in news.iter() {
        let mine = have.origin(origin);
        let mut both = mine.cloned().unwrap_or_default();
        theirs.iter().for_each(|(first, last)| both.insert(first, last));
        let more = both.count().saturating_sub(mine.map_or(0, |mine| mine.count()));
        let is_new = usize::from(mine.is_none());
        let full = more > 0 && *ranges.get_or_insert_with(|| have.range_count()) + more_ranges + more > MAX_RANGES;
        if full || origins + is_new > MAX_ORIGINS {
            left_out += 1;
            continue;
        }
        (origins, more_ranges) = (origins + is_new, more_ranges + more);
        fitting.replace_origin(origin.clone(), theirs.clone());
    }
    (fitting, left_out)
}

#[cfg(test)]
mod tests {
    use rtc_battery_proto::{Dot, ReplicaId};

    use super::*;

    fn add(vector: &mut VersionVector, origin: &str, seqs: impl Iterator<Item = u64>) {
        let origin = ReplicaId::new(origin).unwrap();
        seqs.for_each(|seq| vector.insert(Dot { origin: origin.clone(), seq }));
    }

    #[test]
    fn a_vector_that_is_full_of_origins_learns_of_those_it_has() {
        let mut have = VersionVector::default();
        (0..MAX_ORIGINS - 1).for_each(|n| add(&mut have, &format!("ghost{n}"), 1..=1));
        let mut news = VersionVector::default();
        add(&mut news, "a-new-one", [1].into_iter());
        add(&mut news, "another", [1].into_iter());
        add(&mut news, "ghost7", 2..=3);
        let (fitting, left_out) = within_bounds(&have, &news);
        assert_eq!((fitting.origin_count(), left_out), (2, 1));
        assert!(fitting.origin(&ReplicaId::new("ghost7").unwrap()).is_some());
    }

    #[test]
    fn a_vector_that_is_full_of_gaps_can_still_close_them() {
        let mut have = VersionVector::default();
        add(&mut have, "holes", (0..MAX_RANGES as u64 - 1).map(|n| 2 * n + 1));
        let learns = |seqs: &[u64]| {
            let mut news = VersionVector::default();
            add(&mut news, "holes", seqs.iter().copied());
            within_bounds(&have, &news).1 == 0
        };
        assert!(learns(&[1_000_001]) && !learns(&[1_000_001, 1_000_003]));
        assert!(learns(&[2, 4, 6, 1_000_001, 1_000_003]), "as many closed as opened");
    }
}
