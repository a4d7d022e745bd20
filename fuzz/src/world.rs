//! A host for one node, and everything around it: a signaling server that is honest unless the script speaks for it, peers that say what they
//! are told to, channels that take everything and drain when they are told to.
//!
//! It checks on the way what a host may rely on: the node comes to rest, does not ask to be woken in the past, says nothing that cannot be read,
//! hands no channel more than it has credit for, and never reports that its own storage failed.

use std::collections::{BTreeMap, VecDeque};

use rtc_battery_core::node::{Config, DescriptionKind, Effect, Input, LinkId, MeshLimits, Output, SessionDescription};
use rtc_battery_core::{Node, Now, Replica};
use rtc_battery_proto::frame::{Body, Reassembly};
use rtc_battery_proto::packed::Packed;
use rtc_battery_proto::signaling::ClientMessage;
use rtc_battery_proto::{Message, PeerId};
use serde_json::json;

/// Outputs to one input, at most. A peer can have no more said than it has credit for, and that is not many messages.
const MAX_OUTPUTS: usize = 2_000;

/// What one channel is handed before it drains: high water, and the largest message on top of that.
const MAX_BUFFERED_BYTES: usize = 256 * 1024 + 64 * 1024;

/// A channel, as the peer at its other end has it.
#[derive(Debug)]
struct Channel {
    peer: PeerId,
    buffered_bytes: usize,
    sent_bytes: u64,
    reassembly: Reassembly,
    bulk_bytes: u64,
    bulk_reassembly: Reassembly,
    heard: VecDeque<Message>,
}

/// A node and what is around it.
#[derive(Debug)]
pub struct World {
    /// The node.
    pub node: Node,
    /// What its clocks say.
    pub now: Now,
    channels: BTreeMap<LinkId, Channel>,
    reports: VecDeque<Input>,
    sessions: u32,
}

