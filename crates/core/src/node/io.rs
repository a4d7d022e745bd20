//! What goes into a [`Node`](super::Node) or a [`Messenger`](super::Messenger) and what comes out: the whole border between the core and a host.
//!
//! A host performs every [`Effect`] in order and reports what happened as an [`Input`]. It decides nothing: it keeps a table of links by
//! [`LinkId`] and drops what it is told about an id it does not have. The TypeScript side of these types is generated
//! from them (feature `ts`).

use rtc_battery_proto::{Operation, PeerId};
use serde::{Deserialize, Serialize};

/// Names one RTCPeerConnection with its channel. Never used twice in one node's life, so whatever is reported late about a closed
/// link cannot be taken for its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct LinkId(pub u32);

/// Names one request of a [`Messenger`](super::Messenger).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct RequestId(pub u32);

/// An `RTCSessionDescriptionInit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub struct SessionDescription {
    /// Offer or answer.
    #[serde(rename = "type")]
    pub kind: DescriptionKind,
    /// The SDP text.
    pub sdp: String,
}

/// `RTCSdpType`, as far as we use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum DescriptionKind {
    /// Proposes.
    Offer,
    /// Accepts.
    Answer,
}

/// `RTCPeerConnectionState`. A shell without `connectionState` reports `iceConnectionState` in these words (`checking` as `connecting`,
/// `completed` as `connected`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[allow(missing_docs, reason = "the words are WebRTC's")]
pub enum LinkState {
    New,
    Connecting,
    Connected,
    Disconnected,
    Failed,
    Closed,
}

/// Something happened outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Input {
    /// The signaling socket is open.
    SignalingOpened,
    /// The signaling server said something.
    SignalingText {
        /// One text message.
        text: String,
    },
    /// The signaling socket is closed, or could not be opened.
    SignalingClosed {
        /// What is known of the reason.
        reason: String,
    },
    /// The link's local description is set: the answer to [`Effect::CreateOffer`] or to an offer in [`Effect::SetRemoteDescription`].
    LocalDescription {
        /// Which link.
        link: LinkId,
        /// What to send to the peer.
        description: SessionDescription,
    },
    /// A local ICE candidate was found.
    LocalCandidate {
        /// Which link.
        link: LinkId,
        /// `RTCIceCandidate.toJSON()` as JSON text; the empty end-of-candidates one too.
        candidate: String,
    },
    /// The link's connection state changed.
    LinkState {
        /// Which link.
        link: LinkId,
        /// The new state.
        state: LinkState,
    },
    /// An effect on this link failed (a description was refused, the connection could not be made).
    LinkFailed {
        /// Which link.
        link: LinkId,
        /// What the browser said.
        reason: String,
    },
    /// The link's channel is open.
    ChannelOpened {
        /// Which link.
        link: LinkId,
        /// `RTCSctpTransport.maxMessageSize` in bytes, if known.
        max_message_bytes: Option<u32>,
    },
    /// A text message came.
    ChannelText {
        /// Which link.
        link: LinkId,
        /// The message.
        text: String,
    },
    /// A binary message came.
    ChannelBinary {
        /// Which link.
        link: LinkId,
        /// The message.
        #[serde(with = "serde_bytes")]
        #[cfg_attr(feature = "ts", ts(type = "Uint8Array"))]
        bytes: Vec<u8>,
    },
    /// How many payload bytes of this link's sends have left its buffer so far (bytes handed to `send` minus `bufferedAmount`). Reported
    /// whenever `bufferedAmount` is at or falls to [`LOW_WATER_BYTES`](super::LOW_WATER_BYTES), not otherwise.
    ChannelDrained {
        /// Which link.
        link: LinkId,
        /// Cumulative count, in bytes.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        sent_bytes: u64,
    },
    /// The link's channel is closed.
    ChannelClosed {
        /// Which link.
        link: LinkId,
    },
    /// The link's bulk channel is open.
    BulkOpened {
        /// Which link.
        link: LinkId,
    },
    /// A message came over the bulk channel.
    BulkBinary {
        /// Which link.
        link: LinkId,
        /// The message.
        #[serde(with = "serde_bytes")]
        #[cfg_attr(feature = "ts", ts(type = "Uint8Array"))]
        bytes: Vec<u8>,
    },
    /// As [`ChannelDrained`](Input::ChannelDrained), of the bulk channel.
    BulkDrained {
        /// Which link.
        link: LinkId,
        /// Cumulative count, in bytes.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        sent_bytes: u64,
    },
    /// The link's bulk channel is closed.
    BulkClosed {
        /// Which link.
        link: LinkId,
    },
    /// Which way the link's packets go: the answer to [`Effect::InspectPath`], where it is known.
    PathInspected {
        /// Which link.
        link: LinkId,
        /// Whether either end of the pair of candidates in use is a relay's.
        relayed: bool,
    },
    /// The link's connection was given ICE servers with new credentials, in place of such as end soon. They are used from the next ICE restart on.
    ServersRenewed {
        /// Which link.
        link: LinkId,
    },
    /// All that had happened by the time of [`Effect::Yield`] was reported.
    Resumed,
    /// Storage holds everything up to this [`version`](crate::Replica::version).
    Saved {
        /// The replica's version when what is now saved was copied out.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        version: u64,
    },
}

