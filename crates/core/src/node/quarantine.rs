//! What is from the future waits in the replica: here it is told, and let in when its time has come.

use rtc_battery_proto::PeerId;

use super::io::{ErrorCode, Event};
use super::node::Node;
use crate::Now;
use crate::replica::{Applied, StorageError};

/// Timers of browsers do not run while the machine sleeps, and wall clocks are set: what waits is looked after at least so often, in milliseconds.
const LOOK_EVERY_MS: u64 = 60_000;

impl Node {
    /// Applies what is due. No transaction of the user's is open.
    pub(super) fn release(&mut self, now: Now) -> Result<(), StorageError> {
        let Some(released) = self.replica.release(now)? else { return Ok(()) };
        if released.operations > 0 {
            self.room.outputs.event(Event::Released { operations: released.operations });
        }
        if let Some(why) = released.refused.first() {
            let message = format!("Of what was set aside until now something cannot be applied: {why}.");
            self.room.outputs.error(ErrorCode::BadMessage, message, None);
        }
        // There is room for what did not fit.
        self.sessions.values_mut().for_each(super::session::Session::forget_unmet);
        self.ask_due = true;
        Ok(())
    }

    /// When to look after it, on the monotonic clock.
    pub(super) fn release_at_ms(&self, now: Now) -> Option<u64> {
        let due_ms = self.replica.release_at_ms().filter(|_| !self.replica.in_transaction())?;
        Some(now.mono_ms + due_ms.saturating_sub(now.wall_ms).min(LOOK_EVERY_MS))
    }

    /// Tells the user that what a peer wrote is not shown yet, unless that was told just before.
    pub(super) fn tell_set_aside(&mut self, peer: &PeerId, applied: &Applied, now_ms: u64) {
        let entry = (applied.set_aside > 0).then(|| self.room.peers.find_mut(peer)).flatten();
        if !entry.is_some_and(|entry| entry.may_tell_set_aside(now_ms)) {
            return;
        }
        let message = format!(
            "{} operations that peer {peer} told are stamped ahead of this device's clock by more than 5 minutes. They are kept and passed on, and \
             shown when time has caught up (rtc_quarantine says when). Set the clock of whichever device is wrong.",
            applied.set_aside
        );
        self.room.outputs.error(ErrorCode::SetAside, message, Some(peer));
    }
}
