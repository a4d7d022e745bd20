//! Sealing what goes through the signaling server, and opening what comes: our count, and what was heard of the others' counts.
//!
//! Sealed is the default. A room that is not sealed is another room at the server, under the token itself: the specification's letter, for peers that
//! know nothing else. Nothing that is not sealed is taken in a sealed room, so the server cannot talk anybody down to it.
//!
//! Invariants: a number is sealed with once, since the count never goes back and the key belongs to our peer id, which is as old as
//! the count; a number of a peer's is taken once. Messages may overtake each other on the way, so the last [`WINDOW`] numbers
//! of each peer are kept, and older ones refused. Only holders of the token have an entry, so the server cannot crowd anybody's out.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_proto::PeerId;
use rtc_battery_proto::sealing::{ConnectionId, Envelope, RoomSecret, SealError, SealedKind};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::description::{Candidate, MAX_CANDIDATE_BYTES};
use super::io::{DescriptionKind, SessionDescription};

/// Numbers of a peer that are remembered.
const WINDOW: usize = 64;

/// Most peers whose numbers are remembered; the one that was heard longest ago is forgotten first. At most 24 MiB.
const MAX_SENDERS: usize = 8_192;

/// What seals and opens, or lets everything through where the room is not sealed.
#[derive(Debug)]
pub(super) struct Sealing {
    secret: Option<RoomSecret>,
    next_number: u64,
    heard: BTreeMap<PeerId, Window>,
    heard_count: u64,
}

/// Why what came is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("it came before")]
    Replayed,
}

/// From whom to whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) from: &'a PeerId,
    pub(super) to: &'a PeerId,
}

/// A description and the connection it is of, where the room is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) description: SessionDescription,
    pub(super) connection: Option<ConnectionId>,
}

#[derive(Serialize, Deserialize)]
struct SealedCandidate {
    candidate: String,
}

#[derive(Debug, Default)]
struct Window {
    /// Everything below counts as heard.
    first: u64,
    numbers: BTreeSet<u64>,
    heard_at: u64,
}

impl Window {
    /// Whether the number is new.
    fn take(&mut self, number: u64) -> bool {
        let new = number >= self.first && self.numbers.insert(number);
        if self.numbers.len() > WINDOW {
            let oldest = self.numbers.pop_first();
            self.first = oldest.map_or(self.first, |oldest| oldest.saturating_add(1));
        }
        new
    }
}

impl Sealing {
    pub(super) fn new(token: &str, sealed: bool) -> Self {
        let secret = sealed.then(|| RoomSecret::of(token));
        Self { secret, next_number: 0, heard: BTreeMap::new(), heard_count: 0 }
    }

    /// What the server knows the room by.
    pub(super) fn room(&self, token: &str) -> String {
        self.secret.as_ref().map_or_else(|| token.to_owned(), RoomSecret::room)
    }

    /// A name for a connection that we offer first, where names are needed.
    pub(super) fn connection(&self, random: impl FnOnce() -> u64) -> Option<ConnectionId> {
        self.secret.as_ref().map(|_| ConnectionId(random()))
    }

    /// A description as the server is to see it.
    pub(super) fn seal_description(
        &mut self,
        way: Way<'_>,
        connection: Option<ConnectionId>,
        description: SessionDescription,
    ) -> SessionDescription {
        let kind = description.kind;
        SessionDescription { kind, sdp: self.seal(way, kind.into(), connection, description.sdp) }
    }

    /// An `RTCIceCandidateInit` as the server is to see it: in its field for text.
    pub(super) fn seal_candidate(
        &mut self,
        way: Way<'_>,
        connection: Option<ConnectionId>,
        json: String,
    ) -> serde_json::Result<Box<RawValue>> {
        if self.secret.is_none() {
            return RawValue::from_string(json);
        }
        let candidate = self.seal(way, SealedKind::Candidate, connection, json);
        to_raw_value(&SealedCandidate { candidate })
    }

    /// What a peer said of itself, and of which connection.
    pub(super) fn open_description(&mut self, way: Way<'_>, seen: SessionDescription) -> Result<Described, Refused> {
        let SessionDescription { kind, sdp } = seen;
        let (sdp, connection) = self.open(way, kind.into(), sdp)?;
        Ok(Described { description: SessionDescription { kind, sdp }, connection })
    }

    /// A peer's candidate, if it is one.
    pub(super) fn open_candidate(&mut self, way: Way<'_>, seen: &str) -> Option<Candidate> {
        if self.secret.is_none() {
            return Candidate::read(seen);
        }
        if seen.len() > MAX_CANDIDATE_BYTES {
            return None;
        }
        let SealedCandidate { candidate } = serde_json::from_str(seen).ok()?;
        let (json, connection) = self.open(way, SealedKind::Candidate, candidate).ok()?;
        Some(Candidate::read(&json)?.of(connection))
    }

