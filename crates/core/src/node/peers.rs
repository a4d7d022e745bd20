//! Who is in the room, which link is the current one for each, and when to dial whom. Pure.
//!
//! Invariant: a peer has at most one current link. Whatever happens to a link that is no longer the current one changes nothing here, so
//! a late close of an old link cannot evict its successor. The table is bounded, however many names a server makes up.

use std::collections::{BTreeMap, VecDeque};

use rtc_battery_proto::PeerId;

use super::io::LinkId;
use super::random::{Backoff, Random};

/// Most peers that are known at a time: far more than are connected to, so that a crowd that a server makes up crowds nobody out who is real.
/// At most 8 MiB.
pub(super) const MAX_PEERS: usize = 8_192;

/// How long those present wait for the newcomer's offer before they offer themselves, in milliseconds.
pub(super) const OFFER_WAIT_MS: u64 = 3_000;

/// A link that lasted this long was a good one: the next dial starts with the shortest wait again. In milliseconds.
const STABLE_MS: u64 = 10_000;

/// At most one complaint about what a peer sends in this time, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 10_000;

/// A peer that overdid it is left alone for so long the first time, twice as long each time after, and so long at most. In milliseconds.
const LEFT_ALONE_MS: (u64, u64) = (60_000, 3_600_000);

/// When it has kept within bounds for so long after that, it is as if it had never overdone it. In milliseconds.
const FORGIVEN_MS: u64 = 2 * 3_600_000;

/// How many closed connections of a peer are remembered.
const MAX_CLOSED_SESSIONS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Whether it is in the room as far as the signaling server says, and has not said `bye` since.
    pub(super) present: bool,
    /// Its current link.
    pub(super) link: Option<LinkId>,
    /// Whether the user was told of it. Outlives a link that is replaced.
    pub(super) joined: bool,
    /// It speaks a newer protocol: it is left alone.
    pub(super) refused: bool,
    dial_at_ms: Option<u64>,
    backoff: Backoff,
    complained_at_ms: Option<u64>,
    set_aside_told_at_ms: Option<u64>,
    closed_sessions: VecDeque<String>,
    /// How often it overdid it, and until when it is left alone for that.
    offences: u32,
    left_alone_until_ms: u64,
}

impl Peer {
    /// It overdid it: for how long it is left alone, in milliseconds.
    pub(super) fn offend(&mut self, now_ms: u64) -> u64 {
        if now_ms >= self.left_alone_until_ms + FORGIVEN_MS {
            self.offences = 0;
        }
        let alone_ms =
            LEFT_ALONE_MS.0.checked_shl(self.offences.min(16)).map_or(LEFT_ALONE_MS.1, |ms| ms.min(LEFT_ALONE_MS.1));
        self.offences = self.offences.saturating_add(1);
        self.left_alone_until_ms = now_ms + alone_ms;
        alone_ms
    }

    /// Whether it is neither dialled nor answered.
    pub(super) fn is_left_alone(&self, now_ms: u64) -> bool {
        now_ms < self.left_alone_until_ms
    }

    pub(super) fn dial_at(&mut self, at_ms: u64) {
        self.dial_at_ms = Some(at_ms);
    }

    /// Dials again after a while; the side that did not offer leaves the other time to do so. Gives whether this is the first failure
    /// in a row.
    pub(super) fn dial_again(
        &mut self,
        offered_first: bool,
        open_ms: Option<u64>,
        now_ms: u64,
        random: &mut Random,
    ) -> bool {
        if open_ms.is_some_and(|open_ms| open_ms >= STABLE_MS) {
            self.backoff.reset();
        }
        let first = self.backoff.attempts() == 0;
        let wait_ms = self.backoff.next_ms(random) + if offered_first { 0 } else { OFFER_WAIT_MS };
        self.dial_at_ms = Some(now_ms + wait_ms);
        first
    }

    /// The peer left the room: it is not dialled.
    pub(super) fn leave(&mut self) {
        self.present = false;
        self.dial_at_ms = None;
        self.backoff.reset();
    }

    /// Remembers the peer's end of a link that was closed here.
    pub(super) fn close_session(&mut self, session: &str) {
        if self.closed_sessions.len() >= MAX_CLOSED_SESSIONS {
            self.closed_sessions.pop_front();
        }
        self.closed_sessions.push_back(session.to_owned());
    }

