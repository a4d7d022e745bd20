//! What RTC Battery's peers and its signaling server say to each other.
//!
//! Types and codecs only: nothing here performs IO, keeps state or reads a clock. Both ends of every wire share these
//! definitions, so a message that one side can write the other can read.

#![forbid(unsafe_code)]

mod id;
pub mod signaling;

pub use id::{InvalidId, MAX_ID_BYTES, PeerId, ReplicaId};
