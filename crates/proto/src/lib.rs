//! What RTC Battery's peers and its signaling server say to each other.
//!
//! Types and codecs only: nothing here performs IO, keeps state or reads a clock. Both ends of every wire share these
//! definitions, so a message that one side can write the other can read.

#![forbid(unsafe_code)]

mod columns;
mod digest;
mod floor;
pub mod frame;
mod hlc;
mod id;
mod message;
mod operation;
pub mod packed;
pub mod sealing;
pub mod signaling;
mod value;
mod vector;

pub use columns::Columns;
pub use digest::{Digest, InvalidDigest};
pub use floor::Floor;
pub use hlc::{Hlc, InvalidHlc, MAX_TS_MS, Tick};
pub use id::{InvalidId, MAX_ID_BYTES, PeerId, ReplicaId};
pub use message::{DecodeError, Hello, Message, PROTOCOL, Ping, Pong, SyncRequest, SyncResponse};
pub use operation::{Adopted, Dot, MAX_SEQ, Operation, OperationKind, TransactionExtent};
pub use value::{MAX_SAFE_INTEGER, SqlValue};
pub use vector::{MAX_ORIGINS, MAX_RANGES, SeqRanges, VersionVector};
