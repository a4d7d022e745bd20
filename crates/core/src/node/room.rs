//! Being in a room with peers one can talk to: the signaling session, who is here, links and their channels, and time.
//!
//! A room is owned by whoever has something to say in it ([`Node`](super::Node), [`Messenger`](super::Messenger)): it hands over what peers
//! say ([`Heard`]), tells which links have ended, and asks its owner for words when a channel takes them ([`Channel::turn`]). It knows no
//! replica and no operation.

use std::collections::BTreeMap;

use rtc_battery_proto::packed::{Packed, PackedError};
use rtc_battery_proto::{DecodeError, Message, PeerId};

use super::channel::Channel;
use super::courtesy::Language;
use super::dialing::Dialing;
use super::early::EarlyCandidates;
use super::io::{Effect, Event, Input, LinkId, Output};
use super::link::{Due, Link};
use super::mesh::{Mesh, MeshLimits};
use super::neighbours::HeldOffers;
use super::outbox::Frame;
use super::outputs::Outputs;
use super::peers::Peers;
use super::random::Random;
use super::rendezvous::Ending;
use super::sealing::Sealing;
use super::signaling::Signaling;
use super::skew::Skew;
use super::sleep::SleepWatch;
use crate::Now;

/// A signaling socket that slept this long is made anew: it may be dead without a word. In milliseconds.
const STALE_SOCKET_MS: u64 = 60_000;

/// Where a room is, and what is random about being in it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The signaling server's endpoint, without the token.
    pub signaling_url: String,
    /// The room: peers with the same token sync together.
    pub token: String,
    /// Whether the token stays on this device and signaling is sealed with it. `false` is the specification's letter, for a room with peers
    /// that speak nothing else; those who seal are in another room.
    pub sealed: bool,
    /// How a room is meshed that is too large for links between everybody.
    pub mesh: MeshLimits,
    /// The node's only randomness. Never twice the same on two devices.
    pub seed: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Offline,
    Online,
    /// What must not be lost is let out, and the answers to `bye` are awaited.
    Closing,
}

/// What a peer said, beyond what is dealt with in the room.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) link: LinkId,
    pub(super) peer: PeerId,
    pub(super) said: Said,
    /// How much memory it takes, about.
    pub(super) size_bytes: usize,
}

/// One message. What cannot be read was told to the user already.
#[derive(Debug)]
pub(super) enum Said {
    /// In JSON.
    Message(Result<Message, DecodeError>),
    /// Operations between two of ours.
    Packed(Result<Packed, PackedError>),
}

/// A link that is gone.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) link: LinkId,
    pub(super) peer: PeerId,
    /// Why, for a person.
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) me: PeerId,
    pub(super) random: Random,
    pub(super) outputs: Outputs,
    pub(super) signaling: Signaling,
    pub(super) sealing: Sealing,
    pub(super) peers: Peers,
    pub(super) dialing: Dialing,
    pub(super) mesh: Mesh,
    /// Offers that wait for somebody who makes way.
    pub(super) held: HeldOffers,
    /// Candidates of peers that have no link yet.
    pub(super) early: EarlyCandidates,
    pub(super) links: BTreeMap<LinkId, Link>,
    pub(super) next_link: u32,
    /// Links that are gone, until the owner takes note.
    pub(super) ended: Vec<Ended>,
    pub(super) skew: Skew,
    phase: Phase,
    sleep: SleepWatch,
}

impl Room {
    pub(super) fn new(config: &Config, now: Now) -> Self {
        let mut random = Random::new(config.seed);
        let sealing = Sealing::new(&config.token, config.sealed);
        let room = sealing.room(&config.token);
        Self {
            me: random.peer_id(),
            signaling: Signaling::new(&config.signaling_url, &room, Random::resume_key(config.seed)),
            sealing,
            random,
            outputs: Outputs::default(),
            peers: Peers::default(),
            dialing: Dialing::default(),
            mesh: Mesh::new(config.mesh),
            held: HeldOffers::new(),
            early: EarlyCandidates::default(),
            links: BTreeMap::new(),
            next_link: 0,
            ended: Vec::new(),
            skew: Skew::default(),
            phase: Phase::Offline,
            sleep: SleepWatch::new(now),
        }
    }

