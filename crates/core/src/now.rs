//! Time, injected: the core never reads a clock.

use serde::Deserialize;

/// What the host's clocks say at the moment of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct Now {
    /// Wall clock, in milliseconds since 1970. May jump.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub wall_ms: u64,
    /// Monotonic clock, in milliseconds from any start. Timeouts are measured on it.
    #[cfg_attr(feature = "ts", ts(type = "number"))]
    pub mono_ms: u64,
}
