//! What two peers say to each other over a DataChannel: the specification's messages, and what ours add to them.
//!
//! Additive means: a peer written from the specification alone ignores `hello`, `vector`, `floor`, `sync-progress`, `digest`, `taken` and `bye` as unknown types and the extra fields as
//! unknown fields. A message of an unknown type decodes to [`DecodeError::UnknownType`], which is to be ignored.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Digest, Floor, Operation, ReplicaId, VersionVector};

/// Version of what `hello` switches on.
pub const PROTOCOL: u32 = 1;

/// One message between peers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Message {
    /// First word between two of ours.
    Hello(Hello),
    /// A live operation.
    Op {
        /// The operation.
        payload: Operation,
    },
    /// Asks for operations.
    SyncRequest(SyncRequest),
    /// Answers with operations; between two of ours one of a series.
    SyncResponse(SyncResponse),
    /// How far the series of answers is that the next message goes on with.
    SyncProgress {
        /// Operations that were sent of it.
        done: u64,
        /// About how many there are.
        total: u64,
    },
    /// A whole SQLite file, base64. Understood, never sent.
    SyncFull {
        /// The file.
        database: String,
    },
    /// Tells what the sender has, so that who lacks some of it can ask.
    Vector {
        /// What the sender has saved.
        vector: VersionVector,
    },
    /// Tells up to where the sender may have forgotten what was deleted.
    Floor {
        /// Up to where.
        floor: Floor,
    },
    /// Tells digests of what the sender has, so that who has the same transactions can see whether they hold the same.
    Digest {
        /// Of its version vector.
        vector: Digest,
        /// Of its registers.
        registers: Digest,
        /// Of its floor, if it has one: only those of one floor keep the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        floor: Option<Digest>,
    },
    /// Are you there?
    Ping(Ping),
    /// Yes.
    Pong(Pong),
    /// How much of what the receiver sent over this link the sender has taken in, in bytes of channel messages.
    Taken {
        /// In all.
        bytes: u64,
    },
    /// The sender is about to close this link on purpose.
    Bye {
        /// Whether it says so on the bulk channel too: what it said there before is awaited.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        bulk: bool,
        /// Whether it stays in the room: of a large one nobody is linked with everybody.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        stays: bool,
    },
}

/// First word between two of ours: who I am and what I have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// Its replica; it survives reloads, the peer id does not.
    pub node_id: ReplicaId,
    /// What it has saved.
    pub vector: VersionVector,
    /// Up to where it may have forgotten what was deleted.
    #[serde(default, skip_serializing_if = "Floor::is_empty")]
    pub floor: Floor,
    /// The newest version of [packed](crate::packed) operations that it reads; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub packed: u32,
    /// Whether it takes a second channel, for what is large.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bulk: bool,
    /// How many bytes it is willing to have on their way to it that it has not said to be [taken](Message::Taken).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// How many links it has: in a room that is no full mesh, who has many gives them up first.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_whole")]
    pub links: Option<u64>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Asks for operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncRequest {
    /// The specification's scalar. Written as 0 and never read: a scalar cannot say what is missing, `vector` can.
    #[serde(skip_deserializing)]
    pub from_version: u64,
    /// What the asking side has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<VersionVector>,
}

/// Operations, and the dots they stand for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SyncResponse {
    /// The operations.
    pub operations: Vec<Operation>,
    /// Ends a series: with the operations of all its messages, the receiver has these dots. What was compacted away is covered too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covers: Option<VersionVector>,
    /// Whether another message of the same series follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Are you there? The specification's has no fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Ping {
    /// The sender's wall clock, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_whole")]
    pub wall: Option<u64>,
    /// How many links the sender has, as in [`Hello`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_whole")]
    pub links: Option<u64>,
}

/// The answer to a [`Ping`]. The specification's has no fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Pong {
    /// The sender's wall clock, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_whole")]
    pub wall: Option<u64>,
    /// What the ping said of its sender's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_whole")]
    pub pinged: Option<u64>,
}

/// Whoever has a field of this name for something else is heard all the same.
fn if_whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)?.as_u64())
}

