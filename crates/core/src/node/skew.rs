//! Whether our own wall clock is the wrong one: what pings and pongs say of the others'.
//!
//! A `ping` of ours tells our wall clock, and the `pong` to it tells that again beside the peer's own: half of the way there and back is the peer's answer
//! (NTP's estimate). Plain peers answer a bare `pong`, and are not asked. Whose clock is fast is what the others' say together, the lower median, so one peer
//! that is wrong, or lies, convinces nobody who has met two others. Who is told is the device whose clock is fast: the others set aside what it writes.
//! That the wall clock is right is said in the same way, and only of what it shows since it was set last.

use std::collections::BTreeMap;

use super::io::LinkId;
use crate::Now;
use crate::replica::TOLERANCE_MS;

/// An answer that took longer says little, in milliseconds.
const MAX_ROUND_TRIP_MS: u64 = 20_000;

/// By how much the wall clock may drift from the monotonic one and not have been set, in milliseconds.
const MAX_DRIFT_MS: u64 = 60_000;

/// What is known of others' clocks.
#[derive(Debug, Default)]
pub(super) struct Skew {
    /// By link.
    peers: BTreeMap<LinkId, Compared>,
    told: bool,
}

/// Our wall clock beside a peer's.
#[derive(Debug, Clone, Copy)]
struct Compared {
    /// How far ours is ahead, in milliseconds.
    ahead_ms: i64,
    /// What ours was ahead of our monotonic clock then.
    set_to_ms: i64,
}

/// What a pong says, and when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pong {
    /// When our ping went out, by our wall clock.
    pub(super) pinged_ms: u64,
    /// The peer's wall clock.
    pub(super) theirs_ms: u64,
    /// Ours.
    pub(super) now: Now,
}

impl Skew {
    /// A pong came. Gives how far we are ahead where the user is to be told so: once, until it was right again.
    pub(super) fn note(&mut self, link: LinkId, pong: Pong, is_open: impl Fn(LinkId) -> bool) -> Option<u64> {
        let round_trip_ms = pong.now.wall_ms.checked_sub(pong.pinged_ms).filter(|ms| *ms <= MAX_ROUND_TRIP_MS)?;
        let ours_ms = i64::try_from(pong.pinged_ms + round_trip_ms / 2).ok()?;
        let ahead_ms = ours_ms.checked_sub(i64::try_from(pong.theirs_ms).ok()?)?;
        self.peers.retain(|link, _| is_open(*link));
        self.peers.insert(link, Compared { ahead_ms, set_to_ms: set_to_ms(pong.now)? });
        let ahead_ms = lower_median(self.peers.values().map(|compared| compared.ahead_ms))?;
        // Others set aside what we write then.
        let fast_ms = u64::try_from(ahead_ms).ok().filter(|ahead_ms| *ahead_ms > TOLERANCE_MS);
        let was_told = std::mem::replace(&mut self.told, fast_ms.is_some());
        fast_ms.filter(|_| !was_told)
    }

    /// Whether what the wall clock shows now is the time, as far as others know.
    pub(super) fn is_right(&self, now: Now, is_open: impl Fn(LinkId) -> bool) -> bool {
        let Some(set_to_ms) = set_to_ms(now) else { return false };
        let as_it_is_set = self
            .peers
            .iter()
            .filter(|(link, compared)| is_open(**link) && compared.set_to_ms.abs_diff(set_to_ms) <= MAX_DRIFT_MS);
        lower_median(as_it_is_set.map(|(_, compared)| compared.ahead_ms))
            .is_some_and(|ahead_ms| ahead_ms.unsigned_abs() <= TOLERANCE_MS)
    }
}

/// How far the wall clock is ahead of the monotonic one, which nobody sets.
fn set_to_ms(now: Now) -> Option<i64> {
    i64::try_from(now.wall_ms).ok()?.checked_sub(i64::try_from(now.mono_ms).ok()?)
}

fn lower_median(values: impl Iterator<Item = i64>) -> Option<i64> {
    let mut all: Vec<i64> = values.collect();
    all.sort_unstable();
    all.get(all.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 100 * 3_600_000;
    const NOW: Now = Now { wall_ms: NOW_MS, mono_ms: 5_000 };

    fn note(skew: &mut Skew, link: u32, ahead_ms: i64) -> Option<u64> {
        let theirs_ms = (NOW_MS - 500).checked_add_signed(-ahead_ms).unwrap();
        let pong = Pong { pinged_ms: NOW_MS - 1_000, theirs_ms, now: NOW };
        skew.note(LinkId(link), pong, |link| link.0 < 10)
    }

    #[test]
    fn who_is_fast_is_told_once_until_it_is_right() {
        let mut skew = Skew::default();
        assert_eq!(note(&mut skew, 1, 300_000), None);
        assert_eq!(note(&mut skew, 1, 300_001), Some(300_001));
        assert_eq!(note(&mut skew, 1, 400_000), None);
        assert_eq!(note(&mut skew, 1, -400_000), None);
        assert_eq!(note(&mut skew, 1, 400_000), Some(400_000));
    }

    #[test]
    fn one_liar_convinces_nobody_who_has_met_two_others() {
        let mut skew = Skew::default();
        assert_eq!(note(&mut skew, 1, 0), None);
        assert_eq!(note(&mut skew, 2, 3_600_000), None, "either may be right");
        assert_eq!(note(&mut skew, 3, 1_000), None);
        assert_eq!(note(&mut skew, 1, 3_500_000), Some(3_500_000), "two of three");
    }

    #[test]
    fn links_that_are_gone_and_impossible_pongs_say_nothing() {
        let mut skew = Skew::default();
        assert_eq!(note(&mut skew, 10, 0), None);
        assert_eq!(note(&mut skew, 1, 600_000), Some(600_000), "10 is gone");
        let skewed = |pinged_ms, theirs_ms| Pong { pinged_ms, theirs_ms, now: NOW };
        for pong in [skewed(NOW_MS + 1, 0), skewed(NOW_MS - 20_001, 0), skewed(NOW_MS, u64::MAX)] {
            assert_eq!(Skew::default().note(LinkId(1), pong, |_| true), None, "{pong:?}");
        }
    }
    #[test]
    fn the_wall_clock_is_right_by_what_was_said_since_it_was_set() {
        let mut skew = Skew::default();
        let is_right = |skew: &Skew, now| skew.is_right(now, |link| link.0 < 10);
        assert!(!is_right(&skew, NOW), "nobody has said so");
        note(&mut skew, 1, 300_000);
        assert!(is_right(&skew, NOW));
        let later = |ms| Now { wall_ms: NOW.wall_ms + ms, mono_ms: NOW.mono_ms + ms };
        assert!(is_right(&skew, later(3_600_000)));
        assert!(!is_right(&skew, Now { wall_ms: NOW.wall_ms - 7_200_000, ..NOW }), "it was set");
        note(&mut skew, 2, -300_001);
        assert!(!is_right(&skew, NOW), "either may be right");
        note(&mut skew, 3, 0);
        assert!(is_right(&skew, NOW));
        note(&mut skew, 2, -7_200_000);
        note(&mut skew, 3, -7_200_000);
        assert!(!is_right(&skew, NOW), "it is behind");
        let mut gone = Skew::default();
        note(&mut gone, 10, 0);
        assert!(!is_right(&gone, NOW));
    }
}
