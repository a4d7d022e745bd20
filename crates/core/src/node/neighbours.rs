//! Performs what the `mesh` decides: which links stand, whose offer is taken, who makes way for whom, and when other names are asked for.
//!
//! Invariant: in a room that is no full mesh there are never more links than `accept`, those included that are being made with somebody who answered
//! and those that are being left; only what a full mesh left behind is more, until it is given up. So who is taken in place of another waits
//! until that one has said its last word.

use std::collections::VecDeque;

use rtc_battery_proto::PeerId;
use rtc_battery_proto::signaling::ClientMessage;

use super::io::LinkId;
use super::link::{LEAVE_MS, Link};
use super::mesh::Neighbour;
use super::room::Room;
use super::sealing::Described;

/// Who made way for another is not dialled for so long, in milliseconds.
const LET_GO_MS: u64 = 60_000;

/// So many offers wait for somebody who makes way, so long in milliseconds.
const MAX_HELD: usize = 4;
const HELD_MS: u64 = LEAVE_MS + 1_000;

/// An offer that is taken when there is a place.
#[derive(Debug)]
pub(super) struct Held {
    from: PeerId,
    offer: Described,
    until_ms: u64,
}

pub(super) type HeldOffers = VecDeque<Held>;

impl Room {
    /// How many links there are, as told to others.
    pub(super) fn degree(&self) -> u64 {
        self.settled().count() as u64
    }

    /// Whether one more link may be made now. Such as lead nowhere make way.
    pub(super) fn has_place(&mut self, now_ms: u64) -> bool {
        while let Some((at_ms, id)) = self.yields() {
            if at_ms > now_ms {
                return false;
            }
            self.lose(id, "nobody is there, and others wait", now_ms);
        }
        self.mesh.excess(self.taken()) == 0
    }

    /// From when on there is a place for one more link, as far as that is a matter of time.
    pub(super) fn place_at_ms(&self) -> Option<u64> {
        let excess = self.mesh.excess(self.taken());
        if excess == 0 {
            return Some(0);
        }
        let mut yielding: Vec<(u64, LinkId)> = self.yielding().collect();
        yielding.sort_unstable();
        yielding.get(excess - 1).map(|(at_ms, _)| *at_ms)
    }

    /// Whether somebody is to be dialled.
    pub(super) fn wants_dial(&self, now_ms: u64) -> bool {
        !self.mesh.is_bounded() || self.mesh.wants_dial(self.standing(now_ms))
    }

    /// When somebody may be to be dialled because a link has not come about.
    pub(super) fn hope_ends_at_ms(&self, now_ms: u64) -> Option<u64> {
        let bounded = self.mesh.is_bounded();
        let ends = self.links.values().filter(|link| bounded && !link.is_settled()).map(Link::hopeful_until_ms);
        ends.filter(|at_ms| *at_ms > now_ms).min()
    }

    /// A newcomer's offer cannot be taken as it is: one of our neighbours may make way.
    pub(super) fn make_way(&mut self, from: &PeerId, offer: Described, now_ms: u64) {
        if self.held.len() >= MAX_HELD || self.held.iter().any(|held| held.from == *from) {
            return;
        }
        let neighbours = self.neighbours();
        if let Some(evicted) = self.mesh.evict(&neighbours, now_ms, &mut self.random) {
            self.held.push_back(Held { from: from.clone(), offer, until_ms: now_ms + HELD_MS });
            self.let_go(evicted, now_ms);
        }
    }

    /// Takes the offers for which there is a place now.
    pub(super) fn take_held(&mut self, now_ms: u64) {
        while let Some(held) = self.held.front() {
            let expired = held.until_ms <= now_ms;
            if !expired && !self.has_place(now_ms) {
                return;
            }
            let Some(Held { from, offer, .. }) = self.held.pop_front() else { return };
            let free = self.peers.find(&from).is_some_and(|peer| peer.link.is_none() && !peer.is_left_alone(now_ms));
            if !expired && free && self.take_place(false, now_ms) {
                self.answer(&from, offer, VecDeque::new(), now_ms);
            }
        }
    }

    /// Gives links up and asks for names, where it is time to.
    pub(super) fn tend(&mut self, now_ms: u64) {
        self.take_held(now_ms);
        // A full mesh gives nothing up, and is looked at with every message.
        if self.mesh.is_bounded() {
            self.thin(now_ms);
        }
        if self.signaling.is_joined()
            && self.names_at_ms().is_some_and(|at_ms| at_ms <= now_ms)
            && self.mesh.sample(now_ms, &mut self.random)
        {
            self.signal(ClientMessage::Sample);
        }
    }

