//! The node: owns the rooms, takes inputs and commands, gives outputs.

use std::collections::BTreeMap;

use rtc_battery_proto::PeerId;

use super::inbox::Inbox;
use super::io::{Effect, ErrorCode, Event, Input, LinkId, Output};
use super::link::{Due, Link};
use super::outbox::Frame;
use super::outputs::Outputs;
use super::peers::Peers;
use super::random::Random;
use super::rendezvous::Ending;
use super::replication::Asking;
use super::session::{Kind, Saved};
use super::signaling::Signaling;
use super::sleep::SleepWatch;
use crate::replica::{Applied, ImportError, Params, QueryResult, Scope, SqlError, StorageError};
use crate::{Now, Replica};

/// A signaling socket that slept this long is made anew: it may be dead without a word. In milliseconds.
const STALE_SOCKET_MS: u64 = 60_000;

/// Anti-entropy: peers that lack something and were not told so are told after 10 to 30 s. In milliseconds.
const ANNOUNCE_MS: (u64, u64) = (10_000, 30_000);

/// What a node is made of besides its replica.
#[derive(Debug, Clone)]
pub struct Config {
    /// The signaling server's endpoint, without the token.
    pub signaling_url: String,
    /// The room: peers with the same token sync together.
    pub token: String,
    /// The node's only randomness. Never twice the same on two devices.
    pub seed: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Offline,
    Online,
    /// `bye` was said; the answers are awaited.
    Closing,
}

/// A peer of a room, with its database. See the [module](super).
#[derive(Debug)]
pub struct Node {
    pub(super) me: PeerId,
    pub(super) replica: Replica,
    pub(super) random: Random,
    pub(super) outputs: Outputs,
    pub(super) signaling: Signaling,
    pub(super) peers: Peers,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) next_link: u32,
    pub(super) saved: Saved,
    pub(super) inbox: Inbox,
    pub(super) asking: Option<Asking>,
    /// Whether somebody may have something to ask for.
    pub(super) ask_due: bool,
    phase: Phase,
    sleep: SleepWatch,
    announce_at_ms: u64,
}

impl Node {
    /// A node that is offline. What the replica holds counts as saved.
    #[must_use]
    pub fn new(config: Config, replica: Replica, now: Now) -> Self {
        let mut random = Random::new(config.seed);
        Self {
            me: random.peer_id(),
            signaling: Signaling::new(&config.signaling_url, &config.token),
            saved: Saved { vector: replica.vector().clone(), version: replica.version() },
            replica,
            random,
            outputs: Outputs::default(),
            peers: Peers::default(),
            links: BTreeMap::new(),
            next_link: 0,
            inbox: Inbox::default(),
            asking: None,
            ask_due: false,
            phase: Phase::Offline,
            sleep: SleepWatch::new(now),
            announce_at_ms: 0,
        }
    }

    /// Enters the room, and stays or comes back until [`disconnect`](Self::disconnect). Nothing waits for it: the database works before.
    pub fn connect(&mut self, now: Now) {
        if self.phase == Phase::Closing {
            self.close_all(now.mono_ms);
            self.finish_closing();
        }
        if self.phase == Phase::Offline {
            self.phase = Phase::Online;
            self.sleep = SleepWatch::new(now);
            self.signaling.start(now.mono_ms, &mut self.outputs);
        }
    }

