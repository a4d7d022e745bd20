//! What a peer and the signaling server say to each other: the specification's "Signaling Server Specification", one JSON object a message.
//!
//! The server relays descriptions and candidates and reads neither, so both stay raw JSON here and leave byte for byte as they came, fields
//! that no version of ours knows included. Fields that this version does not know *beside* them are skipped, and are not relayed.
//!
//! Both directions are written and read by hand rather than derived: serde's tagged enums cannot hold raw JSON, and a reader must be able to
//! tell a message type of a later version (to be ignored) from broken JSON. Decoding takes time and memory linear in the text and does not
//! recurse, whatever is nested in it.

mod json;
mod resume;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::value::RawValue;

use self::json::{Fields, Object, count_of, flag_of, id, ids, key_of, raw, text_of, unknown};
pub use self::resume::ResumeKey;
use crate::PeerId;

/// Longest message that is decoded, in bytes, in either direction. Servers set a lower bound on what clients may send.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The values of [`ServerMessage::Error`]'s `code`. Later servers may send others.
pub mod code {
    /// The name given in `join` belongs to a live socket in the room, and the resume key is not that socket's.
    pub const PEER_ID_IN_USE: &str = "peer-id-in-use";
    /// This socket has joined before.
    pub const ALREADY_JOINED: &str = "already-joined";
    /// Nothing can be relayed before `join`.
    pub const NOT_JOINED: &str = "not-joined";
    /// Nobody of the name in `to` is in the room.
    pub const UNKNOWN_PEER: &str = "unknown-peer";
    /// The room has as many peers as the server allows.
    pub const ROOM_FULL: &str = "room-full";
    /// The text is no JSON object, or a field is missing or has the wrong form.
    pub const MALFORMED: &str = "malformed";
    /// The server does not know this `type`.
    pub const UNKNOWN_TYPE: &str = "unknown-type";
    /// Messages are text frames; this one was binary.
    pub const BINARY: &str = "binary";
    /// The message is longer than the server allows. The socket is closed with 1009.
    pub const TOO_LARGE: &str = "too-large";
    /// The frames break the WebSocket protocol. The socket is closed with 1002, or 1007 for text that is not UTF-8.
    pub const PROTOCOL: &str = "protocol";
    /// `?token=` is missing or empty. The socket is closed with 1008.
    pub const MISSING_TOKEN: &str = "missing-token";
    /// `?token=` is longer than the server allows. The socket is closed with 1008.
    pub const TOKEN_TOO_LONG: &str = "token-too-long";
    /// No `join` came in time. The socket is closed with 1008.
    pub const JOIN_TIMEOUT: &str = "join-timeout";
    /// No frame, pongs included, came for too long. The socket is closed with 1008.
    pub const IDLE_TIMEOUT: &str = "idle-timeout";
    /// The client does not read what is sent to it. The socket is closed with 1013.
    pub const TOO_SLOW: &str = "too-slow";
    /// The client's address has as many sockets as the server allows. The socket is closed with 1013.
    pub const TOO_MANY_CONNECTIONS: &str = "too-many-connections";
    /// Another socket has joined under this one's name with its resume key. The socket is closed with 1008.
    pub const REPLACED: &str = "replaced";
}

/// Client to server.
#[derive(Debug, Clone)]
pub enum ClientMessage {
    /// Enter the room of this socket's token under this name.
    Join {
        /// The name that others in the room will know this connection by.
        peer_id: PeerId,
        /// A secret of the client's. Whoever joins under the same name with the same key takes the place of this socket at once. Additive:
        /// a client of the specification sends none, and nobody can take its place while its socket lives.
        resume: Option<ResumeKey>,
        /// Asks for a few peers and their count instead of all of them. Additive.
        sample: bool,
    },
    /// Asks for another few peers and their count: the answer is [`ServerMessage::Peers`]. Additive.
    Sample,
    /// An SDP offer for one peer.
    Offer {
        /// Whom it is for.
        to: PeerId,
        /// An `RTCSessionDescriptionInit`.
        sdp: Box<RawValue>,
    },
    /// An SDP answer for one peer.
    Answer {
        /// Whom it is for.
        to: PeerId,
        /// An `RTCSessionDescriptionInit`.
        sdp: Box<RawValue>,
    },
    /// An ICE candidate for one peer.
    Ice {
        /// Whom it is for.
        to: PeerId,
        /// An `RTCIceCandidateInit`; the empty end-of-candidates one and `null` are relayed too.
        candidate: Box<RawValue>,
    },
}

/// Server to client.
#[derive(Debug, Clone)]
pub enum ServerMessage {
    /// Who is in the room, the client itself not included: told when it has joined, and to who asks for a sample.
    Peers {
        /// Their names. Names that are no [`PeerId`] (a server other than ours may allow them) are left out when decoding.
        peer_ids: Vec<PeerId>,
        /// How many were there, told to those who asked for a sample: `peer_ids` are some of them. Additive.
        count: Option<u64>,
    },
    /// Somebody joined.
    PeerJoin {
        /// Who.
        peer_id: PeerId,
    },
    /// Somebody's socket is gone.
    PeerLeave {
        /// Who.
        peer_id: PeerId,
    },
    /// An SDP offer from a peer; `from` is stamped by the server.
    Offer {
        /// Who sent it.
        from: PeerId,
        /// An `RTCSessionDescriptionInit`.
        sdp: Box<RawValue>,
    },
    /// An SDP answer from a peer; `from` is stamped by the server.
    Answer {
        /// Who sent it.
        from: PeerId,
        /// An `RTCSessionDescriptionInit`.
        sdp: Box<RawValue>,
    },
    /// An ICE candidate from a peer; `from` is stamped by the server.
    Ice {
        /// Who sent it.
        from: PeerId,
        /// An `RTCIceCandidateInit` or `null`.
        candidate: Box<RawValue>,
    },
    /// What the server could not do for this client. Additive: the specification has no errors.
    Error {
        /// A stable word to act on, see [`code`].
        code: String,
        /// What happened and what to do, for a person.
        message: String,
    },
}

