//! What breaks, how often, and when it is mended: rates are drawn for each room, so that every room is another mixture and some are calm.

use std::collections::BTreeMap;

use crate::net::{Chances, Fate, Fault};
use crate::properties::Check;
use crate::random::Random;
use crate::room::Room;

/// The kinds that somebody brings about, as against those that happen by themselves.
const BROUGHT_ABOUT: [Fault; 19] = [
    Fault::LostLink,
    Fault::RelayOnly,
    Fault::Split,
    Fault::OneWay,
    Fault::Flapping,
    Fault::ServerDown,
    Fault::CrashClean,
    Fault::CrashLost,
    Fault::CrashTorn,
    Fault::ClockStep,
    Fault::Night,
    Fault::Pause,
    Fault::Sleep,
    Fault::SlowReceiver,
    Fault::SlowStorage,
    Fault::Join,
    Fault::Copied,
    Fault::PutBack,
    Fault::Leave,
];

/// How long what is broken stays so, in milliseconds.
const BROKEN_MS: (u64, u64) = (500, 40_000);

/// Devices of a room, at most.
const MAX_DEVICES: usize = 7;

/// How the room breaks.
#[derive(Debug, Clone)]
pub struct Rates {
    /// How often each kind, in a thousand breakages; those that never happen here are left out.
    weights: Vec<(Fault, u64)>,
    /// Between two breakages, in milliseconds.
    pub pause_ms: (u64, u64),
    /// What happens by itself.
    pub chances: Chances,
    /// In a thousand: that a device's clock is off from the beginning.
    pub clocks_off: u64,
}

impl Rates {
    /// Those of one room.
    pub fn draw(random: &mut Random) -> Self {
        let mut weights = Vec::new();
        for fault in BROUGHT_ABOUT {
            if random.happens(550) {
                weights.push((fault, random.between((1, 8))));
            }
        }
        let chances = Chances {
            held_up: *random.pick(&[0, 2, 10, 40]),
            duplicated: *random.pick(&[0, 0, 5, 50]),
            late_report: *random.pick(&[0, 300, 900]),
            untold: 0,
        };
        let calm = random.happens(50);
        let pause_ms = if calm { (u64::MAX / 4, u64::MAX / 4) } else { (0, *random.pick(&[1_500, 4_000, 10_000])) };
        Self { weights, pause_ms, chances, clocks_off: *random.pick(&[0, 300, 800]) }
    }

    fn pick(&self, random: &mut Random) -> Option<Fault> {
        let all: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = random.draw() % all.max(1);
        for (fault, weight) in &self.weights {
            if drawn < *weight {
                return Some(*fault);
            }
            drawn -= weight;
        }
        None
    }
}

/// What mends a breakage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// The two can reach each other again.
    Pair(usize, usize),
    /// They cannot, once more.
    Cut(usize, usize),
    /// The signaling server is back.
    Server,
    /// A host goes on.
    Wake(usize),
    /// Its monotonic clock stood still since then.
    WakeLate(usize, u64),
    /// Its network is fast again.
    Fast(usize),
    /// Its storage is.
    Stores(usize),
    /// A device starts again.
    Restart(usize),
    /// A device comes back into the room.
    Rejoin(usize),
}

/// What is broken, by when it is mended.
pub type Mends = BTreeMap<(u64, u64), Mend>;

impl Room {
    /// Something breaks.
    pub(crate) fn break_something(&mut self) -> Check {
        let Some(fault) = self.rates.pick(&mut self.random) else { return Ok(()) };
        let hosts = self.awake();
        let Some(&host) = (!hosts.is_empty()).then(|| self.random.pick(&hosts)) else { return Ok(()) };
        let others: Vec<usize> = self.living().into_iter().filter(|other| *other != host).collect();
        let other = (!others.is_empty()).then(|| *self.random.pick(&others));
        let length_ms = self.random.between(BROKEN_MS);
        match (fault, other) {
            (Fault::LostLink, Some(other)) => self.lose_links(host, other),
            (Fault::RelayOnly, Some(other)) => {
                self.net.cut(host, other);
                self.broken(fault, length_ms, Mend::Pair(host, other));
            }
            (Fault::OneWay, Some(other)) => {
                self.net.cut_way(host, other);
                self.broken(fault, length_ms, Mend::Pair(host, other));
            }
            (Fault::Flapping, Some(other)) => {
                self.net.cut(host, other);
                let mut at_ms = self.random.between((100, 2_000));
                for _ in 0..3 {
                    self.mend_in(at_ms, Mend::Pair(host, other));
                    at_ms += self.random.between((100, 2_000));
                    self.mend_in(at_ms, Mend::Cut(host, other));
                    at_ms += self.random.between((100, 7_000));
                }
                self.broken(fault, at_ms, Mend::Pair(host, other));
            }
            (Fault::Split, Some(_)) => self.split(length_ms),
            (Fault::ServerDown, _) if self.net.server_up => {
                self.net.stop_server();
                self.broken(fault, length_ms, Mend::Server);
            }
            (Fault::CrashClean | Fault::CrashLost | Fault::CrashTorn, _) => self.crash_as(fault, host, length_ms)?,
            (Fault::ClockStep, _) => {
                let step_ms = self.random.between((0, 4 * 3_600_000)) as i64 - 2 * 3_600_000;
                self.net.hosts[host].clock.ahead_ms += step_ms;
                self.count(fault);
            }
            (Fault::Night, _) => {
                self.net.wall_ms += self.random.between((60_000, 3 * 3_600_000));
                self.count(fault);
            }
            (Fault::Pause, _) => {
                self.net.fall_asleep(host);
                self.broken(fault, length_ms, Mend::Wake(host));
            }
            (Fault::Sleep, _) => {
                self.net.fall_asleep(host);
                self.broken(fault, length_ms, Mend::WakeLate(host, self.net.now_ms));
            }
            (Fault::SlowReceiver, _) => {
                self.net.hosts[host].takes_bytes_per_ms = Some(self.random.between((1, 60)));
                self.broken(fault, length_ms, Mend::Fast(host));
            }
            (Fault::SlowStorage, _) => {
                self.net.hosts[host].save_ms = Some((200, 6_000));
                self.broken(fault, length_ms, Mend::Stores(host));
            }
            (Fault::Join, _) if self.devices.len() < MAX_DEVICES => {
                self.join();
                self.count(fault);
            }
            (Fault::Copied, _) if self.devices.len() < MAX_DEVICES => self.copy_disk(host)?,
            (Fault::PutBack, _) => self.put_back(host)?,
            (Fault::Leave, _) => {
                if let Some(device) = self.device_of(host).filter(|device| !self.devices[*device].away) {
                    self.devices[device].away = true;
                    self.net.disconnect(host);
                    self.broken(fault, length_ms, Mend::Rejoin(device));
                }
            }
            _ => {}
        }
        self.look_at_touched()
    }

