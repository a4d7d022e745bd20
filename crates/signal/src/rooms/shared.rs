//! Rooms that several processes share: what is said between them, and what it changes.
//!
//! All that other processes say, the answers to this one's own claims included, comes through one inbox, in the order in which the store
//! that they share decided it. So no notice needs a number, and a list that comes in is never older than the notices before it.
//!
//! Invariant: what is here is judged by what is here, what is elsewhere by the notices. A member elsewhere that two lists in a row lack has
//! left; one list may lack it because its process has not found a restarted store yet. Every notice can be told twice without harm.
//!
//! Deliberately unknown here: how notices travel, and when a process counts as dead.

use std::collections::BTreeMap;

use rtc_battery_proto::{
    PeerId,
    signaling::{ResumeKey, ServerMessage},
};

use super::{ConnectionId, Member, Output, Refusal, Rooms, Stage, tell};
use crate::Token;

/// Names a process among those that share rooms, for as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u128);

/// Where a member's socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The process that has it.
    pub process: ProcessId,
    /// What that process calls it.
    pub connection: ConnectionId,
}

/// What is told to other processes, in this order.
#[derive(Debug, Clone)]
pub enum Share {
    /// A connection wants this name. The answer is [`Notice::Entered`] or a refusal.
    Claim {
        /// The room.
        token: Token,
        /// Who wants it.
        connection: ConnectionId,
        /// The name.
        name: PeerId,
        /// What takes the name from whoever brought the same.
        resume: Option<ResumeKey>,
    },
    /// The connection gives its name back.
    Release {
        /// The room.
        token: Token,
        /// Who had it.
        connection: ConnectionId,
        /// The name.
        name: PeerId,
    },
    /// For a member whose socket is elsewhere.
    Relay {
        /// Where.
        process: ProcessId,
        /// The room.
        token: Token,
        /// Whom.
        to: PeerId,
        /// What.
        message: ServerMessage,
    },
    /// A message from elsewhere was for somebody who is not here.
    Unknown {
        /// Where it came from.
        process: ProcessId,
        /// The room.
        token: Token,
        /// Who sent it.
        from: PeerId,
        /// Whom it was for.
        to: PeerId,
    },
}

/// What comes from other processes, or from the store that all of them share.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The connection has the name that it claimed; the others in the room are these.
    Entered {
        /// The room.
        token: Token,
        /// Who.
        connection: ConnectionId,
        /// Everybody else in the room, those on this process included.
        others: Vec<(PeerId, Place)>,
    },
    /// Somebody else has the name that the connection claimed.
    InUse(ConnectionId),
    /// The room of the connection is full.
    Full(ConnectionId),
    /// Somebody came to a room, or took its place at another process.
    Join {
        /// The room.
        token: Token,
        /// Who.
        name: PeerId,
        /// Where.
        place: Place,
    },
    /// Somebody left a room.
    Leave {
        /// The room.
        token: Token,
        /// Who.
        name: PeerId,
        /// Where it was.
        place: Place,
    },
    /// Everybody that the store knows in a room.
    Present {
        /// The room.
        token: Token,
        /// Those on this process included.
        members: Vec<(PeerId, Place)>,
    },
    /// A message from elsewhere.
    Relay {
        /// Where from.
        process: ProcessId,
        /// The room.
        token: Token,
        /// Whom it is for.
        to: PeerId,
        /// What.
        message: ServerMessage,
    },
    /// A message to elsewhere found nobody.
    Unknown {
        /// The room.
        token: Token,
        /// Who sent it.
        from: PeerId,
        /// Whom it was for.
        to: PeerId,
    },
}

/// A member on this process, as the store is to know it.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) name: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) resume: Option<ResumeKey>,
}

impl Rooms {
    /// The other processes are in reach, and know this one by this name: from now on names are claimed.
    pub(crate) fn share(&mut self, process: ProcessId) {
        self.shared = Some(process);
    }

    /// The other processes are out of reach. What was claimed is decided here, by what is known here.
    pub(crate) fn go_alone(&mut self) -> Vec<Output> {
        self.shared = None;
        let claiming = |(id, it): (&ConnectionId, &super::Connection)| match &it.stage {
            Stage::Claiming(joining) => Some((*id, it.token, joining.clone())),
            Stage::New | Stage::Joined(_) => None,
        };
        let claims: Vec<_> = self.connections.iter().filter_map(claiming).collect();
        let mut outputs = Vec::new();
        for (connection, token, joining) in claims {
            match self.admit(token, &joining) {
                Ok(()) => outputs.extend(self.enter(token, connection, joining)),
                Err(refusal) => outputs.push(self.refuse(connection, refusal)),
            }
        }
        outputs
    }

    /// Whoever is elsewhere has been out of reach for so long that it counts as gone.
    pub(crate) fn forget_others(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        for room in self.rooms.values_mut() {
            let elsewhere =
                |(name, member): (&PeerId, &Member)| matches!(member, Member::There { .. }).then(|| name.clone());
            let gone: Vec<PeerId> = room.iter().filter_map(elsewhere).collect();
            for peer_id in gone {
                room.remove(&peer_id);
                outputs.extend(tell(room, ServerMessage::PeerLeave { peer_id }));
            }
        }
        outputs
    }