/// Why a text is no message. None of these repeats a description, a candidate or anything else of length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not looked at.
    #[error("a message is at most {MAX_MESSAGE_BYTES} bytes")]
    TooLarge,
    /// Not a JSON object, or one that says something twice.
    #[error("not a JSON object: {0}")]
    Malformed(String),
    /// The message's type needs this field.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// The field is not what the specification says.
    #[error("field `{field}` is not {expected}")]
    Invalid {
        /// Its name.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A type that this version does not know, shortened. A client ignores such a message.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
}

impl ClientMessage {
    /// The message as JSON.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Join { peer_id, resume, sample } => {
                let mut join = Object::of_type("join").text("peerId", peer_id.as_str());
                if let Some(key) = resume {
                    join = join.text("resume", key.as_str());
                }
                if *sample { join.raw("sample", "true") } else { join }
            }
            Self::Sample => Object::of_type("sample"),
            Self::Offer { to, sdp } => Object::of_type("offer").text("to", to.as_str()).raw("sdp", sdp.get()),
            Self::Answer { to, sdp } => Object::of_type("answer").text("to", to.as_str()).raw("sdp", sdp.get()),
            Self::Ice { to, candidate } => {
                Object::of_type("ice").text("to", to.as_str()).raw("candidate", candidate.get())
            }
        }
        .end()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError`]; nothing of the message is to be used then.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let fields = Fields::read(text)?;
        Ok(match fields.kind()?.as_ref() {
            "join" => Self::Join {
                peer_id: id("peerId", fields.peer_id)?,
                resume: fields.resume.map(|key| key_of("resume", key)).transpose()?,
                sample: fields.sample.map(|flag| flag_of("sample", flag)).transpose()?.unwrap_or(false),
            },
            "sample" => Self::Sample,
            "offer" => Self::Offer { to: id("to", fields.to)?, sdp: raw("sdp", fields.sdp)? },
            "answer" => Self::Answer { to: id("to", fields.to)?, sdp: raw("sdp", fields.sdp)? },
            "ice" => Self::Ice { to: id("to", fields.to)?, candidate: raw("candidate", fields.candidate)? },
            other => return Err(unknown(other)),
        })
    }
}

impl ServerMessage {
    /// Who sent it, where it is an offer, an answer or a candidate.
    #[must_use]
    pub fn from(&self) -> Option<&PeerId> {
        match self {
            Self::Offer { from, .. } | Self::Answer { from, .. } | Self::Ice { from, .. } => Some(from),
            Self::Peers { .. } | Self::PeerJoin { .. } | Self::PeerLeave { .. } | Self::Error { .. } => None,
        }
    }

    /// The message as JSON.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Peers { peer_ids, count } => {
                let peers = Object::of_type("peers").texts("peerIds", peer_ids.iter().map(PeerId::as_str));
                match count {
                    Some(count) => peers.raw("count", &count.to_string()),
                    None => peers,
                }
            }
            Self::PeerJoin { peer_id } => Object::of_type("peer-join").text("peerId", peer_id.as_str()),
            Self::PeerLeave { peer_id } => Object::of_type("peer-leave").text("peerId", peer_id.as_str()),
            Self::Offer { from, sdp } => Object::of_type("offer").text("from", from.as_str()).raw("sdp", sdp.get()),
            Self::Answer { from, sdp } => Object::of_type("answer").text("from", from.as_str()).raw("sdp", sdp.get()),
            Self::Ice { from, candidate } => {
                Object::of_type("ice").text("from", from.as_str()).raw("candidate", candidate.get())
            }
            Self::Error { code, message } => Object::of_type("error").text("code", code).text("message", message),
        }
        .end()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError`]; [`DecodeError::UnknownType`] is a message of a later version, to be ignored.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let fields = Fields::read(text)?;
        Ok(match fields.kind()?.as_ref() {
            "peers" => {
                Self::Peers { peer_ids: ids("peerIds", fields.peer_ids)?, count: fields.count.and_then(count_of) }
            }
            "peer-join" => Self::PeerJoin { peer_id: id("peerId", fields.peer_id)? },
            "peer-leave" => Self::PeerLeave { peer_id: id("peerId", fields.peer_id)? },
            "offer" => Self::Offer { from: id("from", fields.from)?, sdp: raw("sdp", fields.sdp)? },
            "answer" => Self::Answer { from: id("from", fields.from)?, sdp: raw("sdp", fields.sdp)? },
            "ice" => Self::Ice { from: id("from", fields.from)?, candidate: raw("candidate", fields.candidate)? },
            "error" => {
                let text = |field, value| text_of(field, value).map(Cow::into_owned);
                Self::Error { code: text("code", fields.code)?, message: text("message", fields.message)? }
            }
            other => return Err(unknown(other)),
        })
    }
}
