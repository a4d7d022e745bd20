//! The node: a room and a replica, and a sync session with each peer.

use std::collections::BTreeMap;

use rtc_battery_proto::PeerId;
use rtc_battery_proto::frame::Body;
use rusqlite::Connection;

use super::callers::Callers;
use super::clones::Clones;
use super::courtesy::Turn;
use super::inbox::Inbox;
use super::io::{ErrorCode, Event, Input, LinkId, Output};
use super::link::Link;
use super::replication::Asking;
use super::room::{Config, Room};
use super::session::{Saved, Session};
use super::waiting::Turns;
use crate::replica::{
    Applied, DEFAULT_RETENTION_MS, ImportError, Params, QueryResult, Salvaged, Scope, SqlError, StorageError,
};
use crate::{Now, Replica};

/// Anti-entropy: peers that lack something and were not told so are told after 10 to 30 s. In milliseconds.
const ANNOUNCE_MS: (u64, u64) = (10_000, 30_000);

/// A peer of a room, with its database. See the [module](super).
#[derive(Debug)]
pub struct Node {
    pub(super) room: Room,
    pub(super) replica: Replica,
    /// Of links whose channels are open.
    pub(super) sessions: BTreeMap<LinkId, Session>,
    pub(super) saved: Saved,
    pub(super) inbox: Inbox,
    pub(super) asking: Option<Asking>,
    /// Whether somebody may have something to ask for.
    pub(super) ask_due: bool,
    pub(super) callers: Callers,
    pub(super) clones: Clones,
    /// Links over which a peer of ours has said who it is, and of which no note was taken yet.
    pub(super) greeted: Vec<LinkId>,
    /// For how long deleted rows are remembered at least, in milliseconds.
    pub(super) retention_ms: u64,
    pub(super) turns: Turns,
    announce_at_ms: u64,
}

impl Node {
    /// A node that is offline. What the replica holds counts as saved.
    #[must_use]
    pub fn new(config: Config, replica: Replica, now: Now) -> Self {
        Self {
            room: Room::new(&config, now),
            saved: Saved { vector: replica.vector().clone(), version: replica.version() },
            replica,
            sessions: BTreeMap::new(),
            inbox: Inbox::default(),
            asking: None,
            ask_due: false,
            callers: Callers::default(),
            clones: Clones::default(),
            greeted: Vec::new(),
            retention_ms: DEFAULT_RETENTION_MS,
            turns: Turns::default(),
            announce_at_ms: 0,
        }
    }

    /// Remembers rows that are deleted for this long, and longer where somebody who was met in this time has not heard of it. In milliseconds; 30 days where nothing is
    /// said. A device that is away for longer takes what its peers have.
    pub fn remember_deleted_for(&mut self, retention_ms: u64) {
        self.retention_ms = retention_ms;
    }

    /// Enters the room, and stays or comes back until [`disconnect`](Self::disconnect). Nothing waits for it: the database works before.
    pub fn connect(&mut self, now: Now) {
        self.room.connect(now);
    }

    /// Leaves the room: says `bye` to everyone, waits for their answers for at most 2 s, closes everything. Then comes
    /// [`Event::Closed`](super::Event::Closed).
    pub fn disconnect(&mut self, now: Now) {
        self.room.disconnect(now.mono_ms);
    }

    /// Runs SQL. What it commits is told to peers once it is saved.
    ///
    /// # Errors
    /// [`SqlError`] of the first statement that fails.
    pub fn exec(&mut self, sql: &str, params: &Params, scope: Scope, now: Now) -> Result<QueryResult, SqlError> {
        self.replica.exec(sql, params, scope, now)
    }

    /// The database as a plain SQLite file.
    ///
    /// # Errors
    /// As [`Replica::export`].
    pub fn export(&self) -> Result<Vec<u8>, StorageError> {
        self.replica.export()
    }

    /// Takes in a plain SQLite file; what it brings is told to peers once it is saved.
    ///
    /// # Errors
    /// As [`Replica::import`].
    pub fn import(&mut self, file: &[u8], now: Now) -> Result<Applied, ImportError> {
        self.replica.import(file, now).map(|(applied, _)| applied)
    }

    /// Takes in what can be read of a damaged database of this room; it is told to peers once it is saved.
    ///
    /// # Errors
    /// As [`Replica::salvage`].
    pub fn salvage(&mut self, damaged: Connection, now: Now) -> Result<Salvaged, StorageError> {
        self.replica.salvage(damaged, now)
    }

    /// Takes what happened outside. Poll the outputs afterwards.
    ///
    /// # Errors
    /// [`StorageError`]: our own storage failed. What others send never gives one.
    pub fn handle_input(&mut self, input: Input, now: Now) -> Result<(), StorageError> {
        self.look_at_clock(now);
        match &input {
            Input::Saved { version } => self.handle_saved(*version),
            // A part of a message is progress too.
            Input::ChannelBinary { link, .. } | Input::BulkBinary { link, .. } => {
                self.note_progress(*link, now.mono_ms)
            }
            _ => {}
        }
        self.take_waiting(&input, now.mono_ms);
        if let Some(heard) = self.room.handle_input(input, now.mono_ms) {
            self.handle_heard(heard, now.mono_ms);
        }
        self.settle(now)
    }

