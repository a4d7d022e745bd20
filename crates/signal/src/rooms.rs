//! Who is in which room, and who is told what. Inputs in, outputs out.
//!
//! Invariant: a connection is in at most one room, under one name, that no other connection of that room has; a room without a member on
//! this process does not exist here. `from` is always the sender's own name, and a message reaches members of the sender's room only. A
//! departure is by connection, not by name, so a late one cannot evict whoever has the name since.
//!
//! Several processes may share their rooms ([`shared`]): then a name is claimed from all of them before its owner is in, and some members
//! are elsewhere.
//!
//! Deliberately unknown here: sockets, queues, time, Redis, what is in a description, and any bound but the room's size.

mod peers;
mod shared;

use std::collections::{BTreeMap, HashMap};

use rand::{SeedableRng, rngs::SmallRng};
use rtc_battery_proto::{
    PeerId,
    signaling::{ClientMessage, ResumeKey, ServerMessage, code},
};

pub(crate) use self::shared::Registration;
pub use self::shared::{Notice, Place, ProcessId, Share};
use crate::Token;

/// Names a socket for as long as the server runs. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What is to be done, in the order given.
#[derive(Debug, Clone)]
pub enum Output {
    /// A message and the connections it goes to.
    Deliver {
        /// Whom it goes to.
        to: Vec<ConnectionId>,
        /// What.
        message: ServerMessage,
    },
    /// Another socket of the same client has this one's place. It is told, and closed.
    Replace(ConnectionId),
    /// Something that other processes are to hear.
    Share(Share),
}

/// All rooms.
#[derive(Debug)]
pub struct Rooms {
    max_room_peers: usize,
    sample_peers: usize,
    /// How other processes know this one, while they are in reach: then names are claimed.
    shared: Option<ProcessId>,
    random: SmallRng,
    connections: HashMap<ConnectionId, Connection>,
    rooms: HashMap<Token, Room>,
}

/// By name, so that lists come in an order that does not depend on chance.
type Room = BTreeMap<PeerId, Member>;

#[derive(Debug)]
enum Member {
    Here {
        connection: ConnectionId,
        resume: Option<ResumeKey>,
    },
    There {
        place: Place,
        /// The last list that others agreed on did not have it.
        missed: bool,
    },
}

#[derive(Debug)]
struct Connection {
    token: Token,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It has said nothing yet, or lost its name to another socket.
    New,
    /// Other processes are being asked for the name.
    Claiming(Joining),
    Joined(PeerId),
}

#[derive(Debug, Clone)]
struct Joining {
    name: PeerId,
    resume: Option<ResumeKey>,
    sample: bool,
}

