//! What hosts do for their nodes, and what happens in the network between them.

use rtc_battery_core::node::{Effect, Input, LOW_WATER_BYTES, LinkId, LinkState, SessionDescription};

use super::connection::Connection;
use super::server::Server;
use super::{Frame, Happening, Key, Net};
use rtc_battery_proto::PeerId;
use rtc_battery_proto::signaling::ServerMessage;

impl Net {
    /// The next thing that happens, if it happens before `deadline_ms`.
    pub(super) fn step(&mut self, deadline_ms: u64) -> bool {
        let Some((&(at_ms, _), _)) = self.queue.first_key_value() else { return false };
        if at_ms > deadline_ms {
            return false;
        }
        let Some((_, happening)) = self.queue.pop_first() else { return false };
        self.now_ms = at_ms;
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { host } => {
                let state = &self.hosts[host];
                let awake = !state.dead && state.asleep.is_none();
                if awake && state.wake_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
                    self.poll(host);
                }
            }
            Happening::Report { host, input } => self.feed(host, input),
            Happening::OfLink { key: (host, link), input } => {
                if self.hosts[host].links.contains_key(&link) {
                    self.feed(host, input);
                }
            }
            Happening::SocketOpens { host, socket } => self.socket_opens(host, socket),
            Happening::ToServer { socket, text } => {
                if self.sockets.contains_key(&socket) {
                    let told = self.server.handle_text(socket, &text);
                    self.server_says(told);
                }
            }
            Happening::ToClient { host, socket, text } => {
                if self.hosts[host].socket == Some(socket) {
                    self.feed(host, Input::SignalingText { text });
                }
            }
            Happening::SocketCloses { host, socket } => {
                if self.hosts[host].socket == Some(socket) {
                    self.hosts[host].socket = None;
                    self.feed(host, Input::SignalingClosed { reason: "gone".into() });
                }
            }
            Happening::Connect { one, other } => self.connects(one, other),
            Happening::Departs { key, bytes } => self.departs(key, bytes),
            Happening::Arrives { from, to, frame } => self.arrives(from, to, frame),
            Happening::Closes { from, to } => {
                let partner = self.hosts[to.0].links.get(&to.1).and_then(|link| link.partner);
                if partner == Some(from) && !self.is_cut(from.0, to.0) {
                    self.feed(to.0, Input::ChannelClosed { link: to.1 });
                }
            }
            Happening::Disconnects { key } => {
                let partner = self.hosts[key.0].links.get(&key.1).and_then(|link| link.partner);
                if partner.is_some_and(|other| self.is_cut(key.0, other.0) || self.hosts[other.0].dead) {
                    self.set_state(key, LinkState::Disconnected);
                }
            }
        }
    }

    pub(super) fn perform(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::OpenSignaling { url } => {
                assert_eq!(url, "ws://server/signal?token=room");
                self.open_socket(host);
            }
            Effect::SendSignaling { text } => {
                let socket = self.hosts[host].socket.expect("a message on a closed socket");
                let at_ms = self.signaling_at(socket, true);
                self.at(at_ms, Happening::ToServer { socket, text });
            }
            Effect::CloseSignaling => {
                if let Some(socket) = self.hosts[host].socket.take() {
                    self.drop_socket(socket);
                }
            }
            Effect::OpenLink { link, peer, offers } => {
                let session = self.next_session;
                self.next_session += 1;
                self.hosts[host].opened += 1;
                self.sessions.insert(session, (host, link));
                let old = self.hosts[host].links.insert(link, Connection::new(peer, offers, session));
                assert!(old.is_none(), "link id used twice");
            }
            Effect::CreateOffer { link, ice_restart } => {
                let connection = self.hosts[host].links.get_mut(&link).expect("a link that is open");
                let description = connection.create_offer(ice_restart);
                self.report_description((host, link), description);
            }
            Effect::SetRemoteDescription { link, description } => {
                let connection = self.hosts[host].links.get_mut(&link).expect("a link that is open");
                if let Some(answer) = connection.set_remote(&description) {
                    self.report_description((host, link), answer);
                }
                self.try_connect((host, link));
            }
            Effect::AddCandidate { link, candidate } => {
                self.hosts[host].links.get_mut(&link).expect("a link that is open").add_candidate(&candidate);
                self.try_connect((host, link));
            }
            Effect::SendText { link, text } => self.send((host, link), Frame::Text(text)),
            Effect::SendBinary { link, bytes } => self.send((host, link), Frame::Binary(bytes)),
            Effect::CloseLink { link } => self.close_link((host, link)),
        }
    }

    // Signaling.

    fn open_socket(&mut self, host: usize) {
        let socket = self.next_socket;
        self.next_socket += 1;
        self.hosts[host].sockets += 1;
        assert!(self.hosts[host].socket.replace(socket).is_none(), "two sockets at a time");
        let delay_ms = self.between(self.delays.signaling_ms);
        self.at(self.now_ms + delay_ms, Happening::SocketOpens { host, socket });
    }

    fn socket_opens(&mut self, host: usize, socket: u32) {
        if self.hosts[host].socket != Some(socket) {
            return;
        }
        if self.server_up && !self.hosts[host].dead {
            self.sockets.insert(socket, host);
            self.feed(host, Input::SignalingOpened);
        } else {
            self.hosts[host].socket = None;
            self.feed(host, Input::SignalingClosed { reason: "refused".into() });
        }
    }

    fn drop_socket(&mut self, socket: u32) {
        if self.sockets.remove(&socket).is_some() {
            let told = self.server.handle_closed(socket);
            self.server_says(told);
        }
    }

    fn server_says(&mut self, told: Vec<(u32, ServerMessage)>) {
        for (socket, message) in told {
            let Some(&host) = self.sockets.get(&socket) else { continue };
            let at_ms = self.signaling_at(socket, false);
            self.at(at_ms, Happening::ToClient { host, socket, text: message.encode() });
        }
    }

    fn signaling_at(&mut self, socket: u32, up: bool) -> u64 {
        let at_ms = self.now_ms + self.between(self.delays.signaling_ms);
        let last = self.socket_ms.entry((socket, up)).or_default();
        *last = at_ms.max(*last);
        *last
    }

    /// The server is gone, with everything it knew.
    pub fn stop_server(&mut self) {
        self.server_up = false;
        self.server = Server::default();
        for (socket, host) in std::mem::take(&mut self.sockets) {
            self.at(self.now_ms, Happening::SocketCloses { host, socket });
        }
    }

    /// The server tells newcomers of others who are not there.
    pub fn haunt(&mut self, ghosts: impl Iterator<Item = PeerId>) {
        self.server.ghosts = ghosts.collect();
    }

    pub fn start_server(&mut self) {
        self.server_up = true;
    }

    // Connections.

    fn report(&mut self, key: Key, input: Input) {
        let delay_ms = self.between(self.delays.browser_ms);
        let now_ms = self.now_ms;
        let Some(connection) = self.hosts[key.0].links.get_mut(&key.1) else { return };
        connection.reported_ms = connection.reported_ms.max(now_ms + delay_ms);
        let at_ms = connection.reported_ms;
        self.at(at_ms, Happening::OfLink { key, input });
    }

    fn report_description(&mut self, key: Key, description: SessionDescription) {
        let candidates = self.hosts[key.0].links.get(&key.1).map(Connection::candidates).unwrap_or_default();
        let mut reports = vec![Input::LocalDescription { link: key.1, description }];
        reports.extend(candidates.into_iter().map(|candidate| Input::LocalCandidate { link: key.1, candidate }));
        // A candidate may be found before the description is known to be set.
        if self.between((0, 1)) == 1 {
            reports.swap(0, 1);
        }
        reports.into_iter().for_each(|input| self.report(key, input));
    }

    fn try_connect(&mut self, one: Key) {
        let Some(connection) = self.hosts[one.0].links.get(&one.1) else { return };
        let other = connection.remote.as_ref().and_then(|remote| self.sessions.get(&remote.session).copied());
        let matching = other.filter(|(host, link)| {
            let other = self.hosts[*host].links.get(link);
            other.is_some_and(|other| other.matches(connection))
        });
        let idle = !matches!(connection.state, LinkState::Connected);
        if let Some(other) = matching.filter(|_| idle) {
            let delay_ms = self.between(self.delays.channel_ms);
            self.at(self.now_ms + delay_ms, Happening::Connect { one, other });
        }
    }

    fn connects(&mut self, one: Key, other: Key) {
        let ends = [(one, other), (other, one)].map(|(key, partner)| (key, partner, self.is_cut(key.0, partner.0)));
        let both = ends.iter().all(|(key, ..)| self.hosts[key.0].links.contains_key(&key.1) && !self.hosts[key.0].dead);
        if !both {
            return;
        }
        if ends[0].2 {
            // ICE goes on trying.
            return self.at(self.now_ms + 200, Happening::Connect { one, other });
        }
        for (key, partner, _) in ends {
            let Some(connection) = self.hosts[key.0].links.get_mut(&key.1) else { continue };
            let first = connection.partner.replace(partner).is_none();
            self.set_state(key, LinkState::Connected);
            if first {
                self.report(key, Input::ChannelOpened { link: key.1, max_message_bytes: Some(262_144) });
            }
        }
    }

    fn set_state(&mut self, key: Key, state: LinkState) {
        let Some(connection) = self.hosts[key.0].links.get_mut(&key.1) else { return };
        if connection.state != state {
            connection.state = state;
            self.report(key, Input::LinkState { link: key.1, state });
        }
    }

    fn close_link(&mut self, from: Key) {
        let Some(closed) = self.hosts[from.0].links.remove(&from.1) else { panic!("closed twice: {from:?}") };
        if let Some(to) = closed.partner {
            let at_ms = closed.arrived_ms.max(self.now_ms) + self.between(self.delays.channel_ms);
            self.at(at_ms, Happening::Closes { from, to });
        }
    }

    // Channels.

    fn send(&mut self, from: Key, frame: Frame) {
        let host = &mut self.hosts[from.0];
        host.note_frame(from.1, &frame);
        let (now_ms, bytes) = (self.now_ms, frame.len());
        let delay_ms = self.between(self.delays.channel_ms);
        let host = &mut self.hosts[from.0];
        let connection = host.links.get_mut(&from.1).expect("a link that is open");
        let to = connection.partner.expect("a channel that is open");
        connection.buffered += bytes;
        connection.departed_ms = connection.departed_ms.max(now_ms) + bytes / self.delays.bytes_per_ms;
        connection.arrived_ms = connection.arrived_ms.max(connection.departed_ms + delay_ms);
        host.most_buffered = host.most_buffered.max(connection.buffered);
        let (departed_ms, arrived_ms) = (connection.departed_ms, connection.arrived_ms);
        self.at(departed_ms, Happening::Departs { key: from, bytes });
        self.at(arrived_ms, Happening::Arrives { from, to, frame });
    }

    fn departs(&mut self, key: Key, bytes: u64) {
        let Some(connection) = self.hosts[key.0].links.get_mut(&key.1) else { return };
        connection.buffered -= bytes;
        connection.sent += bytes;
        if connection.buffered <= u64::from(LOW_WATER_BYTES) {
            let sent_bytes = connection.sent;
            self.feed(key.0, Input::ChannelDrained { link: key.1, sent_bytes });
        }
    }

    fn arrives(&mut self, from: Key, to: Key, frame: Frame) {
        if self.is_cut(from.0, to.0) {
            return self.stuck.push((from, to, frame));
        }
        let partner = self.hosts[to.0].links.get(&to.1).and_then(|link| link.partner);
        if partner == Some(from) {
            let link = to.1;
            self.feed(
                to.0,
                match frame {
                    Frame::Text(text) => Input::ChannelText { link, text },
                    Frame::Binary(bytes) => Input::ChannelBinary { link, bytes },
                },
            );
        }
    }

    // Faults.

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Two hosts cannot reach each other; what they send waits. Their browsers notice after five seconds.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
        for (host, other) in [(a, b), (b, a)] {
            let keys: Vec<LinkId> = self.hosts[host]
                .links
                .iter()
                .filter(|(_, link)| link.partner.is_some_and(|p| p.0 == other))
                .map(|(id, _)| *id)
                .collect();
            for link in keys {
                self.at(self.now_ms + 5_500, Happening::Disconnects { key: (host, link) });
            }
        }
    }

    /// They can again; whether a connection that was disconnected comes back is up to ICE, so up to the nodes.
    pub fn mend(&mut self, a: usize, b: usize) {
        self.cut.remove(&(a.min(b), a.max(b)));
        for (from, to, frame) in std::mem::take(&mut self.stuck) {
            let alive = self.hosts[from.0].links.contains_key(&from.1);
            if alive || self.is_cut(from.0, to.0) {
                self.arrives(from, to, frame);
            }
        }
    }

    /// The process is gone without a word.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].dead = true;
        if let Some(socket) = self.hosts[host].socket.take() {
            self.drop_socket(socket);
        }
        for other in 0..self.hosts.len() {
            let keys: Vec<LinkId> = self.hosts[other]
                .links
                .iter()
                .filter(|(_, link)| link.partner.is_some_and(|p| p.0 == host))
                .map(|(id, _)| *id)
                .collect();
            for link in keys {
                self.at(self.now_ms + 5_500, Happening::Disconnects { key: (other, link) });
            }
        }
    }

    /// Breaks the connections between two hosts, on both sides at the same moment.
    pub fn break_links(&mut self, a: usize, b: usize) {
        for (host, other) in [(a, b), (b, a)] {
            let link = self.link(host, other);
            self.at(
                self.now_ms,
                Happening::OfLink { key: (host, link), input: Input::LinkState { link, state: LinkState::Failed } },
            );
        }
    }
}
