//! An RTCPeerConnection without a network: descriptions, generations and a buffer, as strict as browsers are. What a browser would throw
//! at, panics here: a candidate before its description or of another generation, an answer that nobody waits for.

use std::collections::BTreeSet;

use rtc_battery_core::node::{DescriptionKind, LinkState, SessionDescription};
use rtc_battery_proto::PeerId;

use super::Key;

/// One end of a peer connection.
#[derive(Debug)]
pub struct Connection {
    /// Who is meant to be at the other end.
    pub peer: PeerId,
    /// Whether this end offered first.
    pub offers: bool,
    /// Names it in its descriptions.
    pub session: u64,
    version: u32,
    /// User fragment, and the one of an offer that is not answered.
    ufrag: String,
    pending: Option<String>,
    generation: u32,
    /// What the other end said of itself.
    pub remote: Option<Remote>,
    /// Whether it knows a candidate of the other end.
    pub has_candidate: bool,
    /// The other end, once connected.
    pub partner: Option<Key>,
    /// `connectionState`.
    pub state: LinkState,
    /// Its channel, and the one for what is large.
    pub channels: [Channel; 2],
    /// When the last report of this connection reaches the node.
    pub reported_ms: u64,
}

/// Which channel of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// The first.
    First = 0,
    /// The one for what is large.
    Bulk = 1,
}

/// One end of a channel: what was sent and has not arrived.
#[derive(Debug, Default)]
pub struct Channel {
    /// Bytes in its buffer.
    pub buffered: u64,
    /// Bytes that left it.
    pub sent: u64,
    /// When the buffer is empty.
    pub departed_ms: u64,
    /// When the last frame arrives.
    pub arrived_ms: u64,
}

/// A description, as the other end reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Which connection.
    pub session: u64,
    /// Which generation of it.
    pub ufrag: String,
}

impl Connection {
    /// One that has described nothing yet.
    #[must_use]
    pub fn new(peer: PeerId, offers: bool, session: u64) -> Self {
        Self {
            peer,
            offers,
            session,
            version: 1,
            ufrag: format!("u{session}g0"),
            pending: None,
            generation: 0,
            remote: None,
            has_candidate: false,
            partner: None,
            state: LinkState::New,
            channels: Default::default(),
            reported_ms: 0,
        }
    }

    /// Makes an offer and sets it.
    pub fn create_offer(&mut self, ice_restart: bool) -> SessionDescription {
        let ufrag = if ice_restart { self.next_generation() } else { self.ufrag.clone() };
        self.pending = Some(ufrag.clone());
        self.describe(DescriptionKind::Offer, &ufrag)
    }

    /// The answer, if `description` is an offer.
    pub fn set_remote(&mut self, description: &SessionDescription) -> Option<SessionDescription> {
        let remote = read(&description.sdp);
        let known = self.remote.as_ref();
        assert!(known.is_none_or(|known| known.session == remote.session), "a description of another connection");
        let restarts = known.is_some_and(|known| known.ufrag != remote.ufrag);
        self.has_candidate &= !restarts;
        self.remote = Some(remote);
        if description.kind == DescriptionKind::Answer {
            self.ufrag = self.pending.take().expect("an answer without an offer");
            return None;
        }
        // Rolls back what was pending.
        self.pending = None;
        if restarts {
            self.ufrag = self.next_generation();
        }
        Some(self.describe(DescriptionKind::Answer, &self.ufrag.clone()))
    }

    /// Takes a candidate of the other end.
    pub fn add_candidate(&mut self, json: &str) {
        let candidate: serde_json::Value = serde_json::from_str(json).unwrap();
        let remote = self.remote.as_ref().expect("a candidate before the remote description");
        assert_eq!(candidate["usernameFragment"], remote.ufrag, "a candidate of another generation");
        self.has_candidate = true;
    }

    /// The candidates of the description that was made last.
    #[must_use]
    pub fn candidates(&self) -> Vec<String> {
        let ufrag = self.pending.as_ref().unwrap_or(&self.ufrag);
        let candidate = |line: &str| {
            serde_json::json!({"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": ufrag})
                .to_string()
        };
        vec![candidate(&format!("candidate:1 1 udp 1 127.0.0.1 9 typ host ufrag {ufrag}")), candidate("")]
    }

    /// Whether both ends speak of each other, in their present generations.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        let knows = |a: &Self, b: &Self| {
            a.remote.as_ref().is_some_and(|remote| remote.session == b.session && remote.ufrag == b.ufrag)
        };
        let complete = self.pending.is_none() && other.pending.is_none();
        complete && knows(self, other) && knows(other, self) && (self.has_candidate || other.has_candidate)
    }

    fn next_generation(&mut self) -> String {
        self.generation += 1;
        format!("u{}g{}", self.session, self.generation)
    }

    fn describe(&mut self, kind: DescriptionKind, ufrag: &str) -> SessionDescription {
        self.version += 1;
        let (session, version) = (self.session, self.version);
        let sdp = format!("v=0\r\no=- {session} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:{ufrag}\r\n");
        SessionDescription { kind, sdp }
    }
}

fn read(sdp: &str) -> Remote {
    let session = sdp.lines().find_map(|line| line.strip_prefix("o=- ")?.split(' ').next()?.parse().ok());
    let ufrags: BTreeSet<_> = sdp.lines().filter_map(|line| line.strip_prefix("a=ice-ufrag:")).collect();
    Remote { session: session.unwrap(), ufrag: ufrags.first().unwrap().to_string() }
}
