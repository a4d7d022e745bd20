//! The server over real sockets: what a client sees of each rule, and what hostile ones can do to the others.
//!
//! Nothing here sleeps: a test waits for the frame that the rule promises. That somebody hears *nothing* is shown by what it hears next.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bounds;
mod certificates;
mod cluster;
mod cluster_lost;
mod cluster_tls;
mod crowd;
mod harness;
mod hostile;
mod http;
mod operations;
mod program;
mod refusals;
mod relay;
mod renewal;
mod resume;
mod shutdown;
mod turn;
