//! How many connections there are, how many are being made, and whose turn it is.
//!
//! Names cost a signaling server nothing, connections cost us: Chromium refuses the constructor at about 500 in a process, which several tabs may
//! share, closed ones that were not collected yet included. So a server that makes names up, or passes on offers that nobody made, gets a
//! bounded number of connections out of us, at once and over time; what is open stays; and whoever is real has a turn among those who are
//! not, in no order that a server could foresee. Dials and answers are counted apart: a flood of one leaves the other alone.

use super::bucket::Bucket;
use super::io::{ErrorCode, LinkId};
use super::link::Link;
use super::outputs::Outputs;
use super::peers::Peers;
use super::room::Room;

/// Most links that came about: a full mesh of 100 peers, and some that are being replaced or left.
const MAX_SETTLED: usize = 128;

/// Most links that are being made at a time on our offer: a full mesh takes a few rounds of this.
const MAX_DIALED: usize = 32;

/// Most links that are being made at a time on the offers of others: a whole mesh may enter the room at once. All three together are half of
/// what Chromium bears.
const MAX_ANSWERED: usize = 96;

/// A link that has nobody at its other end after this time makes way for another, if there is no place left. In milliseconds.
const YIELD_MS: u64 = 10_000;

/// So many links at once (a room of 100 after an outage), and one more in each interval of milliseconds, by offer and as many by answer.
const LINKS_AT_ONCE: u64 = 100;
const LINK_EVERY_MS: u64 = 2_000;

/// So many peers that cannot be connected are told of at once, and one more in each interval of milliseconds.
const FAILURES_AT_ONCE: u64 = 16;
const FAILURE_EVERY_MS: u64 = 60_000;

#[derive(Debug)]
pub(super) struct Dialing {
    dials: Bucket,
    answers: Bucket,
    failures: Bucket,
    crowd_told: bool,
}

impl Default for Dialing {
    fn default() -> Self {
        Self {
            dials: Bucket::new(LINKS_AT_ONCE, LINK_EVERY_MS),
            answers: Bucket::new(LINKS_AT_ONCE, LINK_EVERY_MS),
            failures: Bucket::new(FAILURES_AT_ONCE, FAILURE_EVERY_MS),
            crowd_told: false,
        }
    }
}

impl Dialing {
    /// Tells once that there are more names than connections.
    pub(super) fn look_at_crowd(&mut self, peers: &Peers, outputs: &mut Outputs) {
        if !self.crowd_told && peers.len() > MAX_SETTLED && peers.count_present() > MAX_SETTLED {
            self.crowd_told = true;
            let message = format!(
                "The signaling server names more than {MAX_SETTLED} peers. No more than that are connected to at a time; data of the \
                 others comes by way of them."
            );
            outputs.error(ErrorCode::Signaling, message, None);
        }
    }

    /// A new session with the server.
    pub(super) fn forget_crowd(&mut self) {
        self.crowd_told = false;
    }

    /// Whether the user is told that a peer cannot be connected. In a crowd that goes without saying.
    pub(super) fn may_tell_failure(&mut self, now_ms: u64) -> bool {
        !self.crowd_told && self.failures.take(now_ms)
    }

    fn bucket(&mut self, offers: bool) -> &mut Bucket {
        if offers { &mut self.dials } else { &mut self.answers }
    }
}

impl Room {
    /// Offers to those whose time has come, as far as there is room for more links.
    pub(super) fn dial_those_due(&mut self, now_ms: u64) {
        while self.signaling.is_joined()
            && self.wants_dial(now_ms)
            && self.peers.is_dial_due(now_ms)
            && self.take_place(true, now_ms)
        {
            if let Some(peer) = self.peers.next_dial(now_ms, &mut self.random) {
                self.mesh.dialled();
                self.dial(&peer, now_ms);
            }
        }
    }

    /// When somebody is to be dialled next.
    pub(super) fn dial_at_ms(&self) -> Option<u64> {
        if !self.signaling.is_joined() {
            return None;
        }
        let now_ms = self.now().mono_ms;
        if !self.wants_dial(now_ms) {
            return self.hope_ends_at_ms(now_ms);
        }
        let mesh_at_ms = self.place_at_ms()?;
        let place_at_ms = if self.is_full(true) { self.who_yields(true)?.0 } else { 0 };
        let place_at_ms = place_at_ms.max(mesh_at_ms).max(self.dialing.dials.ready_at_ms());
        // In a crowd somebody is due nearly always, and nobody needs to be looked for.
        if self.peers.is_dial_due(place_at_ms) { Some(place_at_ms) } else { self.peers.wake_at_ms() }
    }

    /// Takes the place of one more link, which makes an older one that leads nowhere give up its own where there is no other. `false` if there
    /// is none.
    pub(super) fn take_place(&mut self, offers: bool, now_ms: u64) -> bool {
        if self.dialing.bucket(offers).ready_at_ms() > now_ms || !self.has_place(now_ms) {
            return false;
        }
        if self.is_full(offers) {
            let Some((_, link)) = self.who_yields(offers).filter(|(at_ms, _)| *at_ms <= now_ms) else { return false };
            self.lose(link, "nobody is there, and others wait", now_ms);
        }
        self.dialing.bucket(offers).take(now_ms)
    }

    fn is_full(&self, offers: bool) -> bool {
        let forming = self.forming(offers).count();
        let settled = self.links.values().filter(|link| link.is_settled()).count();
        settled >= MAX_SETTLED || forming >= if offers { MAX_DIALED } else { MAX_ANSWERED }
    }

    /// The link that makes way first, and from when on.
    fn who_yields(&self, offers: bool) -> Option<(u64, LinkId)> {
        self.forming(offers)
            .filter(|(_, link)| !link.is_answered())
            .map(|(id, link)| (link.began_at_ms + YIELD_MS, *id))
            .min()
    }

    fn forming(&self, offers: bool) -> impl Iterator<Item = (&LinkId, &Link)> {
        self.links.iter().filter(move |(_, link)| link.offered_first == offers && !link.is_settled())
    }
}