    fn thin(&mut self, now_ms: u64) {
        let mut neighbours = self.neighbours();
        if let Some(link) = self.mesh.shed(&neighbours, now_ms, &mut self.random) {
            self.let_go(link, now_ms);
            neighbours = self.neighbours();
        }
        if self.signaling.is_joined()
            && let Some(link) = self.mesh.rotate(&neighbours, now_ms, &mut self.random)
        {
            self.let_go(link, now_ms);
        }
    }

    /// When that is.
    pub(super) fn tend_at_ms(&self) -> Option<u64> {
        let shed_at_ms = self.mesh.shed_at_ms(usize::try_from(self.degree()).unwrap_or(usize::MAX));
        let joined = self.signaling.is_joined();
        let rotate_at_ms = self.mesh.rotate_at_ms().filter(|_| joined);
        let names_at_ms = if joined { self.names_at_ms() } else { None };
        let held_at_ms = self.held.front().map(|held| held.until_ms);
        [shed_at_ms, rotate_at_ms, names_at_ms, held_at_ms].into_iter().flatten().min()
    }

    /// Says `bye` to a neighbour that stays in the room.
    pub(super) fn let_go(&mut self, id: LinkId, now_ms: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Some(channel) = &mut link.channel {
            channel.stays = true;
        }
        let peer = link.peer.clone();
        self.leave(id, now_ms);
        self.spare(&peer, now_ms);
    }

    /// A peer whose link was given up, here or there, is left to others for a while.
    pub(super) fn spare(&mut self, peer: &PeerId, now_ms: u64) {
        if let Some(entry) = self.peers.find_mut(peer) {
            entry.dial_at(now_ms + LET_GO_MS);
        }
    }

    /// When the server is to be asked for names: there are none left that could be dialled, or, of a room that has become small, not all are known.
    fn names_at_ms(&self) -> Option<u64> {
        let at_ms = self.mesh.sample_at_ms()?;
        let now_ms = self.now().mono_ms;
        let nobody_left = || self.mesh.is_bounded() && self.wants_dial(now_ms) && !self.peers.is_dial_due(now_ms);
        (self.mesh.lacks_names() || nobody_left()).then_some(at_ms)
    }

    /// Links that have come about.
    fn settled(&self) -> impl Iterator<Item = (&LinkId, &Link)> {
        self.links.iter().filter(|(id, link)| self.is_current(**id, link) && link.is_settled())
    }

    /// The same, as the mesh sees them.
    fn neighbours(&self) -> Vec<Neighbour> {
        let neighbour = |(id, link): (&LinkId, &Link)| Neighbour {
            link: *id,
            links: link.channel.as_ref().and_then(|channel| channel.links),
            gone: self.is_gone(link),
        };
        self.settled().map(neighbour).collect()
    }

    /// Links that stand, or may come about: with those who pass on what they hear.
    fn standing(&self, now_ms: u64) -> usize {
        let stands = |link: &Link| match link.is_settled() {
            true => !link.is_interrupted() && !link.channel.as_ref().is_some_and(|channel| channel.courtesy.is_plain()),
            false => link.hopeful_until_ms() > now_ms,
        };
        self.links.iter().filter(|(id, link)| self.is_current(**id, link) && stands(link)).count()
    }

    /// Links that have, or take up, a place.
    fn taken(&self) -> usize {
        self.links.values().filter(|link| link.takes_place()).count()
    }

    /// Links that give up their place where others wait, and from when on.
    fn yielding(&self) -> impl Iterator<Item = (u64, LinkId)> {
        self.links.iter().filter(|(_, link)| link.takes_place()).filter_map(|(id, link)| {
            let at_ms = if self.is_gone(link) { Some(0) } else { link.yields_at_ms() };
            at_ms.map(|at_ms| (at_ms, *id))
        })
    }

    /// Who does so first, where there is no place.
    fn yields(&self) -> Option<(u64, LinkId)> {
        if self.mesh.excess(self.taken()) == 0 { None } else { self.yielding().min() }
    }

    fn is_gone(&self, link: &Link) -> bool {
        link.is_interrupted() && self.peers.find(&link.peer).is_none_or(|peer| !peer.present)
    }

    fn is_current(&self, id: LinkId, link: &Link) -> bool {
        self.peers.find(&link.peer).is_some_and(|peer| peer.link == Some(id))
    }
}
