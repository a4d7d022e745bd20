//! A room of peers that syncs one [`Replica`](crate::Replica).
//!
//! [`Node`] is a state machine in the shape of quinn-proto's and str0m's: inputs and commands go in with the time they came, and
//! [`poll_output`](Node::poll_output) gives effects to perform, events to tell and, when there is nothing left, the time to come back.
//!
//! The rooms, each knowing as little as it can: `signaling` (the socket session), `peers` (who is here, when to dial), `negotiation` (offers,
//! answers, candidates of one connection), `link` (its timers), `keepalive`, `outbox` (credit and frames), `session` (sync with one peer),
//! `plain` (with one that speaks only the specification), `live` and `inbox` (what waits to be told and to be applied), `sleep`, `random`, `description`. `node` owns them; what runs between
//! them is in `rendezvous` (signaling to links), `conversation` (links to messages) and `replication` (messages to the replica and back).

mod conversation;
mod courtesy;
mod description;
mod hearing;
mod inbox;
mod io;
mod keepalive;
mod link;
mod live;
mod negotiation;
#[allow(clippy::module_inception, reason = "the node is what the module is named after")]
mod node;
mod outbox;
mod outputs;
mod peers;
mod plain;
mod random;
mod rendezvous;
mod replication;
mod room;
mod session;
mod signaling;
mod sleep;

pub use io::{DescriptionKind, Effect, ErrorCode, Event, Input, LinkId, LinkState, Output, SessionDescription};
pub use node::Node;
pub use room::Config;

/// `bufferedAmountLowThreshold` of every channel, in bytes.
pub const LOW_WATER_BYTES: u32 = 128 * 1024;

/// About how long one message of a series is, in bytes of JSON: what a live message may have to wait behind.
const PART_BYTES: usize = 48 * 1024;