    pub(crate) fn broken(&mut self, fault: Fault, length_ms: u64, mend: Mend) {
        self.count(fault);
        self.net.trace.note(self.net.now_ms, || format!("{fault:?} for {length_ms} ms, then {mend:?}"));
        self.mend_in(length_ms, mend);
    }

    fn count(&mut self, fault: Fault) {
        self.net.faults.count(fault);
    }

    fn mend_in(&mut self, ms: u64, mend: Mend) {
        self.mend_count += 1;
        self.mends.insert((self.net.now_ms + ms, self.mend_count), mend);
    }

    /// Their connections break, at both ends or at one.
    fn lose_links(&mut self, host: usize, other: usize) {
        let ends = [(host, other), (other, host)];
        let links: Vec<_> =
            ends.iter().flat_map(|(at, to)| self.net.links(*at, *to).into_iter().map(|link| (*at, link))).collect();
        let both = self.random.happens(700);
        if let Some(first) = links.first().copied() {
            self.count(Fault::LostLink);
            self.net.trace.note(self.net.now_ms, || format!("LostLink between {host} and {other}"));
            links.into_iter().filter(|key| both || *key == first).for_each(|key| self.net.break_link(key));
        }
    }

    fn split(&mut self, length_ms: u64) {
        let hosts = self.living();
        let halves: Vec<(usize, bool)> = hosts.iter().map(|host| (*host, self.random.happens(500))).collect();
        self.count(Fault::Split);
        self.net.trace.note(self.net.now_ms, || format!("Split {halves:?} for {length_ms} ms"));
        for (host, half) in &halves {
            for (other, _) in halves.iter().filter(|(other, there)| there != half && host < other) {
                self.net.cut(*host, *other);
                self.mend_in(length_ms, Mend::Pair(*host, *other));
            }
        }
    }

    /// A crash of a kind: clean where all is saved, torn where storage is writing, lost where something was not begun.
    fn crash_as(&mut self, fault: Fault, host: usize, length_ms: u64) -> Check {
        let Some(device) = self.device_of(host) else { return Ok(()) };
        if fault != Fault::CrashClean {
            // Something that is not saved, as far as it depends on us.
            self.net.hosts[host].save_ms.get_or_insert((200, 6_000));
            self.write_now(device)?;
        }
        let Some(disk) = &self.net.hosts[host].disk else { return Ok(()) };
        let (fault, fate) = match (disk.is_writing(), disk.is_clean()) {
            (true, _) if fault == Fault::CrashTorn => (fault, Fate::Torn),
            (true, _) => (Fault::CrashLost, if self.random.happens(500) { Fate::Lost } else { Fate::Kept }),
            (false, false) => (Fault::CrashLost, Fate::Lost),
            (false, true) => (Fault::CrashClean, Fate::Lost),
        };
        self.crash(device, fate)?;
        self.broken(fault, length_ms / 4, Mend::Restart(device));
        Ok(())
    }

    /// What is due to be mended is.
    pub(crate) fn mend(&mut self, mend: Mend) -> Check {
        match mend {
            Mend::Pair(one, other) => self.net.mend(one, other),
            Mend::Cut(one, other) => self.net.cut(one, other),
            Mend::Server => self.net.start_server(),
            Mend::Wake(host) if self.sleeps(host) => self.net.wake_up(host),
            Mend::WakeLate(host, since_ms) if self.sleeps(host) => {
                self.net.hosts[host].clock.mono_zero_ms += self.net.now_ms - since_ms;
                self.net.wake_up(host);
            }
            Mend::Wake(_) | Mend::WakeLate(..) => {}
            Mend::Fast(host) => self.net.hosts[host].takes_bytes_per_ms = None,
            Mend::Stores(host) => self.net.hosts[host].save_ms = None,
            Mend::Restart(device) => return self.restart(device),
            Mend::Rejoin(device) => {
                self.devices[device].away = false;
                if let Some(host) = self.devices[device].host {
                    self.net.connect(host);
                }
            }
        }
        self.look_at_touched()
    }

    fn sleeps(&self, host: usize) -> bool {
        self.net.hosts[host].is_asleep() && !self.net.hosts[host].dead
    }

    /// Everything that is broken is mended, at once.
    pub(crate) fn mend_all(&mut self) -> Check {
        self.net.chances = Chances::default();
        while let Some((_, mend)) = self.mends.pop_first() {
            if !matches!(mend, Mend::Cut(..)) {
                self.mend(mend)?;
            }
        }
        Ok(())
    }
}
