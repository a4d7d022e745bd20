//! What can go wrong with the world: kinds with names and counts, and the ways to bring them about.

use rtc_battery_core::node::{Input, LinkId, LinkState};

use super::Key;
use super::network::{Happening, Net};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A connection between two hosts breaks.
    LostLink,
    /// A frame was in flight when its link went.
    LostFrame,
    /// A message arrives twice.
    Duplicate,
    /// A message arrives before one that another peer had sent earlier.
    Reorder,
    /// A frame is held up for long, with all that is behind it.
    Delay,
    /// Two hosts cannot reach each other; both may reach others.
    RelayOnly,
    /// The room falls apart into two halves.
    Split,
    /// From one host nothing reaches another, while the other way still carries.
    OneWay,
    /// A connection goes and comes several times in a few seconds.
    Flapping,
    /// The signaling server is gone, with all it knew.
    ServerDown,
    /// A process dies; all it wrote was saved.
    CrashClean,
    /// A process dies; what it had not saved is lost.
    CrashLost,
    /// A process dies while storage writes: half of the records are there.
    CrashTorn,
    /// A device's clock is off by minutes to hours from the beginning.
    ClockOff,
    /// A device's clock is set, forward or back.
    ClockStep,
    /// A device whose clock was ahead and was set right takes back what it wrote meanwhile, and tells it again.
    SteppedBack,
    /// All clocks go on by hours, and nobody did anything meanwhile.
    Night,
    /// A process stands still: nothing is handled, what comes waits.
    Pause,
    /// A device whose monotonic clock stood still meanwhile.
    Sleep,
    /// A host takes in a few bytes in a millisecond only.
    SlowReceiver,
    /// Storage takes seconds.
    SlowStorage,
    /// Somebody comes who was never here.
    Join,
    /// Somebody comes with a copy of another's disk.
    Copied,
    /// A disk is put back to an older state.
    PutBack,
    /// Somebody leaves with a word, and comes back later.
    Leave,
    /// A browser reports late about a link that its host has closed.
    LateReport,
    /// A peer that speaks only the specification writes.
    PlainPeer,
}

impl Fault {
    /// All kinds, in order.
    pub const ALL: [Self; 27] = [
        Self::LostLink,
        Self::LostFrame,
        Self::Duplicate,
        Self::Reorder,
        Self::Delay,
        Self::RelayOnly,
        Self::Split,
        Self::OneWay,
        Self::Flapping,
        Self::ServerDown,
        Self::CrashClean,
        Self::CrashLost,
        Self::CrashTorn,
        Self::ClockOff,
        Self::ClockStep,
        Self::SteppedBack,
        Self::Night,
        Self::Pause,
        Self::Sleep,
        Self::SlowReceiver,
        Self::SlowStorage,
        Self::Join,
        Self::Copied,
        Self::PutBack,
        Self::Leave,
        Self::LateReport,
        Self::PlainPeer,
    ];
}

/// How often each kind happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults([u64; Fault::ALL.len()]);

impl Faults {
    /// One more.
    pub fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// How many there were of a kind.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(all, more)| *all += more);
    }
}

/// What goes wrong by itself, in a thousand times.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chances {
    /// That a frame is held up.
    pub held_up: u64,
    /// That a message arrives twice.
    pub duplicated: u64,
    /// That a browser reports late about a link that is closed.
    pub late_report: u64,
    /// That a live transaction of one operation, no longer than a frame, is never told, though whoever tells it thinks that it was.
    pub untold: u64,
}

impl Net {
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Whether no connection between two hosts can live.
    pub(super) fn is_apart(&self, a: usize, b: usize) -> bool {
        self.is_cut(a, b) || self.is_cut(b, a)
    }

    pub(super) fn is_without_partner(&self, key: Key) -> bool {
        let partner = self.hosts[key.0].links.get(&key.1).and_then(|link| link.partner);
        partner.is_some_and(|other| self.is_apart(key.0, other.0) || self.hosts[other.0].dead)
    }

    /// Two hosts cannot reach each other; what they send waits. Their browsers notice after five seconds.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((b, a));
        self.cut_way(a, b);
    }

    /// Nothing comes from one host to the other. Both browsers notice after five seconds: their checks are not answered.
    pub fn cut_way(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
        for (host, other) in [(from, to), (to, from)] {
            for link in self.links(host, other) {
                self.at(self.now_ms + NOTICED_MS, Happening::Disconnects { key: (host, link) });
            }
        }
    }

    /// They can again; whether a connection that was disconnected comes back is up to ICE, so up to the nodes.
    pub fn mend(&mut self, a: usize, b: usize) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
        for (from, to, lane, frame, sent_ms) in std::mem::take(&mut self.stuck) {
            let alive = self.hosts[from.0].links.contains_key(&from.1);
            if alive || self.is_cut(from.0, to.0) {
                self.arrives(from, to, lane, frame, sent_ms);
            }
        }
    }

    /// The process is gone without a word.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].dead = true;
        if let Some(socket) = self.hosts[host].socket.take() {
            self.drop_socket(socket);
        }
        for other in 0..self.hosts.len() {
            for link in self.links(other, host) {
                self.at(self.now_ms + NOTICED_MS, Happening::Disconnects { key: (other, link) });
            }
        }
    }

    /// Breaks the connections between two hosts, on both sides at the same moment.
    pub fn break_links(&mut self, a: usize, b: usize) {
        for (host, other) in [(a, b), (b, a)] {
            let link = self.link(host, other);
            self.break_link((host, link));
        }
    }

    /// Breaks one end of a connection for good: one that failed may be mended.
    pub fn break_link(&mut self, key: Key) {
        let input = Input::LinkState { link: key.1, state: LinkState::Closed };
        self.at(self.now_ms, Happening::OfLink { key, input });
    }

    /// The process stands still. What happens to it waits.
    pub fn fall_asleep(&mut self, host: usize) {
        self.hosts[host].asleep = Some(Vec::new());
    }

    /// It goes on. Timers may come before what arrived meanwhile.
    pub fn wake_up(&mut self, host: usize) {
        let waiting = self.hosts[host].asleep.take().unwrap_or_default();
        self.poll(host);
        waiting.into_iter().for_each(|happening| self.at(self.now_ms, happening));
    }

    /// A host's links that are connected to another.
    #[must_use]
    pub fn links(&self, host: usize, other: usize) -> Vec<LinkId> {
        let links = self.hosts[host].links.iter();
        links.filter(|(_, link)| link.partner.is_some_and(|p| p.0 == other)).map(|(id, _)| *id).collect()
    }
}

/// After which browsers notice that nothing comes any more, in milliseconds.
const NOTICED_MS: u64 = 5_500;