/// What an error says: a code and a sentence.
struct Refusal(&'static str, String);

impl Rooms {
    /// No rooms yet. Each may have up to `max_room_peers`; who asks for a sample is told `sample_peers` of them, drawn by `seed`.
    #[must_use]
    pub fn new(max_room_peers: usize, sample_peers: usize, seed: u64) -> Self {
        Self {
            max_room_peers,
            sample_peers,
            shared: None,
            random: SmallRng::seed_from_u64(seed),
            connections: HashMap::new(),
            rooms: HashMap::new(),
        }
    }

    /// A socket was opened with this token. It is in no room until it joins.
    pub fn connect(&mut self, connection: ConnectionId, token: Token) {
        self.connections.insert(connection, Connection { token, stage: Stage::New });
    }

    /// A message came in. What cannot be done is answered by an error to the sender and changes nothing.
    pub fn handle(&mut self, connection: ConnectionId, message: ClientMessage) -> Vec<Output> {
        let outcome = match message {
            ClientMessage::Join { peer_id, resume, sample } => {
                self.join(connection, Joining { name: peer_id, resume, sample })
            }
            ClientMessage::Sample => self.sample(connection),
            ClientMessage::Offer { to, sdp } => self.relay(connection, to, |from| ServerMessage::Offer { from, sdp }),
            ClientMessage::Answer { to, sdp } => self.relay(connection, to, |from| ServerMessage::Answer { from, sdp }),
            ClientMessage::Ice { to, candidate } => {
                self.relay(connection, to, |from| ServerMessage::Ice { from, candidate })
            }
        };
        outcome.unwrap_or_else(|refusal| vec![refusal.to(connection)])
    }

    /// The socket is gone.
    pub fn disconnect(&mut self, connection: ConnectionId) -> Vec<Output> {
        let Some(Connection { token, stage }) = self.connections.remove(&connection) else { return Vec::new() };
        match stage {
            Stage::New => Vec::new(),
            Stage::Claiming(Joining { name, .. }) => self.release(token, connection, name).into_iter().collect(),
            Stage::Joined(name) => {
                let mut outputs = self.remove(&token, &name);
                outputs.extend(self.release(token, connection, name));
                outputs
            }
        }
    }

    /// Whether the connection is in its room.
    #[must_use]
    pub fn has_joined(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|it| matches!(it.stage, Stage::Joined(_)))
    }

    /// How many rooms have somebody in them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether nobody is anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    fn join(&mut self, connection: ConnectionId, joining: Joining) -> Result<Vec<Output>, Refusal> {
        let Some(joiner) = self.connections.get_mut(&connection) else { return Ok(Vec::new()) };
        let token = joiner.token;
        match &joiner.stage {
            Stage::New => {}
            Stage::Claiming(Joining { name, .. }) | Stage::Joined(name) => {
                return Err(Refusal(code::ALREADY_JOINED, format!("this socket has already joined as {name}")));
            }
        }
        if self.shared.is_some() {
            let Joining { name, resume, .. } = joining.clone();
            joiner.stage = Stage::Claiming(joining);
            return Ok(vec![Output::Share(Share::Claim { token, connection, name, resume })]);
        }
        self.admit(token, &joining)?;
        Ok(self.enter(token, connection, joining))
    }

    /// Whether there is a place for the newcomer, as far as this process knows.
    fn admit(&self, token: Token, Joining { name, resume, .. }: &Joining) -> Result<(), Refusal> {
        let Some(room) = self.rooms.get(&token) else { return Ok(()) };
        match room.get(name) {
            Some(Member::Here { resume: Some(held), .. }) if Some(held) == resume.as_ref() => Ok(()),
            Some(_) => Err(Refusal::in_use(name)),
            None if room.len() >= self.max_room_peers => Err(Refusal::full(self.max_room_peers)),
            None => Ok(()),
        }
    }

    /// The newcomer is in, in the place of whoever had the name.
    fn enter(&mut self, token: Token, connection: ConnectionId, joining: Joining) -> Vec<Output> {
        let Some(joiner) = self.connections.get_mut(&connection) else { return Vec::new() };
        let Joining { name, resume, sample } = joining;
        joiner.stage = Stage::Joined(name.clone());
        let room = self.rooms.entry(token).or_default();
        let before = room.remove(&name);
        let peers = peers::list(room, None, sample.then_some(self.sample_peers), &mut self.random);
        let mut outputs = vec![Output::Deliver { to: vec![connection], message: peers }];
        match before {
            Some(Member::Here { connection: old, .. }) => outputs.push(Output::Replace(old)),
            Some(Member::There { .. }) => {}
            None => outputs.extend(tell(room, ServerMessage::PeerJoin { peer_id: name.clone() })),
        }
        room.insert(name, Member::Here { connection, resume });
        if let Some(Output::Replace(old)) = outputs.get(1) {
            self.unseat(*old);
        }
        outputs
    }

    /// The socket has its name no more, and whatever becomes of it is of no interest to the room.
    fn unseat(&mut self, connection: ConnectionId) {
        if let Some(it) = self.connections.get_mut(&connection) {
            it.stage = Stage::New;
        }
    }

    /// Takes a member out of its room.
    fn remove(&mut self, token: &Token, name: &PeerId) -> Vec<Output> {
        let Some(room) = self.rooms.get_mut(token) else { return Vec::new() };
        room.remove(name);
        if !room.values().any(|member| matches!(member, Member::Here { .. })) {
            self.rooms.remove(token);
            return Vec::new();
        }
        tell(room, ServerMessage::PeerLeave { peer_id: name.clone() }).into_iter().collect()
    }

    fn sample(&mut self, connection: ConnectionId) -> Result<Vec<Output>, Refusal> {
        let Some(Connection { token, stage }) = self.connections.get(&connection) else { return Ok(Vec::new()) };
        let Stage::Joined(name) = stage else { return Err(Refusal::not_joined()) };
        let Some(room) = self.rooms.get(token) else { return Ok(Vec::new()) };
        let message = peers::list(room, Some(name), Some(self.sample_peers), &mut self.random);
        Ok(vec![Output::Deliver { to: vec![connection], message }])
    }

    fn relay(
        &self,
        connection: ConnectionId,
        to: PeerId,
        message: impl FnOnce(PeerId) -> ServerMessage,
    ) -> Result<Vec<Output>, Refusal> {
        let Some(sender) = self.connections.get(&connection) else { return Ok(Vec::new()) };
        let Stage::Joined(from) = &sender.stage else {
            return Err(Refusal::not_joined());
        };
        let target = self.rooms.get(&sender.token).and_then(|room| room.get(&to));
        Ok(vec![match target {
            Some(Member::Here { connection, .. }) => {
                Output::Deliver { to: vec![*connection], message: message(from.clone()) }
            }
            Some(Member::There { place, .. }) if self.shared.is_some() => {
                let (process, message) = (place.process, message(from.clone()));
                Output::Share(Share::Relay { process, token: sender.token, to, message })
            }
            Some(Member::There { .. }) => {
                return Err(Refusal(code::UNKNOWN_PEER, format!("{to} cannot be reached at the moment")));
            }
            None => return Err(Refusal::unknown(&to)),
        }])
    }
}

impl Refusal {
    fn in_use(name: &PeerId) -> Self {
        Self(code::PEER_ID_IN_USE, format!("{name} is in the room; join under another peer id"))
    }

    fn full(max_room_peers: usize) -> Self {
        Self(code::ROOM_FULL, format!("the room has its {max_room_peers} peers"))
    }

    fn not_joined() -> Self {
        Self(code::NOT_JOINED, "join before anything else".into())
    }

    fn unknown(name: &PeerId) -> Self {
        Self(code::UNKNOWN_PEER, format!("{name} is not in the room"))
    }

    fn to(self, connection: ConnectionId) -> Output {
        let Self(code, message) = self;
        Output::Deliver { to: vec![connection], message: ServerMessage::Error { code: code.into(), message } }
    }
}

/// The message to every member of the room whose socket is here. None: there is none.
fn tell(room: &Room, message: ServerMessage) -> Option<Output> {
    let here = |member: &Member| match member {
        Member::Here { connection, .. } => Some(*connection),
        Member::There { .. } => None,
    };
    let to: Vec<ConnectionId> = room.values().filter_map(here).collect();
    (!to.is_empty()).then_some(Output::Deliver { to, message })
}

#[cfg(test)]
mod tests;
