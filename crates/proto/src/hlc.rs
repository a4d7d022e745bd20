//! Hybrid logical clocks: the one order of everything.
//!
//! Invariant: `Ord` on [`Hlc`], its text form and the order of its positions agree. After S. Kulkarni et al., "Logical
//! Physical Clocks" (2014). Nothing here reads a clock; `core` decides when one advances.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::ReplicaId;

/// Largest timestamp, in milliseconds since 1970: 48 bits, the year 10889.
pub const MAX_TS_MS: u64 = (1 << 48) - 1;

/// A timestamp and counter without the node: where an operation stands on its writer's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Tick {
    /// Milliseconds since 1970, at most [`MAX_TS_MS`].
    pub ts: u64,
    /// Order within one millisecond.
    pub counter: u32,
}

impl Tick {
    /// The tick `n` steps later: a full counter carries into `ts`. `None` past [`MAX_TS_MS`].
    #[must_use]
    pub fn checked_add(self, n: u64) -> Option<Self> {
        let position = self.position().checked_add(u128::from(n))?;
        let ts = u64::try_from(position >> 32).ok().filter(|ts| *ts <= MAX_TS_MS)?;
        let counter = (position & u128::from(u32::MAX)) as u32;
        Some(Self { ts, counter })
    }

    /// How many steps this tick is after `first`. `None` if it is before it.
    #[must_use]
    pub fn steps_since(self, first: Self) -> Option<u64> {
        let steps = self.position().checked_sub(first.position())?;
        u64::try_from(steps).ok()
    }

    fn position(self) -> u128 {
        (u128::from(self.ts) << 32) | u128::from(self.counter)
    }
}

impl<'de> Deserialize<'de> for Tick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            ts: WholeNumber,
            counter: WholeNumber,
        }
        let wire = Wire::deserialize(deserializer)?;
        tick(wire.ts.0, wire.counter.0).map_err(serde::de::Error::custom)
    }
}

/// A hybrid logical clock value: `ts`, then `counter`, then `node`, compared in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc {
    /// Timestamp and counter.
    pub tick: Tick,
    /// Who wrote; breaks ties, bytewise.
    pub node: ReplicaId,
}

/// Why a text or JSON value is no [`Hlc`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHlc {
    /// The text is not `tttttttttttt-cccccccc-node`.
    #[error("a clock's text is 12 hexadecimal digits, '-', 8 hexadecimal digits, '-', node id")]
    Shape,
    /// The timestamp is beyond [`MAX_TS_MS`].
    #[error("the timestamp {0} is beyond {MAX_TS_MS}")]
    Timestamp(u64),
    /// The counter is beyond 32 bits.
    #[error("the counter {0} is beyond {max}", max = u32::MAX)]
    Counter(u64),
}

fn tick(ts: u64, counter: u64) -> Result<Tick, InvalidHlc> {
    if ts > MAX_TS_MS {
        return Err(InvalidHlc::Timestamp(ts));
    }
    let counter = u32::try_from(counter).map_err(|_| InvalidHlc::Counter(counter))?;
    Ok(Tick { ts, counter })
}

impl fmt::Display for Hlc {
    /// Fixed width, so that texts sort as the values do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{:08x}-{}", self.tick.ts, self.tick.counter, self.node)
    }
}

impl FromStr for Hlc {
    type Err = InvalidHlc;

    fn from_str(text: &str) -> Result<Self, InvalidHlc> {
        let hex = |range: std::ops::Range<usize>| {
            let digits = text.get(range).ok_or(InvalidHlc::Shape)?;
            let lower = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !lower {
                return Err(InvalidHlc::Shape);
            }
            u64::from_str_radix(digits, 16).map_err(|_| InvalidHlc::Shape)
        };
        if text.get(12..13) != Some("-") || text.get(21..22) != Some("-") {
            return Err(InvalidHlc::Shape);
        }
        let node = text.get(22..).ok_or(InvalidHlc::Shape)?;
        Ok(Self { tick: tick(hex(0..12)?, hex(13..21)?)?, node: ReplicaId::new(node).map_err(|_| InvalidHlc::Shape)? })
    }
}

/// JSON numbers of other programs: `5` and `5.0` are the same whole number.
struct WholeNumber(u64);

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let float = || {
            let f = number.as_f64().filter(|f| f.fract() == 0.0)?;
            (0.0..=9_007_199_254_740_991.0).contains(&f).then_some(f as u64)
        };
        number
            .as_u64()
            .or_else(float)
            .map(WholeNumber)
            .ok_or_else(|| serde::de::Error::custom("expected a whole number from 0 on"))
    }
}