impl World {
    /// A node that has joined a room with nobody in it.
    ///
    /// # Panics
    /// As all of this: where a host's expectations are disappointed.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        let now = Now { wall_ms: 1_000_000, mono_ms: 1_000 };
        let config = Config {
            signaling_url: "ws://server/signal".to_owned(),
            token: "room".to_owned(),
            sealed: false,
            mesh: MeshLimits::default(),
            seed: [7; 32],
        };
        let node = Node::new(config, replica, now);
        let (channels, reports) = Default::default();
        let mut world = Self { node, now, channels, reports, sessions: 0 };
        world.node.connect(now);
        world.poll();
        world.report();
        world
    }

    /// Hands an input to the node and does what it wants done.
    pub fn feed(&mut self, input: Input) {
        self.reports.push_back(input);
        self.report();
    }

    /// Hands over what the host has to report.
    fn report(&mut self) {
        for turn in 0.. {
            let Some(input) = self.reports.pop_front() else { return };
            assert!(turn < MAX_OUTPUTS, "one report gives the next, for ever");
            self.node.handle_input(input, self.now).expect("what others send is no failure of storage");
            self.poll();
        }
    }

    /// Lets time pass on both clocks.
    pub fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
        self.poll();
        self.report();
    }

    /// Reports everything as saved.
    pub fn save(&mut self) {
        let version = self.node.version();
        self.feed(Input::Saved { version });
    }

    /// All channels have let out what they hold.
    pub fn drain(&mut self) {
        let drained: Vec<_> = self.channels.iter_mut().map(|(link, channel)| (*link, channel.drain())).collect();
        for (link, sent_bytes) in drained {
            self.feed(Input::ChannelDrained { link, sent_bytes });
        }
    }

    /// The link with a peer, which offers one where there is none. Nothing where the node does not want it.
    pub fn link(&mut self, peer: &PeerId) -> Option<LinkId> {
        let current = |world: &Self| {
            world.channels.iter().rev().find(|(_, channel)| channel.peer == *peer).map(|(link, _)| *link)
        };
        if let Some(link) = current(self) {
            return Some(link);
        }
        self.sessions += 1;
        let offer = json!({"type": "offer", "from": peer, "sdp": description("offer", 1_000_000 + self.sessions)});
        self.feed(Input::SignalingText { text: offer.to_string() });
        let link = current(self)?;
        self.feed(Input::ChannelOpened { link, max_message_bytes: Some(65_536) });
        Some(link)
    }

    /// A peer says something.
    pub fn say(&mut self, peer: &PeerId, text: String) {
        if let Some(link) = self.link(peer) {
            self.feed(Input::ChannelText { link, text });
        }
    }

    /// What the node has said to a peer and was not taken yet.
    pub fn heard(&self, peer: &PeerId) -> impl Iterator<Item = &Message> {
        self.channels.values().filter(move |channel| channel.peer == *peer).flat_map(|channel| &channel.heard)
    }

    /// The same, and takes it.
    pub fn take_heard(&mut self, peer: &PeerId) -> Vec<Message> {
        let channels = self.channels.values_mut().filter(|channel| channel.peer == *peer);
        channels.flat_map(|channel| std::mem::take(&mut channel.heard)).collect()
    }

    /// Does what the node wants done, until it rests.
    pub fn poll(&mut self) {
        for outputs in 0.. {
            assert!(outputs < MAX_OUTPUTS, "the node does not come to rest");
            match self.node.poll_output(self.now).expect("what others send is no failure of storage") {
                Output::Effect(effect) => self.perform(effect),
                Output::Event(_) => {}
                Output::Idle(wake_at_ms) => {
                    assert!(wake_at_ms.is_none_or(|at_ms| at_ms > self.now.mono_ms), "woken at once, for ever");
                    return;
                }
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::OpenSignaling { .. } => self.reports.push_back(Input::SignalingOpened),
            Effect::SendSignaling { text } => match ClientMessage::decode(&text).expect("what we say can be read") {
                ClientMessage::Join { .. } | ClientMessage::Sample => {
                    let text = json!({"type": "peers", "peerIds": []}).to_string();
                    self.reports.push_back(Input::SignalingText { text });
                }
                ClientMessage::Offer { .. } | ClientMessage::Answer { .. } | ClientMessage::Ice { .. } => {}
            },
            Effect::OpenLink { link, peer, .. } => {
                let (reassembly, bulk_reassembly, heard) = Default::default();
                let channel = Channel {
                    peer,
                    buffered_bytes: 0,
                    sent_bytes: 0,
                    reassembly,
                    bulk_bytes: 0,
                    bulk_reassembly,
                    heard,
                };
                assert!(self.channels.insert(link, channel).is_none(), "a link's number is never used again");
            }
            Effect::CreateOffer { link, .. } => self.describe(link, DescriptionKind::Offer),
            Effect::SetRemoteDescription { link, description } => {
                if description.kind == DescriptionKind::Offer {
                    self.describe(link, DescriptionKind::Answer);
                }
            }
            Effect::SendText { link, text } => {
                let length = text.len();
                self.hear(link, length, Some(Body::Text(text)));
            }
            Effect::SendBinary { link, bytes } => {
                let channel = self.channels.get_mut(&link).expect("a link that is open");
                let body = channel.reassembly.push(&bytes).expect("our own frames");
                self.hear(link, bytes.len(), body);
            }
            Effect::OpenBulk { link } => self.reports.push_back(Input::BulkOpened { link }),
            Effect::SendBulk { link, bytes } => {
                let channel = self.channels.get_mut(&link).expect("a link that is open");
                let body = channel.bulk_reassembly.push(&bytes).expect("our own frames");
                channel.bulk_bytes += bytes.len() as u64;
                self.reports.push_back(Input::BulkDrained { link, sent_bytes: channel.bulk_bytes });
                self.hear(link, 0, body);
            }
            Effect::CloseLink { link } => {
                self.channels.remove(&link).expect("a link that is open");
            }
            Effect::Yield => self.reports.push_back(Input::Resumed),
            // The path may never be known.
            Effect::CloseSignaling | Effect::AddCandidate { .. } | Effect::InspectPath { .. } => {}
        }
    }

    fn describe(&mut self, link: LinkId, kind: DescriptionKind) {
        assert!(self.channels.contains_key(&link), "a link that is open");
        let sdp = description("", link.0)["sdp"].as_str().unwrap_or_default().to_owned();
        self.reports.push_back(Input::LocalDescription { link, description: SessionDescription { kind, sdp } });
    }

    fn hear(&mut self, link: LinkId, bytes: usize, body: Option<Body>) {
        let channel = self.channels.get_mut(&link).expect("a link that is open");
        channel.buffered_bytes += bytes;
        assert!(channel.buffered_bytes <= MAX_BUFFERED_BYTES, "{} bytes in a channel", channel.buffered_bytes);
        match body {
            Some(Body::Text(text)) => channel.heard.push_back(Message::decode(&text).expect("what we say can be read")),
            Some(Body::Packed(bytes)) => {
                let packed = Packed::read(bytes).expect("what we pack can be read");
                packed.operations().expect("what we pack can be unpacked");
            }
            None => {}
        }
    }
}

impl Channel {
    fn drain(&mut self) -> u64 {
        self.sent_bytes += std::mem::take(&mut self.buffered_bytes) as u64;
        self.sent_bytes
    }
}

fn description(kind: &str, session: u32) -> serde_json::Value {
    json!({"type": kind, "sdp": format!("v=0\r\no=- {session} 1 IN IP4 h\r\na=ice-ufrag:g{session}\r\n")})
}
