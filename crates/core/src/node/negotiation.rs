//! The offer/answer exchange of one RTCPeerConnection: what comes in, what is to be done. Pure.
//!
//! It is the "perfect negotiation" pattern of webrtc-pc, with one thing decided differently: when the *first* offers of both sides cross,
//! the polite side does not roll back but makes way for a new connection, which no browser gets wrong. Later offers (ICE restarts) roll
//! back on the same connection.
//!
//! Invariant: a candidate is added only after the description of its own generation. It does not know timers, peers or channels.

use std::collections::VecDeque;

use super::description::{Candidate, MAX_CANDIDATE_BYTES, Origin};
use super::dtls_role::DtlsRole;
use super::io::{DescriptionKind, SessionDescription};

/// Most candidates that wait for a description, on either side.
pub(super) const MAX_WAITING_CANDIDATES: usize = 64;

/// Most candidates that are added to one description: browsers gather a few dozen. What is beyond would be tried by WebRTC, and kept, wherever it
/// points to.
const MAX_ADDED_CANDIDATES: u32 = 256;

/// Most offers of the peer's that are being answered at a time. Honest ones come one by one.
const MAX_ANSWERS_DUE: u32 = 4;

/// What is to be done for this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    CreateOffer { ice_restart: bool },
    SetRemoteDescription(SessionDescription),
    AddCandidate(String),
    SignalDescription(SessionDescription),
    SignalCandidate(String),
}

/// Whom a peer's offer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfferFor {
    /// This connection; it was taken.
    This,
    /// A connection that is yet to be made in place of this one.
    Another,
    /// Nobody: ours stands against it, and the peer gives way.
    Nobody,
}

/// Whom a peer's answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerFor {
    /// Our pending offer; it was taken.
    This,
    /// Our pending offer, but the one who answers is not the one this connection was made with: that is gone.
    Replaced,
    /// An offer that is no longer pending, by another than the one this connection is being made with.
    Stray,
    /// Nobody: it came late or twice.
    Nobody,
}

/// Our own offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    None,
    BeingMade,
    Sent,
}

#[derive(Debug)]
pub(super) struct Negotiation {
    polite: bool,
    offer: Offer,
    answers_due: u32,
    remote: Option<Origin>,
    /// Our part in the connection, from its first answer on.
    role: Option<DtlsRole>,
    waiting: VecDeque<Candidate>,
    /// How many were added to the peer's last description.
    added: u32,
    /// Local candidates found before there was a description to send first; `None` once it is sent.
    held_local: Option<Vec<String>>,
}

impl Negotiation {
    pub(super) fn new(polite: bool, early: VecDeque<Candidate>) -> Self {
        Self {
            polite,
            offer: Offer::None,
            answers_due: 0,
            remote: None,
            role: None,
            waiting: early,
            added: 0,
            held_local: Some(Vec::new()),
        }
    }

    /// The first offer.
    pub(super) fn start(&mut self, actions: &mut Vec<Action>) {
        self.offer = Offer::BeingMade;
        actions.push(Action::CreateOffer { ice_restart: false });
    }

    /// Restarts ICE, also where an earlier restart was never answered. Not while the peer's own offer is being answered: that is as good.
    /// Whether it has begun.
    pub(super) fn restart(&mut self, actions: &mut Vec<Action>) -> bool {
        let may = self.answers_due == 0 && self.offer != Offer::BeingMade;
        if may {
            self.offer = Offer::BeingMade;
            actions.push(Action::CreateOffer { ice_restart: true });
        }
        may
    }

    pub(super) fn handle_offer(&mut self, description: SessionDescription, actions: &mut Vec<Action>) -> OfferFor {
        let origin = Origin::of(&description.sdp);
        let stable = self.offer == Offer::None;
        match &self.remote {
            None if stable => {}
            None if self.polite => return OfferFor::Another,
            None => return OfferFor::Nobody,
            Some(remote) if !remote.same_connection(&origin) => return OfferFor::Another,
            Some(_) if !stable && !self.polite => return OfferFor::Nobody,
            Some(_) if self.answers_due >= MAX_ANSWERS_DUE => return OfferFor::Nobody,
            Some(_) => {}
        }
        self.offer = Offer::None;
        self.answers_due = self.answers_due.saturating_add(1);
        self.take_remote(description, origin, actions);
        OfferFor::This
    }

