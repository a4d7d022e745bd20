//! Who is in the room: a node with its database, a messenger without one, or a program of somebody else.

use rtc_battery_core::Now;
use rtc_battery_core::node::{Input, Messenger, Node, Output};
use rtc_battery_core::replica::{Replica, StorageError};
use rtc_battery_proto::PeerId;

use crate::plain::PlainPeer;

/// Who a host is for.
#[derive(Debug)]
pub enum Member {
    /// A node with its database.
    Node(Box<Node>),
    /// A messenger without one.
    Messenger(Box<Messenger>),
    /// A program of somebody else, written from the specification.
    Plain(Box<PlainPeer>),
}

impl Member {
    /// The node.
    pub fn node(&mut self) -> &mut Node {
        let Self::Node(node) = self else { panic!("a messenger has no database") };
        node
    }

    /// The messenger.
    pub fn messenger(&mut self) -> &mut Messenger {
        let Self::Messenger(messenger) = self else { panic!("this is a node") };
        messenger
    }

    /// The program of somebody else.
    pub fn plain(&mut self) -> &mut PlainPeer {
        let Self::Plain(plain) = self else { panic!("this is one of ours") };
        plain
    }

    /// Whether it has a database.
    #[must_use]
    pub fn has_replica(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    /// Its database.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        let Self::Node(node) = self else { panic!("a messenger has no database") };
        node.replica()
    }

    /// What is saved is nothing at a messenger's.
    #[must_use]
    pub fn version(&self) -> u64 {
        match self {
            Self::Node(node) => node.version(),
            Self::Messenger(_) | Self::Plain(_) => 0,
        }
    }

    /// Enters the room.
    pub fn connect(&mut self, now: Now) {
        match self {
            Self::Node(node) => node.connect(now),
            Self::Messenger(messenger) => messenger.connect(now),
            Self::Plain(plain) => plain.connect(now),
        }
    }

    /// Leaves the room.
    pub fn disconnect(&mut self, now: Now) {
        match self {
            Self::Node(node) => node.disconnect(now),
            Self::Messenger(messenger) => messenger.disconnect(now),
            Self::Plain(plain) => plain.disconnect(),
        }
    }

    /// Takes what happened.
    ///
    /// # Errors
    /// Its own storage failed.
    pub fn handle_input(&mut self, input: Input, now: Now) -> Result<(), StorageError> {
        match self {
            Self::Node(node) => node.handle_input(input, now),
            Self::Messenger(messenger) => {
                messenger.handle_input(input, now);
                Ok(())
            }
            Self::Plain(plain) => {
                plain.handle_input(input, now);
                Ok(())
            }
        }
    }

    /// The next thing to do.
    ///
    /// # Errors
    /// Its own storage failed.
    pub fn poll_output(&mut self, now: Now) -> Result<Output, StorageError> {
        match self {
            Self::Node(node) => node.poll_output(now),
            Self::Messenger(messenger) => Ok(messenger.poll_output(now)),
            Self::Plain(plain) => Ok(plain.poll_output(now)),
        }
    }

    /// Whom it can talk to.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        match self {
            Self::Node(node) => node.peers(),
            Self::Messenger(messenger) => messenger.peers(),
            Self::Plain(plain) => plain.peers(),
        }
    }

    /// Its name in the room.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        match self {
            Self::Node(node) => node.peer_id(),
            Self::Messenger(messenger) => messenger.peer_id(),
            Self::Plain(plain) => plain.peer_id(),
        }
    }
}
