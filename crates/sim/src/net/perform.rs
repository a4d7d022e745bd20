//! What hosts do for their nodes, and what becomes of it.

use rtc_battery_core::node::{Effect, Input, LinkState};
use rtc_battery_core::planted::{Bug, planted};

use super::Frame;
use super::connection::{Connection, Lane};
use super::network::{Happening, Net};

/// How long a connection is `disconnected` before it is `failed`, in milliseconds.
const FAILS_MS: u64 = 10_000;

impl Net {
    pub(super) fn happen(&mut self, happening: Happening) {
        // Whether a socket is still the one that it was about is seen when the host looks.
        if let Happening::SocketOpens { host, .. }
        | Happening::SocketCloses { host, .. }
        | Happening::ToClient { host, .. } = happening
            && let Some(waiting) = &mut self.hosts[host].asleep
        {
            return waiting.push(happening);
        }
        match happening {
            Happening::Wake { host } => {
                let (state, mono_ms) = (&self.hosts[host], self.now(host).mono_ms);
                let awake = !state.dead && state.asleep.is_none();
                if awake && state.wake_at_ms.is_some_and(|at_ms| at_ms <= mono_ms) {
                    self.poll(host);
                }
            }
            Happening::Report { host, input } => self.feed(host, input),
            Happening::OfLink { key: (host, link), input } => {
                if self.hosts[host].links.contains_key(&link) {
                    self.feed(host, input);
                }
            }
            Happening::LateReport { key, peer } => self.late_report(key, &peer),
            Happening::SocketOpens { host, socket } => self.socket_opens(host, socket),
            Happening::ToServer { socket, text } => {
                if self.sockets.contains_key(&socket) {
                    let told = self.server.handle_text(socket, &text);
                    self.server_says(told);
                }
            }
            Happening::ToClient { host, socket, text } => {
                if self.hosts[host].socket == Some(socket) {
                    self.trace.note(self.now_ms, || format!("{host} hears from the server {text}"));
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
            Happening::Departs { key, lane, bytes } => self.departs(key, lane, bytes),
            Happening::Arrives { from, to, lane, frame, sent_ms } => self.arrives(from, to, lane, frame, sent_ms),
            Happening::Closes { from, to } => {
                let partner = self.hosts[to.0].links.get(&to.1).and_then(|link| link.partner);
                if partner == Some(from) && !self.is_cut(from.0, to.0) {
                    self.feed(to.0, Input::ChannelClosed { link: to.1 });
                }
            }
            Happening::Disconnects { key } => {
                if self.is_without_partner(key) {
                    self.set_state(key, LinkState::Disconnected);
                    self.at(self.now_ms + FAILS_MS, Happening::Fails { key });
                }
            }
            Happening::Fails { key } => {
                if self.is_without_partner(key) && self.hosts[key.0].links[&key.1].state == LinkState::Disconnected {
                    self.set_state(key, LinkState::Failed);
                }
            }
            Happening::DiskDone { host, generation } => self.disk_done(host, generation),
        }
    }

    pub(super) fn perform(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::OpenSignaling { url } => {
                assert_eq!(url, self.signaling_url(host));
                self.open_socket(host);
            }
            Effect::SendSignaling { text } => {
                // A closed socket takes what it is given and drops it; who slept does not know yet.
                let Some(socket) = self.hosts[host].socket else { return };
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
            Effect::SendText { link, text } => self.send((host, link), Lane::First, Frame::Text(text)),
            Effect::SendBinary { link, bytes } => self.send((host, link), Lane::First, Frame::Binary(bytes)),
            Effect::InspectPath { link } => {
                let input = Input::PathInspected { link, relayed: self.hosts[host].relayed };
                self.at(self.now_ms, Happening::OfLink { key: (host, link), input });
            }
            Effect::OpenBulk { link } => self.open_bulk((host, link)),
            Effect::SendBulk { link, bytes } => self.send((host, link), Lane::Bulk, Frame::Binary(bytes)),
            Effect::CloseLink { link } => self.close_link((host, link)),
            Effect::Yield if self.hosts[host].busy => self.hosts[host].is_to_yield = true,
            Effect::Yield => self.at(self.now_ms, Happening::Report { host, input: Input::Resumed }),
        }
    }

    /// Hands what is committed to storage, unless that is busy.
    pub(super) fn save(&mut self, host: usize) {
        let version = self.hosts[host].node.version();
        let state = &mut self.hosts[host];
        if state.dead || state.saves_held {
            return;
        }
        match &mut state.disk {
            Some(disk) => {
                let Some(generation) = disk.begin(version) else { return };
                state.copied_version = version;
                let save_ms = state.save_ms.unwrap_or(self.delays.save_ms);
                let delay_ms = self.between(save_ms);
                self.at(self.now_ms + delay_ms, Happening::DiskDone { host, generation });
                if planted(Bug::AcknowledgedBeforeDurable) {
                    self.hosts[host].saved_version = version;
                    self.at(self.now_ms, Happening::Report { host, input: Input::Saved { version } });
                }
            }
            None if version > state.copied_version => {
                state.copied_version = version;
                let delay_ms = self.between(self.delays.save_ms);
                self.at(self.now_ms + delay_ms, Happening::Report { host, input: Input::Saved { version } });
            }
            None => {}
        }
    }

    /// Storage is complete also while the machine sleeps.
    fn disk_done(&mut self, host: usize, generation: u64) {
        if self.hosts[host].dead {
            return;
        }
        let Some(version) = self.hosts[host].disk.as_mut().and_then(|disk| disk.complete(generation)) else { return };
        self.hosts[host].saved_version = version;
        self.trace.note(self.now_ms, || format!("{host} saved version {version}"));
        self.feed(host, Input::Saved { version });
        self.save(host);
    }

    /// A busy host has reported everything.
    pub fn release_yield(&mut self, host: usize) {
        self.hosts[host].busy = false;
        if std::mem::take(&mut self.hosts[host].is_to_yield) {
            self.feed(host, Input::Resumed);
        }
    }

    /// Lets storage go on.
    pub fn release_saves(&mut self, host: usize) {
        self.hosts[host].saves_held = false;
        self.save(host);
    }
}