    fn seal(&mut self, way: Way<'_>, kind: SealedKind, connection: Option<ConnectionId>, text: String) -> String {
        let (Some(secret), Some(connection)) = (&self.secret, connection) else { return text };
        let number = self.next_number;
        self.next_number += 1;
        secret.seal(way.envelope(kind), connection, number, &text)
    }

    fn open(
        &mut self,
        way: Way<'_>,
        kind: SealedKind,
        text: String,
    ) -> Result<(String, Option<ConnectionId>), Refused> {
        let Some(secret) = &self.secret else { return Ok((text, None)) };
        let opened = secret.open(way.envelope(kind), &text)?;
        if !self.is_heard_first(way.from, opened.number) {
            return Err(Refused::Replayed);
        }
        Ok((opened.text, Some(opened.connection)))
    }

    fn is_heard_first(&mut self, from: &PeerId, number: u64) -> bool {
        if self.heard.len() >= MAX_SENDERS && !self.heard.contains_key(from) {
            let longest = self.heard.iter().min_by_key(|(_, window)| window.heard_at).map(|(peer, _)| peer.clone());
            longest.map(|longest| self.heard.remove(&longest));
        }
        self.heard_count += 1;
        let window = self.heard.entry(from.clone()).or_default();
        window.heard_at = self.heard_count;
        window.take(number)
    }
}

impl<'a> Way<'a> {
    fn envelope(self, kind: SealedKind) -> Envelope<'a> {
        Envelope { from: self.from, to: self.to, kind }
    }
}

impl From<DescriptionKind> for SealedKind {
    fn from(kind: DescriptionKind) -> Self {
        match kind {
            DescriptionKind::Offer => Self::Offer,
            DescriptionKind::Answer => Self::Answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_once_and_an_old_one_never() {
        let mut window = Window::default();
        for (number, new) in [(5, true), (5, false), (3, true), (1_000, true), (3, false), (4, true), (1_000, false)] {
            assert_eq!(window.take(number), new, "{number}");
        }
        assert!((2_000..2_000 + WINDOW as u64).all(|number| window.take(number)));
        assert!(!window.take(6) && !window.take(1_000) && window.take(u64::MAX));
        assert_eq!(window.numbers.len(), WINDOW);
    }

    #[test]
    fn those_heard_longest_ago_are_forgotten_first() {
        let mut sealing = Sealing::new("token", true);
        let peer = |n: usize| PeerId::new(&format!("p{n}")).unwrap();
        for n in 0..MAX_SENDERS {
            assert!(sealing.is_heard_first(&peer(n), 1));
        }
        assert!(!sealing.is_heard_first(&peer(0), 1));
        assert!(sealing.is_heard_first(&peer(MAX_SENDERS), 1));
        assert!(!sealing.is_heard_first(&peer(0), 1) && sealing.is_heard_first(&peer(1), 1));
        assert_eq!(sealing.heard.len(), MAX_SENDERS);
    }

    #[test]
    fn what_is_sealed_has_the_specifications_shape_and_is_taken_once() {
        let (ada, bob) = (PeerId::new("ada").unwrap(), PeerId::new("bob").unwrap());
        let way = Way { from: &ada, to: &bob };
        let (mut ours, mut theirs) = (Sealing::new("token", true), Sealing::new("token", true));
        let connection = ours.connection(|| 7);
        let offer = SessionDescription { kind: DescriptionKind::Offer, sdp: "v=0".into() };
        let json = r#"{"candidate":"c","usernameFragment":"f"}"#;
        let sealed = ours.seal_description(way, connection, offer.clone());
        let candidate = ours.seal_candidate(way, connection, json.into()).unwrap();
        assert!(candidate.get().starts_with(r#"{"candidate":"sealed-1."#), "{candidate}");
        assert_eq!(
            theirs.open_candidate(way, candidate.get()).map(|it| (it.json, it.connection)),
            Some((json.into(), connection))
        );
        assert_eq!(theirs.open_candidate(way, candidate.get()), None);
        assert_eq!(
            theirs.open_description(way, sealed.clone()),
            Ok(Described { description: offer.clone(), connection })
        );
        assert_eq!(theirs.open_description(way, sealed), Err(Refused::Replayed));
        assert_eq!(theirs.open_description(way, offer.clone()), Err(Refused::Seal(SealError::NotSealed)));
        assert_eq!(theirs.open_candidate(way, json), None);
        let mut plain = Sealing::new("token", false);
        assert_eq!((plain.room("token"), plain.connection(|| 7)), ("token".into(), None));
        assert_eq!(plain.seal_description(way, None, offer.clone()), offer);
        assert_ne!(ours.room("token"), "token");
    }
}
