//! What a peer and the signaling server say to each other: the specification's "Signaling Server Specification", one JSON object a message.
//!
//! The server relays descriptions and candidates and reads neither, so both stay raw JSON here and leave byte for byte as they came, fields
//! that no version of ours knows included. Fields that this version does not know *beside* them are skipped, and are not relayed.
//!
//! Both directions are written and read by hand rather than derived: serde's tagged enums cannot hold raw JSON, and a reader must be able to
//! tell a message type of a later version (to be ignored) from broken JSON. Decoding takes time and memory linear in the text and does not
//! recurse, whatever is nested in it.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::PeerId;

/// Longest message that is decoded, in bytes, in either direction. Servers set a lower bound on what clients may send.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Longest unknown type that is repeated in an error, in characters.
const MAX_ECHO_CHARS: usize = 64;

/// The values of [`ServerMessage::Error`]'s `code`. Later servers may send others.
pub mod code {
    /// The name given in `join` belongs to a live socket in the room.
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
}

/// Client to server.
#[derive(Debug, Clone)]
pub enum ClientMessage {
    /// Enter the room of this socket's token under this name.
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
        /// An `RTCIceCandidateInit`; the empty end-of-candidates one and `null` are relayed too.
        candidate: Box<RawValue>,
    },
}

/// Server to client.
#[derive(Debug, Clone)]
pub enum ServerMessage {
    /// Who was in the room when the client joined, itself not included.
    Peers {
        /// Their names. Names that are no [`PeerId`] (a server other than ours may allow them) are left out when decoding.
        peer_ids: Vec<PeerId>,
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
            Self::Join { peer_id } => Object::of_type("join").text("peerId", peer_id.as_str()),
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
        Ok(match fields.kind()?.as_str() {
            "join" => Self::Join { peer_id: id("peerId", fields.peer_id)? },
            "offer" => Self::Offer { to: id("to", fields.to)?, sdp: raw("sdp", fields.sdp)? },
            "answer" => Self::Answer { to: id("to", fields.to)?, sdp: raw("sdp", fields.sdp)? },
            "ice" => Self::Ice { to: id("to", fields.to)?, candidate: raw("candidate", fields.candidate)? },
            other => return Err(unknown(other)),
        })
    }
}

impl ServerMessage {
    /// The message as JSON.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Peers { peer_ids } => {
                let quoted: Vec<String> = peer_ids.iter().map(|id| quote(id.as_str())).collect();
                Object::of_type("peers").raw("peerIds", &format!("[{}]", quoted.join(",")))
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
        Ok(match fields.kind()?.as_str() {
            "peers" => Self::Peers { peer_ids: ids("peerIds", fields.peer_ids)? },
            "peer-join" => Self::PeerJoin { peer_id: id("peerId", fields.peer_id)? },
            "peer-leave" => Self::PeerLeave { peer_id: id("peerId", fields.peer_id)? },
            "offer" => Self::Offer { from: id("from", fields.from)?, sdp: raw("sdp", fields.sdp)? },
            "answer" => Self::Answer { from: id("from", fields.from)?, sdp: raw("sdp", fields.sdp)? },
            "ice" => Self::Ice { from: id("from", fields.from)?, candidate: raw("candidate", fields.candidate)? },
            "error" => {
                Self::Error { code: text_of("code", fields.code)?, message: text_of("message", fields.message)? }
            }
            other => return Err(unknown(other)),
        })
    }
}

/// Every field of every message, unread. What a field must be depends on the type, which may come last.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow, rename = "type", deserialize_with = "present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    peer_id: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    peer_ids: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    to: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    from: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    sdp: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    candidate: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    code: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "present")]
    message: Option<&'a RawValue>,
}

/// `Option` alone would read `null` as absent, and `"candidate": null` is how plain peers end their candidates.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, DecodeError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(DecodeError::TooLarge);
        }
        // serde would also take an array, with the fields by position.
        if !text.trim_start().starts_with('{') {
            return Err(DecodeError::Malformed("no { at its start".into()));
        }
        serde_json::from_str(text).map_err(|error| DecodeError::Malformed(error.to_string()))
    }

    fn kind(&self) -> Result<String, DecodeError> {
        text_of("type", self.kind)
    }
}

fn raw(field: &'static str, value: Option<&RawValue>) -> Result<Box<RawValue>, DecodeError> {
    value.map(ToOwned::to_owned).ok_or(DecodeError::Missing(field))
}

fn text_of(field: &'static str, value: Option<&RawValue>) -> Result<String, DecodeError> {
    let value = value.ok_or(DecodeError::Missing(field))?;
    serde_json::from_str(value.get()).map_err(|_| DecodeError::Invalid { field, expected: "text" })
}

fn id(field: &'static str, value: Option<&RawValue>) -> Result<PeerId, DecodeError> {
    let expected = "1 to 128 printable ASCII characters without spaces";
    PeerId::new(&text_of(field, value)?).map_err(|_| DecodeError::Invalid { field, expected })
}

