//! A peer that somebody else wrote, from the specification alone: its own JSON, its own clock, its own fold. It knows none of our crates'
//! types but the border to a host.
//!
//! The newcomer offers to everyone in `peers`; on a channel it asks for everything, answers with everything, tells what it writes as `op`,
//! answers `ping`. What it does not know it ignores. It keeps every operation it ever saw.

use std::collections::{BTreeMap, VecDeque};

use rtc_battery_core::Now;
use rtc_battery_core::node::{DescriptionKind, Effect, Input, LinkId, LinkState, Output, SessionDescription};
use rtc_battery_proto::PeerId;
use serde_json::{Value, json};

/// When to try the signaling server again, in milliseconds.
const RETRY_MS: u64 = 3_000;

/// When a connection that did not come about is given up, in milliseconds.
const GIVE_UP_MS: u64 = 20_000;

/// Operations in one `sync-response`.
const OPERATIONS_PER_RESPONSE: usize = 40;

/// `hlc` in the order that decides.
pub type Clock = (u64, u64, String);

#[derive(Debug)]
struct Link {
    peer: PeerId,
    /// Session and user fragment of the remote description.
    remote: Option<(String, String)>,
    has_offered: bool,
    candidates: Vec<Value>,
    open: bool,
    give_up_ms: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct PlainPeer {
    me: PeerId,
    links: BTreeMap<LinkId, Link>,
    next_link: u32,
    effects: VecDeque<Effect>,
    online: bool,
    retry_ms: Option<u64>,
    operations: BTreeMap<Clock, Value>,
    last: (u64, u64),
}

impl PlainPeer {
    /// One that knows nothing.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            me: PeerId::new(name).unwrap(),
            links: BTreeMap::new(),
            next_link: 0,
            effects: VecDeque::new(),
            online: false,
            retry_ms: None,
            operations: BTreeMap::new(),
            last: (0, 0),
        }
    }

    /// Its name in the room.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.me
    }

    /// Whom it has a channel to.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.links.values().filter(|link| link.open).map(|link| link.peer.clone()).collect()
    }

    /// Enters the room.
    pub fn connect(&mut self, _now: Now) {
        self.online = true;
        self.open_signaling();
    }

    /// Leaves without a word: the specification has none.
    pub fn disconnect(&mut self) {
        self.online = false;
        self.retry_ms = None;
        self.effects.push_back(Effect::CloseSignaling);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.close(link));
    }

    /// Writes one operation and tells everyone; gives it as told.
    pub fn write(&mut self, kind: &str, table: &str, pk: Value, values: Option<Value>, now: Now) -> Value {
        self.last = if now.wall_ms > self.last.0 { (now.wall_ms, 0) } else { (self.last.0, self.last.1 + 1) };
        let hlc = json!({"ts": self.last.0, "counter": self.last.1, "nodeId": self.me.as_str()});
        let mut operation = json!({"hlc": hlc, "type": kind, "table": table, "pk": pk});
        if let Some(values) = values {
            operation["values"] = values;
        }
        self.take(operation.clone());
        let open: Vec<LinkId> = self.links.iter().filter(|(_, link)| link.open).map(|(id, _)| *id).collect();
        open.into_iter().for_each(|link| self.say(link, &json!({"type": "op", "payload": operation})));
        operation
    }

    /// The rows of a table, by key: last writer wins for each column, and a later operation wins over a delete.
    #[must_use]
    pub fn rows(&self, table: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
        let mut rows: BTreeMap<String, (bool, BTreeMap<String, Value>)> = BTreeMap::new();
        // In the order of their clocks, so whatever comes later wins.
        for operation in self.operations.values().filter(|operation| operation["table"] == table) {
            let (lives, columns) = rows.entry(operation["pk"].to_string()).or_default();
            *lives = operation["type"] != "DELETE";
            for (column, value) in operation["values"].as_object().into_iter().flatten() {
                columns.insert(column.clone(), value.clone());
            }
        }
        rows.into_iter().filter(|(_, (lives, _))| *lives).map(|(key, (_, columns))| (key, columns)).collect()
    }

    /// Takes what happened outside.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::SignalingOpened => self.signal(&json!({"type": "join", "peerId": self.me.as_str()})),
            Input::SignalingClosed { .. } => self.retry_ms = self.online.then(|| now.mono_ms + RETRY_MS),
            Input::SignalingText { text } => self.handle_signaling(&serde_json::from_str(&text).unwrap(), now),
            Input::LocalDescription { link, description } => self.tell_description(link, &description),
            Input::LocalCandidate { link, candidate } => {
                let Some(to) = self.links.get(&link).map(|link| link.peer.clone()) else { return };
                let candidate: Value = serde_json::from_str(&candidate).unwrap();
                self.signal(&json!({"type": "ice", "to": to.as_str(), "candidate": candidate}));
            }
            Input::ChannelOpened { link, .. } => {
                let Some(state) = self.links.get_mut(&link) else { return };
                state.open = true;
                self.say(link, &json!({"type": "sync-request", "fromVersion": 0}));
            }
            Input::ChannelText { link, text } => self.handle_message(link, &text),
            Input::LinkState { link, state: LinkState::Failed | LinkState::Closed }
            | Input::LinkFailed { link, .. }
            | Input::ChannelClosed { link } => self.close(link),
            Input::LinkState { .. }
            | Input::ChannelBinary { .. }
            | Input::ChannelDrained { .. }
            | Input::PathInspected { .. }
            | Input::ServersRenewed { .. }
            | Input::Resumed
            | Input::Saved { .. } => {}
            Input::BulkOpened { .. }
            | Input::BulkBinary { .. }
            | Input::BulkDrained { .. }
            | Input::BulkClosed { .. } => panic!("a second channel with a peer that speaks the specification"),
        }
    }

    /// What it wants done next.
    pub fn poll_output(&mut self, now: Now) -> Output {
        if self.retry_ms.take_if(|at_ms| *at_ms <= now.mono_ms).is_some() {
            self.open_signaling();
        }
        let hopeless = |link: &Link| !link.open && link.give_up_ms <= now.mono_ms;
        let given_up: Vec<LinkId> = self.links.iter().filter(|(_, link)| hopeless(link)).map(|(id, _)| *id).collect();
        given_up.into_iter().for_each(|link| self.close(link));
        if let Some(effect) = self.effects.pop_front() {
            return Output::Effect(effect);
        }
        let give_up = self.links.values().filter(|link| !link.open).map(|link| link.give_up_ms);
        Output::Idle(give_up.chain(self.retry_ms).min())
    }

    fn open_signaling(&mut self) {
        self.effects.push_back(Effect::OpenSignaling { url: "ws://server/signal?token=room".into() });
    }

    fn signal(&mut self, message: &Value) {
        self.effects.push_back(Effect::SendSignaling { text: message.to_string() });
    }

    fn say(&mut self, link: LinkId, message: &Value) {
        self.effects.push_back(Effect::SendText { link, text: message.to_string() });
    }

    fn handle_signaling(&mut self, message: &Value, now: Now) {
        let from = message["from"].as_str().map(|from| PeerId::new(from).unwrap());
        match (message["type"].as_str(), from) {
            (Some("peers"), _) => {
                let known = |peer: &PeerId| self.links.values().any(|link| link.peer == *peer);
                let peers = message["peerIds"].as_array().into_iter().flatten();
                let peers: Vec<PeerId> = peers.filter_map(|peer| PeerId::new(peer.as_str()?).ok()).collect();
                let strangers: Vec<PeerId> = peers.into_iter().filter(|peer| !known(peer)).collect();
                for peer in strangers {
                    let link = self.open_link(peer, true, now);
                    self.effects.push_back(Effect::CreateOffer { link, ice_restart: false });
                }
            }
            (Some("offer"), Some(from)) => self.handle_offer(from, &message["sdp"], now),
            (Some("answer"), Some(from)) => self.handle_answer(&from, &message["sdp"]),
            (Some("ice"), Some(from)) => self.handle_candidate(&from, &message["candidate"]),
            _ => {}
        }
    }

    fn handle_offer(&mut self, from: PeerId, sdp: &Value, now: Now) {
        let (session, _) = read(sdp);
        if session.is_empty() {
            // A browser throws at what is no description (a sealed one, for example), and the program shrugs.
            return;
        }
        let mut link = self.links.iter().find(|(_, link)| link.peer == from).map(|(id, _)| *id);
        if let Some(id) = link {
            let state = &self.links[&id];
            let same = state.remote.as_ref().is_some_and(|(known, _)| *known == session);
            if state.has_offered && self.me > from {
                return;
            }
            if !same && (state.remote.is_some() || state.has_offered) {
                self.close(id);
                link = None;
            }
        }
        let link = link.unwrap_or_else(|| self.open_link(from, false, now));
        self.set_remote(link, DescriptionKind::Offer, sdp);
    }

    fn handle_answer(&mut self, from: &PeerId, sdp: &Value) {
        let (session, _) = read(sdp);
        if session.is_empty() {
            return;
        }
        let expects = |link: &Link| {
            let same = link.remote.as_ref().is_none_or(|(known, _)| *known == session);
            link.peer == *from && link.has_offered && same
        };
        let Some(link) = self.links.iter().find(|(_, link)| expects(link)).map(|(id, _)| *id) else { return };
        self.set_remote(link, DescriptionKind::Answer, sdp);
    }

    fn set_remote(&mut self, link: LinkId, kind: DescriptionKind, sdp: &Value) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.has_offered = false;
        state.remote = Some(read(sdp));
        let description = SessionDescription { kind, sdp: sdp["sdp"].as_str().unwrap_or_default().to_owned() };
        self.effects.push_back(Effect::SetRemoteDescription { link, description });
        let early = std::mem::take(&mut state.candidates);
        early.iter().for_each(|candidate| self.add_candidate(link, candidate));
    }

    fn handle_candidate(&mut self, from: &PeerId, candidate: &Value) {
        let Some((&link, state)) = self.links.iter_mut().find(|(_, link)| link.peer == *from) else { return };
        if state.remote.is_none() {
            return state.candidates.push(candidate.clone());
        }
        self.add_candidate(link, candidate);
    }

    /// Of another generation a browser throws, and the program shrugs.
    fn add_candidate(&mut self, link: LinkId, candidate: &Value) {
        let current =
            self.links[&link].remote.as_ref().is_some_and(|(_, ufrag)| candidate["usernameFragment"] == *ufrag);
        if current {
            self.effects.push_back(Effect::AddCandidate { link, candidate: candidate.to_string() });
        }
    }

    fn tell_description(&mut self, link: LinkId, description: &SessionDescription) {
        let Some(state) = self.links.get(&link) else { return };
        let kind = match description.kind {
            DescriptionKind::Offer if !state.has_offered => return,
            DescriptionKind::Offer => "offer",
            DescriptionKind::Answer => "answer",
        };
        let sdp = json!({"type": kind, "sdp": description.sdp});
        self.signal(&json!({"type": kind, "to": state.peer.as_str(), "sdp": sdp}));
    }

    fn open_link(&mut self, peer: PeerId, offers: bool, now: Now) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.effects.push_back(Effect::OpenLink { link, peer: peer.clone(), offers });
        let give_up_ms = now.mono_ms + GIVE_UP_MS;
        let state = Link { peer, remote: None, has_offered: offers, candidates: Vec::new(), open: false, give_up_ms };
        self.links.insert(link, state);
        link
    }

    fn close(&mut self, link: LinkId) {
        if self.links.remove(&link).is_some() {
            self.effects.push_back(Effect::CloseLink { link });
        }
    }

    fn handle_message(&mut self, link: LinkId, text: &str) {
        let mut message: Value = serde_json::from_str(text).unwrap();
        match message["type"].as_str() {
            Some("ping") => self.say(link, &json!({"type": "pong"})),
            Some("op") => self.take(message["payload"].take()),
            Some("sync-response") => {
                let Value::Array(operations) = message["operations"].take() else { return };
                operations.into_iter().for_each(|operation| self.take(operation));
            }
            Some("sync-request") => {
                let all: Vec<Value> = self.operations.values().cloned().collect();
                for operations in all.chunks(OPERATIONS_PER_RESPONSE) {
                    self.say(link, &json!({"type": "sync-response", "operations": operations}));
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, operation: Value) {
        let hlc = &operation["hlc"];
        let (Some(ts), Some(counter), Some(node)) =
            (hlc["ts"].as_u64(), hlc["counter"].as_u64(), hlc["nodeId"].as_str())
        else {
            return;
        };
        self.last = self.last.max((ts, counter));
        self.operations.insert((ts, counter, node.to_owned()), operation);
    }
}

/// Session and user fragment of a description.
fn read(sdp: &Value) -> (String, String) {
    let text = sdp["sdp"].as_str().unwrap_or_default();
    let after = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default();
    let session = after("o=- ").split(' ').next().unwrap_or_default();
    (session.to_owned(), after("a=ice-ufrag:").to_owned())
}
