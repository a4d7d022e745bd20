//! [`Net`]: hosts and what is on its way between them, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_core::Now;
use rtc_battery_core::node::{Config, Input, MeshLimits, Messenger, Node, Output, RequestId, UnknownPeer};
use rtc_battery_core::replica::{Params, QueryResult, Replica, Scope, SqlError};
use rtc_battery_proto::{Operation, PeerId, ReplicaId};

use super::server::Server;
use super::{Chances, Faults, Frame, Gossip, Host, Key, Lane, Member};
use crate::plain::PlainPeer;
use crate::random::Random;
use crate::trace::Trace;

/// What happens at its time.
#[derive(Debug)]
pub(super) enum Happening {
    Wake {
        host: usize,
    },
    Report {
        host: usize,
        input: Input,
    },
    /// A report about a link, if the link is still there.
    OfLink {
        key: Key,
        input: Input,
    },
    LateReport {
        key: Key,
        peer: PeerId,
    },
    SocketOpens {
        host: usize,
        socket: u32,
    },
    ToServer {
        socket: u32,
        text: String,
    },
    ToClient {
        host: usize,
        socket: u32,
        text: String,
    },
    SocketCloses {
        host: usize,
        socket: u32,
    },
    Connect {
        one: Key,
        other: Key,
    },
    Departs {
        key: Key,
        lane: Lane,
        bytes: u64,
    },
    Arrives {
        from: Key,
        to: Key,
        lane: Lane,
        frame: Frame,
        sent_ms: u64,
    },
    Closes {
        from: Key,
        to: Key,
    },
    Disconnects {
        key: Key,
    },
    Fails {
        key: Key,
    },
    DiskDone {
        host: usize,
        generation: u64,
    },
}

/// Delays drawn for each message, in milliseconds.
#[derive(Debug, Clone)]
pub struct Delays {
    /// From a socket to the server, or back.
    pub signaling_ms: (u64, u64),
    /// Until a browser reports what happened to a link.
    pub browser_ms: (u64, u64),
    /// From one end of a channel to the other.
    pub channel_ms: (u64, u64),
    /// Until storage has what it was given.
    pub save_ms: (u64, u64),
    /// What a channel carries in a millisecond.
    pub bytes_per_ms: u64,
}

/// Hosts, a signaling server, and everything that is on its way.
#[derive(Debug)]
pub struct Net {
    /// Virtual time.
    pub now_ms: u64,
    /// What a right clock says at virtual time 0.
    pub wall_ms: u64,
    /// By number. The dead stay, so that numbers stay.
    pub hosts: Vec<Host>,
    /// How long things take.
    pub delays: Delays,
    /// Whether those who come seal what goes through the server.
    pub sealed: bool,
    /// How large rooms are meshed.
    pub mesh: MeshLimits,
    /// Whether the signaling server can be reached.
    pub server_up: bool,
    /// What goes wrong by itself, and how often.
    pub chances: Chances,
    /// How often what went wrong.
    pub faults: Faults,
    /// What happened, for people.
    pub trace: Trace,
    /// Late reports that had consequences: at which host, and what.
    pub disturbed: Vec<(usize, String)>,
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    pub(super) server: Server,
    pub(super) sockets: BTreeMap<u32, usize>,
    pub(super) next_socket: u32,
    pub(super) next_session: u64,
    /// Whose connection a session is.
    pub(super) sessions: BTreeMap<u64, Key>,
    /// When the last message of each socket arrives, up and down.
    pub(super) socket_ms: BTreeMap<(u32, bool), u64>,
    /// From whom to whom nothing comes, and what was sent meanwhile.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) stuck: Vec<(Key, Key, Lane, Frame, u64)>,
    /// Whether connections give a second channel to who asks for one.
    pub has_second_channels: bool,
    /// What goes over the links, where somebody listens.
    pub gossip: Option<Gossip>,
    /// Hosts that were polled and nobody looked at since.
    touched: BTreeSet<usize>,
}