    pub(super) fn handle_answer(&mut self, description: SessionDescription, actions: &mut Vec<Action>) -> AnswerFor {
        let origin = Origin::of(&description.sdp);
        let other = self.remote.as_ref().is_some_and(|remote| !remote.same_connection(&origin));
        match (self.offer == Offer::Sent, other) {
            (true, true) => AnswerFor::Replaced,
            (false, true) => AnswerFor::Stray,
            (false, false) => AnswerFor::Nobody,
            (true, false) => {
                self.offer = Offer::None;
                self.role = self.role.or_else(|| DtlsRole::of(&description).map(DtlsRole::other));
                self.take_remote(description, origin, actions);
                AnswerFor::This
            }
        }
    }

    pub(super) fn handle_candidate(&mut self, candidate: Candidate, actions: &mut Vec<Action>) {
        if self.remote.as_ref().is_some_and(|remote| remote.admits(&candidate)) {
            self.add(candidate, actions);
        } else {
            // Early, or of a generation that is gone; the next description tells.
            keep_waiting(&mut self.waiting, candidate);
        }
    }

    pub(super) fn handle_local_description(&mut self, description: SessionDescription, actions: &mut Vec<Action>) {
        match description.kind {
            DescriptionKind::Offer if self.offer == Offer::BeingMade => self.offer = Offer::Sent,
            DescriptionKind::Answer if self.answers_due > 0 => {
                self.answers_due -= 1;
                self.role = self.role.or_else(|| DtlsRole::of(&description));
            }
            // An offer that was rolled back before we heard of it.
            _ => return,
        }
        let description = match self.role {
            Some(role) => role.state(description),
            None => description,
        };
        actions.push(Action::SignalDescription(description));
        actions.extend(self.held_local.take().into_iter().flatten().map(Action::SignalCandidate));
    }

    pub(super) fn handle_local_candidate(&mut self, candidate: String, actions: &mut Vec<Action>) {
        match &mut self.held_local {
            None => actions.push(Action::SignalCandidate(candidate)),
            Some(held) if held.len() < MAX_WAITING_CANDIDATES && candidate.len() <= MAX_CANDIDATE_BYTES => {
                held.push(candidate);
            }
            Some(_) => {}
        }
    }

    /// Whether an offer of ours waits for its answer.
    pub(super) fn offer_is_pending(&self) -> bool {
        self.offer == Offer::Sent
    }

    /// The peer's connection, as its last description names it.
    pub(super) fn remote_session(&self) -> Option<&str> {
        self.remote.as_ref().map(Origin::session)
    }

    /// The candidates that no description of this connection admitted: they may be its successor's.
    pub(super) fn into_waiting(self) -> VecDeque<Candidate> {
        self.waiting
    }

    fn take_remote(&mut self, description: SessionDescription, origin: Origin, actions: &mut Vec<Action>) {
        actions.push(Action::SetRemoteDescription(description));
        self.added = 0;
        for candidate in std::mem::take(&mut self.waiting) {
            if origin.admits(&candidate) {
                self.add(candidate, actions);
            } else {
                self.waiting.push_back(candidate);
            }
        }
        self.remote = Some(origin);
    }

    fn add(&mut self, candidate: Candidate, actions: &mut Vec<Action>) {
        if self.added < MAX_ADDED_CANDIDATES {
            self.added += 1;
            actions.push(Action::AddCandidate(candidate.json));
        }
    }
}