    /// Whether this was the peer's end of a link that was closed here.
    pub(super) fn was_closed(&self, session: &str) -> bool {
        self.closed_sessions.iter().any(|closed| closed == session)
    }

    /// Whether a complaint about this peer may be told now.
    pub(super) fn may_complain(&mut self, now_ms: u64) -> bool {
        is_rare(&mut self.complained_at_ms, now_ms)
    }

    /// The same of what it tells ahead of time.
    pub(super) fn may_tell_set_aside(&mut self, now_ms: u64) -> bool {
        is_rare(&mut self.set_aside_told_at_ms, now_ms)
    }

    /// Whether nothing but its name is known.
    fn is_but_a_name(&self) -> bool {
        self.link.is_none() && !self.joined && self.offences == 0
    }

    fn wants_dial(&self) -> Option<u64> {
        let dial_at_ms = self.dial_at_ms.filter(|_| self.present && self.link.is_none() && !self.refused)?;
        Some(dial_at_ms.max(self.left_alone_until_ms))
    }
}

#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<PeerId, Peer>);

impl Peers {
    pub(super) fn find(&self, peer: &PeerId) -> Option<&Peer> {
        self.0.get(peer)
    }

    pub(super) fn find_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.0.get_mut(peer)
    }

    /// The entry of someone who is here, as the server says. Where there is no room for another, whoever left is forgotten, or else
    /// anyone who is but a name.
    pub(super) fn admit(&mut self, peer: &PeerId, random: &mut Random) -> &mut Peer {
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(peer) {
            self.0.retain(|_, peer| peer.present || !peer.is_but_a_name());
            if self.0.len() >= MAX_PEERS {
                self.forget_a_name(random);
            }
        }
        let entry = self.0.entry(peer.clone()).or_default();
        entry.present = true;
        entry
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&PeerId, &mut Peer)> {
        self.0.iter_mut()
    }

    /// Those that can be talked to.
    pub(super) fn joined(&self) -> impl Iterator<Item = &PeerId> {
        self.0.iter().filter(|(_, peer)| peer.joined).map(|(id, _)| id)
    }

    /// Someone whose time to be dialled has come: anyone of those who were tried least.
    pub(super) fn next_dial(&mut self, now_ms: u64, random: &mut Random) -> Option<PeerId> {
        let due = |peer: &Peer| peer.wants_dial().is_some_and(|at_ms| at_ms <= now_ms);
        let attempts = self.0.values().filter(|peer| due(peer)).map(|peer| peer.backoff.attempts()).min()?;
        let mut next = self.0.iter_mut().filter(|(_, peer)| due(peer) && peer.backoff.attempts() == attempts);
        let which = random.below(next.by_ref().count());
        let mut next = self.0.iter_mut().filter(|(_, peer)| due(peer) && peer.backoff.attempts() == attempts);
        let (id, peer) = next.nth(which)?;
        peer.dial_at_ms = None;
        Some(id.clone())
    }

    /// Whether somebody's time to be dialled has come.
    pub(super) fn is_dial_due(&self, now_ms: u64) -> bool {
        self.0.values().filter_map(Peer::wants_dial).any(|at_ms| at_ms <= now_ms)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn count_present(&self) -> usize {
        self.0.values().filter(|peer| peer.present).count()
    }

    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        self.0.values().filter_map(Peer::wants_dial).min()
    }

    fn forget_a_name(&mut self, random: &mut Random) {
        let names = || self.0.iter().filter(|(_, peer)| peer.is_but_a_name());
        let forgotten = names().nth(random.below(names().count())).map(|(id, _)| id.clone());
        forgotten.map(|id| self.0.remove(&id));
    }
}

