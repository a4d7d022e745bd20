//! SQL functions for users: `uuid7()`, a key that nobody else makes, and `rtc_version()`.
//!
//! `uuid7()` is RFC 9562's version 7: the time, so that new rows stand together in the index, then a counter, so that one database's keys are in the
//! order they were made in, then chance. The time is the injected one; chance is SQLite's, as in `random()`.
//!
//! They may stand in a DEFAULT. Merges evaluate no DEFAULT that is no constant: the key travels as its writer had it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rtc_battery_proto::MAX_TS_MS;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// What the functions know of the time.
#[derive(Debug, Clone, Default)]
pub(crate) struct WallClock(Arc<AtomicU64>);

impl WallClock {
    /// It is now this time, in milliseconds since 1970.
    pub(crate) fn set(&self, wall_ms: u64) {
        self.0.store(wall_ms.min(MAX_TS_MS), Ordering::Relaxed);
    }

    fn wall_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the keys stand: 48 bits of milliseconds and a counter of 12, as one number that only grows.
#[derive(Debug)]
struct Keys {
    last: u64,
    random: ChaCha8Rng,
}

const COUNTER_BITS: u32 = 12;

impl Keys {
    /// The next key at this time. A counter starts in its lower half; a full one carries into the time.
    fn next(&mut self, wall_ms: u64) -> String {
        let chance = u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
        let start = (wall_ms << COUNTER_BITS) | u64::try_from(chance >> 117).unwrap_or(0);
        self.last = start.max(self.last + 1);
        let (ms, counter) = (self.last >> COUNTER_BITS, self.last & ((1 << COUNTER_BITS) - 1));
        let version = 7u128 << 76;
        let variant = 0b10u128 << 62;
        let bits = u128::from(ms) << 80 | version | u128::from(counter) << 64 | variant | chance & ((1 << 62) - 1);
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// Makes the functions, which know the time by what is returned.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<WallClock> {
    let wall_clock = WallClock::default();
    let seed = connection.query_row("SELECT randomblob(32)", [], |row| row.get(0))?;
    let keys = Mutex::new(Keys { last: 0, random: ChaCha8Rng::from_seed(seed) });
    let time = wall_clock.clone();
    // A DEFAULT or a trigger may call what is innocuous, though the schema came from a peer.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("uuid7", 0, flags, move |_| {
        Ok(keys.lock().unwrap_or_else(PoisonError::into_inner).next(time.wall_ms()))
    })?;
    let flags = flags | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("rtc_version", 0, flags, |_| Ok(env!("CARGO_PKG_VERSION")))?;
    Ok(wall_clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys { last: 0, random: ChaCha8Rng::from_seed([7; 32]) }
    }

    #[test]
    fn a_key_is_the_time_then_version_and_variant() {
        // The example of RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F.
        let key = keys().next(0x017F_22E2_79B0);
        assert_eq!((&key[..15], key.len()), ("017f22e2-79b0-7", 36));
        assert!(matches!(&key[19..20], "8" | "9" | "a" | "b"), "{key}");
        assert!(key[14..18] < *"7800", "{key}");
    }

    #[test]
    fn keys_are_in_the_order_they_were_made_in_whatever_the_clock_does() {
        let mut keys = keys();
        let mut made: Vec<String> = (0..10_000).map(|_| keys.next(1000)).collect();
        made.push(keys.next(1));
        made.extend((0..10).map(|n| keys.next(2000 + n)));
        assert!(made.is_sorted_by(|left, right| left < right));
    }
}