impl Serialize for Hlc {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            ts: u64,
            counter: u32,
            node_id: &'a ReplicaId,
        }
        let Tick { ts, counter } = self.tick;
        Wire { ts, counter, node_id: &self.node }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Hlc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire {
            ts: WholeNumber,
            counter: WholeNumber,
            node_id: ReplicaId,
        }
        let wire = Wire::deserialize(deserializer)?;
        let tick = tick(wire.ts.0, wire.counter.0).map_err(serde::de::Error::custom)?;
        Ok(Self { tick, node: wire.node_id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_hlc() -> impl Strategy<Value = Hlc> {
        // Small ranges beside the full ones, so that ties happen.
        let ts = prop_oneof![0..4u64, 0..=MAX_TS_MS];
        let counter = prop_oneof![0..4u32, any::<u32>()];
        (ts, counter, "[!-~]{1,4}")
            .prop_map(|(ts, counter, node)| Hlc { tick: Tick { ts, counter }, node: ReplicaId::new(&node).unwrap() })
    }

    proptest! {
        #[test]
        fn text_sorts_as_values(a in any_hlc(), b in any_hlc()) {
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }

        #[test]
        fn text_and_json_round_trip(hlc in any_hlc()) {
            prop_assert_eq!(hlc.to_string().parse::<Hlc>().unwrap(), hlc.clone());
            let json = serde_json::to_string(&hlc).unwrap();
            prop_assert_eq!(serde_json::from_str::<Hlc>(&json).unwrap(), hlc);
        }

        #[test]
        fn steps_and_addition_agree(hlc in any_hlc(), n in 0..1u64 << 40) {
            if let Some(later) = hlc.tick.checked_add(n) {
                prop_assert_eq!(later.steps_since(hlc.tick), Some(n));
                prop_assert!(n == 0 || later > hlc.tick);
            }
        }

        #[test]
        fn any_text_is_refused_or_stays_itself(text in ".{0,40}") {
            if let Ok(hlc) = text.parse::<Hlc>() {
                prop_assert_eq!(hlc.to_string(), text);
            }
        }
    }

    #[test]
    fn full_counter_carries_into_ts() {
        let full = Tick { ts: 7, counter: u32::MAX };
        assert_eq!(full.checked_add(1), Some(Tick { ts: 8, counter: 0 }));
        let last = Tick { ts: MAX_TS_MS, counter: u32::MAX };
        assert_eq!(last.checked_add(1), None);
    }

    #[test]
    fn the_largest_timestamp_has_48_bits() {
        let json = |ts: u64| serde_json::from_str::<Hlc>(&format!(r#"{{"ts":{ts},"counter":0,"nodeId":"n"}}"#));
        let largest = json(0xffff_ffff_ffff).unwrap();
        assert_eq!(largest.tick.ts, MAX_TS_MS);
        assert_eq!(largest.to_string(), "ffffffffffff-00000000-n");
        assert!(json(0x1_0000_0000_0000).is_err());
    }

    #[test]
    fn text_of_another_shape_is_refused() {
        assert!("000000000005-00000002-n".parse::<Hlc>().is_ok());
        for bad in
            ["000000000005_00000002-n", "000000000005-00000002_n", "000000000005-0000000A-n", "000000000005-00000002-"]
        {
            assert_eq!(bad.parse::<Hlc>().unwrap_err(), InvalidHlc::Shape, "{bad}");
        }
    }

    #[test]
    fn json_is_the_specifications() {
        let hlc = Hlc { tick: Tick { ts: 5, counter: 2 }, node: ReplicaId::new("n").unwrap() };
        let json = serde_json::to_value(&hlc).unwrap();
        assert_eq!(json, serde_json::json!({"ts": 5, "counter": 2, "nodeId": "n"}));
        let lax: Hlc = serde_json::from_str(r#"{"ts":5.0,"counter":2,"nodeId":"n","x":1}"#).unwrap();
        assert_eq!(lax, hlc);
        for bad in [
            r#"{"ts":-1,"counter":0,"nodeId":"n"}"#,
            r#"{"ts":1e300,"counter":0,"nodeId":"n"}"#,
            r#"{"ts":1,"counter":4294967296,"nodeId":"n"}"#,
            r#"{"ts":1,"counter":0,"nodeId":""}"#,
        ] {
            assert!(serde_json::from_str::<Hlc>(bad).is_err(), "{bad}");
        }
    }
}
