//! RTC Battery's signaling server: it introduces the peers of a room to each other and carries what they need to connect, nothing else.
//!
//! The endpoint and the messages are the specification's (`/signal?token=...`). The token is the secret: whoever has it is in the room, and
//! it never reaches a log. Everything a client can make the server hold is bounded by [`Limits`]. For people who run it there is
//! `docs/signaling.md`.
//!
//! The caller owns the listener and the shutdown:
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! rtc_battery_signal::serve(listener, rtc_battery_signal::Config::default(), async {
//!     let _ = tokio::signal::ctrl_c().await;
//! })
//! .await;
//! # Ok(())
//! # }
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `rooms` | who is in which room and who is told what: pure state, no sockets |
//! | `hub` | the one lock: rooms, and the outbox of each connection |
//! | `outbox` | a bounded queue to one socket, and when that socket is too slow |
//! | `session`, `pace`, `ending` | the life of one socket, how fast it may speak, why it ends |
//! | `cluster` | rooms shared with other processes, through Redis |
//! | `server`, `stream`, `tls`, `addresses`, `visitor` | listener, connections and how many, shutdown |
//! | `endpoints`, `upgrade`, `origins`, `turn`, `metrics`, `site` | what is at which path |

#![forbid(unsafe_code)]

mod addresses;
mod cluster;
mod config;
mod ending;
mod endpoints;
mod hub;
mod metrics;
mod origins;
mod outbox;
mod pace;
mod rooms;
mod server;
mod session;
mod site;
mod stream;
mod tls;
mod token;
mod turn;
mod upgrade;
mod visitor;

pub use cluster::{Cluster, ClusterError};
pub use config::{Config, Limits};
pub use origins::{OriginError, Origins};
pub use rooms::{ConnectionId, Notice, Output, Place, ProcessId, Rooms, Share};
pub use server::serve;
pub use tls::{Tls, TlsError};
pub use token::{Token, TokenError};
pub use turn::Turn;
