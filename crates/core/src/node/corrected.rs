//! Our own clock, once it was far ahead and has been set right: until then others set aside all that we write.
//!
//! That the clock is right now is for others to say (`skew`): a device whose date was lost knows no better, and must not take back what it wrote at the right
//! time.

use super::io::ErrorCode;
use super::node::Node;
use crate::Now;
use crate::replica::StorageError;

impl Node {
    /// Tells again at its time what was written in the future. No transaction of the user's is open.
    pub(super) fn step_back(&mut self, now: Now) -> Result<(), StorageError> {
        let is_open = |link| self.room.links.contains_key(&link);
        if !self.replica.is_ahead(now) || !self.room.skew.is_right(now, is_open) {
            return Ok(());
        }
        let fresh = self.room.random.replica_id();
        self.replica.step_back(&fresh, now)?;
        let message = "This device's clock was ahead and has been set right. What was written here meanwhile is told again as of now; others had set it \
                       aside until its time."
            .to_owned();
        self.room.outputs.error(ErrorCode::ClockCorrected, message, None);
        Ok(())
    }
}
