//! How much may be on its way to a peer, beyond what channels hold: what it has not said that it took in.
//!
//! A browser gives whoever receives no way to say "enough": a page that stands still, or a database that is busy, is sent everything all the same,
//! and keeps it. So each says in `hello` how much it is willing to keep (`window`) and afterwards, now and then, how much it has taken in
//! (`taken`), and who sends stops there. A peer that says neither is sent what its channel takes.
//!
//! Counts are of bytes in channel messages, over both channels, since the link began. They are what the peer says and decide nothing but how
//! much it is sent.

/// What we are willing to have on its way to us from one peer, in bytes.
pub(super) const WINDOW_BYTES: u64 = 2 * 1024 * 1024;

/// How often we say what we took in, in bytes.
const REPORT_BYTES: u64 = WINDOW_BYTES / 8;

#[derive(Debug, Default)]
pub(super) struct Flow {
    /// What the peer is willing to have on its way; `None`: it does not say.
    window_bytes: Option<u64>,
    handed_bytes: u64,
    /// What the peer said that it took in.
    taken_bytes: u64,
    received_bytes: u64,
    reported_bytes: u64,
}

impl Flow {
    /// The peer said `hello`.
    pub(super) fn agree(&mut self, window_bytes: Option<u64>) {
        self.window_bytes = window_bytes;
    }

    /// Bytes were handed to a channel.
    pub(super) fn handed(&mut self, bytes: u64) {
        self.handed_bytes += bytes;
    }

    /// How much was handed to channels, in bytes.
    pub(super) fn handed_bytes(&self) -> u64 {
        self.handed_bytes
    }

    /// How much came, in bytes.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// How much came that the peer, which knows of our window, was not told to be taken in; `None` of one that does not.
    pub(super) fn untaken_bytes(&self) -> Option<u64> {
        self.window_bytes.map(|_| self.received_bytes - self.reported_bytes)
    }

    /// The peer says that it took in so much in all.
    pub(super) fn handle_taken(&mut self, bytes: u64) {
        self.taken_bytes = self.taken_bytes.max(bytes.min(self.handed_bytes));
    }

    /// Whether more may go on its way.
    pub(super) fn has_room(&self) -> bool {
        self.window_bytes.is_none_or(|window_bytes| self.handed_bytes - self.taken_bytes < window_bytes)
    }

    /// Whether more of what is large may go on its way over a channel of its own: an eighth of the window is left to what is live, or that would
    /// wait, though not behind it in any channel, until the peer has taken some of it.
    pub(super) fn has_room_for_bulk(&self) -> bool {
        let may_bytes = self.window_bytes.map(|window_bytes| window_bytes - window_bytes / 8);
        may_bytes.is_none_or(|may_bytes| self.handed_bytes - self.taken_bytes < may_bytes)
    }

    /// Bytes came.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received_bytes += bytes as u64;
    }

    /// What is to be said that we took in, if it is time to say so: all that came but what still waits.
    pub(super) fn report(&mut self, waiting_bytes: u64) -> Option<u64> {
        let taken_bytes = self.received_bytes - waiting_bytes;
        let due = taken_bytes >= self.reported_bytes + REPORT_BYTES;
        if due {
            self.reported_bytes = taken_bytes;
        }
        due.then_some(self.reported_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_on_its_way_than_the_peer_takes() {
        let (mut flow, mut peer) = (Flow::default(), Flow::default());
        flow.agree(Some(WINDOW_BYTES));
        let mut handed_bytes = 0;
        while flow.has_room() {
            flow.handed(10_000);
            handed_bytes += 10_000;
        }
        assert!((WINDOW_BYTES..WINDOW_BYTES + 10_000).contains(&handed_bytes));
        peer.received(usize::try_from(REPORT_BYTES).unwrap() - 1);
        assert_eq!(peer.report(0), None);
        peer.received(1);
        assert_eq!(peer.report(1), None, "it still waits");
        flow.handle_taken(peer.report(0).unwrap());
        assert!(flow.has_room() && peer.report(0).is_none());
    }

    #[test]
    fn what_is_large_leaves_room_for_what_is_live() {
        let mut flow = Flow::default();
        assert!(flow.has_room_for_bulk(), "it does not say what it is willing to keep");
        flow.agree(Some(WINDOW_BYTES));
        while flow.has_room_for_bulk() {
            flow.handed(10_000);
        }
        let mut live_bytes = 0;
        while flow.has_room() {
            flow.handed(1_000);
            live_bytes += 1_000;
        }
        assert!(live_bytes >= WINDOW_BYTES / 8 - 10_000);
    }

    #[test]
    fn what_is_said_wrongly_does_no_harm() {
        let mut flow = Flow::default();
        flow.handed(WINDOW_BYTES * 9);
        assert!(flow.has_room(), "it does not say what it is willing to keep");
        flow.agree(Some(WINDOW_BYTES));
        flow.handle_taken(u64::MAX);
        assert!(flow.has_room());
        flow.handed(WINDOW_BYTES);
        flow.handle_taken(0);
        assert!(!flow.has_room());
        flow.agree(Some(0));
        assert!(!flow.has_room());
    }
}
