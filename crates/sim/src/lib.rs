//! Whole rooms on a virtual network with virtual clocks and virtual disks, broken on purpose. One seed is one course of events.
//!
//! [`net`] is the network alone: the nodes of the hosts, a signaling server, connections, channels, time. The core's own tests of rooms
//! stand on it. [`room`] is a room under faults: [`workload`] writes, [`chaos`] breaks and mends, [`history`] remembers who committed what,
//! [`oracle`] says what every reader must see ([`shape`] of which columns), [`plain`] is a peer that knows nothing but the specification, and [`properties`] are what must
//! hold. [`campaign`] runs many seeds.
//!
//! Nothing here is ambient: no clock, no thread, no hash decides an order. What a seed does once it does always.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a simulator says what went wrong by panicking, and whoever runs a seed catches it"
)]

pub mod ahead;
pub mod campaign;
pub mod chaos;
pub mod clones;
pub mod device;
mod floors;
pub mod history;
pub mod net;
pub mod oracle;
pub mod plain;
pub mod properties;
pub mod random;
pub mod room;
pub mod shape;
pub mod trace;
pub mod watch;
pub mod workload;