/// Keeps a candidate for a description that may come, the newest where there are too many.
fn keep_waiting(waiting: &mut VecDeque<Candidate>, candidate: Candidate) {
    if waiting.len() >= MAX_WAITING_CANDIDATES {
        waiting.pop_front();
    }
    waiting.push_back(candidate);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(kind: DescriptionKind, session: u32, ufrag: &str) -> SessionDescription {
        let sdp = format!("v=0\r\no=- {session} 2 IN IP4 127.0.0.1\r\na=ice-ufrag:{ufrag}\r\n");
        SessionDescription { kind, sdp }
    }

    fn offer(session: u32, ufrag: &str) -> SessionDescription {
        description(DescriptionKind::Offer, session, ufrag)
    }

    fn answer(session: u32, ufrag: &str) -> SessionDescription {
        description(DescriptionKind::Answer, session, ufrag)
    }

    fn candidate(ufrag: &str) -> Candidate {
        Candidate::read(&format!(r#"{{"candidate":"c","usernameFragment":"{ufrag}"}}"#)).unwrap()
    }

    /// One that has offered as session 1.
    fn offered(polite: bool) -> Negotiation {
        let (mut negotiation, mut actions) = (Negotiation::new(polite, VecDeque::new()), Vec::new());
        negotiation.start(&mut actions);
        negotiation.handle_local_description(offer(1, "l"), &mut actions);
        assert_eq!(actions, [Action::CreateOffer { ice_restart: false }, Action::SignalDescription(offer(1, "l"))]);
        negotiation
    }

    /// One that has offered as session 1 and was answered by session 2.
    fn agreed(polite: bool) -> Negotiation {
        let (mut negotiation, mut actions) = (offered(polite), Vec::new());
        assert_eq!(negotiation.handle_answer(answer(2, "r"), &mut actions), AnswerFor::This);
        negotiation
    }

    #[test]
    fn first_offers_that_cross_leave_one() {
        let mut actions = Vec::new();
        assert_eq!(offered(true).handle_offer(offer(2, "r"), &mut actions), OfferFor::Another);
        let mut impolite = offered(false);
        assert_eq!(impolite.handle_offer(offer(2, "r"), &mut actions), OfferFor::Nobody);
        assert_eq!(actions, []);
        assert_eq!(impolite.handle_answer(answer(3, "n"), &mut actions), AnswerFor::This);
    }

    #[test]
    fn restarts_that_cross_roll_the_polite_one_back() {
        let mut actions = Vec::new();
        let mut polite = agreed(true);
        polite.restart(&mut actions);
        assert_eq!(polite.handle_offer(offer(2, "r2"), &mut actions), OfferFor::This);
        // Word of the offer that was rolled back comes before the answer.
        polite.handle_local_description(offer(1, "l2"), &mut actions);
        polite.handle_local_description(answer(1, "l3"), &mut actions);
        let expected = [
            Action::CreateOffer { ice_restart: true },
            Action::SetRemoteDescription(offer(2, "r2")),
            Action::SignalDescription(answer(1, "l3")),
        ];
        assert_eq!(actions, expected);

        let (mut impolite, mut actions) = (agreed(false), Vec::new());
        impolite.restart(&mut actions);
        impolite.restart(&mut actions);
        assert_eq!(actions.len(), 1);
        assert_eq!(impolite.handle_offer(offer(2, "r2"), &mut actions), OfferFor::Nobody);
        impolite.handle_local_description(offer(1, "l2"), &mut actions);
        assert!(impolite.offer_is_pending());
        assert_eq!(impolite.handle_answer(answer(2, "r3"), &mut actions), AnswerFor::This);
    }

    #[test]
    fn an_offer_of_another_connection_is_not_for_this_one() {
        for polite in [true, false] {
            let (mut negotiation, mut actions) = (agreed(polite), Vec::new());
            assert_eq!(negotiation.handle_offer(offer(7, "x"), &mut actions), OfferFor::Another);
            negotiation.restart(&mut actions);
            assert_eq!(negotiation.handle_offer(offer(7, "x"), &mut actions), OfferFor::Another);
        }
    }

    #[test]
    fn answers_are_matched_to_a_pending_offer() {
        let mut actions = Vec::new();
        let mut negotiation = Negotiation::new(false, VecDeque::new());
        assert_eq!(negotiation.handle_answer(answer(2, "r"), &mut actions), AnswerFor::Nobody);
        negotiation.start(&mut actions);
        // The offer is not even sent.
        assert_eq!(negotiation.handle_answer(answer(2, "r"), &mut actions), AnswerFor::Nobody);

        let mut negotiation = agreed(false);
        assert_eq!(negotiation.handle_answer(answer(2, "r"), &mut actions), AnswerFor::Nobody);
        assert_eq!(negotiation.handle_answer(answer(3, "r"), &mut actions), AnswerFor::Stray);
        negotiation.restart(&mut actions);
        negotiation.handle_local_description(offer(1, "l2"), &mut actions);
        assert_eq!(negotiation.handle_answer(answer(3, "r"), &mut actions), AnswerFor::Replaced);
        assert_eq!(negotiation.handle_answer(answer(2, "r2"), &mut actions), AnswerFor::This);
    }

    /// As Firefox answers Chromium: `active`, whoever is.
    #[test]
    fn who_began_the_handshake_stays_who_did() {
        let with = |description: SessionDescription, setup: &str| SessionDescription {
            sdp: format!("{}a=setup:{setup}\r\n", description.sdp),
            ..description
        };
        let sent = |actions: &mut Vec<Action>| match actions.pop() {
            Some(Action::SignalDescription(description)) => description,
            other => panic!("{other:?}"),
        };
        let (mut offerer, mut actions) = (offered(false), Vec::new());
        offerer.handle_answer(with(answer(2, "r"), "active"), &mut actions);
        offerer.handle_offer(with(offer(2, "r2"), "active"), &mut actions);
        offerer.handle_local_description(with(answer(1, "l2"), "active"), &mut actions);
        assert_eq!(sent(&mut actions), with(answer(1, "l2"), "passive"));
        offerer.restart(&mut actions);
        offerer.handle_local_description(with(offer(1, "l3"), "actpass"), &mut actions);
        assert_eq!(sent(&mut actions), with(offer(1, "l3"), "passive"));

        let (mut answerer, mut actions) = (Negotiation::new(false, VecDeque::new()), Vec::new());
        answerer.handle_offer(with(offer(2, "r"), "actpass"), &mut actions);
        answerer.handle_local_description(with(answer(1, "l"), "active"), &mut actions);
        assert_eq!(sent(&mut actions), with(answer(1, "l"), "active"));
        answerer.restart(&mut actions);
        answerer.handle_local_description(with(offer(1, "l2"), "actpass"), &mut actions);
        assert_eq!(sent(&mut actions), with(offer(1, "l2"), "active"));
    }

    #[test]
    fn candidates_wait_for_their_description() {
        let (mut negotiation, mut actions) = (Negotiation::new(false, VecDeque::new()), Vec::new());
        for ufrag in ["r", "old", "r2"] {
            negotiation.handle_candidate(candidate(ufrag), &mut actions);
        }
        assert_eq!(actions, []);
        negotiation.handle_offer(offer(2, "r"), &mut actions);
        let added = |ufrag: &str| Action::AddCandidate(candidate(ufrag).json);
        assert_eq!(actions, [Action::SetRemoteDescription(offer(2, "r")), added("r")]);

        actions.clear();
        negotiation.handle_candidate(candidate("r"), &mut actions);
        negotiation.handle_candidate(candidate("old"), &mut actions);
        assert_eq!(actions, [added("r")]);

        actions.clear();
        negotiation.handle_local_description(answer(1, "l"), &mut actions);
        negotiation.handle_offer(offer(2, "r2"), &mut actions);
        // The first generation is replayed.
        negotiation.handle_candidate(candidate("r"), &mut actions);
        assert_eq!(actions.last(), Some(&added("r2")));
        assert!(!actions.contains(&added("old")) && !actions.contains(&added("r")));
    }

    #[test]
    fn local_candidates_follow_their_description() {
        let (mut negotiation, mut actions) = (Negotiation::new(false, VecDeque::new()), Vec::new());
        negotiation.start(&mut actions);
        actions.clear();
        negotiation.handle_local_candidate("a".into(), &mut actions);
        assert_eq!(actions, []);
        negotiation.handle_local_description(offer(1, "l"), &mut actions);
        negotiation.handle_local_candidate("b".into(), &mut actions);
        let signal = |candidate: &str| Action::SignalCandidate(candidate.into());
        assert_eq!(actions, [Action::SignalDescription(offer(1, "l")), signal("a"), signal("b")]);
    }

    #[test]
    fn what_a_lying_server_has_us_do_for_a_connection_is_bounded() {
        let (mut negotiation, mut actions) = (Negotiation::new(false, VecDeque::new()), Vec::new());
        for _ in 0..100 {
            negotiation.handle_offer(offer(2, "r"), &mut actions);
            (0..1_000).for_each(|_| negotiation.handle_candidate(candidate("r"), &mut actions));
        }
        let count =
            |actions: &[Action], what: fn(&Action) -> bool| actions.iter().filter(|action| what(action)).count();
        assert_eq!(count(&actions, |action| matches!(action, Action::SetRemoteDescription(_))), 4);
        assert_eq!(count(&actions, |action| matches!(action, Action::AddCandidate(_))), 4 * 256);

        actions.clear();
        (0..4).for_each(|_| negotiation.handle_local_description(answer(1, "l"), &mut actions));
        assert_eq!(negotiation.handle_offer(offer(2, "r2"), &mut actions), OfferFor::This);
        negotiation.handle_candidate(candidate("r2"), &mut actions);
        assert_eq!(actions.last(), Some(&Action::AddCandidate(candidate("r2").json)));
    }

    #[test]
    fn waiting_candidates_are_bounded() {
        let (mut negotiation, mut actions) = (Negotiation::new(false, VecDeque::new()), Vec::new());
        for n in 0..1000 {
            negotiation.handle_candidate(candidate(&n.to_string()), &mut actions);
            negotiation.handle_local_candidate(n.to_string(), &mut actions);
        }
        assert_eq!(negotiation.held_local.as_ref().unwrap().len(), MAX_WAITING_CANDIDATES);
        assert_eq!(negotiation.into_waiting().len(), MAX_WAITING_CANDIDATES);
    }
}