fn ids(field: &'static str, value: Option<&RawValue>) -> Result<Vec<PeerId>, DecodeError> {
    let value = value.ok_or(DecodeError::Missing(field))?;
    let names: Vec<String> =
        serde_json::from_str(value.get()).map_err(|_| DecodeError::Invalid { field, expected: "a list of texts" })?;
    // One odd name on a server that allows it must not keep everyone else out of the room.
    Ok(names.iter().filter_map(|name| PeerId::new(name).ok()).collect())
}

fn unknown(kind: &str) -> DecodeError {
    DecodeError::UnknownType(kind.chars().take(MAX_ECHO_CHARS).collect())
}

/// A JSON object in the making.
struct Object(String);

impl Object {
    fn of_type(kind: &str) -> Self {
        Self(format!(r#"{{"type":"{kind}""#))
    }

    fn raw(mut self, name: &str, json: &str) -> Self {
        for part in [",\"", name, "\":", json] {
            self.0.push_str(part);
        }
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.raw(name, &quote(text))
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The specification's shapes, one of each.
    const FROM_CLIENT: [&str; 4] = [
        r#"{"type":"join","peerId":"a"}"#,
        r#"{"type":"offer","to":"b","sdp":{"type":"offer","sdp":"v=0\r\n"}}"#,
        r#"{"type":"answer","to":"b","sdp":{"type":"answer","sdp":"v=0\r\n"}}"#,
        r#"{"type":"ice","to":"b","candidate":{"candidate":"","sdpMid":null}}"#,
    ];
    const FROM_SERVER: [&str; 8] = [
        r#"{"type":"peers","peerIds":[]}"#,
        r#"{"type":"peers","peerIds":["a","b\"\\"]}"#,
        r#"{"type":"peer-join","peerId":"a"}"#,
        r#"{"type":"peer-leave","peerId":"a"}"#,
        r#"{"type":"offer","from":"b","sdp":{"type":"offer","sdp":"v=0\r\n"}}"#,
        r#"{"type":"answer","from":"b","sdp":{"type":"answer","sdp":"v=0\r\n"}}"#,
        r#"{"type":"ice","from":"b","candidate":{"candidate":"","sdpMid":null}}"#,
        r#"{"type":"error","code":"unknown-peer","message":"no \"b\" here"}"#,
    ];

    #[test]
    fn the_specifications_shapes_are_written_as_they_were_read() {
        for text in FROM_CLIENT {
            assert_eq!(ClientMessage::decode(text).unwrap().encode(), text);
        }
        for text in FROM_SERVER {
            assert_eq!(ServerMessage::decode(text).unwrap().encode(), text);
        }
    }

    #[test]
    fn payloads_keep_every_byte() {
        for payload in [
            r#"{ "type" : "offer",  "sdp":"\u00e9\ud800é\/", "later": [1.0, 1e400, 10000000000000000000001] }"#,
            r#"{"candidate":"x","candidate":"x"}"#,
            "null",
        ] {
            let offer = ClientMessage::decode(&format!(r#"{{"sdp":{payload},"to":"b","type":"offer"}}"#)).unwrap();
            let ClientMessage::Offer { sdp, .. } = &offer else { panic!("{offer:?}") };
            assert_eq!(sdp.get(), payload);
            assert!(offer.encode().contains(payload));
            let ice = ServerMessage::decode(&format!(r#"{{"type":"ice","from":"b","candidate":{payload}}}"#)).unwrap();
            let ServerMessage::Ice { candidate, .. } = &ice else { panic!("{ice:?}") };
            assert_eq!(candidate.get(), payload);
        }
    }

    #[test]
    fn a_later_type_is_told_from_broken_text() {
        let later = r#"{"type":"peers-sample","peerIds":7,"sdp":null}"#;
        assert_eq!(ServerMessage::decode(later).unwrap_err(), DecodeError::UnknownType("peers-sample".into()));
        let endless = format!(r#"{{"type":"{}"}}"#, "é".repeat(1000));
        assert_eq!(ClientMessage::decode(&endless).unwrap_err(), DecodeError::UnknownType("é".repeat(64)));
        // What the server says, a client may not say.
        assert!(matches!(ClientMessage::decode(FROM_SERVER[0]), Err(DecodeError::UnknownType(_))));

        for broken in ["", "x", "7", "null", r#"["join","a"]"#, "{", r#"{"type":"join","peerId":"a"} x"#] {
            assert!(matches!(ClientMessage::decode(broken), Err(DecodeError::Malformed(_))), "{broken}");
        }
        let twice = r#"{"type":"join","peerId":"a","peerId":"b"}"#;
        assert!(matches!(ClientMessage::decode(twice), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn fields_that_are_missing_or_wrong_are_named() {
        for (text, field) in [
            ("{}", "type"),
            (r#"{"type":"join"}"#, "peerId"),
            (r#"{"type":"offer","sdp":{}}"#, "to"),
            (r#"{"type":"offer","to":"b"}"#, "sdp"),
            (r#"{"type":"ice","to":"b","sdp":{}}"#, "candidate"),
        ] {
            assert_eq!(ClientMessage::decode(text).unwrap_err(), DecodeError::Missing(field), "{text}");
        }
        for (text, wrong) in [
            (r#"{"type":7}"#, "type"),
            (r#"{"type":"join","peerId":""}"#, "peerId"),
            (r#"{"type":"join","peerId":"a b"}"#, "peerId"),
            (r#"{"type":"answer","to":["b"],"sdp":{}}"#, "to"),
        ] {
            let error = ClientMessage::decode(text).unwrap_err();
            assert!(matches!(error, DecodeError::Invalid { field, .. } if field == wrong), "{text}: {error}");
        }
    }

    #[test]
    fn an_odd_name_does_not_spoil_the_list() {
        let peers = ServerMessage::decode(r#"{"type":"peers","peerIds":["a","ö ö","","b"]}"#).unwrap();
        assert_eq!(peers.encode(), r#"{"type":"peers","peerIds":["a","b"]}"#);
    }

    #[test]
    fn bombs_are_harmless() {
        let deep = "[".repeat(300_000) + &"]".repeat(300_000);
        for text in [
            format!(r#"{{"type":"offer","to":"b","sdp":{deep}}}"#),
            format!(r#"{{"type":"join","peerId":"b","later":{deep}}}"#),
        ] {
            assert!(ClientMessage::decode(&text).is_ok());
        }
        for text in [format!(r#"{{"type":{deep}}}"#), format!(r#"{{"type":"join","peerId":{deep}}}"#)] {
            assert!(matches!(ClientMessage::decode(&text), Err(DecodeError::Invalid { .. })));
        }
        assert!(matches!(ClientMessage::decode(&deep[..300_000]), Err(DecodeError::Malformed(_))));
        assert!(matches!(
            ServerMessage::decode(&format!(r#"{{"type":"peers","peerIds":{deep}}}"#)),
            Err(DecodeError::Invalid { .. })
        ));
        assert_eq!(ClientMessage::decode(&" ".repeat(MAX_MESSAGE_BYTES + 1)).unwrap_err(), DecodeError::TooLarge);
    }

    fn peer_id() -> impl Strategy<Value = PeerId> {
        "[!-~]{1,128}".prop_map(|text| PeerId::new(&text).unwrap())
    }

    fn payload() -> impl Strategy<Value = Box<RawValue>> {
        let leaf = prop_oneof![
            any::<Option<bool>>().prop_map(|b| serde_json::json!(b)),
            any::<i64>().prop_map(|n| serde_json::json!(n)),
            any::<String>().prop_map(|s| serde_json::json!(s)),
        ];
        let value = leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|map| serde_json::json!(map)),
            ]
        });
        value.prop_map(|value| serde_json::value::to_raw_value(&value).unwrap())
    }

    fn client_message() -> impl Strategy<Value = ClientMessage> {
        prop_oneof![
            peer_id().prop_map(|peer_id| ClientMessage::Join { peer_id }),
            (peer_id(), payload()).prop_map(|(to, sdp)| ClientMessage::Offer { to, sdp }),
            (peer_id(), payload()).prop_map(|(to, sdp)| ClientMessage::Answer { to, sdp }),
            (peer_id(), payload()).prop_map(|(to, candidate)| ClientMessage::Ice { to, candidate }),
        ]
    }

    fn server_message() -> impl Strategy<Value = ServerMessage> {
        prop_oneof![
            prop::collection::vec(peer_id(), 0..5).prop_map(|peer_ids| ServerMessage::Peers { peer_ids }),
            peer_id().prop_map(|peer_id| ServerMessage::PeerJoin { peer_id }),
            peer_id().prop_map(|peer_id| ServerMessage::PeerLeave { peer_id }),
            (peer_id(), payload()).prop_map(|(from, sdp)| ServerMessage::Offer { from, sdp }),
            (peer_id(), payload()).prop_map(|(from, sdp)| ServerMessage::Answer { from, sdp }),
            (peer_id(), payload()).prop_map(|(from, candidate)| ServerMessage::Ice { from, candidate }),
            any::<(String, String)>().prop_map(|(code, message)| ServerMessage::Error { code, message }),
        ]
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_went(client in client_message(), server in server_message()) {
            let client_again = ClientMessage::decode(&client.encode()).unwrap();
            prop_assert_eq!(format!("{client_again:?}"), format!("{client:?}"));
            let server_again = ServerMessage::decode(&server.encode()).unwrap();
            prop_assert_eq!(format!("{server_again:?}"), format!("{server:?}"));
        }

        /// The encoding is JSON to everyone else too.
        #[test]
        fn what_is_written_is_json(server in server_message()) {
            let value: serde_json::Value = serde_json::from_str(&server.encode()).unwrap();
            prop_assert!(value["type"].is_string());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = ClientMessage::decode(&text);
            let _ = ServerMessage::decode(&text);
        }

        /// Bytes that are nearly a message reach further than random ones.
        #[test]
        fn damaged_messages_never_panic(server in server_message(), client in client_message(), at: prop::sample::Index, byte: u8) {
            for text in [server.encode(), client.encode()] {
                let mut bytes = text.into_bytes();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let text = String::from_utf8_lossy(&bytes);
                let _ = ClientMessage::decode(&text);
                let _ = ServerMessage::decode(&text);
            }
        }
    }
}
