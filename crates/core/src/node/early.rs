//! Candidates that came before the connection they are for: some programs send them ahead of their offer.
//!
//! Invariant: bounded for each peer and in all, whoever the signaling server says they are from; the newest stay. Losing one costs little: the
//! connection has other candidates, and is made again where it has not.

use std::collections::VecDeque;

use rtc_battery_proto::PeerId;

use super::description::Candidate;
use super::negotiation::MAX_WAITING_CANDIDATES;

/// Most that wait in all: for eight peers at once as many as for one. With the longest candidates that is 1 MiB.
const MAX_EARLY_CANDIDATES: usize = 8 * MAX_WAITING_CANDIDATES;

#[derive(Debug, Default)]
pub(super) struct EarlyCandidates(VecDeque<(PeerId, Candidate)>);

impl EarlyCandidates {
    pub(super) fn keep(&mut self, from: &PeerId, candidate: Candidate) {
        if self.0.iter().filter(|(peer, _)| peer == from).count() >= MAX_WAITING_CANDIDATES {
            let oldest = self.0.iter().position(|(peer, _)| peer == from);
            oldest.map(|oldest| self.0.remove(oldest));
        } else if self.0.len() >= MAX_EARLY_CANDIDATES {
            self.0.pop_front();
        }
        self.0.push_back((from.clone(), candidate));
    }

    /// Those of one peer, in order; they are not kept any longer.
    pub(super) fn take(&mut self, from: &PeerId) -> VecDeque<Candidate> {
        let (theirs, others) = std::mem::take(&mut self.0).into_iter().partition(|(peer, _)| peer == from);
        self.0 = others;
        let theirs: VecDeque<(PeerId, Candidate)> = theirs;
        theirs.into_iter().map(|(_, candidate)| candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(n: usize) -> Candidate {
        Candidate::read(&format!(r#"{{"candidate":"{n}"}}"#)).unwrap()
    }

    fn peer(n: usize) -> PeerId {
        PeerId::new(&format!("p{n}")).unwrap()
    }

    #[test]
    fn they_are_bounded_for_each_and_in_all_and_the_newest_stay() {
        let mut early = EarlyCandidates::default();
        for n in 0..1_000 {
            early.keep(&peer(0), candidate(n));
        }
        assert_eq!(early.0.len(), MAX_WAITING_CANDIDATES);
        for n in 0..10_000 {
            early.keep(&peer(1 + n % 1_000), candidate(n));
        }
        assert_eq!(early.0.len(), MAX_EARLY_CANDIDATES);
        assert!(early.take(&peer(0)).is_empty());
        early.keep(&peer(7), candidate(1));
        early.keep(&peer(7), candidate(2));
        let theirs = early.take(&peer(7));
        assert_eq!(theirs.range(theirs.len() - 2..).collect::<Vec<_>>(), [&candidate(1), &candidate(2)]);
        assert!(early.take(&peer(7)).is_empty() && !early.0.is_empty());
    }
}
