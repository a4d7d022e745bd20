//! What an operator may choose, with the defaults.
//!
//! Everything a client can make the server hold or wait for has its bound here.

use std::{path::PathBuf, time::Duration};

use rtc_battery_proto::MAX_ID_BYTES;

use crate::{cluster::Cluster, origins::Origins, tls::Tls, turn::Turn};

/// How to serve.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// A folder to serve at `/`, such as the demo. None: only the endpoints.
    pub static_dir: Option<PathBuf>,
    /// Bounds on what clients can do.
    pub limits: Limits,
    /// The certificate to serve with. None: plain HTTP, as behind a proxy.
    pub tls: Option<Tls>,
    /// The sites whose pages may connect. The default allows all.
    pub origins: Origins,
    /// The header in which a proxy says who the client is; its last address counts. None: there is no proxy.
    pub address_header: Option<String>,
    /// What `/ice` gives out. None: nothing.
    pub turn: Option<Turn>,
    /// The Redis server through which several processes share their rooms. None: this process is alone.
    pub cluster: Option<Cluster>,
    /// Over how long the farewells are spread at shutdown, so that not everybody comes back in the same second.
    pub drain: Duration,
}

/// Bounds on what clients can do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest message from a client, in bytes. 64 KiB.
    pub max_message_bytes: usize,
    /// Frames a second from one client. A client that sends more is read no faster. 50.
    pub messages_per_second: u32,
    /// Frames that a client that was silent may send at once. 600.
    pub message_burst: u32,
    /// Longest token, decoded, in bytes. 16 KiB.
    pub max_token_bytes: usize,
    /// Peers in a room. 1,000.
    pub max_room_peers: usize,
    /// Peers in the `peers` of who asks for a sample. 30.
    pub sample_peers: usize,
    /// Connections at a time, whatever they are for. 50,000.
    pub max_connections: usize,
    /// Connections at a time from one address (of IPv6: from one /64). 1,000.
    pub max_connections_per_address: usize,
    /// Messages that may wait for one socket for longer than `queue_grace`. 64.
    pub max_queue_messages: usize,
    /// How long more than `max_queue_messages` may wait. A room that joins at once is a burst that a healthy socket
    /// works off in this time; a socket that does not is closed with 1013. 5 s.
    pub queue_grace: Duration,
    /// Bytes that the system may buffer for a socket, in each direction. 32 KiB (Linux takes twice that, with its own bookkeeping).
    pub socket_buffer_bytes: usize,
    /// How long a client may take for its TLS handshake, and to send a request's head. 10 s.
    pub header_timeout: Duration,
    /// How long a client may take from opening its socket to `join`. 5 s.
    pub join_timeout: Duration,
    /// How often the server pings. 25 s.
    pub ping_interval: Duration,
    /// A socket that sent no frame, pongs included, for this long is dead. 60 s.
    pub idle_timeout: Duration,
    /// How long the server waits for a farewell to be read before it drops a socket. 5 s.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 * 1024,
            messages_per_second: 50,
            message_burst: 600,
            max_token_bytes: 16 * 1024,
            max_room_peers: 1_000,
            sample_peers: 30,
            max_connections: 50_000,
            max_connections_per_address: 1_000,
            max_queue_messages: 64,
            queue_grace: Duration::from_secs(5),
            socket_buffer_bytes: 32 * 1024,
            header_timeout: Duration::from_secs(10),
            join_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(25),
            idle_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// Bytes that may wait for one socket: as many as `max_queue_messages` of the clients' longest have, and at least one message of the
    /// server's longest. Never exceeded, not even in a burst.
    pub(crate) fn max_queue_bytes(&self) -> usize {
        self.max_queue_messages.saturating_mul(self.max_message_bytes).max(self.max_outgoing_bytes())
    }

    /// The longest message that the server sends: a relayed one or the list of a full room, and what is around it. An id's
    /// characters may be escaped, hence twice.
    pub(crate) fn max_outgoing_bytes(&self) -> usize {
        let id_bytes = 2 * MAX_ID_BYTES + 3;
        let payload_bytes = self.max_message_bytes.max(self.max_room_peers.saturating_mul(id_bytes));
        payload_bytes.saturating_add(1024)
    }
}