    /// Everybody on this process, room by room.
    pub(crate) fn registrations(&self) -> Vec<(Token, Vec<Registration>)> {
        let here = |(name, member): (&PeerId, &Member)| match member {
            Member::Here { connection, resume } => {
                Some(Registration { name: name.clone(), connection: *connection, resume: resume.clone() })
            }
            Member::There { .. } => None,
        };
        self.rooms.iter().map(|(token, room)| (*token, room.iter().filter_map(here).collect())).collect()
    }

    /// Another process, or the store, said something.
    pub fn handle_notice(&mut self, notice: Notice) -> Vec<Output> {
        match notice {
            Notice::Entered { token, connection, others } => self.entered(token, connection, others),
            Notice::InUse(connection) => match self.claim(connection) {
                Some(joining) => vec![self.refuse(connection, Refusal::in_use(&joining.name))],
                None => Vec::new(),
            },
            Notice::Full(connection) if self.claim(connection).is_some() => {
                vec![self.refuse(connection, Refusal::full(self.max_room_peers))]
            }
            Notice::Full(_) => Vec::new(),
            Notice::Join { token, name, place } => self.seen(token, name, place),
            Notice::Leave { token, name, place } => self.left(token, &name, place),
            Notice::Present { token, members } => self.present(token, members),
            Notice::Relay { process, token, to, message } => vec![self.relayed(process, token, to, message)],
            Notice::Unknown { token, from, to } => match self.rooms.get(&token).and_then(|room| room.get(&from)) {
                Some(Member::Here { connection, .. }) => vec![Refusal::unknown(&to).to(*connection)],
                _ => Vec::new(),
            },
        }
    }

    /// Gives the connection's name back to all processes, where they know of it.
    pub(super) fn release(&self, token: Token, connection: ConnectionId, name: PeerId) -> Option<Output> {
        self.shared.map(|_| Output::Share(Share::Release { token, connection, name }))
    }

    fn claim(&self, connection: ConnectionId) -> Option<&super::Joining> {
        match &self.connections.get(&connection)?.stage {
            Stage::Claiming(joining) => Some(joining),
            Stage::New | Stage::Joined(_) => None,
        }
    }

    fn refuse(&mut self, connection: ConnectionId, refusal: Refusal) -> Output {
        self.unseat(connection);
        refusal.to(connection)
    }

    fn entered(&mut self, token: Token, connection: ConnectionId, others: Vec<(PeerId, Place)>) -> Vec<Output> {
        let Some(joining) = self.claim(connection).cloned() else { return Vec::new() };
        // The room must be there for what others say of it to count.
        let mut outputs = Vec::new();
        let elsewhere: Vec<_> = others.into_iter().filter(|(_, place)| Some(place.process) != self.shared).collect();
        let room = self.rooms.entry(token).or_default();
        for (name, place) in elsewhere {
            if !room.contains_key(&name) {
                outputs.extend(tell(room, ServerMessage::PeerJoin { peer_id: name.clone() }));
                room.insert(name, Member::There { place, missed: false });
            }
        }
        outputs.extend(self.enter(token, connection, joining));
        outputs
    }

    /// Somebody is elsewhere. Whoever has the name here has lost it.
    fn seen(&mut self, token: Token, name: PeerId, place: Place) -> Vec<Output> {
        if Some(place.process) == self.shared {
            return Vec::new();
        }
        let Some(room) = self.rooms.get_mut(&token) else { return Vec::new() };
        let before = room.insert(name.clone(), Member::There { place, missed: false });
        match before {
            None => tell(room, ServerMessage::PeerJoin { peer_id: name }).into_iter().collect(),
            Some(Member::There { .. }) => Vec::new(),
            Some(Member::Here { connection, .. }) => {
                if !room.values().any(|member| matches!(member, Member::Here { .. })) {
                    self.rooms.remove(&token);
                }
                self.unseat(connection);
                vec![Output::Replace(connection)]
            }
        }
    }

    fn left(&mut self, token: Token, name: &PeerId, place: Place) -> Vec<Output> {
        match self.rooms.get(&token).and_then(|room| room.get(name)) {
            Some(Member::There { place: known, .. }) if *known == place => self.remove(&token, name),
            _ => Vec::new(),
        }
    }

    fn present(&mut self, token: Token, members: Vec<(PeerId, Place)>) -> Vec<Output> {
        let listed: BTreeMap<PeerId, Place> = members.into_iter().collect();
        let mut gone = Vec::new();
        for (name, member) in self.rooms.get_mut(&token).into_iter().flatten() {
            if let Member::There { missed, .. } = member
                && !listed.contains_key(name)
            {
                if *missed {
                    gone.push(name.clone());
                }
                *missed = true;
            }
        }
        let mut outputs: Vec<Output> = gone.iter().flat_map(|name| self.remove(&token, name)).collect();
        for (name, place) in listed {
            outputs.extend(self.seen(token, name, place));
        }
        outputs
    }

    fn relayed(&self, process: ProcessId, token: Token, to: PeerId, message: ServerMessage) -> Output {
        match (self.rooms.get(&token).and_then(|room| room.get(&to)), message.from()) {
            (Some(Member::Here { connection, .. }), _) => Output::Deliver { to: vec![*connection], message },
            (_, Some(from)) => Output::Share(Share::Unknown { process, token, from: from.clone(), to }),
            (_, None) => Output::Deliver { to: Vec::new(), message },
        }
    }
}

#[cfg(test)]
mod tests;