/// Something to be done outside, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Effect {
    /// Open a WebSocket. Answered by [`Input::SignalingOpened`] or [`Input::SignalingClosed`].
    OpenSignaling {
        /// Where, token included.
        url: String,
    },
    /// Send one text message on the signaling socket.
    SendSignaling {
        /// The message.
        text: String,
    },
    /// Close the signaling socket. Not answered.
    CloseSignaling,
    /// Make an RTCPeerConnection under this id. Whoever `offers` also opens the channel `rtc-battery` (ordered, reliable); the other
    /// takes the first channel that comes.
    OpenLink {
        /// The new link.
        link: LinkId,
        /// Who is at the other end.
        peer: PeerId,
        /// Whether this side offers first.
        offers: bool,
    },
    /// Make an offer and set it. Answered by [`Input::LocalDescription`].
    CreateOffer {
        /// Which link.
        link: LinkId,
        /// Whether to restart ICE.
        ice_restart: bool,
    },
    /// Set the remote description; roll our own pending offer back first where `description` is an offer and we have one. An offer is
    /// answered: set the answer, report it as [`Input::LocalDescription`].
    SetRemoteDescription {
        /// Which link.
        link: LinkId,
        /// What the peer sent.
        description: SessionDescription,
    },
    /// Add a remote candidate.
    AddCandidate {
        /// Which link.
        link: LinkId,
        /// `RTCIceCandidateInit` as JSON text.
        candidate: String,
    },
    /// Look which pair of candidates the connection uses. Answered by [`Input::PathInspected`], or not at all.
    InspectPath {
        /// Which link.
        link: LinkId,
    },
    /// Send one text message on the link's channel.
    SendText {
        /// Which link.
        link: LinkId,
        /// The message.
        text: String,
    },
    /// Send one binary message on the link's channel.
    SendBinary {
        /// Which link.
        link: LinkId,
        /// The message.
        #[serde(with = "serde_bytes")]
        #[cfg_attr(feature = "ts", ts(type = "Uint8Array"))]
        bytes: Vec<u8>,
    },
    /// Open the bulk channel, `rtc-battery-bulk` (ordered, reliable), on a connection whose first channel is open. The other side takes the first
    /// channel of this label that comes after its first one.
    OpenBulk {
        /// Which link.
        link: LinkId,
    },
    /// Send one binary message on the link's bulk channel.
    SendBulk {
        /// Which link.
        link: LinkId,
        /// The message.
        #[serde(with = "serde_bytes")]
        #[cfg_attr(feature = "ts", ts(type = "Uint8Array"))]
        bytes: Vec<u8>,
    },
    /// Close channels and connection. What was sent before is let out first as far as the browser does so. Not answered.
    CloseLink {
        /// Which link.
        link: LinkId,
    },
    /// There is work that may wait: report and call first what has happened by now. Answered by [`Input::Resumed`].
    Yield,
}

