//! A deterministic network in memory: nodes, a signaling server, connections, virtual time. One seed is one course of events.
//!
//! Signaling keeps the order of each socket, channels keep the order of each direction; everything else may overtake.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod connection;
mod host;
mod member;
mod perform;
mod server;

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_core::Now;
use rtc_battery_core::node::{Config, Event, Input, LinkId, Messenger, Node, Output, RequestId, UnknownPeer};
use rtc_battery_core::replica::{Params, QueryResult, Replica, Scope};
use rtc_battery_proto::{Operation, PeerId, ReplicaId, SqlValue};

pub use self::host::{Frame, Host};
pub use self::member::Member;
use self::server::Server;

/// One end of a link.
pub type Key = (usize, LinkId);

enum Happening {
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
        bytes: u64,
    },
    Arrives {
        from: Key,
        to: Key,
        frame: Frame,
    },
    Closes {
        from: Key,
        to: Key,
    },
    Disconnects {
        key: Key,
    },
}

/// Delays drawn for each message, in milliseconds.
pub struct Delays {
    pub signaling_ms: (u64, u64),
    pub browser_ms: (u64, u64),
    pub channel_ms: (u64, u64),
    pub save_ms: (u64, u64),
    /// What a channel carries in a millisecond.
    pub bytes_per_ms: u64,
}

pub struct Net {
    pub now_ms: u64,
    pub wall_ms: u64,
    pub hosts: Vec<Host>,
    pub delays: Delays,
    pub server_up: bool,
    seed: u64,
    random: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    server: Server,
    sockets: BTreeMap<u32, usize>,
    next_socket: u32,
    next_session: u64,
    /// Whose connection a session is.
    sessions: BTreeMap<u64, Key>,
    /// When the last message of each socket arrives, up and down.
    socket_ms: BTreeMap<(u32, bool), u64>,
    /// Pairs that cannot reach each other, and what they sent meanwhile.
    cut: BTreeSet<(usize, usize)>,
    stuck: Vec<(Key, Key, Frame)>,
}

