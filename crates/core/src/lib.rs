//! The sans-IO core of RTC Battery: a [`Replica`] (a SQLite database that captures and merges) a [`Node`] (a room of peers that
//! syncs one) and a [`Messenger`] (a room of peers without one). No socket, no clock, no randomness, no browser: hosts feed [`Input`](node::Input)s with the time they came and perform
//! [`Effect`](node::Effect)s.

#![forbid(unsafe_code)]

pub mod node;
mod now;
#[doc(hidden)]
pub mod planted;
pub mod replica;

pub use node::{Messenger, Node};
pub use now::Now;
pub use replica::Replica;
