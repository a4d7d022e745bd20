//! Where sessions meet: the rooms, and the outbox of every connection, under one lock.
//!
//! Invariant: what the rooms say is put into the outboxes before the lock is given back, so every peer hears of things in the order in
//! which they happened. Nothing waits while the lock is held. A seat that is dropped, however its session ended, has left.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rtc_battery_proto::signaling::{ClientMessage, ServerMessage};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    ConnectionId, Limits, Notice, Output, ProcessId, Rooms, Share, Token, metrics::Metrics, outbox::Outbox,
    rooms::Registration,
};

/// All rooms and all outboxes.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    pub(crate) metrics: Metrics,
}

#[derive(Debug)]
struct State {
    rooms: Rooms,
    outboxes: HashMap<ConnectionId, Arc<Outbox>>,
    last_connection: u64,
    /// Where what others are to hear goes, while they are in reach.
    shares: Option<mpsc::Sender<Share>>,
}

/// One connection's place among the others.
#[derive(Debug)]
pub(crate) struct Seat {
    hub: Arc<Hub>,
    connection: ConnectionId,
}

impl Hub {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let rooms = Rooms::new(limits.max_room_peers, limits.sample_peers, rand::random());
        let state = State { rooms, outboxes: HashMap::new(), last_connection: 0, shares: None };
        Arc::new(Self { state: Mutex::new(state), metrics: Metrics::new() })
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

    /// Other processes are in reach, and know this one by this name.
    pub(crate) fn share(&self, shares: mpsc::Sender<Share>, process: ProcessId) {
        let mut state = self.lock();
        state.shares = Some(shares);
        state.rooms.share(process);
        self.metrics.redis_up.set(1);
    }

    /// Everybody who is here, room by room.
    pub(crate) fn registrations(&self) -> Vec<(Token, Vec<Registration>)> {
        self.lock().rooms.registrations()
    }

    /// Other processes are out of reach.
    pub(crate) fn go_alone(&self) {
        let mut state = self.lock();
        state.shares = None;
        self.metrics.redis_up.set(0);
        let outputs = state.rooms.go_alone();
        state.perform(outputs, &self.metrics);
    }

    /// Other processes have been out of reach for too long.
    pub(crate) fn forget_others(&self) {
        let mut state = self.lock();
        let outputs = state.rooms.forget_others();
        state.perform(outputs, &self.metrics);
    }

    /// Another process said something.
    pub(crate) fn hear(&self, notice: Notice) {
        let mut state = self.lock();
        let outputs = state.rooms.handle_notice(notice);
        state.perform(outputs, &self.metrics);
    }

    /// How many rooms have somebody in them.
    pub(crate) fn rooms(&self) -> usize {
        self.lock().rooms.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(crate) fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Does what the client says. True when somebody's outbox is longer than it should be.
    pub(crate) fn handle(&self, message: ClientMessage) -> bool {
        let mut state = self.hub.lock();
        let outputs = state.rooms.handle(self.connection, message);
        state.perform(outputs, &self.hub.metrics)
    }

    /// Whether the client is in its room. It may get there without a word: other processes are asked for its name.
    pub(crate) fn has_joined(&self) -> bool {
        self.hub.lock().rooms.has_joined(self.connection)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.outboxes.remove(&self.connection);
        let outputs = state.rooms.disconnect(self.connection);
        state.perform(outputs, &self.hub.metrics);
    }
}

impl State {
    /// True when an outbox is longer than it should be.
    fn perform(&mut self, outputs: Vec<Output>, metrics: &Metrics) -> bool {
        let mut crowded = false;
        for output in outputs {
            match output {
                Output::Deliver { to, message } => crowded |= self.deliver(&to, &message, metrics),
                Output::Replace(connection) => {
                    if let Some(outbox) = self.outboxes.get(&connection) {
                        outbox.replace(metrics);
                    }
                }
                Output::Share(share) => {
                    // A full queue is a store that does not keep up, and must not miss a word: it counts as lost.
                    if self.shares.as_ref().is_some_and(|shares| shares.try_send(share).is_err()) {
                        metrics.limit("redis-queue");
                        self.shares = None;
                    }
                }
            }
        }
        crowded
    }

    fn deliver(&self, to: &[ConnectionId], message: &ServerMessage, metrics: &Metrics) -> bool {
        match message {
            ServerMessage::Error { code, .. } => metrics.error(known(code)),
            ServerMessage::Offer { .. } | ServerMessage::Answer { .. } | ServerMessage::Ice { .. } => {
                metrics.relayed.inc();
            }
            _ => {}
        }
        let text = Utf8Bytes::from(message.encode());
        let mut crowded = false;
        for outbox in to.iter().filter_map(|connection| self.outboxes.get(connection)) {
            crowded |= outbox.push(text.clone(), metrics);
        }
        crowded
    }
}

/// The codes that rooms give, as labels.
fn known(code: &str) -> &'static str {
    use rtc_battery_proto::signaling::code;
    [code::PEER_ID_IN_USE, code::ALREADY_JOINED, code::NOT_JOINED, code::UNKNOWN_PEER, code::ROOM_FULL]
        .into_iter()
        .find(|known| *known == code)
        .unwrap_or("other")
}