    /// The next thing to perform or tell. Poll until [`Output::Idle`]: after each input, after each command, and when it is time to wake.
    ///
    /// # Errors
    /// [`StorageError`]: our own storage failed.
    pub fn poll_output(&mut self, now: Now) -> Result<Output, StorageError> {
        self.look_at_clock(now);
        self.settle(now)?;
        for table in self.replica.take_automatic_keys() {
            self.room.outputs.event(Event::AutomaticKeys { table });
        }
        loop {
            if let Some(output) = self.room.outputs.pop() {
                return Ok(output);
            }
            let wake_at_ms = self.wake_at_ms(now);
            if wake_at_ms.is_some_and(|at_ms| at_ms <= now.mono_ms) {
                self.handle_timeouts(now)?;
                self.settle(now)?;
            } else if !self.pump(now.mono_ms)? && !self.room.has_closed() && !self.ask_to_yield() {
                return Ok(self.room.rest(wake_at_ms));
            }
        }
    }

    /// The peers that can be talked to.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerId> {
        self.room.joined()
    }

    /// Our name in the room.
    #[must_use]
    pub fn peer_id(&self) -> &PeerId {
        &self.room.me
    }

    /// The database.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// [`Replica::version`]: what the host reports back in [`Input::Saved`] once it saved what was committed up to now.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.replica.version()
    }

    fn look_at_clock(&mut self, now: Now) {
        if self.room.look_at_clock(now)
            && let Some(asking) = &mut self.asking
        {
            asking.progress_at_ms = now.mono_ms;
        }
    }

    /// When something may be due next.
    fn wake_at_ms(&self, now: Now) -> Option<u64> {
        let has_open_links = self.room.links.values().any(Link::is_open);
        let announce_at_ms = has_open_links.then_some(self.announce_at_ms);
        let release_at_ms = self.release_at_ms(now);
        let look_back_at_ms = self.look_back_at_ms(now);
        let others = [announce_at_ms, self.callers.wake_at_ms(), release_at_ms, look_back_at_ms];
        [self.room.wake_at_ms(), self.stall_at_ms()].into_iter().chain(others).flatten().min()
    }

    fn handle_timeouts(&mut self, now: Now) -> Result<(), StorageError> {
        self.end_idle_transaction(now)?;
        let now_ms = now.mono_ms;
        self.room.handle_timeouts(now_ms);
        if self.stall_at_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.stop_asking();
        }
        if self.announce_at_ms <= now_ms {
            self.announce_at_ms = now_ms + self.room.random.between(ANNOUNCE_MS.0, ANNOUNCE_MS.1);
            for (id, session) in &mut self.sessions {
                if let Some(channel) = self.room.channel(*id) {
                    session.announce_if_lacking(&channel.courtesy, &self.saved);
                }
            }
            self.join_floors()?;
            self.tell_digests()?;
        }
        Ok(())
    }

    /// Asks for the next message of each channel that takes one, and hands over what there is. Whether anything was handed over.
    fn pump(&mut self, now_ms: u64) -> Result<bool, StorageError> {
        let (now, degree) = (self.room.now(), self.room.degree());
        let Room { links, outputs, .. } = &mut self.room;
        let (mut parted, mut round) = (Vec::new(), self.turns.round());
        for (&id, link) in links {
            let Some(channel) = &mut link.channel else { continue };
            let session = self.sessions.entry(id).or_default();
            let max_message_bytes = channel.outbox.max_message_bytes();
            channel.report_taken(self.inbox.waiting_bytes(id));
            let message = match channel.turn(now, degree) {
                Turn::FirstWord => Some(session.hello(&self.replica, &self.saved, degree).into()),
                Turn::Open { leaving } if channel.courtesy.is_plain() => {
                    let message = session.next_plain_message(&self.replica, &self.saved, max_message_bytes, leaving)?;
                    if leaving && message.is_none() {
                        parted.push(id);
                    }
                    message.map(Body::Text)
                }
                Turn::Open { leaving } => {
                    if leaving {
                        channel.bulk.give_up();
                    }
                    let lane = channel.bulk.lane();
                    let may_speak = channel.flow.has_room();
                    let message = session.next_message(&self.replica, &self.saved, lane, leaving, may_speak)?;
                    if leaving && message.is_none() && !session.has_to_tell() && channel.bulk.outbox.is_empty() {
                        channel.say_bye();
                    }
                    message
                }
                Turn::Say(_) | Turn::Silence => None,
            };
            if let Some(message) = message {
                channel.say(message);
            }
            if channel.wants_bulk()
                && round.may_make()
                && let Some(message) = session.next_large(&self.replica, &self.saved, channel.courtesy.is_leaving())?
            {
                channel.bulk.outbox.push_framed(&message);
                round.made();
            }
            let skipped = session.take_skipped();
            if skipped > 0 {
                let message = format!(
                    "Left out {skipped} operations larger than the {max_message_bytes} bytes that a peer takes."
                );
                outputs.error(ErrorCode::TooLarge, message, Some(&link.peer));
            }
        }
        self.turns.end_round(round);
        let any = self.room.flush(now_ms) || !parted.is_empty();
        self.room.part(parted, now_ms);
        Ok(any)
    }
}
