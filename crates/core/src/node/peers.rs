//! Who is in the room, which link is the current one for each, and when to dial whom. Pure.
//!
//! Invariant: a peer has at most one current link. Whatever happens to a link that is no longer the current one changes nothing here, so
//! a late close of an old link cannot evict its successor. The table is bounded, however many names a server makes up.

use std::collections::{BTreeMap, VecDeque};

use rtc_battery_proto::PeerId;

use super::description::Candidate;
use super::io::LinkId;
use super::random::{Backoff, Random};

/// Most peers that are known at a time: a full mesh of this many is more than browsers bear.
pub(super) const MAX_PEERS: usize = 64;

/// How long those present wait for the newcomer's offer before they offer themselves, in milliseconds.
pub(super) const OFFER_WAIT_MS: u64 = 3_000;

/// A link that lasted this long was a good one: the next dial starts with the shortest wait again. In milliseconds.
const STABLE_MS: u64 = 10_000;

/// At most one complaint about what a peer sends in this time, in milliseconds.
const COMPLAIN_EVERY_MS: u64 = 10_000;

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
    /// Candidates that came before the offer they belong to.
    pub(super) early: VecDeque<Candidate>,
    dial_at_ms: Option<u64>,
    backoff: Backoff,
    complained_at_ms: Option<u64>,
    closed_sessions: VecDeque<String>,
}

impl Peer {
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
        self.early.clear();
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
        let may = self.complained_at_ms.is_none_or(|last| now_ms.saturating_sub(last) >= COMPLAIN_EVERY_MS);
        if may {
            self.complained_at_ms = Some(now_ms);
        }
        may
    }

    fn wants_dial(&self) -> Option<u64> {
        self.dial_at_ms.filter(|_| self.present && self.link.is_none() && !self.refused)
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

    /// The entry of someone the server speaks of; `None` if there is no room for another.
    pub(super) fn admit(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        if self.0.len() >= MAX_PEERS {
            self.forget_the_gone();
        }
        if self.0.len() >= MAX_PEERS && !self.0.contains_key(peer) {
            return None;
        }
        let entry = self.0.entry(peer.clone()).or_default();
        entry.present = true;
        Some(entry)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&PeerId, &mut Peer)> {
        self.0.iter_mut()
    }

    /// Those that can be talked to.
    pub(super) fn joined(&self) -> impl Iterator<Item = &PeerId> {
        self.0.iter().filter(|(_, peer)| peer.joined).map(|(id, _)| id)
    }

    /// Someone whose time to be dialled has come.
    pub(super) fn next_dial(&mut self, now_ms: u64) -> Option<PeerId> {
        let due = |peer: &Peer| peer.wants_dial().is_some_and(|at_ms| at_ms <= now_ms);
        let (id, peer) = self.0.iter_mut().find(|(_, peer)| due(peer))?;
        peer.dial_at_ms = None;
        Some(id.clone())
    }

    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        self.0.values().filter_map(Peer::wants_dial).min()
    }

    fn forget_the_gone(&mut self) {
        self.0.retain(|_, peer| peer.present || peer.link.is_some() || peer.joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PeerId {
        PeerId::new(text).unwrap()
    }

    #[test]
    fn a_made_up_crowd_is_bounded_and_makes_room() {
        let mut peers = Peers::default();
        for n in 0..10_000 {
            peers.admit(&id(&n.to_string()));
        }
        assert_eq!(peers.0.len(), MAX_PEERS);
        assert!(peers.admit(&id("late")).is_none() && peers.admit(&id("3")).is_some());
        peers.find_mut(&id("3")).unwrap().leave();
        assert!(peers.admit(&id("late")).is_some() && peers.find(&id("3")).is_none());
    }

    #[test]
    fn only_those_present_and_without_a_link_are_dialled() {
        let mut peers = Peers::default();
        for name in ["a", "b", "c", "d", "e"] {
            peers.admit(&id(name)).unwrap().dial_at(5);
        }
        peers.find_mut(&id("a")).unwrap().link = Some(LinkId(1));
        peers.find_mut(&id("b")).unwrap().leave();
        peers.find_mut(&id("c")).unwrap().refused = true;
        peers.find_mut(&id("d")).unwrap().dial_at(9);
        assert_eq!((peers.wake_at_ms(), peers.next_dial(4)), (Some(5), None));
        assert_eq!((peers.next_dial(5), peers.next_dial(5)), (Some(id("e")), None));
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
    fn complaints_are_rare() {
        let mut peer = Peer::default();
        let told = (0..100).filter(|s| peer.may_complain(s * 1_000)).count();
        assert_eq!(told, 10);
    }
}
