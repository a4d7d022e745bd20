//! Rooms of peers: a [`Node`] syncs one [`Replica`](crate::Replica) there, a [`Messenger`] sends and receives operations and keeps none.
//!
//! Both are state machines in the shape of quinn-proto's and str0m's: inputs and commands go in with the time they came, and
//! `poll_output` gives effects to perform, events to tell and, when there is nothing left, the time to come back.
//!
//! What both are built on is the `room`: peers that one can talk to. It owns `signaling` (the socket session), `peers` (who is here, when to
//! dial), `dialing` with `bucket` (how many at a time), `mesh` and `neighbours` (with whom, in a large room), `negotiation`, `description` and `early` (offers, answers, candidates of one connection), `link` (its timers), `restart` (of its ICE), `channel` (what goes over it), `courtesy` (first words, ping, bye),
//! `keepalive`, `round_trip`, `outbox` (credit and frames), `bulk` (a second channel for what is large), `flow` (what a peer is willing to have on its way), `allowance` with `meter` (what one peer may make us do), `sealing` (of what goes through the server), `sleep` and `random`; what runs between them is in `rendezvous` (signaling to links) and
//! `hearing` (channels to messages). It knows no operation.
//!
//! The `node` adds a `session` with each peer, in our language or `plain` (the specification's), `live` and `inbox` (what waits to be told
//! and to be applied); `conversation` (messages to the inbox) and `replication` (the inbox to the replica and back) run between them. The `messenger` adds
//! an `exchange` with each peer. `callers`: several tabs on one node; `vigil`: their watch over the one that has it. `status` and `progress`: how it stands, for people.

mod allowance;
mod answer;
mod bucket;
mod bulk;
mod callers;
mod channel;
mod clones;
mod conversation;
mod corrected;
mod courtesy;
mod description;
mod dialing;
mod digests;
mod dtls_role;
mod early;
mod exchange;
mod floor;
mod flow;
mod hearing;
mod inbox;
mod io;
mod keepalive;
mod link;
mod live;
mod mesh;
mod messenger;
mod meter;
mod negotiation;
mod neighbours;
#[allow(clippy::module_inception, reason = "the node is what the module is named after")]
mod node;
mod outbox;
mod outputs;
mod peers;
mod plain;
mod progress;
mod quarantine;
mod random;
mod rendezvous;
mod replication;
mod restart;
mod room;
mod round_trip;
mod sealing;
mod session;
mod signaling;
mod skew;
mod sleep;
mod status;
mod vigil;
mod waiting;

pub use callers::Call;
pub use io::{
    DescriptionKind, Effect, ErrorCode, Event, Input, LinkId, LinkState, Output, RequestId, SessionDescription,
};
pub use mesh::MeshLimits;
pub use messenger::{Messenger, UnknownPeer};
pub use node::Node;
pub use room::Config;
pub use status::{PeerState, PeerStatus, Status};
pub use vigil::{Doubt, Vigil};

/// `bufferedAmountLowThreshold` of every channel, in bytes.
pub const LOW_WATER_BYTES: u32 = 128 * 1024;

/// About how long one message of a series is, in bytes of JSON: what a live message may have to wait behind.
const PART_BYTES: usize = 48 * 1024;

/// The most that is packed into one message of a series, in bytes of JSON, where that fits into one frame. Each message costs a turn of the page and of the
/// worker on both sides, however short it is (with 48 KiB for all, the first sync of 100,000 rows took 3.2 s in Chromium in place of 2.3).
const MAX_PACKED_PART_BYTES: usize = 4 * PART_BYTES;
