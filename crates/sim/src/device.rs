//! A device is a database and whoever has it open: it comes, crashes and starts again, and after a crash it is another host, with the same disk.

use std::collections::VecDeque;

use rtc_battery_core::node::Node;
use rtc_battery_core::replica::Replica;
use rtc_battery_proto::{Dot, ReplicaId, VersionVector};

use crate::ahead::Ahead;
use crate::chaos::Mend;
use crate::net::{Disk, Fate, Fault, Host, HostClock, Member};
use crate::oracle::Picture;
use crate::properties::{Check, Property, Violation};
use crate::room::Room;

/// A database, and the process that has it open.
#[derive(Debug)]
pub struct Device {
    /// Its replica's name.
    pub name: String,
    /// Its host, unless it has crashed.
    pub host: Option<usize>,
    /// Its disk, while nobody has it open.
    left: Option<(Disk, rusqlite::Connection)>,
    /// Whether its user left the room.
    pub away: bool,
    pub(crate) program: VecDeque<String>,
    /// How far its wall clock is ahead, while it is off.
    ahead_ms: i64,
    pub(crate) seen: Seen,
    /// What it has and must not show yet.
    pub(crate) ahead: Ahead,
}

/// What a database was when it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) version: u64,
    pub(crate) vector: VersionVector,
    pub(crate) commits: u64,
    pub(crate) picture: Picture,
}

impl Room {
    /// Somebody new comes, with an empty database.
    pub(crate) fn join(&mut self) {
        let name = format!("r{}", self.devices.len());
        let seen = Seen::default();
        let left = Some(Disk::new());
        let (program, ahead) = (VecDeque::new(), Ahead::default());
        self.devices.push(Device { name, host: None, left, away: false, program, ahead_ms: 0, seen, ahead });
        let device = self.devices.len() - 1;
        self.open(device);
        let host = self.net.hosts.len() - 1;
        if self.random.happens(self.rates.clocks_off) {
            self.net.hosts[host].clock.ahead_ms = self.random.between((0, 6 * 3_600_000)) as i64 - 3 * 3_600_000;
            self.net.faults.count(Fault::ClockOff);
        }
        // Newcomers find the tables, or make them before they have met anybody.
        let creates = self.devices.len() == 1 || self.random.happens(700);
        let program = self.creates().into_iter().filter(|_| creates).map(str::to_owned).collect();
        self.devices[device].program = program;
        if !self.random.happens(100) || self.devices.len() <= 2 {
            self.net.connect(host);
        } else {
            self.devices[device].away = true;
            self.mend_count += 1;
            let back_ms = self.net.now_ms + self.random.between((1_000, 60_000));
            self.mends.insert((back_ms, self.mend_count), Mend::Rejoin(device));
        }
    }

    /// Opens a device's database, in a process of its own.
    fn open(&mut self, device: usize) -> Option<usize> {
        let (disk, connection) = self.devices[device].left.take()?;
        let id = ReplicaId::new(&self.devices[device].name).unwrap();
        let replica = Replica::open(connection, "room", &id).unwrap();
        let clock = HostClock { mono_zero_ms: self.net.now_ms, ahead_ms: self.devices[device].ahead_ms };
        let now = clock.read(self.net.wall_ms + self.net.now_ms, self.net.now_ms);
        let node = Node::new(self.net.config(), replica, now);
        let mut opened = Host::new(Member::Node(Box::new(node)));
        self.devices[device].seen = Seen { version: opened.node.version(), commits: disk.commits(), ..Seen::default() };
        (opened.disk, opened.clock) = (Some(disk), clock);
        let host = self.net.add_host(opened);
        self.devices[device].host = Some(host);
        self.net.trace.note(self.net.now_ms, || format!("{} is host {host}", self.devices[device].name));
        Some(host)
    }

    /// The power goes at a device.
    pub(crate) fn crash(&mut self, device: usize, fate: Fate) -> Check {
        let Some(host) = self.devices[device].host.take() else { return Ok(()) };
        self.net.kill(host);
        self.devices[device].ahead_ms = self.net.hosts[host].clock.ahead_ms;
        let disk = self.net.hosts[host].disk.take();
        self.devices[device].left = disk.map(|disk| disk.crash(fate));
        self.devices[device].program.clear();
        self.net.trace.note(self.net.now_ms, || format!("{} crashes, unsaved: {fate:?}", self.devices[device].name));
        Ok(())
    }

    /// The device starts again: what was acknowledged is there, and what is not there nobody has heard of.
    pub(crate) fn restart(&mut self, device: usize) -> Check {
        let Some(host) = self.open(device) else { return Ok(()) };
        let replica = self.net.hosts[host].node.replica();
        let (vector, version) = (replica.vector().clone(), replica.version());
        self.lose_what_is_not_in(device, &vector)?;
        self.devices[device].ahead.survive(&vector);
        self.look_for_ahead_again(device);
        let device_name = self.devices[device].name.clone();
        let acknowledged = self.history.of(&device_name).filter(|(_, own)| own.acknowledged);
        let told = acknowledged.map(|(_, own)| own.version).max().unwrap_or_default();
        if version < told {
            let what = format!("{device_name} had told version {told}, and has {version} after its restart");
            return Err(Violation::new(Property::Version, what));
        }
        // What is due meanwhile is shown.
        self.net.poll(host);
        self.look_again(device)?;
        if !self.devices[device].away {
            self.net.connect(host);
        }
        Ok(())
    }

    fn lose_what_is_not_in(&mut self, device: usize, vector: &VersionVector) -> Check {
        let name = self.devices[device].name.clone();
        let origin = ReplicaId::new(&name).unwrap();
        let lost: Vec<_> = self.history.of(&name).map(|(dot, own)| (dot.clone(), own.acknowledged)).collect();
        for (dot, acknowledged) in lost {
            let proto = Dot { origin: origin.clone(), seq: dot.1 };
            if vector.contains(&proto) {
                continue;
            }
            if acknowledged {
                let what = format!("{name} was told that its transaction {} is saved, and lost it", dot.1);
                return Err(Violation::new(Property::Durability, what));
            }
            let knows = |host: &&usize| {
                let node = &self.net.hosts[**host].node;
                node.has_replica() && node.replica().vector().contains(&proto)
            };
            if let Some(host) = self.living().iter().find(knows) {
                let what =
                    format!("{} knows transaction {} of {name}, which was never saved", self.name_of(*host), dot.1);
                return Err(Violation::new(Property::SavedBeforeTold, what));
            }
            self.net.trace.note(self.net.now_ms, || format!("{name} has lost its transaction {}", dot.1));
            self.history.lose(&dot);
            // Its dot will be given again.
            self.digests.clear();
        }
        Ok(())
    }
}
