//! What tests ask of a room: scenes to begin with, conditions to wait for.

use std::collections::BTreeSet;

use rtc_battery_core::node::{Input, LinkId, MeshLimits, Status};
use rtc_battery_proto::SqlValue;

use super::{Host, Net};

impl Net {
    /// A room of so many nodes that are connected, with the table `t (id TEXT PRIMARY KEY, v, w)` everywhere.
    #[must_use]
    pub fn room(seed: u64, nodes: usize) -> Self {
        Self::new(seed).with(nodes)
    }

    /// The same, in which the server can say what it likes: nothing is sealed.
    #[must_use]
    pub fn unsealed_room(seed: u64, nodes: usize) -> Self {
        Self::unsealed(seed).with(nodes)
    }

    /// The same, of a network that was made to be somehow.
    #[must_use]
    pub fn with(self, nodes: usize) -> Self {
        let mut net = self;
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

    /// A room of so many nodes that come within a few seconds, with the table `t`, once everyone has it. The server names 30 of them to each.
    #[must_use]
    pub fn crowd(seed: u64, nodes: usize, mesh: MeshLimits) -> Self {
        let mut net = Self::new(seed);
        net.mesh = mesh;
        net.sample(30);
        for _ in 0..nodes {
            let host = net.add();
            net.connect(host);
            let ms = net.between((0, 4_000 / nodes as u64));
            net.pass(ms);
        }
        net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
        assert!(net.converges_within(60_000, usize::MAX), "seed {seed}: {}", net.picture());
        net.forget();
        net
    }

    /// How it stands with the room, as a host's user would ask.
    pub fn status(&mut self, host: usize) -> Status {
        let now = self.now(host);
        let status = self.hosts[host].node.node().status(now);
        self.poll(host);
        status
    }

    /// How many connections of a host have come about and are not closed.
    #[must_use]
    pub fn degree(&self, host: usize) -> usize {
        self.hosts[host].links.values().filter(|link| link.partner.is_some()).count()
    }

    /// Lets so much virtual time pass, in which no living host ever has more connections than `most`.
    pub fn pass_within(&mut self, ms: u64, most: usize) {
        let end_ms = self.now_ms + ms;
        while self.step(end_ms) {
            for host in self.take_touched() {
                let degree = self.degree(host);
                assert!(degree <= most || self.hosts[host].dead, "seed {}: {host} has {degree} links", self.seed);
            }
        }
        self.now_ms = end_ms;
    }

    /// The same until all nodes have the same, at most so long. Whether they do.
    pub fn converges_within(&mut self, ms: u64, most: usize) -> bool {
        let end_ms = self.now_ms + ms;
        while !self.is_converged() && self.now_ms < end_ms {
            self.pass_within(250, most);
        }
        self.is_converged()
    }

    /// Rows of `t`, with their types.
    pub fn rows(&mut self, host: usize) -> Vec<Vec<SqlValue>> {
        self.exec(host, "SELECT id, v, w FROM t ORDER BY id").values
    }

    /// Lets virtual time pass until the condition holds.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline_ms = self.now_ms + 300_000;
        while !condition(self) {
            assert!(self.step(deadline_ms), "seed {}: not within five minutes: {what}\n{}", self.seed, self.picture());
        }
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

    /// Whether all nodes have the same transactions and have saved them.
    #[must_use]
    pub fn is_converged(&self) -> bool {
        let mut living = self.hosts.iter().filter(|host| !host.dead && host.node.has_replica());
        let Some(first) = living.next() else { return true };
        first.is_saved()
            && living.all(|host| host.is_saved() && host.node.replica().vector() == first.node.replica().vector())
    }

    /// Whether every two nodes have exactly one open link, the same one, and no other.
    #[must_use]
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
    #[must_use]
    pub fn link(&self, from: usize, to: usize) -> LinkId {
        let peer = self.peer(to);
        let mut links = self.hosts[from].links.iter().filter(|(_, link)| link.peer == peer);
        *links.next().unwrap_or_else(|| panic!("seed {}: no link {from}-{to}", self.seed)).0
    }

    /// Lets a peer say something to another that its node would not.
    pub fn say(&mut self, from: usize, to: usize, text: &str) {
        let link = self.link(to, from);
        self.feed(to, Input::ChannelText { link, text: text.into() });
    }

    /// How a room stands, for whoever reads why a test failed.
    #[must_use]
    pub fn picture(&self) -> String {
        let line = |(n, host): (usize, &Host)| {
            let links: Vec<_> =
                host.links.iter().map(|(id, link)| format!("{}:{:?} {:?}", id.0, link.partner, link.state)).collect();
            let vector = host.node.has_replica().then(|| host.node.replica().vector());
            let peers = host.node.peers();
            format!("{n} {} peers {peers:?} links {links:?} vector {vector:?}", host.node.peer_id())
        };
        let living = self.hosts.iter().enumerate().filter(|(_, host)| !host.dead);
        living.map(line).collect::<Vec<_>>().join("\n")
    }
}
