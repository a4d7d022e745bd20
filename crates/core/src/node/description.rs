//! What must be read in a session description and in a candidate to tell one connection from another: the session id of the `o=` line, which
//! stays for an RTCPeerConnection's life (RFC 8829 5.2.1), and the ICE user fragments, which change with each generation. Everything
//! else passes through unread.

use std::collections::BTreeSet;

use rtc_battery_proto::sealing::ConnectionId;
use serde::Deserialize;

/// Longest candidate that is kept, in bytes: browsers' are below 300.
pub(super) const MAX_CANDIDATE_BYTES: usize = 2 * 1024;

/// Longest description that is taken, in bytes of JSON: browsers' are below 2 KiB for a data channel and below 20 KiB for a video call.
pub(super) const MAX_DESCRIPTION_BYTES: usize = 64 * 1024;

/// What is remembered of a session id, in characters. RFC 8829 asks for 64 bits of randomness in it.
const MAX_SESSION_CHARS: usize = 128;

/// Longest user fragment that a candidate is matched by, in bytes (RFC 8839), and how many of them.
const MAX_UFRAG_BYTES: usize = 256;
const MAX_UFRAGS: usize = 32;

/// Which connection and which generation of it a description speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    session: String,
    ufrags: BTreeSet<String>,
}

impl Origin {
    pub(super) fn of(sdp: &str) -> Self {
        let mut origin = Self { session: String::new(), ufrags: BTreeSet::new() };
        for line in sdp.lines().map(str::trim_end) {
            if let Some(fields) = line.strip_prefix("o=") {
                // User name and session id; the version behind them changes with every description.
                let session = fields.split(' ').take(2).collect::<Vec<_>>().join(" ");
                origin.session = session.chars().take(MAX_SESSION_CHARS).collect();
            } else if let Some(ufrag) = line.strip_prefix("a=ice-ufrag:")
                && ufrag.len() <= MAX_UFRAG_BYTES
                && origin.ufrags.len() < MAX_UFRAGS
            {
                origin.ufrags.insert(ufrag.to_owned());
            }
        }
        origin
    }

    pub(super) fn session(&self) -> &str {
        &self.session
    }

    /// Whether both are of one RTCPeerConnection.
    pub(super) fn same_connection(&self, other: &Self) -> bool {
        !self.session.is_empty() && self.session == other.session
    }

    /// Whether a candidate is of this generation. One that does not say is taken at its word.
    pub(super) fn admits(&self, candidate: &Candidate) -> bool {
        candidate.ufrag.as_ref().is_none_or(|ufrag| self.ufrags.contains(ufrag))
    }
}

/// A remote candidate, whole, and the user fragment it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) json: String,
    /// Which connection it is for, where the room is sealed.
    pub(super) connection: Option<ConnectionId>,
    ufrag: Option<String>,
}

impl Candidate {
    /// Reads an `RTCIceCandidateInit`. `None` for what is none, or is too long; `null`, the end of candidates in some programs, is
    /// not needed by ours.
    pub(super) fn read(json: &str) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Init {
            #[serde(default)]
            candidate: String,
            #[serde(default)]
            username_fragment: Option<String>,
        }
        // serde would also take an array, with the fields by position.
        if json.len() > MAX_CANDIDATE_BYTES || !json.starts_with('{') {
            return None;
        }
        let init: Init = serde_json::from_str(json).ok()?;
        let in_line = || {
            let mut words = init.candidate.split(' ');
            words.find(|word| *word == "ufrag")?;
            words.next().map(str::to_owned)
        };
        let ufrag = init.username_fragment.filter(|ufrag| !ufrag.is_empty()).or_else(in_line);
        Some(Self { json: json.to_owned(), connection: None, ufrag })
    }

    /// The same, for this connection.
    pub(super) fn of(self, connection: Option<ConnectionId>) -> Self {
        Self { connection, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\na=ice-pwd:x\r\n";
    const FIREFOX: &str = "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 6379811263419461024 0 IN IP4 0.0.0.0\r\n\
        a=ice-ufrag:9f3b2c1d\r\n";

    #[test]
    fn connections_and_generations_are_told_apart() {
        let (chromium, firefox) = (Origin::of(CHROMIUM), Origin::of(FIREFOX));
        assert_eq!(chromium.session(), "- 4611731400430051336");
        assert!(!chromium.same_connection(&firefox));
        let restarted = Origin::of(&CHROMIUM.replace(" 2 IN", " 3 IN").replace("4ZcD", "new"));
        assert!(chromium.same_connection(&restarted) && chromium != restarted);
        let long = Origin::of(&format!("o=- {}\r\n{}", "7".repeat(60_000), "a=ice-ufrag:x\r\n".repeat(4_000)));
        assert_eq!((long.session().len(), long.ufrags.len()), (MAX_SESSION_CHARS, 1));
        let nothing = Origin::of("");
        assert!(!nothing.same_connection(&nothing));
    }

    #[test]
    fn candidates_name_their_generation() {
        let origin = Origin::of(CHROMIUM);
        let admits = |json: &str| origin.admits(&Candidate::read(json).unwrap());
        assert!(admits(r#"{"candidate":"candidate:1 1 udp 1 h 9 typ host","usernameFragment":"4ZcD"}"#));
        assert!(!admits(r#"{"candidate":"candidate:1 1 udp 1 h 9 typ host","usernameFragment":"old"}"#));
        assert!(admits(r#"{"candidate":"candidate:1 1 udp 1 h 9 typ host ufrag 4ZcD network-cost 999"}"#));
        assert!(!admits(r#"{"candidate":"candidate:1 1 udp 1 h 9 typ host ufrag old","usernameFragment":null}"#));
        assert!(admits(r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0}"#));
        for none in ["null", "7", "[]", "", r#"{"candidate":7}"#, &format!(r#"{{"x":"{}"}}"#, "y".repeat(9000))] {
            assert_eq!(Candidate::read(none), None, "{none:.20}");
        }
    }
}