    /// Leaves the room: says `bye` to everyone, waits for their answers for at most 2 s, closes everything. Then comes [`Event::Closed`].
    pub fn disconnect(&mut self, now: Now) {
        self.phase = Phase::Closing;
        self.signaling.stop(&mut self.outputs);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.leave(id, now.mono_ms);
        }
        self.peers.iter_mut().for_each(|(_, peer)| peer.leave());
    }

    /// Runs SQL. What it commits is told to peers once it is saved.
    ///
    /// # Errors
    /// [`SqlError`] of the first statement that fails.
    pub fn exec(&mut self, sql: &str, params: &Params, scope: Scope, now: Now) -> Result<QueryResult, SqlError> {
        self.replica.exec(sql, params, scope, now)
    }

    /// The database as a plain SQLite file.
    ///
    /// # Errors
    /// As [`Replica::export`].
    pub fn export(&self) -> Result<Vec<u8>, StorageError> {
        self.replica.export()
    }

    /// Takes in a plain SQLite file; what it brings is told to peers once it is saved.
    ///
    /// # Errors
    /// As [`Replica::import`].
    pub fn import(&mut self, file: &[u8], now: Now) -> Result<Applied, ImportError> {
        self.replica.import(file, now).map(|(applied, _)| applied)
    }

    /// Takes what happened outside. Poll the outputs afterwards.
    ///
    /// # Errors
    /// [`StorageError`]: our own storage failed. What others send never gives one.
    pub fn handle_input(&mut self, input: Input, now: Now) -> Result<(), StorageError> {
        self.look_at_clock(now);
        let now_ms = now.mono_ms;
        match input {
            Input::SignalingOpened => self.signaling.handle_opened(&self.me, &mut self.outputs),
            Input::SignalingText { text } => self.handle_signaling(&text, now_ms),
            Input::SignalingClosed { reason } => {
                self.signaling.handle_closed(&reason, now_ms, &mut self.random, &mut self.outputs);
            }
            Input::LocalDescription { link, description } => self.handle_local_description(link, description),
            Input::LocalCandidate { link, candidate } => self.handle_local_candidate(link, candidate),
            Input::LinkState { link, state } => self.handle_link_state(link, state, now_ms),
            Input::LinkFailed { link, reason } => self.lose(link, &reason, now_ms),
            Input::ChannelOpened { link, max_message_bytes } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.open_channel(max_message_bytes, now_ms);
                }
            }
            Input::ChannelText { link, text } => self.handle_text(link, &text, now_ms),
            Input::ChannelBinary { link, bytes } => self.handle_binary(link, &bytes, now_ms),
            Input::ChannelDrained { link, sent_bytes } => {
                if let Some(channel) = self.links.get_mut(&link).and_then(|link| link.channel.as_mut()) {
                    channel.outbox.handle_drained(sent_bytes);
                }
            }
            Input::ChannelClosed { link } => self.lose(link, "the channel was closed", now_ms),
            Input::Saved { version } => self.handle_saved(version),
        }
        self.settle(now)
    }

    /// The next thing to perform or tell. Poll until [`Output::Idle`]: after each input, after each command, and when it is time to wake.
    ///
    /// # Errors
    /// [`StorageError`]: our own storage failed.
    pub fn poll_output(&mut self, now: Now) -> Result<Output, StorageError> {
        self.look_at_clock(now);
        self.settle(now)?;
        loop {
            if let Some(output) = self.outputs.pop() {
                return Ok(output);
            }
            if self.wake_at_ms().is_some_and(|at_ms| at_ms <= now.mono_ms) {
                self.handle_timeouts(now.mono_ms);
                self.settle(now)?;
                continue;
            }
            if self.pump(now.mono_ms)? {
                continue;
            }
            if self.phase == Phase::Closing && self.links.is_empty() {
                self.finish_closing();
                continue;
            }
            let wake_at_ms = self.wake_at_ms();
            self.sleep.asked_to_wake(wake_at_ms);
            return Ok(Output::Idle(wake_at_ms));
        }
    }

    /// The peers that can be talked to.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.peers.joined().cloned().collect()
    }

    /// Our name in the room.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.me
    }

    /// The database.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// [`Replica::version`]: what the host reports back in [`Input::Saved`] once it saved what was committed up to now.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.replica.version()
    }

    fn finish_closing(&mut self) {
        self.phase = Phase::Offline;
        self.outputs.event(Event::Closed);
    }

    fn close_all(&mut self, now_ms: u64) {
        while let Some((&id, _)) = self.links.first_key_value() {
            self.drop_link(id, Ending::Meant, now_ms);
        }
    }

    fn look_at_clock(&mut self, now: Now) {
        let Some(slept_ms) = self.sleep.look(now) else { return };
        self.links.values_mut().for_each(|link| link.probe(now.mono_ms));
        if let Some(asking) = &mut self.asking {
            asking.progress_at_ms = now.mono_ms;
        }
        if slept_ms >= STALE_SOCKET_MS {
            self.signaling.reopen(now.mono_ms, &mut self.outputs);
        }
    }

    /// When something may be due next.
    fn wake_at_ms(&self) -> Option<u64> {
        let joined = self.signaling.is_joined();
        let online = self.phase == Phase::Online;
        let mut wakes = [
            self.signaling.wake_at_ms(),
            self.peers.wake_at_ms().filter(|_| joined),
            self.stall_at_ms(),
            online.then(|| self.sleep.look_at_ms()),
            self.has_open_links().then_some(self.announce_at_ms),
        ]
        .into_iter()
        .flatten()
        .min();
        for link in self.links.values() {
            let can_signal = joined && self.peers.find(&link.peer).is_some_and(|peer| peer.present);
            let at_ms = link.wake_at_ms(can_signal);
            wakes = Some(wakes.map_or(at_ms, |wake| wake.min(at_ms)));
        }
        wakes
    }

    fn handle_timeouts(&mut self, now_ms: u64) {
        self.signaling.handle_timeout(now_ms, &mut self.random, &mut self.outputs);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.handle_link_timeout(id, now_ms);
        }
        while self.signaling.is_joined()
            && let Some(peer) = self.peers.next_dial(now_ms)
        {
            self.dial(&peer, now_ms);
        }
        if self.stall_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.stop_asking();
        }
        if self.announce_at_ms <= now_ms {
            self.announce_at_ms = now_ms + self.random.between(ANNOUNCE_MS.0, ANNOUNCE_MS.1);
            let saved = &self.saved;
            self.links
                .values_mut()
                .filter_map(|link| link.channel.as_mut())
                .for_each(|channel| channel.session.announce_if_lacking(saved));
        }
    }

    fn handle_link_timeout(&mut self, id: LinkId, now_ms: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let (peer, was) = (link.peer.clone(), link.session_kind());
        let present = self.peers.find(&link.peer).is_some_and(|peer| peer.present);
        let due = link.handle_timeout(now_ms, present && self.signaling.is_joined());
        if was != link.session_kind() {
            // It said nothing so far; it can be talked to all the same.
            self.welcome(id, &peer);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        match due {
            None => {}
            Some(Due::GiveUp) => self.lose(id, "no connection came about", now_ms),
            Some(Due::Gone) => self.lose(id, "the peer is silent", now_ms),
            Some(Due::Close) => {
                self.drop_link(id, Ending::Meant, now_ms);
            }
            Some(Due::Restart) => {
                let mut actions = Vec::new();
                link.note_restart();
                link.negotiation.restart(&mut actions);
                self.perform(id, actions);
            }
        }
    }

    fn has_open_links(&self) -> bool {
        self.links.values().any(Link::is_open)
    }

    /// Hands each channel that takes one its next message. Whether anything was handed over.
    fn pump(&mut self, now_ms: u64) -> Result<bool, StorageError> {
        let mut any = false;
        for (&link, state) in &mut self.links {
            let Some(channel) = &mut state.channel else { continue };
            let max_message_bytes = channel.outbox.max_message_bytes();
            if channel.outbox.wants_message()
                && let Some(message) = channel.session.next_message(&self.replica, &self.saved, max_message_bytes)?
            {
                channel.outbox.push(message, channel.session.kind() != Kind::Plain);
            }
            let skipped = channel.session.take_skipped();
            if skipped > 0 {
                let message = format!(
                    "Left out {skipped} operations larger than the {max_message_bytes} bytes that a peer takes."
                );
                self.outputs.error(ErrorCode::TooLarge, message, Some(&state.peer));
            }
            while let Some(frame) = channel.outbox.pop() {
                any = true;
                channel.keepalive.spoke(now_ms);
                self.outputs.effect(match frame {
                    Frame::Text(text) => Effect::SendText { link, text },
                    Frame::Binary(bytes) => Effect::SendBinary { link, bytes },
                });
            }
        }
        Ok(any)
    }
}