/// Whether what was told last is so long ago that it may be told again, which is then noted.
fn is_rare(told_at_ms: &mut Option<u64>, now_ms: u64) -> bool {
    let may = told_at_ms.is_none_or(|last| now_ms.saturating_sub(last) >= COMPLAIN_EVERY_MS);
    if may {
        *told_at_ms = Some(now_ms);
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PeerId {
        PeerId::new(text).unwrap()
    }

    #[test]
    fn a_made_up_crowd_is_bounded_and_makes_room() {
        let (mut peers, mut random) = (Peers::default(), Random::new([3; 32]));
        peers.admit(&id("linked"), &mut random).link = Some(LinkId(1));
        peers.admit(&id("joined"), &mut random).joined = true;
        for n in 0..10_000 {
            peers.admit(&id(&n.to_string()), &mut random);
            assert!(peers.find(&id(&n.to_string())).is_some_and(|peer| peer.present));
        }
        assert_eq!(peers.0.len(), MAX_PEERS);
        assert!(peers.find(&id("linked")).is_some() && peers.find(&id("joined")).is_some());
        // Those who left make room first.
        let gone: Vec<PeerId> = peers.0.keys().take(100).cloned().collect();
        gone.iter().for_each(|gone| peers.find_mut(gone).unwrap().leave());
        peers.admit(&id("late"), &mut random);
        assert!(gone.iter().all(|gone| peers.find(gone).is_none()));
        assert_eq!(peers.count_present(), MAX_PEERS - 99);
    }

    #[test]
    fn who_was_tried_least_is_dialled_first_in_no_particular_order() {
        let order = |seed| {
            let (mut peers, mut random) = (Peers::default(), Random::new([seed; 32]));
            for n in 0..20 {
                let peer = peers.admit(&id(&format!("{n:02}")), &mut random);
                peer.dial_at(0);
                if n < 10 {
                    peer.dial_again(true, None, 0, &mut Random::new([3; 32]));
                }
            }
            std::iter::from_fn(|| peers.next_dial(60_000, &mut random)).map(|id| id.to_string()).collect::<Vec<_>>()
        };
        let (one, other) = (order(1), order(2));
        assert!(one != other && one.len() == 20);
        for order in [one, other] {
            assert!(
                order[..10].iter().all(|id| id.as_str() >= "10") && order[..10].windows(2).any(|two| two[0] > two[1])
            );
        }
    }

    #[test]
    fn only_those_present_and_without_a_link_are_dialled() {
        let (mut peers, mut random) = (Peers::default(), Random::new([3; 32]));
        for name in ["a", "b", "c", "d", "e"] {
            peers.admit(&id(name), &mut random).dial_at(5);
        }
        peers.find_mut(&id("a")).unwrap().link = Some(LinkId(1));
        peers.find_mut(&id("b")).unwrap().leave();
        peers.find_mut(&id("c")).unwrap().refused = true;
        peers.find_mut(&id("d")).unwrap().dial_at(9);
        assert_eq!((peers.wake_at_ms(), peers.is_dial_due(4), peers.next_dial(4, &mut random)), (Some(5), false, None));
        assert!(peers.is_dial_due(5));
        assert_eq!((peers.next_dial(5, &mut random), peers.next_dial(5, &mut random)), (Some(id("e")), None));
        assert_eq!(peers.wake_at_ms(), Some(9));
    }

    #[test]
    fn a_link_that_keeps_breaking_is_dialled_less_and_less() {
        let (mut peer, mut random) = (Peer { present: true, ..Peer::default() }, Random::new([3; 32]));
        let mut waits = Vec::new();
        for attempt in 0..20 {
            assert_eq!(peer.dial_again(true, Some(100), 0, &mut random), attempt == 0);
            waits.push(peer.wants_dial().unwrap());
        }
        assert!(waits[0] <= 1_000 && waits[10..].iter().max().unwrap() > &10_000);
        assert!(peer.dial_again(false, Some(STABLE_MS), 0, &mut random));
        assert!((OFFER_WAIT_MS..=OFFER_WAIT_MS + 1_000).contains(&peer.wants_dial().unwrap()));
    }

    #[test]
    fn who_overdoes_it_is_left_alone_for_longer_each_time_and_is_forgiven() {
        let mut peer = Peer { present: true, ..Peer::default() };
        let mut alone = Vec::new();
        let mut now_ms = 0;
        for _ in 0..9 {
            alone.push(peer.offend(now_ms) / 60_000);
            peer.dial_at(now_ms);
            assert_eq!((peer.wants_dial(), peer.is_left_alone(now_ms)), (Some(peer.left_alone_until_ms), true));
            now_ms = peer.left_alone_until_ms;
            assert!(!peer.is_left_alone(now_ms));
        }
        assert_eq!(alone, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(peer.offend(now_ms + FORGIVEN_MS), 60_000);
    }

    #[test]
    fn complaints_are_rare() {
        let mut peer = Peer::default();
        let told = (0..100).filter(|s| peer.may_complain(s * 1_000)).count();
        assert_eq!(told, 10);
    }
}
