//! Who is in the room: a node with its database, or a messenger without one.

use rtc_battery_core::Now;
use rtc_battery_core::node::{Input, Messenger, Node, Output};
use rtc_battery_core::replica::{Replica, StorageError};
use rtc_battery_proto::PeerId;

pub enum Member {
    Node(Box<Node>),
    Messenger(Box<Messenger>),
}

impl Member {
    pub fn node(&mut self) -> &mut Node {
        let Self::Node(node) = self else { panic!("a messenger has no database") };
        node
    }

    pub fn messenger(&mut self) -> &mut Messenger {
        let Self::Messenger(messenger) = self else { panic!("this is a node") };
        messenger
    }

    pub fn has_replica(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    pub fn replica(&self) -> &Replica {
        let Self::Node(node) = self else { panic!("a messenger has no database") };
        node.replica()
    }

    /// What is saved is nothing at a messenger's.
    pub fn version(&self) -> u64 {
        match self {
            Self::Node(node) => node.version(),
            Self::Messenger(_) => 0,
        }
    }

    pub fn connect(&mut self, now: Now) {
        match self {
            Self::Node(node) => node.connect(now),
            Self::Messenger(messenger) => messenger.connect(now),
        }
    }

    pub fn disconnect(&mut self, now: Now) {
        match self {
            Self::Node(node) => node.disconnect(now),
            Self::Messenger(messenger) => messenger.disconnect(now),
        }
    }

    pub fn handle_input(&mut self, input: Input, now: Now) -> Result<(), StorageError> {
        match self {
            Self::Node(node) => node.handle_input(input, now),
            Self::Messenger(messenger) => {
                messenger.handle_input(input, now);
                Ok(())
            }
        }
    }

    pub fn poll_output(&mut self, now: Now) -> Result<Output, StorageError> {
        match self {
            Self::Node(node) => node.poll_output(now),
            Self::Messenger(messenger) => Ok(messenger.poll_output(now)),
        }
    }

    pub fn peers(&self) -> Vec<PeerId> {
        match self {
            Self::Node(node) => node.peers(),
            Self::Messenger(messenger) => messenger.peers(),
        }
    }

    pub fn peer_id(&self) -> &PeerId {
        match self {
            Self::Node(node) => node.peer_id(),
            Self::Messenger(messenger) => messenger.peer_id(),
        }
    }
}
