//! One link: an RTCPeerConnection, from the first offer to its end. Timers, and what belongs together; pure. (What goes over it: `channel`.)
//!
//! Three phases: being made (given up after 39.5 s, not before: RFC 8863), open, and leaving (`bye` was said, the answer or the closing of
//! the channel is awaited). A link never returns to an earlier phase; what follows it has a new id.

use rtc_battery_proto::PeerId;
use rtc_battery_proto::sealing::ConnectionId;

use super::channel::Channel;
use super::courtesy::Language;
use super::io::LinkState;
use super::keepalive::Pulse;
use super::negotiation::Negotiation;
use super::restart::{RESTART_AFTER_MS, Restart};
use super::sealing::Described;

/// A first connection is not given up earlier, in milliseconds.
const GIVE_UP_MS: u64 = 39_500;

/// A link that stands has so long to show that it does, when the signaling server passes on the offer of another connection in its place. In
/// milliseconds.
const CHALLENGE_MS: u64 = 3_000;

/// In a room where others can be dialled, an offer that nobody took up is not counted on for longer than this, and a link that does not come about
/// no longer than that. In milliseconds.
const UNANSWERED_MS: u64 = 3_000;
const UNCONNECTED_MS: u64 = 10_000;

/// The answer to a `bye` is awaited so long, in milliseconds.
pub(super) const LEAVE_MS: u64 = 2_000;

/// ... and longer while the channel goes on letting out what was said before it, but no longer than this, in milliseconds.
const LEAVE_AT_MOST_MS: u64 = 20_000;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) negotiation: Negotiation,
    /// What both sides call this attempt to connect, where the room is sealed.
    pub(super) connection: Option<ConnectionId>,
    pub(super) channel: Option<Channel>,
    /// Whether this side made the first offer; it is also the one that restarts ICE.
    pub(super) offered_first: bool,
    pub(super) began_at_ms: u64,
    connected: bool,
    give_up_at_ms: u64,
    disconnected_at_ms: Option<u64>,
    pub(super) restart: Restart,
    leaving: Option<Leaving>,
    rival: Option<Rival>,
    /// Whether the connection goes through a relay, as far as the host has said.
    pub(super) relayed: Option<bool>,
    /// The host is to be asked for that.
    path_due: bool,
}

/// `bye` was said.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    since_ms: u64,
    until_ms: u64,
}

/// An offer of another connection in place of one that stands, as far as we know: the peer may have lost its end of it, or the server may
/// have made the offer up.
#[derive(Debug)]
struct Rival {
    offer: Described,
    wins_at_ms: u64,
}

/// What time brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The connection could not be made.
    GiveUp,
    /// The peer is silent: gone.
    Gone,
    /// ICE is to be restarted, if the peer can be reached by signaling.
    Restart,
    /// It was waited long enough for the answer to `bye`.
    Close,
    /// The link did not show that it stands: the offer of another one is taken up.
    Replace,
}

impl Link {
    pub(super) fn new(
        peer: PeerId,
        negotiation: Negotiation,
        connection: Option<ConnectionId>,
        offered_first: bool,
        now_ms: u64,
    ) -> Self {
        Self {
            peer,
            negotiation,
            connection,
            channel: None,
            offered_first,
            began_at_ms: now_ms,
            connected: false,
            give_up_at_ms: now_ms + GIVE_UP_MS,
            disconnected_at_ms: None,
            restart: Restart::new(offered_first),
            leaving: None,
            rival: None,
            relayed: None,
            path_due: false,
        }
    }

    /// Whether the channel is open.
    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// What is known of the peer's language, once the channel is open.
    pub(super) fn language(&self) -> Option<Language> {
        self.channel.as_ref().map(|channel| channel.courtesy.language())
    }

    /// Whether somebody has taken up our first offer, as far as the signaling server says.
    pub(super) fn is_answered(&self) -> bool {
        self.offered_first && self.negotiation.remote_session().is_some()
    }

    /// Whether the connection came about, so that it no longer depends on signaling.
    pub(super) fn is_settled(&self) -> bool {
        self.connected || self.is_open()
    }

    /// Whether it is one more than there would be without it: a dial that nobody has answered is not.
    pub(super) fn takes_place(&self) -> bool {
        self.is_settled() || !self.offered_first || self.is_answered()
    }

    /// Until when it is counted on to come about.
    pub(super) fn hopeful_until_ms(&self) -> u64 {
        self.began_at_ms + if self.takes_place() { UNCONNECTED_MS } else { UNANSWERED_MS }
    }

    /// From when on it makes way for another, if it does not come about.
    pub(super) fn yields_at_ms(&self) -> Option<u64> {
        (!self.is_settled()).then_some(self.began_at_ms + UNCONNECTED_MS)
    }

