//! Connections between hosts, and the frames that their channels carry.

use rtc_battery_core::node::{Input, LOW_WATER_BYTES, LinkState, SessionDescription};
use rtc_battery_core::planted::{Bug, planted};
use rtc_battery_proto::PeerId;

use super::connection::{Connection, Lane};
use super::network::{Happening, Net};
use super::{Fault, Frame, Key};

/// What a frame waits for that is held up, in milliseconds.
const HELD_UP_MS: (u64, u64) = (300, 8_000);

/// How late a browser tells what happened to a link that is gone, in milliseconds.
const LATE_MS: (u64, u64) = (1, 5_000);

impl Net {
    pub(super) fn report(&mut self, key: Key, input: Input) {
        let delay_ms = self.between(self.delays.browser_ms);
        let now_ms = self.now_ms;
        let Some(connection) = self.hosts[key.0].links.get_mut(&key.1) else { return };
        connection.reported_ms = connection.reported_ms.max(now_ms + delay_ms);
        let at_ms = connection.reported_ms;
        self.at(at_ms, Happening::OfLink { key, input });
    }

    pub(super) fn report_description(&mut self, key: Key, description: SessionDescription) {
        let candidates = self.hosts[key.0].links.get(&key.1).map(Connection::candidates).unwrap_or_default();
        let mut reports = vec![Input::LocalDescription { link: key.1, description }];
        reports.extend(candidates.into_iter().map(|candidate| Input::LocalCandidate { link: key.1, candidate }));
        // A candidate may be found before the description is known to be set.
        if self.between((0, 1)) == 1 {
            reports.swap(0, 1);
        }
        reports.into_iter().for_each(|input| self.report(key, input));
    }