impl Net {
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
            server_up: true,
            seed,
            random: seed,
            queue: BTreeMap::new(),
            sequence: 0,
            server: Server::default(),
            sockets: BTreeMap::new(),
            next_socket: 0,
            next_session: 1,
            sessions: BTreeMap::new(),
            socket_ms: BTreeMap::new(),
            cut: BTreeSet::new(),
            stuck: Vec::new(),
        }
    }

    /// A room of so many nodes that are connected, with the table `t (id TEXT PRIMARY KEY, v, w)` everywhere.
    pub fn room(seed: u64, nodes: usize) -> Self {
        let mut net = Self::new(seed);
        for _ in 0..nodes {
            let host = net.add();
            net.connect(host);
        }
        net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
        net.until("everyone is connected", |net| net.is_full_mesh());
        net.settle();
        net.forget();
        net
    }

    /// Another node, offline.
    pub fn add(&mut self) -> usize {
        let id = ReplicaId::new(&format!("r{}", self.hosts.len())).unwrap();
        let replica = Replica::open(rusqlite::Connection::open_in_memory().unwrap(), "room", &id).unwrap();
        self.add_with(replica)
    }

    pub fn add_with(&mut self, replica: Replica) -> usize {
        let node = Node::new(self.config(), replica, self.now());
        self.hosts.push(Host::new(Member::Node(Box::new(node))));
        self.hosts.len() - 1
    }

    /// Another messenger, offline.
    pub fn add_messenger(&mut self) -> usize {
        let messenger = Messenger::new(&self.config(), self.now());
        self.hosts.push(Host::new(Member::Messenger(Box::new(messenger))));
        self.hosts.len() - 1
    }

    fn config(&mut self) -> Config {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&self.draw().to_le_bytes()));
        Config { signaling_url: "ws://server/signal".into(), token: "room".into(), seed }
    }

    pub fn connect(&mut self, host: usize) {
        let now = self.now();
        self.hosts[host].node.connect(now);
        self.poll(host);
    }

    pub fn disconnect(&mut self, host: usize) {
        let now = self.now();
        self.hosts[host].node.disconnect(now);
        self.poll(host);
    }

    pub fn exec(&mut self, host: usize, sql: &str) -> QueryResult {
        let now = self.now();
        let result = self.hosts[host].node.node().exec(sql, &Params::None, Scope::Synced, now);
        self.poll(host);
        result.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn broadcast(&mut self, host: usize, operation: Operation) {
        let now = self.now();
        self.hosts[host].node.messenger().broadcast(operation, now);
        self.poll(host);
    }

    /// Lets a messenger ask another host.
    pub fn request_sync(&mut self, host: usize, from: usize) -> Result<RequestId, UnknownPeer> {
        let (now, peer) = (self.now(), self.peer(from));
        let request = self.hosts[host].node.messenger().request_sync(&peer, now);
        self.poll(host);
        request
    }

    /// Rows of `t`, with their types.
    pub fn rows(&mut self, host: usize) -> Vec<Vec<SqlValue>> {
        self.exec(host, "SELECT id, v, w FROM t ORDER BY id").values
    }

    pub fn peer(&self, host: usize) -> PeerId {
        self.hosts[host].node.peer_id().clone()
    }

    pub fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms + self.now_ms, mono_ms: self.now_ms }
    }

    /// A number from `first` to `last`: splitmix64.
    pub fn between(&mut self, (first, last): (u64, u64)) -> u64 {
        first + self.draw() % (last - first + 1)
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn at(&mut self, at_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.sequence), happening);
    }

    /// Lets virtual time pass until the condition holds.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline_ms = self.now_ms + 300_000;
        while !condition(self) {
            assert!(self.step(deadline_ms), "seed {}: not within five minutes: {what}\n{}", self.seed, self.picture());
        }
    }

    /// Lets so much virtual time pass.
    pub fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.step(end_ms) {}
        self.now_ms = end_ms;
    }

    /// Until all nodes have the same and have saved it.
    pub fn settle(&mut self) {
        self.until("everyone has the same", |net| net.is_converged());
        // What was said last is still on its way.
        self.pass(1_000);
        assert!(self.is_converged());
        let has_rows = |host: &Host| !host.dead && host.node.has_replica();
        let rows: Vec<_> = (0..self.hosts.len()).filter(|host| has_rows(&self.hosts[*host])).collect();
        let rows: BTreeSet<_> = rows.into_iter().map(|host| self.rows(host)).collect();
        assert_eq!(rows.len(), 1, "seed {}: equal vectors, different rows", self.seed);
    }

    pub fn is_converged(&self) -> bool {
        let mut living = self.hosts.iter().filter(|host| !host.dead && host.node.has_replica());
        let Some(first) = living.next() else { return true };
        first.is_saved()
            && living.all(|host| host.is_saved() && host.node.replica().vector() == first.node.replica().vector())
    }

    /// Whether every two nodes have exactly one open link, the same one, and no other.
    pub fn is_full_mesh(&self) -> bool {
        let living: Vec<usize> = (0..self.hosts.len()).filter(|host| !self.hosts[*host].dead).collect();
        living.iter().all(|&host| {
            let links = &self.hosts[host].links;
            let partners: BTreeSet<usize> = links.values().filter_map(|link| Some(link.partner?.0)).collect();
            let mutual = links.iter().all(|(id, link)| {
                let other = link.partner.and_then(|(at, other)| self.hosts[at].links.get(&other));
                other.is_some_and(|other| other.partner == Some((host, *id)))
            });
            mutual
                && links.len() == living.len() - 1
                && partners.len() == links.len()
                && self.hosts[host].node.peers().len() == links.len()
        })
    }

    /// Forgets what was told and said so far.
    pub fn forget(&mut self) {
        for host in &mut self.hosts {
            host.events.clear();
            host.said.clear();
        }
    }

    /// The link of one host to another.
    pub fn link(&self, from: usize, to: usize) -> LinkId {
        let peer = self.peer(to);
        let mut links = self.hosts[from].links.iter().filter(|(_, link)| link.peer == peer);
        *links.next().unwrap_or_else(|| panic!("seed {}: no link {from}-{to}", self.seed)).0
    }

    /// Hands an input to a node, as a host or a peer might.
    pub fn feed(&mut self, host: usize, input: Input) {
        let now = self.now();
        if let Some(waiting) = &mut self.hosts[host].asleep {
            waiting.push(input);
        } else if !self.hosts[host].dead {
            self.hosts[host].node.handle_input(input, now).unwrap();
            self.poll(host);
        }
    }

    pub fn fall_asleep(&mut self, host: usize) {
        self.hosts[host].asleep = Some(Vec::new());
    }

    /// Timers may come before what arrived meanwhile.
    pub fn wake_up(&mut self, host: usize) {
        let waiting = self.hosts[host].asleep.take().unwrap_or_default();
        self.poll(host);
        waiting.into_iter().for_each(|input| self.feed(host, input));
    }

    /// Lets a peer say something to another that its node would not.
    pub fn say(&mut self, from: usize, to: usize, text: &str) {
        let link = self.link(to, from);
        self.feed(to, Input::ChannelText { link, text: text.into() });
    }

    fn poll(&mut self, host: usize) {
        let now = self.now();
        loop {
            match self.hosts[host].node.poll_output(now).unwrap() {
                Output::Effect(effect) => self.perform(host, effect),
                Output::Event(event) => self.hosts[host].events.push(event),
                Output::Idle(wake_at_ms) => {
                    self.hosts[host].wake_at_ms = wake_at_ms;
                    if let Some(at_ms) = wake_at_ms {
                        assert!(at_ms > self.now_ms, "seed {}: woken at once, for ever", self.seed);
                        self.at(at_ms, Happening::Wake { host });
                    }
                    return self.save(host);
                }
            }
        }
    }

    fn save(&mut self, host: usize) {
        let version = self.hosts[host].node.version();
        if version > self.hosts[host].copied_version && !self.hosts[host].saves_held {
            self.hosts[host].copied_version = version;
            let delay_ms = self.between(self.delays.save_ms);
            self.at(self.now_ms + delay_ms, Happening::Report { host, input: Input::Saved { version } });
        }
    }

    /// Lets storage go on.
    pub fn release_saves(&mut self, host: usize) {
        self.hosts[host].saves_held = false;
        self.save(host);
    }

    /// How a test that failed got stuck.
    fn picture(&self) -> String {
        let line = |(n, host): (usize, &Host)| {
            let links: Vec<_> =
                host.links.iter().map(|(id, link)| format!("{}:{:?} {:?}", id.0, link.partner, link.state)).collect();
            let vector = host.node.has_replica().then(|| host.node.replica().vector());
            format!("{n} {} peers {:?} links {links:?} vector {vector:?}", host.node.peer_id(), host.node.peers())
        };
        self.hosts.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Host {
    fn is_saved(&self) -> bool {
        !self.saves_held && self.copied_version == self.node.version()
    }

    /// Whether the event was told.
    pub fn told(&self, event: &Event) -> bool {
        self.events.contains(event)
    }
}
