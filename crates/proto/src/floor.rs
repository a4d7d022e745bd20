//! Up to where a replica may have forgotten what was deleted.

use serde::{Deserialize, Serialize};

use crate::{Tick, VersionVector};

/// Of these transactions a replica keeps what still shows, and nothing of rows that they deleted and nobody wrote to since. Who has all of them loses
/// nothing by it; who lacks one may have rows that are gone, and cannot be told so by operations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Floor {
    /// The transactions.
    pub vector: VersionVector,
    /// The newest clock value of what was forgotten.
    pub clock: Tick,
}

impl Floor {
    /// Nothing was forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty()
    }

    /// Whether it is no lower than another.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.clock >= other.clock && self.vector.covers(&other.vector)
    }

    /// What either has forgotten.
    pub fn merge(&mut self, other: &Self) {
        self.vector.merge(&other.vector);
        self.clock = self.clock.max(other.clock);
    }
}