    pub(super) fn open_channel(&mut self, max_message_bytes: Option<u32>, now_ms: u64) {
        let opened_by_us = self.offered_first;
        self.channel.get_or_insert_with(|| Channel::new(opened_by_us, max_message_bytes, now_ms));
        self.path_due = true;
    }

    /// Asks the peer over the channel whether it is still there, where it can be asked; `false` where it cannot, so that the offer is to be
    /// taken up at once.
    pub(super) fn challenge(&mut self, offer: &Described, now_ms: u64) -> bool {
        let stands = self.disconnected_at_ms.is_none() && self.leaving.is_none();
        let Some(channel) = self.channel.as_mut().filter(|_| stands) else { return false };
        channel.courtesy.ping();
        let wins_at_ms = self.rival.take().map_or(now_ms + CHALLENGE_MS, |rival| rival.wins_at_ms);
        self.rival = Some(Rival { offer: offer.clone(), wins_at_ms });
        true
    }

    /// The peer answered over the channel: what was offered in place of this link is not taken up.
    pub(super) fn stand(&mut self) {
        self.rival = None;
    }

    /// The offer that this link gives way to.
    pub(super) fn take_rival(&mut self) -> Option<Described> {
        self.rival.take().map(|rival| rival.offer)
    }

    /// Takes a new connection state; `false` if the connection is lost. `can_signal`: whether the peer can be reached by signaling. Then one that failed may come back:
    /// Chromium gives a relayed path up within 10 s, ICE is restarted, and where nothing comes of it the silence ends the link.
    pub(super) fn handle_state(&mut self, state: LinkState, can_signal: bool, now_ms: u64) -> bool {
        match state {
            LinkState::Failed if can_signal && self.is_open() => {
                if self.disconnected_at_ms.is_none() {
                    self.ask_anew(now_ms);
                }
                let restart_now_ms = now_ms.saturating_sub(RESTART_AFTER_MS);
                self.disconnected_at_ms =
                    Some(self.disconnected_at_ms.map_or(restart_now_ms, |at| at.min(restart_now_ms)));
            }
            LinkState::Failed | LinkState::Closed => return false,
            LinkState::Disconnected => {
                if self.disconnected_at_ms.is_none() {
                    self.disconnected_at_ms = Some(now_ms);
                    self.ask_anew(now_ms);
                }
            }
            LinkState::Connected => {
                self.connected = true;
                if self.disconnected_at_ms.take().is_some() {
                    self.ask_anew(now_ms);
                }
                self.restart.note_path();
                self.path_due = true;
            }
            LinkState::New | LinkState::Connecting => {}
        }
        true
    }

    /// The path was lost, or is back. What was said meanwhile is said again by the transport, at intervals that double, so the silence before says nothing: what
    /// was last heard may be 5 s older than the loss, and the first word comes some time after the path.
    fn ask_anew(&mut self, now_ms: u64) {
        if let Some(channel) = &mut self.channel {
            channel.keepalive.probe(now_ms);
        }
    }

    /// Waits for the answer to `bye`, or for the channel to close.
    pub(super) fn leave(&mut self, now_ms: u64) {
        self.leaving.get_or_insert(Leaving { since_ms: now_ms, until_ms: now_ms + LEAVE_MS });
    }

    /// The channel has let out so many bytes in all.
    pub(super) fn handle_drained(&mut self, sent_bytes: u64, now_ms: u64) {
        let more = self.channel.as_mut().is_some_and(|channel| channel.outbox.handle_drained(sent_bytes));
        if let Some(leaving) = self.leaving.as_mut().filter(|_| more) {
            let until_ms = (now_ms + LEAVE_MS).min(leaving.since_ms + LEAVE_AT_MOST_MS);
            leaving.until_ms = leaving.until_ms.max(until_ms);
        }
    }

    /// The signaling server was away: an offer that is not answered may have been lost.
    pub(super) fn repeat_restart(&mut self, now_ms: u64) {
        if self.negotiation.offer_is_pending() {
            self.restart.repeat(now_ms);
        }
    }