/// Something the user may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Event {
    /// The signaling server has taken us in, for the first time or again: whoever is in the room can be met now. (That it cannot be reached
    /// is an [`Error`](Event::Error).)
    Online,
    /// A peer can be talked to.
    PeerJoin {
        /// Who.
        peer: PeerId,
    },
    /// A peer is gone.
    PeerLeave {
        /// Who.
        peer: PeerId,
    },
    /// Operations of a peer were applied.
    Sync {
        /// Who told us.
        peer: PeerId,
        /// How many operations were new to us.
        operations: u32,
    },
    /// How far a peer is with sending a large series of operations: what we asked for, or one large transaction. Told now and then, with `done` below
    /// `total`, and with `done` equal to `total` when the series is applied. One that breaks off with its link is not told to its end.
    SyncProgress {
        /// Who sends it.
        peer: PeerId,
        /// Operations that have come.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        done: u64,
        /// About how many there are.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        total: u64,
    },
    /// Operations that were set aside, being from the future when they came, were applied: time has caught up with them.
    Released {
        /// How many.
        operations: u32,
    },
    /// This device's clock is fast, by more than five minutes, if most of the peers that answer pings are right: they set aside what it writes. Told once, until it was
    /// right again.
    ClockSkew {
        /// By how much, as estimated, in milliseconds.
        #[cfg_attr(feature = "ts", ts(type = "number"))]
        ahead_ms: u64,
    },
    /// A synced table has given a row the next number as its key, which a device that is offline gives too: then both write one row. Told once for each
    /// table.
    AutomaticKeys {
        /// Which.
        table: String,
    },
    /// A row is kept and cannot be shown: another has its value of a UNIQUE index, or SQLite refuses it. It is in `rtc_conflicts` for as long
    /// as that is so.
    Conflict {
        /// Its table.
        table: String,
        /// Its primary key: a JSON array of the key's values.
        pk: String,
        /// Why, as SQLite says it.
        reason: String,
        /// The primary key of the row that has its value, where that is the reason.
        with_pk: Option<String>,
    },
    /// A peer told an operation that nobody asked for. From a [`Messenger`](super::Messenger) only.
    Operation {
        /// Who told it.
        peer: PeerId,
        /// The specification's fields and no others.
        #[cfg_attr(feature = "ts", ts(type = "import('../operation.js').Operation"))]
        operation: Box<Operation>,
    },
    /// A peer answered [`request_sync`](super::Messenger::request_sync). From a [`Messenger`](super::Messenger) only.
    Answered {
        /// Which request.
        request: RequestId,
        /// Who answered.
        peer: PeerId,
        /// All its operations, with the specification's fields and no others.
        #[cfg_attr(feature = "ts", ts(type = "import('../operation.js').Operation[]"))]
        operations: Vec<Operation>,
    },
    /// The answer to [`request_sync`](super::Messenger::request_sync) will not come. From a [`Messenger`](super::Messenger) only.
    Unanswered {
        /// Which request.
        request: RequestId,
        /// Who was asked.
        peer: PeerId,
        /// Why, for a person.
        reason: String,
    },
    /// [`disconnect`](super::Node::disconnect) is complete: every peer was told, everything is closed.
    Closed,
    /// Something went wrong; the session goes on.
    Error {
        /// A stable word to act on.
        code: ErrorCode,
        /// What happened and what to do, for a person.
        message: String,
        /// Who is to blame, where it is a peer.
        peer: Option<PeerId>,
    },
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum ErrorCode {
    /// The signaling server cannot be reached; retried with backoff. Known peers stay.
    SignalingUnreachable,
    /// The signaling server refused or misbehaved.
    Signaling,
    /// A connection to a peer could not be made or broke; retried.
    Link,
    /// A peer sent something that is no message, or no valid operation; it was dropped.
    BadMessage,
    /// Something is larger than a peer takes; it does not have it now.
    TooLarge,
    /// A peer speaks a newer protocol; upgrade this page.
    NewerProtocol,
    /// A peer and we have the same transactions and not the same data: a copied database wrote under one id with its original, or the tables are
    /// defined differently. Everything is compared, and both contents are merged.
    Diverged,
    /// What a peer told is stamped more than five minutes ahead of this device's clock: it is kept, and shown when time has caught up.
    SetAside,
    /// Another database writes under the id of this one: a copied file, or one that was put back to an older state. This one goes on under a new id, and
    /// what both wrote is merged.
    Cloned,
    /// This device's clock was far ahead and has been set right: what was written meanwhile, which others had set aside, is told again at its time.
    ClockCorrected,
    /// This device was away for longer than deleted rows are remembered, and rows that others had deleted are back, since they were edited here.
    BroughtBack,
}

/// What [`poll_output`](super::Node::poll_output) gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "output", content = "value", rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
pub enum Output {
    /// Perform this.
    Effect(Effect),
    /// Tell the user this.
    Event(Event),
    /// Nothing to do until an input comes or the monotonic clock reaches this time, in milliseconds.
    Idle(#[cfg_attr(feature = "ts", ts(type = "number | null"))] Option<u64>),
}
