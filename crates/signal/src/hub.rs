//! Where sessions meet: the rooms, and the outbox of every connection, under one lock.
//!
//! Invariant: what the rooms say is put into the outboxes before the lock is given back, so every peer hears of things in the order in
//! which they happened. Nothing waits while the lock is held. A seat that is dropped, however its session ended, has left.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rtc_battery_proto::signaling::ClientMessage;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{ConnectionId, Delivery, Rooms, Token, outbox::Outbox};

/// All rooms and all outboxes.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rooms: Rooms,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    last_connection: u64,
}

/// One connection's place among the others.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Arc<Hub>,
    connection: ConnectionId,
}

/// What a session minds after a message was handled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handled {
    /// The connection is in its room.
    pub(crate) joined: bool,
    /// Somebody's outbox is longer than it should be.
    pub(crate) crowded: bool,
}

impl Hub {
    pub(crate) fn new(max_room_peers: usize) -> Arc<Self> {
        let state = State { rooms: Rooms::new(max_room_peers), outboxes: HashMap::new(), last_connection: 0 };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Takes a new connection in. It is in no room until it joins.
    pub(crate) fn enter(self: &Arc<Self>, token: Token, outbox: Arc<Outbox>) -> Seat {
        let mut state = self.lock();
        state.last_connection += 1;
        let connection = ConnectionId(state.last_connection);
        state.rooms.connect(connection, token);
        state.outboxes.insert(connection, outbox);
        Seat { hub: Arc::clone(self), connection }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(crate) fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Does what the client says.
    pub(crate) fn handle(&self, message: ClientMessage) -> Handled {
        let mut state = self.hub.lock();
        let deliveries = state.rooms.handle(self.connection, message);
        Handled { crowded: state.deliver(deliveries), joined: state.rooms.has_joined(self.connection) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.outboxes.remove(&self.connection);
        let deliveries = state.rooms.disconnect(self.connection);
        state.deliver(deliveries);
    }
}

impl State {
    /// True when an outbox is longer than it should be.
    fn deliver(&self, deliveries: Vec<Delivery>) -> bool {
        let mut crowded = false;
        for Delivery { to, message } in deliveries.into_iter().filter(|delivery| !delivery.to.is_empty()) {
            let text = Utf8Bytes::from(message.encode());
            for outbox in to.iter().filter_map(|connection| self.outboxes.get(connection)) {
                crowded |= outbox.push(text.clone());
            }
        }
        crowded
    }
}