impl Net {
    /// A network without hosts.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let delays = Delays {
            signaling_ms: (0, 200),
            browser_ms: (0, 30),
            channel_ms: (1, 50),
            save_ms: (0, 5),
            bytes_per_ms: 20_000,
        };
        Self {
            now_ms: 0,
            wall_ms: 1_700_000_000_000,
            hosts: Vec::new(),
            delays,
            sealed: true,
            mesh: MeshLimits::default(),
            server_up: true,
            chances: Chances::default(),
            faults: Faults::default(),
            trace: Trace::default(),
            disturbed: Vec::new(),
            seed,
            random: Random::new(seed),
            queue: BTreeMap::new(),
            sequence: 0,
            server: Server::new(seed),
            sockets: BTreeMap::new(),
            next_socket: 0,
            next_session: 1,
            sessions: BTreeMap::new(),
            socket_ms: BTreeMap::new(),
            cut: BTreeSet::new(),
            stuck: Vec::new(),
            has_second_channels: true,
            gossip: None,
            touched: BTreeSet::new(),
        }
    }

    /// A network without hosts, on which nobody seals.
    #[must_use]
    pub fn unsealed(seed: u64) -> Self {
        Self { sealed: false, ..Self::new(seed) }
    }

    /// Another node, offline.
    pub fn add(&mut self) -> usize {
        let id = ReplicaId::new(&format!("r{}", self.hosts.len())).unwrap();
        let replica = Replica::open(rusqlite::Connection::open_in_memory().unwrap(), "room", &id).unwrap();
        self.add_with(replica)
    }

    /// Another node with this database, offline.
    pub fn add_with(&mut self, replica: Replica) -> usize {
        let (config, now) = (self.config(), self.now(self.hosts.len()));
        self.add_host(Host::new(Member::Node(Box::new(Node::new(config, replica, now)))))
    }

    /// Another messenger, offline.
    pub fn add_messenger(&mut self) -> usize {
        let (config, now) = (self.config(), self.now(self.hosts.len()));
        self.add_host(Host::new(Member::Messenger(Box::new(Messenger::new(&config, now)))))
    }

    /// Another peer that speaks only the specification, offline.
    pub fn add_plain(&mut self, plain: PlainPeer) -> usize {
        self.add_host(Host::new(Member::Plain(Box::new(plain))))
    }

    /// Another host, offline.
    pub fn add_host(&mut self, host: Host) -> usize {
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// What a new node is given.
    pub fn config(&mut self) -> Config {
        let seed = self.random.seed();
        let (signaling_url, token) = ("ws://server/signal".into(), "room".into());
        Config { signaling_url, token, sealed: self.sealed, mesh: self.mesh, seed }
    }

    /// Sends a host into the room.
    pub fn connect(&mut self, host: usize) {
        let now = self.now(host);
        self.hosts[host].node.connect(now);
        self.poll(host);
    }

    /// Lets a host leave the room.
    pub fn disconnect(&mut self, host: usize) {
        let now = self.now(host);
        self.hosts[host].node.disconnect(now);
        self.poll(host);
    }

    /// Runs SQL that does not fail.
    pub fn exec(&mut self, host: usize, sql: &str) -> QueryResult {
        self.try_exec(host, sql, Scope::Synced).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL.
    ///
    /// # Errors
    /// As [`Node::exec`].
    pub fn try_exec(&mut self, host: usize, sql: &str, scope: Scope) -> Result<QueryResult, SqlError> {
        let result = self.exec_only(host, sql, scope);
        self.poll(host);
        result
    }

    /// Runs SQL, and lets the node do nothing after it.
    ///
    /// # Errors
    /// As [`Node::exec`].
    pub fn exec_only(&mut self, host: usize, sql: &str, scope: Scope) -> Result<QueryResult, SqlError> {
        let now = self.now(host);
        self.hosts[host].node.node().exec(sql, &Params::None, scope, now)
    }

    /// Lets a messenger tell everyone an operation.
    pub fn broadcast(&mut self, host: usize, operation: Operation) {
        let now = self.now(host);
        self.hosts[host].node.messenger().broadcast(operation, now);
        self.poll(host);
    }

    /// Lets a messenger ask another host.
    ///
    /// # Errors
    /// As [`Messenger::request_sync`].
    pub fn request_sync(&mut self, host: usize, from: usize) -> Result<RequestId, UnknownPeer> {
        let (now, peer) = (self.now(host), self.peer(from));
        let request = self.hosts[host].node.messenger().request_sync(&peer, now);
        self.poll(host);
        request
    }

    /// A host's name in the room.
    #[must_use]
    pub fn peer(&self, host: usize) -> PeerId {
        self.hosts[host].node.peer_id().clone()
    }

    /// What a host's clocks say.
    #[must_use]
    pub fn now(&self, host: usize) -> Now {
        let clock = self.hosts.get(host).map(|host| host.clock).unwrap_or_default();
        clock.read(self.wall_ms + self.now_ms, self.now_ms)
    }

    /// A number from `first` to `last`.
    pub fn between(&mut self, range: (u64, u64)) -> u64 {
        self.random.between(range)
    }

    pub(super) fn at(&mut self, at_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.sequence), happening);
    }

    /// The next thing that happens, if it happens before `deadline_ms`.
    pub fn step(&mut self, deadline_ms: u64) -> bool {
        let Some((&(at_ms, _), _)) = self.queue.first_key_value() else { return false };
        if at_ms > deadline_ms {
            return false;
        }
        let Some((_, happening)) = self.queue.pop_first() else { return false };
        self.now_ms = at_ms;
        self.happen(happening);
        true
    }

    /// Lets so much virtual time pass.
    pub fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.step(end_ms) {}
        self.now_ms = end_ms;
    }

    /// Hands an input to a node, as a host or a peer might.
    pub fn feed(&mut self, host: usize, input: Input) {
        let now = self.now(host);
        if let Some(waiting) = &mut self.hosts[host].asleep {
            waiting.push(Happening::Report { host, input });
        } else if !self.hosts[host].dead {
            self.hosts[host].node.handle_input(input, now).unwrap();
            self.poll(host);
        }
    }

    /// Performs what a host's node wants, until it wants nothing.
    pub fn poll(&mut self, host: usize) {
        let now = self.now(host);
        self.touched.insert(host);
        loop {
            match self.hosts[host].node.poll_output(now).unwrap() {
                Output::Effect(effect) => self.perform(host, effect),
                Output::Event(event) => {
                    self.trace.note(self.now_ms, || format!("{host} event {event:?}"));
                    self.hosts[host].events.push(event);
                }
                Output::Idle(wake_at_ms) => {
                    self.hosts[host].wake_at_ms = wake_at_ms;
                    if let Some(wake_at_ms) = wake_at_ms {
                        assert!(wake_at_ms > now.mono_ms, "seed {}: woken at once, for ever", self.seed);
                        self.at(self.now_ms + wake_at_ms - now.mono_ms, Happening::Wake { host });
                    }
                    return self.save(host);
                }
            }
        }
    }

    /// The hosts that were polled since last asked.
    pub fn take_touched(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.touched)
    }
}
