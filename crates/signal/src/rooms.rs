//! Who is in which room, and who is told what. Inputs in, deliveries out.
//!
//! Invariant: a connection is in at most one room, under one name, that no other connection of that room has; a room without members does
//! not exist. `from` is always the sender's own name, and a message reaches members of the sender's room only. A departure is by connection,
//! not by name, so a late one cannot evict whoever has the name since.
//!
//! Deliberately unknown here: sockets, queues, time, what is in a description, and any bound but the room's size.

use std::collections::{BTreeMap, HashMap};

use rtc_battery_proto::{
    PeerId,
    signaling::{ClientMessage, ServerMessage, code},
};

use crate::Token;

/// Names a socket for as long as the server runs. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A message and the connections it goes to. Deliveries are to be made in the order given.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Whom it goes to.
    pub to: Vec<ConnectionId>,
    /// What.
    pub message: ServerMessage,
}

/// All rooms.
#[derive(Debug)]
pub struct Rooms {
    max_room_peers: usize,
    connections: HashMap<ConnectionId, Connection>,
    rooms: HashMap<Token, Room>,
}

/// By name, so that lists come in an order that does not depend on chance.
type Room = BTreeMap<PeerId, ConnectionId>;

#[derive(Debug)]
struct Connection {
    token: Token,
    /// Its name in the room, once joined.
    name: Option<PeerId>,
}

/// What an error says: a code and a sentence.
struct Refusal(&'static str, String);

impl Rooms {
    /// No rooms yet; each may have up to `max_room_peers`.
    #[must_use]
    pub fn new(max_room_peers: usize) -> Self {
        Self { max_room_peers, connections: HashMap::new(), rooms: HashMap::new() }
    }

    /// A socket was opened with this token. It is in no room until it joins.
    pub fn connect(&mut self, connection: ConnectionId, token: Token) {
        self.connections.insert(connection, Connection { token, name: None });
    }

    /// A message came in. What cannot be done is answered by an error to the sender and changes nothing.
    pub fn handle(&mut self, connection: ConnectionId, message: ClientMessage) -> Vec<Delivery> {
        let outcome = match message {
            ClientMessage::Join { peer_id } => self.join(connection, peer_id),
            ClientMessage::Offer { to, sdp } => self.relay(connection, &to, |from| ServerMessage::Offer { from, sdp }),
            ClientMessage::Answer { to, sdp } => {
                self.relay(connection, &to, |from| ServerMessage::Answer { from, sdp })
            }
            ClientMessage::Ice { to, candidate } => {
                self.relay(connection, &to, |from| ServerMessage::Ice { from, candidate })
            }
        };
        outcome.unwrap_or_else(|Refusal(code, message)| {
            let message = ServerMessage::Error { code: code.into(), message };
            vec![Delivery { to: vec![connection], message }]
        })
    }

    /// The socket is gone.
    pub fn disconnect(&mut self, connection: ConnectionId) -> Vec<Delivery> {
        let Some(Connection { token, name: Some(name) }) = self.connections.remove(&connection) else {
            return Vec::new();
        };
        let Some(room) = self.rooms.get_mut(&token) else { return Vec::new() };
        room.remove(&name);
        if room.is_empty() {
            self.rooms.remove(&token);
            return Vec::new();
        }
        vec![Delivery { to: room.values().copied().collect(), message: ServerMessage::PeerLeave { peer_id: name } }]
    }

    /// Whether the connection is in its room.
    #[must_use]
    pub fn has_joined(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|it| it.name.is_some())
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

    fn join(&mut self, connection: ConnectionId, name: PeerId) -> Result<Vec<Delivery>, Refusal> {
        let Some(joiner) = self.connections.get_mut(&connection) else { return Ok(Vec::new()) };
        if let Some(current) = &joiner.name {
            return Err(Refusal(code::ALREADY_JOINED, format!("this socket has already joined as {current}")));
        }
        let present = self.rooms.get(&joiner.token);
        if present.is_some_and(|room| room.contains_key(&name)) {
            return Err(Refusal(code::PEER_ID_IN_USE, format!("{name} is in the room; join under another peer id")));
        }
        if present.map_or(0, BTreeMap::len) >= self.max_room_peers {
            return Err(Refusal(code::ROOM_FULL, format!("the room has its {} peers", self.max_room_peers)));
        }
        joiner.name = Some(name.clone());
        let room = self.rooms.entry(joiner.token.clone()).or_default();
        let peers = ServerMessage::Peers { peer_ids: room.keys().cloned().collect() };
        let others = room.values().copied().collect();
        room.insert(name.clone(), connection);
        Ok(vec![
            Delivery { to: vec![connection], message: peers },
            Delivery { to: others, message: ServerMessage::PeerJoin { peer_id: name } },
        ])
    }

    fn relay(
        &self,
        connection: ConnectionId,
        to: &PeerId,
        message: impl FnOnce(PeerId) -> ServerMessage,
    ) -> Result<Vec<Delivery>, Refusal> {
        let Some(sender) = self.connections.get(&connection) else { return Ok(Vec::new()) };
        let Some(from) = &sender.name else {
            return Err(Refusal(code::NOT_JOINED, "join before sending to others".into()));
        };
        let target = self.rooms.get(&sender.token).and_then(|room| room.get(to));
        let target = target.ok_or_else(|| Refusal(code::UNKNOWN_PEER, format!("{to} is not in the room")))?;
        Ok(vec![Delivery { to: vec![*target], message: message(from.clone()) }])
    }
}

#[cfg(test)]
mod tests;
