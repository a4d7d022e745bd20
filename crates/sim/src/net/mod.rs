//! A deterministic network in memory: nodes, a signaling server, connections, virtual time. One seed is one course of events.
//!
//! Signaling keeps the order of each socket, channels keep the order of each direction; everything else may overtake. The network is as
//! strict as browsers are: what they would throw at, panics here. [`Net`] is driven by whoever holds it: commands go in, time passes
//! in steps. Faults are off until somebody asks for them ([`Chances`], `cut`, `crash`, ...).

mod channels;
mod connection;
mod disk;
mod faults;
mod gossip;
mod host;
mod member;
mod network;
mod perform;
mod rooms;
mod server;
mod signaling;

pub use self::connection::{Channel, Connection, Lane, Remote};
pub use self::disk::{Backup, Disk, Fate};
pub use self::faults::{Chances, Fault, Faults};
pub use self::gossip::{Gossip, Repeat};
pub use self::host::{Frame, Host, HostClock, Said};
pub use self::member::Member;
pub use self::network::{Delays, Net};

use rtc_battery_core::node::LinkId;

/// One end of a link.
pub type Key = (usize, LinkId);