    pub(super) fn try_connect(&mut self, one: Key) {
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

    pub(super) fn connects(&mut self, one: Key, other: Key) {
        let ends = [(one, other), (other, one)].map(|(key, partner)| (key, partner, self.is_apart(key.0, partner.0)));
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

    pub(super) fn set_state(&mut self, key: Key, state: LinkState) {
        let Some(connection) = self.hosts[key.0].links.get_mut(&key.1) else { return };
        if connection.state != state {
            connection.state = state;
            self.trace.note(self.now_ms, || format!("{} link {} is {state:?}", key.0, key.1.0));
            self.report(key, Input::LinkState { link: key.1, state });
        }
    }

    pub(super) fn close_link(&mut self, from: Key) {
        let Some(closed) = self.hosts[from.0].links.remove(&from.1) else { panic!("closed twice: {from:?}") };
        self.trace.note(self.now_ms, || format!("{} closes link {}", from.0, from.1.0));
        if self.random.happens(self.chances.late_report) {
            // It closed its channel itself, and its browser says so when it has long been forgotten.
            self.faults.count(Fault::LateReport);
            let at_ms = self.now_ms + self.between(LATE_MS);
            self.at(at_ms, Happening::LateReport { key: from, peer: closed.peer.clone() });
        }
        if let Some(to) = closed.partner {
            let arrived_ms = closed.channels.iter().map(|channel| channel.arrived_ms).max();
            let at_ms = arrived_ms.unwrap_or(0).max(self.now_ms) + self.between(self.delays.channel_ms);
            self.at(at_ms, Happening::Closes { from, to });
        }
    }

    /// A browser reports that a channel is closed which its host has long forgotten: nothing may come of it.
    pub(super) fn late_report(&mut self, (host, link): Key, peer: &PeerId) {
        if self.hosts[host].dead || self.hosts[host].asleep.is_some() {
            return;
        }
        // What is due anyway comes before.
        self.poll(host);
        let current = self.hosts[host].links.iter().find(|(_, link)| link.peer == *peer).map(|(id, _)| *id);
        let reported = if planted(Bug::OldCloseHandler) { current.unwrap_or(link) } else { link };
        self.feed(host, Input::ChannelClosed { link: reported });
        if current.is_some_and(|current| !self.hosts[host].links.contains_key(&current)) {
            self.disturbed
                .push((host, format!("the end of link {} to {peer}, long gone, closed the one after it", link.0)));
        }
    }

    /// The channel for what is large opens at both ends.
    pub(super) fn open_bulk(&mut self, key: Key) {
        let partner = self.hosts[key.0].links.get(&key.1).and_then(|link| link.partner);
        let Some(partner) = partner.filter(|_| self.has_second_channels) else { return };
        for end in [key, partner] {
            self.report(end, Input::BulkOpened { link: end.1 });
        }
    }

    pub(super) fn send(&mut self, from: Key, lane: Lane, frame: Frame) {
        let tells = self.hosts[from.0].note_frame(from.1, lane, &frame);
        if let Some(gossip) = &mut self.gossip {
            gossip.note_sent(from, lane, &frame);
        }
        let (now_ms, bytes) = (self.now_ms, frame.len_bytes());
        let mut delay_ms = self.between(self.delays.channel_ms);
        if self.random.happens(self.chances.held_up) {
            self.faults.count(Fault::Delay);
            delay_ms += self.between(HELD_UP_MS);
        }
        let connection = self.hosts[from.0].links.get(&from.1).expect("a link that is open");
        let to = connection.partner.expect("a channel that is open");
        self.trace.note(now_ms, || format!("{} -> {}: {}", from.0, to.0, describe(&frame)));
        let bytes_per_ms = self.hosts[to.0].takes_bytes_per_ms.unwrap_or(self.delays.bytes_per_ms);
        let host = &mut self.hosts[from.0];
        let connection = host.links.get_mut(&from.1).expect("a link that is open");
        let channel = &mut connection.channels[lane as usize];
        channel.buffered += bytes;
        channel.departed_ms = channel.departed_ms.max(now_ms) + bytes / bytes_per_ms;
        channel.arrived_ms = channel.arrived_ms.max(channel.departed_ms + delay_ms);
        host.most_buffered = host.most_buffered.max(channel.buffered);
        let (departed_ms, arrived_ms) = (channel.departed_ms, channel.arrived_ms);
        self.at(departed_ms, Happening::Departs { key: from, lane, bytes });
        if tells && self.random.happens(self.chances.untold) {
            return;
        }
        if matches!(frame, Frame::Text(_)) && self.random.happens(self.chances.duplicated) {
            self.faults.count(Fault::Duplicate);
            self.at(arrived_ms, Happening::Arrives { from, to, lane, frame: frame.clone(), sent_ms: now_ms });
        }
        self.at(arrived_ms, Happening::Arrives { from, to, lane, frame, sent_ms: now_ms });
    }

    pub(super) fn departs(&mut self, key: Key, lane: Lane, bytes: u64) {
        let Some(connection) = self.hosts[key.0].links.get_mut(&key.1) else { return };
        let channel = &mut connection.channels[lane as usize];
        channel.buffered -= bytes;
        channel.sent += bytes;
        if channel.buffered <= u64::from(LOW_WATER_BYTES) {
            let (link, sent_bytes) = (key.1, channel.sent);
            let drained = match lane {
                Lane::First => Input::ChannelDrained { link, sent_bytes },
                Lane::Bulk => Input::BulkDrained { link, sent_bytes },
            };
            self.feed(key.0, drained);
        }
    }

    pub(super) fn arrives(&mut self, from: Key, to: Key, lane: Lane, frame: Frame, sent_ms: u64) {
        if self.is_cut(from.0, to.0) {
            return self.stuck.push((from, to, lane, frame, sent_ms));
        }
        let partner = self.hosts[to.0].links.get(&to.1).and_then(|link| link.partner);
        if partner != Some(from) || self.hosts[to.0].dead {
            return self.faults.count(Fault::LostFrame);
        }
        let host = &mut self.hosts[to.0];
        if sent_ms < host.heard_sent_ms {
            self.faults.count(Fault::Reorder);
        }
        host.heard_sent_ms = host.heard_sent_ms.max(sent_ms);
        self.trace.note(self.now_ms, || format!("{} hears {}: {}", to.0, from.0, describe(&frame)));
        if let Some(gossip) = &mut self.gossip {
            gossip.note_heard(to, lane, &frame);
        }
        let link = to.1;
        let input = match (lane, frame) {
            (Lane::First, Frame::Text(text)) => Input::ChannelText { link, text },
            (Lane::First, Frame::Binary(bytes)) => Input::ChannelBinary { link, bytes },
            (Lane::Bulk, Frame::Text(text)) => panic!("a text on the channel for what is large: {text}"),
            (Lane::Bulk, Frame::Binary(bytes)) => Input::BulkBinary { link, bytes },
        };
        self.feed(to.0, input);
    }
}

fn describe(frame: &Frame) -> String {
    match frame {
        Frame::Text(text) => text.clone(),
        Frame::Binary(bytes) => format!("{} bytes of a message", bytes.len()),
    }
}
