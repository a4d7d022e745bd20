//! The node's only randomness, from the seed it was given: its peer id and the jitter of its timers. The same seed and the same inputs
//! give the same outputs, which is what the simulator rests on.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rtc_battery_proto::signaling::ResumeKey;
use rtc_battery_proto::{PeerId, ReplicaId};

#[derive(Debug)]
pub(super) struct Random(ChaCha8Rng);

/// The generator's stream that secrets come from. Everything else comes from stream 0, of which others see much.
const SECRETS: u64 = 1;

impl Random {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    pub(super) fn peer_id(&mut self) -> PeerId {
        let (high, low) = (self.0.next_u64(), self.0.next_u64());
        PeerId::from_random((u128::from(high) << 64) | u128::from(low))
    }

    /// An id for a database that nobody else has.
    pub(super) fn replica_id(&mut self) -> ReplicaId {
        let (high, low) = (self.0.next_u64(), self.0.next_u64());
        ReplicaId::from_random((u128::from(high) << 64) | u128::from(low))
    }

    /// The secret that goes with the peer id: 128 bits. None: never.
    pub(super) fn resume_key(seed: [u8; 32]) -> Option<ResumeKey> {
        let mut secrets = ChaCha8Rng::from_seed(seed);
        secrets.set_stream(SECRETS);
        ResumeKey::new(&format!("{:016x}{:016x}", secrets.next_u64(), secrets.next_u64()))
    }

    /// A number from `first` to `last`, both included; `first` where the range is empty.
    pub(super) fn between(&mut self, first: u64, last: u64) -> u64 {
        let count = u128::from(last.saturating_sub(first)) + 1;
        // The bias of multiply-and-shift is below 2^-32 for the ranges of timers.
        let offset = (u128::from(self.0.next_u64()) * count) >> 64;
        first + u64::try_from(offset).unwrap_or(0)
    }

    /// A place in a list of `count`; 0 where it is empty.
    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.between(0, count.saturating_sub(1) as u64)).unwrap_or(0)
    }
}

/// Exponential backoff from 1 to 30 s with full jitter: the wait is drawn from the whole span, so that peers that lost
/// the same server do not come back in step.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 30_000;

impl Backoff {
    /// How long to wait before the next attempt.
    pub(super) fn next_ms(&mut self, random: &mut Random) -> u64 {
        let span_ms = FIRST_MS.checked_shl(self.attempts.min(16)).map_or(LONGEST_MS, |ms| ms.min(LONGEST_MS));
        self.attempts = self.attempts.saturating_add(1);
        random.between(0, span_ms)
    }

    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many attempts failed since the last success.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_spreads_over_a_span_that_grows_to_30_s() {
        let mut random = Random::new([7; 32]);
        let mut longest = vec![0; 8];
        for _ in 0..500 {
            let mut backoff = Backoff::default();
            for longest in &mut longest {
                *longest = backoff.next_ms(&mut random).max(*longest);
            }
        }
        for (longest, span) in longest.into_iter().zip([1, 2, 4, 8, 16, 30, 30, 30]) {
            assert!((span * 900..=span * 1000).contains(&longest), "{longest} of {span} s");
        }
    }

    #[test]
    fn one_seed_is_one_peer() {
        assert_eq!(Random::new([1; 32]).peer_id(), Random::new([1; 32]).peer_id());
        assert_ne!(Random::new([1; 32]).peer_id(), Random::new([2; 32]).peer_id());
    }

    #[test]
    fn a_secret_is_made_of_the_seed_and_is_no_name() {
        let secret = Random::resume_key([1; 32]).unwrap();
        assert_eq!(Some(&secret), Random::resume_key([1; 32]).as_ref());
        assert_ne!(Some(&secret), Random::resume_key([2; 32]).as_ref());
        assert_ne!(secret.as_str(), Random::new([1; 32]).peer_id().as_str());
    }
}
