//! What a peer and the signaling server say to each other: the specification's "Signaling Server Specification".
//!
//! The server relays descriptions and candidates and reads neither, so both stay raw JSON here: fields that this version
//! does not know survive the relay. Additive fields of later versions go beside the specified ones, never in their place.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::PeerId;

/// Client to server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClientMessage {
    /// Enter the room of this socket's token under this name.
    #[serde(rename_all = "camelCase")]
    Join {
        /// The name that others in the room will know this connection by.
        peer_id: PeerId,
    },
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
        /// An `RTCIceCandidateInit`; the empty end-of-candidates one is relayed too.
        candidate: Box<RawValue>,
    },
}

/// Server to client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// Who was in the room when the client joined, itself not included.
    #[serde(rename_all = "camelCase")]
    Peers {
        /// Their names.
        peer_ids: Vec<PeerId>,
    },
    /// Somebody joined.
    #[serde(rename_all = "camelCase")]
    PeerJoin {
        /// Who.
        peer_id: PeerId,
    },
    /// Somebody's socket is gone.
    #[serde(rename_all = "camelCase")]
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
        /// An `RTCIceCandidateInit`.
        candidate: Box<RawValue>,
    },
    /// What the server could not do for this client. Additive: the specification has no errors.
    Error {
        /// A stable word to act on.
        code: String,
        /// What happened and what to do, for a person.
        message: String,
    },
}