/// Why a text is no message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, not an object, or without a `type`.
    #[error("what is no message: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A type this version does not know; to be ignored.
    #[error("unknown message type {0:?}")]
    UnknownType(String),
    /// A known type with wrong fields.
    #[error("a message of type {kind:?} with wrong fields: {source}")]
    Fields {
        /// The type.
        kind: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Message {
    /// The message as JSON text.
    ///
    /// # Panics
    /// Never: these types have no map with keys that are not strings.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a message. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`DecodeError`]; never panics, whatever the text.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        #[derive(Deserialize)]
        struct Tag {
            r#type: String,
        }
        #[derive(Deserialize)]
        struct Op {
            payload: Operation,
        }
        #[derive(Deserialize)]
        struct SyncFull {
            database: String,
        }
        #[derive(Deserialize)]
        struct Vector {
            vector: VersionVector,
        }
        #[derive(Deserialize)]
        struct Told {
            floor: Floor,
        }
        #[derive(Deserialize)]
        struct Digests {
            vector: Digest,
            registers: Digest,
            #[serde(default)]
            floor: Option<Digest>,
        }
        #[derive(Deserialize)]
        struct Progress {
            done: u64,
            total: u64,
        }
        #[derive(Deserialize)]
        struct Taken {
            bytes: u64,
        }
        #[derive(Deserialize)]
        struct Bye {
            #[serde(default)]
            bulk: bool,
            #[serde(default)]
            stays: bool,
        }
        // Two passes, so that large messages are not buffered as a tree first (serde's tagged enums do).
        let kind = serde_json::from_str::<Tag>(text).map_err(DecodeError::Malformed)?.r#type;
        fn fields<T: DeserializeOwned>(kind: &str, text: &str) -> Result<T, DecodeError> {
            serde_json::from_str(text).map_err(|source| DecodeError::Fields { kind: kind.to_owned(), source })
        }
        Ok(match kind.as_str() {
            "hello" => Self::Hello(fields(&kind, text)?),
            "op" => Self::Op { payload: fields::<Op>(&kind, text)?.payload },
            "sync-request" => Self::SyncRequest(fields(&kind, text)?),
            "sync-response" => Self::SyncResponse(fields(&kind, text)?),
            "sync-progress" => {
                let Progress { done, total } = fields(&kind, text)?;
                Self::SyncProgress { done, total }
            }
            "sync-full" => Self::SyncFull { database: fields::<SyncFull>(&kind, text)?.database },
            "vector" => Self::Vector { vector: fields::<Vector>(&kind, text)?.vector },
            "floor" => Self::Floor { floor: fields::<Told>(&kind, text)?.floor },
            "digest" => {
                let Digests { vector, registers, floor } = fields(&kind, text)?;
                Self::Digest { vector, registers, floor }
            }
            "ping" => Self::Ping(fields(&kind, text)?),
            "pong" => Self::Pong(fields(&kind, text)?),
            "taken" => Self::Taken { bytes: fields::<Taken>(&kind, text)?.bytes },
            "bye" => {
                let Bye { bulk, stays } = fields(&kind, text)?;
                Self::Bye { bulk, stays }
            }
            _ => return Err(DecodeError::UnknownType(kind)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_specifications_messages_decode() {
        let op = r#"{"hlc":{"ts":1,"counter":0,"nodeId":"a"},"type":"DELETE","table":"t","pk":{"id":"x"}}"#;
        let texts = [
            format!(r#"{{"type":"op","payload":{op}}}"#),
            r#"{"type":"sync-request","fromVersion":3}"#.into(),
            format!(r#"{{"type":"sync-response","operations":[{op},{op}]}}"#),
            r#"{"type":"sync-full","database":"AA=="}"#.into(),
            r#"{"type":"sync-progress","done":5,"total":9}"#.into(),
            r#"{"type":"ping","extra":[1,{"a":2}]}"#.into(),
            r#"{"type":"ping","wall":1700000000000}"#.into(),
            r#"{"type":"pong"}"#.into(),
            r#"{"type":"pong","wall":1700000000000,"pinged":"yesterday"}"#.into(),
            r#"{"type":"taken","bytes":9}"#.into(),
            r#"{"type":"bye"}"#.into(),
            r#"{"type":"bye","bulk":true}"#.into(),
            r#"{"type":"bye","stays":true}"#.into(),
            r#"{"type":"ping","links":7}"#.into(),
            r#"{"type":"digest","vector":"00000000000000aa","registers":"fedcba9876543210"}"#.into(),
            r#"{"type":"digest","vector":"00000000000000aa","registers":"00000000000000bb","floor":"fedcba9876543210"}"#.into(),
            r#"{"type":"floor","floor":{"vector":{"a":[[1,7]]},"clock":{"ts":1700000000000,"counter":3}}}"#.into(),
            r#"{"type":"hello","protocol":1,"nodeId":"a","vector":{},"floor":{"vector":{"a":[[1,7]]},"clock":{"ts":0,"counter":0}}}"#.into(),
        ];
        for text in texts {
            let message = Message::decode(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }
    }

    #[test]
    fn unknown_types_and_wrong_fields_are_told_apart() {
        assert!(matches!(Message::decode(r#"{"type":"later"}"#), Err(DecodeError::UnknownType(t)) if t == "later"));
        assert!(matches!(Message::decode(r#"{"type":"op"}"#), Err(DecodeError::Fields { .. })));
        for text in ["", "[]", "1", "{", r#"{"type":1}"#, &"[".repeat(100_000)] {
            assert!(matches!(Message::decode(text), Err(DecodeError::Malformed(_))), "{text:.20}");
        }
    }

    proptest! {
        #[test]
        fn any_text_decodes_or_is_refused(text in r#"[\{\}\[\]",:a-z0-9\.-]{0,60}"#) {
            let _ = Message::decode(&text);
            let _ = Message::decode(&format!(r#"{{"type":"op","payload":{text}}}"#));
        }
    }
}