    /// Whether nothing gets through at the moment.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_open() && self.disconnected_at_ms.is_some()
    }

    /// Whether the host is to be asked which way the connection goes; it is then.
    pub(super) fn take_path_due(&mut self) -> bool {
        self.is_open() && std::mem::take(&mut self.path_due)
    }

    /// Finds out how the link stands, where that is not fresh.
    pub(super) fn look(&mut self, now_ms: u64) {
        if let Some(channel) = self.channel.as_mut().filter(|channel| channel.round_trip.is_stale(now_ms)) {
            channel.courtesy.ping();
            self.path_due = true;
        }
    }

    /// After a sleep: nothing is dead before it had one interval to show that it lives.
    pub(super) fn probe(&mut self, now_ms: u64) {
        self.give_up_at_ms = now_ms + GIVE_UP_MS;
        self.disconnected_at_ms = self.disconnected_at_ms.map(|_| now_ms);
        if let Some(leaving) = &mut self.leaving {
            leaving.until_ms = now_ms + LEAVE_MS;
        }
        if let Some(rival) = &mut self.rival {
            rival.wins_at_ms = now_ms + CHALLENGE_MS;
        }
        if let Some(channel) = &mut self.channel {
            channel.keepalive.probe(now_ms);
            channel.round_trip.forget_question();
        }
    }

    /// What is due now. `can_signal`: whether the peer can be reached by signaling.
    pub(super) fn handle_timeout(&mut self, now_ms: u64, can_signal: bool) -> Option<Due> {
        let Some(channel) = &mut self.channel else {
            return (self.give_up_at_ms <= now_ms).then_some(Due::GiveUp);
        };
        if self.leaving.is_some_and(|leaving| leaving.until_ms <= now_ms) {
            return Some(Due::Close);
        }
        if self.rival.as_ref().is_some_and(|rival| rival.wins_at_ms <= now_ms) {
            return Some(Due::Replace);
        }
        channel.courtesy.handle_timeout(now_ms);
        channel.bulk.handle_timeout(now_ms);
        match channel.keepalive.check(now_ms) {
            Pulse::Gone => return Some(Due::Gone),
            Pulse::PingDue => {
                channel.courtesy.ping();
                self.path_due = true;
            }
            Pulse::Fine => {}
        }
        let restart = can_signal && self.restart_at_ms().is_some_and(|at| at <= now_ms);
        restart.then_some(Due::Restart)
    }

    /// When something may be due next.
    pub(super) fn wake_at_ms(&self, can_signal: bool) -> u64 {
        let Some(channel) = &self.channel else { return self.give_up_at_ms };
        let restart = self.restart_at_ms().filter(|_| can_signal);
        let rival = self.rival.as_ref().map(|rival| rival.wins_at_ms);
        let close = self.leaving.map(|leaving| leaving.until_ms);
        let others =
            [channel.courtesy.wake_at_ms(), channel.bulk.wake_at_ms(), close, restart, rival].into_iter().flatten();
        others.fold(channel.keepalive.wake_at_ms(), u64::min)
    }

    fn restart_at_ms(&self) -> Option<u64> {
        if self.leaving.is_some() {
            return None;
        }
        self.restart.due_at_ms(self.disconnected_at_ms, self.relayed, self.negotiation.offer_is_pending())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rtc_battery_proto::frame::Body;

    use super::super::io::{DescriptionKind, SessionDescription};
    use super::super::negotiation::AnswerFor;
    use super::*;

    fn link(offered_first: bool) -> Link {
        Link::new(PeerId::new("p").unwrap(), Negotiation::new(false, VecDeque::new()), None, offered_first, 0)
    }

    /// Times, in milliseconds, at which something other than a ping was due until `end_ms`.
    fn dues(link: &mut Link, end_ms: u64) -> Vec<(u64, Due)> {
        let mut dues = Vec::new();
        let mut now_ms = link.wake_at_ms(true);
        while now_ms <= end_ms {
            if let Some(due) = link.handle_timeout(now_ms, true) {
                if due == Due::Restart {
                    link.restart.note(true, now_ms);
                } else {
                    return dues.into_iter().chain([(now_ms, due)]).collect();
                }
                dues.push((now_ms, due));
            }
            let next_ms = link.wake_at_ms(true);
            assert!(next_ms > now_ms, "woken at {now_ms} for nothing");
            now_ms = next_ms;
        }
        dues
    }

    #[test]
    fn a_first_connection_has_its_time() {
        assert_eq!(dues(&mut link(true), 100_000), [(39_500, Due::GiveUp)]);
    }

    #[test]
    fn a_disconnected_link_is_restarted_once_and_then_gone() {
        for (offered_first, expected) in
            [(true, vec![(4_000, Due::Restart), (16_000, Due::Gone)]), (false, vec![(16_000, Due::Gone)])]
        {
            let mut link = link(offered_first);
            link.open_channel(None, 0);
            assert!(link.handle_state(LinkState::Disconnected, true, 1_000));
            assert!(link.handle_state(LinkState::Disconnected, true, 2_000));
            assert_eq!(dues(&mut link, 100_000), expected);
        }
    }

    #[test]
    fn a_link_that_recovers_may_be_restarted_again() {
        let mut link = link(true);
        link.open_channel(None, 0);
        for at in [0, 6_000] {
            link.handle_state(LinkState::Disconnected, true, at);
            assert_eq!(dues(&mut link, at + 4_000), [(at + 3_000, Due::Restart)]);
            assert!(link.handle_state(LinkState::Connected, true, at + 5_000));
        }
        assert!(!link.handle_state(LinkState::Failed, false, 12_000));
    }

    /// As bad as it may be: the last word comes right at the beginning, nothing comes through from 5 s to 13 s, ICE says so after 5.5 s (measured) and that it is back soon
    /// after the end, and the channel is silent until its next repetition, for longer than 15 s in all.
    #[test]
    fn eight_seconds_without_a_path_end_no_link() {
        let mut link = link(false);
        link.open_channel(None, 0);
        assert_eq!(dues(&mut link, 10_500), []);
        link.handle_state(LinkState::Disconnected, true, 10_500);
        assert_eq!(dues(&mut link, 14_500), []);
        link.handle_state(LinkState::Connected, true, 14_500);
        assert_eq!(dues(&mut link, 18_000), []);
        link.channel.as_mut().unwrap().keepalive.heard(18_000);
        assert_eq!(dues(&mut link, 32_000), []);
        // Nobody is believed for ever.
        assert_eq!(dues(&mut link, 100_000), [(33_000, Due::Gone)]);
    }

    #[test]
    fn one_that_failed_is_mended_at_once_while_the_peer_can_be_told() {
        let mut failed = link(true);
        failed.open_channel(None, 0);
        failed.handle_state(LinkState::Disconnected, true, 10_000);
        assert_eq!(dues(&mut failed, 12_000), []);
        assert!(failed.handle_state(LinkState::Failed, true, 12_000));
        assert_eq!(failed.handle_timeout(12_000, true), Some(Due::Restart));
        failed.restart.note(true, 12_000);
        assert_eq!(dues(&mut failed, 100_000), [(25_000, Due::Gone)]);
        assert!(!failed.handle_state(LinkState::Failed, false, 13_000));
        // One that never stood has its time too, but not for this.
        assert!(!link(true).handle_state(LinkState::Failed, true, 1_000));
    }

    #[test]
    fn a_restart_waits_for_the_answer_to_the_one_before() {
        let description = |kind| SessionDescription { kind, sdp: "o=- 1 1 IN IP4 0.0.0.0\r\n".into() };
        let mut link = link(true);
        link.open_channel(None, 0);
        let mut actions = Vec::new();
        link.restart.renew(0);
        assert_eq!(link.handle_timeout(0, true), Some(Due::Restart));
        assert!(link.negotiation.restart(&mut actions));
        link.restart.note(true, 0);
        link.negotiation.handle_local_description(description(DescriptionKind::Offer), &mut actions);
        link.restart.renew(1_000);
        assert_eq!((link.handle_timeout(1_000, true), link.restart_at_ms()), (None, Some(3_000)));
        assert_eq!(link.negotiation.handle_answer(description(DescriptionKind::Answer), &mut actions), AnswerFor::This);
        assert_eq!(link.handle_timeout(1_000, true), Some(Due::Restart));
    }

    #[test]
    fn who_leaves_is_waited_for_while_what_was_said_goes_out() {
        let mut link = link(true);
        link.open_channel(None, 0);
        let outbox = &mut link.channel.as_mut().unwrap().outbox;
        for _ in 0..2 {
            outbox.push(Body::Text("x".repeat(200_000)), false);
            outbox.pop().unwrap();
        }
        link.leave(1_000);
        let close_at_ms = |link: &Link| link.leaving.unwrap().until_ms;
        assert_eq!(close_at_ms(&link), 3_000);
        link.handle_drained(100_000, 2_500);
        link.handle_drained(100_000, 2_900);
        assert_eq!(close_at_ms(&link), 4_500, "nothing more went out");
        link.handle_drained(200_000, 20_500);
        assert_eq!(close_at_ms(&link), 21_000);
    }

    #[test]
    fn a_restart_waits_for_signaling() {
        let mut link = link(true);
        link.open_channel(None, 0);
        link.handle_state(LinkState::Disconnected, true, 0);
        assert_eq!(link.handle_timeout(4_000, false), None);
        assert_eq!(link.wake_at_ms(false), 5_000);
        assert_eq!(link.handle_timeout(4_500, true), Some(Due::Restart));
    }

    #[test]
    fn a_sleep_kills_nobody() {
        let mut open = link(true);
        open.open_channel(None, 0);
        open.probe(3_600_000);
        assert_eq!(dues(&mut open, 4_000_000), [(3_615_000, Due::Gone)]);
        let mut new = link(true);
        new.probe(3_600_000);
        assert_eq!(dues(&mut new, 4_000_000), [(3_639_500, Due::GiveUp)]);
    }
}