    pub(super) fn connect(&mut self, now: Now) {
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

    pub(super) fn disconnect(&mut self, now_ms: u64) {
        self.phase = Phase::Closing;
        self.held.clear();
        self.signaling.stop(&mut self.outputs);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.leave(id, now_ms);
        }
        self.peers.iter_mut().for_each(|(_, peer)| peer.leave());
    }

    /// Takes what happened outside; gives what a peer said, where the owner is concerned.
    pub(super) fn handle_input(&mut self, input: Input, now_ms: u64) -> Option<Heard> {
        let heard = self.take_input(input, now_ms);
        self.take_held(now_ms);
        heard
    }

    fn take_input(&mut self, input: Input, now_ms: u64) -> Option<Heard> {
        match input {
            // The socket was made anew, because the machine slept, before this input was looked at.
            Input::SignalingOpened | Input::SignalingText { .. } | Input::SignalingClosed { .. }
                if self.outputs.close_a_socket() => {}
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
            Input::ChannelText { link, text } => return self.handle_text(link, &text, now_ms),
            Input::ChannelBinary { link, bytes } => return self.handle_binary(link, &bytes, now_ms),
            Input::ChannelDrained { link, sent_bytes } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.handle_drained(sent_bytes, now_ms);
                }
            }
            Input::ChannelClosed { link } => self.lose(link, "the channel was closed", now_ms),
            Input::BulkOpened { link } => {
                if let Some(channel) = self.channel(link) {
                    channel.bulk.handle_opened();
                }
            }
            Input::BulkBinary { link, bytes } => return self.handle_bulk(link, bytes, now_ms),
            Input::BulkDrained { link, sent_bytes } => {
                if let Some(channel) = self.channel(link) {
                    channel.bulk.outbox.handle_drained(sent_bytes);
                }
            }
            Input::BulkClosed { link } => self.handle_bulk_closed(link, now_ms),
            Input::ServersRenewed { link } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.restart.renew(now_ms);
                }
            }
            Input::PathInspected { link, relayed } => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.relayed = Some(relayed);
                }
            }
            Input::Resumed | Input::Saved { .. } => {}
        }
        None
    }

    /// To be called whenever time passed. Whether the machine slept: nobody is to blame for what did not happen meanwhile.
    pub(super) fn look_at_clock(&mut self, now: Now) -> bool {
        let Some(slept_ms) = self.sleep.look(now) else { return false };
        self.links.values_mut().for_each(|link| link.probe(now.mono_ms));
        if slept_ms >= STALE_SOCKET_MS {
            self.signaling.reopen(now.mono_ms, &mut self.outputs);
        }
        true
    }

    /// What the clocks said when they were last looked at.
    pub(super) fn now(&self) -> Now {
        self.sleep.now()
    }

    /// When something may be due next.
    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        let online = self.phase == Phase::Online;
        let look_at_ms = online.then(|| self.sleep.look_at_ms());
        let wakes = [self.signaling.wake_at_ms(), self.dial_at_ms(), self.tend_at_ms(), look_at_ms];
        let links = self.links.values().map(|link| link.wake_at_ms(self.can_signal(&link.peer)));
        wakes.into_iter().flatten().chain(links).min()
    }

    pub(super) fn handle_timeouts(&mut self, now_ms: u64) {
        self.signaling.handle_timeout(now_ms, &mut self.random, &mut self.outputs);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for id in links {
            self.handle_link_timeout(id, now_ms);
        }
        self.tend(now_ms);
        self.dial_those_due(now_ms);
    }

    /// Finds out how each link stands, for who asked.
    pub(super) fn look_at_links(&mut self, now_ms: u64) {
        self.links.values_mut().for_each(|link| link.look(now_ms));
    }

    /// Hands each channel the frames it takes, and asks the host what is to be known of links. Whether anything was handed over.
    pub(super) fn flush(&mut self, now_ms: u64) -> bool {
        let mut any = false;
        for (&link, state) in &mut self.links {
            if state.take_path_due() {
                any = true;
                self.outputs.effect(Effect::InspectPath { link });
            }
            let Some(channel) = &mut state.channel else { continue };
            while let Some(frame) = channel.outbox.pop() {
                any = true;
                channel.keepalive.spoke(now_ms);
                channel.flow.handed(frame.size_bytes());
                self.outputs.effect(match frame {
                    Frame::Text(text) => Effect::SendText { link, text },
                    Frame::Binary(bytes) => Effect::SendBinary { link, bytes },
                });
            }
            while channel.flow.has_room_for_bulk()
                && let Some(frame) = channel.bulk.outbox.pop()
            {
                any = true;
                channel.keepalive.spoke(now_ms);
                channel.flow.handed(frame.size_bytes());
                self.outputs.effect(match frame {
                    Frame::Text(text) => Effect::SendBulk { link, bytes: text.into_bytes() },
                    Frame::Binary(bytes) => Effect::SendBulk { link, bytes },
                });
            }
        }
        any
    }

    /// Nothing is left to say to peers over these links, which do not understand `bye`. To be called when what was said is handed over.
    pub(super) fn part(&mut self, links: Vec<LinkId>, now_ms: u64) {
        for id in links {
            self.drop_link(id, Ending::Meant, now_ms);
        }
    }

    /// Whether leaving has just come to its end, so that there is something to tell.
    pub(super) fn has_closed(&mut self) -> bool {
        let closed = self.phase == Phase::Closing && self.links.is_empty();
        if closed {
            self.finish_closing();
        }
        closed
    }

    /// Nothing is left to do until `wake_at_ms`.
    pub(super) fn rest(&mut self, wake_at_ms: Option<u64>) -> Output {
        self.sleep.asked_to_wake(wake_at_ms);
        Output::Idle(wake_at_ms)
    }

    /// The peers that can be talked to.
    pub(super) fn joined(&self) -> Vec<PeerId> {
        self.peers.joined().cloned().collect()
    }

    /// The same, with their links.
    pub(super) fn joined_links(&self) -> Vec<(PeerId, LinkId)> {
        let links = self.peers.joined().filter_map(|id| Some((id.clone(), self.peers.find(id)?.link?)));
        links.collect()
    }

    pub(super) fn channel(&mut self, id: LinkId) -> Option<&mut Channel> {
        self.links.get_mut(&id)?.channel.as_mut()
    }

    /// Whether the peer at the other end said `hello`.
    pub(super) fn is_ours(&self, id: LinkId) -> bool {
        self.links.get(&id).and_then(Link::language) == Some(Language::Ours)
    }

    pub(super) fn can_signal(&self, peer: &PeerId) -> bool {
        self.signaling.is_joined() && self.peers.find(peer).is_some_and(|peer| peer.present)
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

    fn handle_link_timeout(&mut self, id: LinkId, now_ms: u64) {
        let Some(peer) = self.links.get(&id).map(|link| link.peer.clone()) else { return };
        let can_signal = self.can_signal(&peer);
        let Some(link) = self.links.get_mut(&id) else { return };
        let was = link.language();
        let due = link.handle_timeout(now_ms, can_signal);
        if was != link.language() {
            // It said nothing so far; it can be talked to all the same.
            self.welcome(id, &peer);
        }
        match due {
            None => {}
            Some(Due::GiveUp) => self.lose(id, "no connection came about", now_ms),
            Some(Due::Gone) => self.lose(id, "the peer is silent", now_ms),
            Some(Due::Close) => {
                self.drop_link(id, Ending::Meant, now_ms);
            }
            Some(Due::Restart) => self.restart(id, now_ms),
            Some(Due::Replace) => self.replace(id, &peer, now_ms),
        }
    }
}
