//! Sockets to the signaling server: in order, each with delays of its own.

use rtc_battery_core::node::Input;
use rtc_battery_proto::PeerId;
use rtc_battery_proto::sealing::RoomSecret;
use rtc_battery_proto::signaling::ServerMessage;

use super::Member;
use super::network::{Happening, Net};

impl Net {
    /// Where a host is to go: who seals keeps the token.
    pub(super) fn signaling_url(&self, host: usize) -> String {
        let sealed = self.sealed && !matches!(self.hosts[host].node, Member::Plain(_));
        let room = if sealed { RoomSecret::of("room").room() } else { "room".to_owned() };
        format!("ws://server/signal?token={room}")
    }

    pub(super) fn open_socket(&mut self, host: usize) {
        let socket = self.next_socket;
        self.next_socket += 1;
        self.hosts[host].sockets += 1;
        self.trace.note(self.now_ms, || format!("{host} opens socket {socket}"));
        assert!(self.hosts[host].socket.replace(socket).is_none(), "two sockets at a time");
        let delay_ms = self.between(self.delays.signaling_ms);
        self.at(self.now_ms + delay_ms, Happening::SocketOpens { host, socket });
    }

    pub(super) fn socket_opens(&mut self, host: usize, socket: u32) {
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

    pub(super) fn drop_socket(&mut self, socket: u32) {
        if self.sockets.remove(&socket).is_some() {
            let told = self.server.handle_closed(socket);
            self.server_says(told);
        }
    }

    pub(super) fn server_says(&mut self, told: Vec<(u32, ServerMessage)>) {
        for (socket, message) in told {
            let Some(&host) = self.sockets.get(&socket) else { continue };
            let at_ms = self.signaling_at(socket, false);
            self.at(at_ms, Happening::ToClient { host, socket, text: message.encode() });
        }
    }

    pub(super) fn signaling_at(&mut self, socket: u32, up: bool) -> u64 {
        let at_ms = self.now_ms + self.between(self.delays.signaling_ms);
        let last = self.socket_ms.entry((socket, up)).or_default();
        *last = at_ms.max(*last);
        *last
    }

    /// The server is gone, with everything it knew.
    pub fn stop_server(&mut self) {
        self.server_up = false;
        self.server.forget();
        for (socket, host) in std::mem::take(&mut self.sockets) {
            self.at(self.now_ms, Happening::SocketCloses { host, socket });
        }
    }

    /// The host's socket dies without a word to the server, which goes on counting it among the living.
    pub fn lose_socket(&mut self, host: usize) {
        let socket = self.hosts[host].socket.expect("a socket to lose");
        self.at(self.now_ms, Happening::SocketCloses { host, socket });
    }

    /// The server tells who joins, or asks again, of so many of the others only, and how many there are.
    pub fn sample(&mut self, peers: usize) {
        self.server.sample_peers = Some(peers);
    }

    /// The server tells newcomers of others who are not there.
    pub fn haunt(&mut self, ghosts: impl Iterator<Item = PeerId>) {
        self.server.ghosts = ghosts.collect();
    }

    /// The server puts one host between another and everybody: it gets what is for the other, as far as it can read that, and speaks in its
    /// name. Before either comes.
    pub fn interpose(&mut self, between: usize, victim: usize) {
        self.server.interposed = Some((self.peer(between), self.peer(victim)));
    }

    /// The server is back, and knows nobody.
    pub fn start_server(&mut self) {
        self.server_up = true;
    }
}
