//! One room under one seed: devices write while everything breaks, then everything is mended, and everyone must have everything.
//!
//! Whatever a node does is looked at in the very step in which it does it ([`Room::look`]): what it committed, what a reader of its database
//! sees, what its version is. A device is a database and whoever has it open: after a crash it is another host, with the same disk.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rtc_battery_core::node::{ErrorCode, Node};
use rtc_battery_core::replica::{Committed, Replica, Scope};
use rtc_battery_proto::{Dot, ReplicaId, VersionVector};
use serde_json::Value as Json;

use crate::chaos::{Mends, Rates};
use crate::history::{History, Transaction, op};
use crate::net::{Disk, Fate, Fault, Faults, Host, HostClock, Member, Net};
use crate::oracle::{Kind, Op, Picture, Value, fold};
use crate::plain::PlainPeer;
use crate::properties::{self, Check, Property, Violation, look};
use crate::random::Random;
use crate::trace::Trace;
use crate::workload::{CREATE, Habits, TABLES};

/// Within so much virtual time after everything is mended everyone has met everyone and has everything, in milliseconds.
const CONVERGES_MS: u64 = 300_000;

/// What was said last has arrived, and digests are compared, so long after that. Then there must be silence, in milliseconds.
const SETTLES_MS: u64 = 45_000;

/// For how long silence is listened to, in milliseconds.
const SILENCE_MS: u64 = 35_000;

/// Who says nothing for two seconds is taken for a plain peer, and these keep people silent.
const SILENT: [Fault; 9] = [
    Fault::Delay,
    Fault::RelayOnly,
    Fault::Split,
    Fault::OneWay,
    Fault::Flapping,
    Fault::Pause,
    Fault::Sleep,
    Fault::SlowReceiver,
    Fault::SlowStorage,
];

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
    program: VecDeque<String>,
    /// How far its wall clock is ahead, while it is off.
    ahead_ms: i64,
    seen: Seen,
}

/// What a database was when it was last looked at.
#[derive(Debug, Default)]
struct Seen {
    version: u64,
    vector: VersionVector,
    commits: u64,
    picture: Picture,
}

/// A room. See the module's documentation.
#[derive(Debug)]
pub struct Room {
    pub(crate) net: Net,
    pub(crate) random: Random,
    pub(crate) rates: Rates,
    pub(crate) devices: Vec<Device>,
    pub(crate) mends: Mends,
    pub(crate) mend_count: u64,
    plains: Vec<usize>,
    habits: Habits,
    history: History,
    statements: u64,
    /// Digests of registers, by vector, and whose they were first.
    digests: BTreeMap<String, (String, String)>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// How often what went wrong.
    pub faults: Faults,
    /// Operations that users and plain peers wrote.
    pub operations: u64,
    /// Statements that were run.
    pub statements: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// What happened, where somebody asked for it.
    pub trace: Trace,
    /// What happened to the row that the violation is about.
    pub row: Vec<String>,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, trace: Trace) -> Outcome {
    let mut room = Room::new(seed, trace);
    let played = catch_unwind(AssertUnwindSafe(|| room.play()));
    let violation =
        played.unwrap_or_else(|panic| Err(Violation::new(Property::Soundness, message(panic.as_ref())))).err();
    let row = violation.as_ref().map(|violation| room.story(violation)).unwrap_or_default();
    Outcome {
        violation,
        faults: room.net.faults,
        operations: room.history.everything().count() as u64,
        statements: room.statements,
        virtual_ms: room.net.now_ms,
        trace: room.net.trace,
        row,
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

impl Room {
    fn new(seed: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let mut net = Net::new(seed);
        net.trace = trace;
        net.delays.channel_ms.1 = *random.pick(&[5, 50, 400]);
        net.delays.save_ms.1 = *random.pick(&[0, 5, 300]);
        let (rates, habits) = (Rates::draw(&mut random), Habits::draw(&mut random));
        net.chances = rates.chances;
        Self {
            net,
            random,
            rates,
            devices: Vec::new(),
            mends: Mends::new(),
            mend_count: 0,
            plains: Vec::new(),
            habits,
            history: History::default(),
            statements: 0,
            digests: BTreeMap::new(),
        }
    }

    fn play(&mut self) -> Check {
        for _ in 0..self.random.between((2, 5)) {
            self.join();
        }
        for _ in 0..*self.random.pick(&[0, 0, 1, 1, 2]) {
            let plain = PlainPeer::new(&format!("plain{}", self.plains.len()));
            let host = self.net.add_plain(plain);
            self.plains.push(host);
            self.net.connect(host);
        }
        self.trouble()?;
        self.mend_all()?;
        self.finish_programs()?;
        self.converge()?;
        self.end()
    }

    /// Everyone writes and everything breaks.
    fn trouble(&mut self) -> Check {
        let end_ms = self.random.between((30_000, 120_000));
        let programs = self.random.between((20, 90));
        let pause_ms = 2 * end_ms / programs;
        let (mut write_at_ms, mut break_at_ms) = (0, self.random.between(self.rates.pause_ms));
        while self.net.now_ms < end_ms {
            let mend_at_ms = self.mends.keys().next().map_or(u64::MAX, |(at_ms, _)| *at_ms);
            let until_ms = write_at_ms.min(break_at_ms).min(mend_at_ms).min(end_ms);
            self.pass_until(until_ms)?;
            if mend_at_ms <= until_ms {
                if let Some((_, mend)) = self.mends.pop_first() {
                    self.mend(mend)?;
                }
            } else if write_at_ms <= until_ms {
                self.somebody_writes()?;
                write_at_ms = until_ms + self.random.between((0, pause_ms));
            } else if break_at_ms <= until_ms {
                self.break_something()?;
                break_at_ms = until_ms + self.random.between(self.rates.pause_ms).max(1);
            }
        }
        Ok(())
    }

    fn pass_until(&mut self, until_ms: u64) -> Check {
        self.look_at_touched()?;
        while self.net.step(until_ms) {
            self.look_at_touched()?;
        }
        self.net.now_ms = self.net.now_ms.max(until_ms);
        Ok(())
    }

    pub(crate) fn look_at_touched(&mut self) -> Check {
        for host in self.net.take_touched() {
            if let Some(device) = self.device_of(host) {
                self.look(device)?;
            }
        }
        match self.net.disturbed.pop() {
            Some((host, what)) => Err(Violation::new(Property::OldLink, format!("{}: {what}", self.name_of(host)))),
            None => Ok(()),
        }
    }

    /// The device that a host has open.
    pub(crate) fn device_of(&self, host: usize) -> Option<usize> {
        self.devices.iter().position(|device| device.host == Some(host))
    }

    fn name_of(&self, host: usize) -> String {
        self.device_of(host).map_or_else(|| format!("host {host}"), |device| self.devices[device].name.clone())
    }

    /// Hosts that are there, plain peers among them.
    pub(crate) fn living(&self) -> Vec<usize> {
        (0..self.net.hosts.len()).filter(|host| !self.net.hosts[*host].dead).collect()
    }

    /// Devices' hosts that do something when something happens.
    pub(crate) fn awake(&self) -> Vec<usize> {
        let hosts = self.devices.iter().filter_map(|device| device.host);
        hosts.filter(|host| !self.net.hosts[*host].is_asleep()).collect()
    }

    /// Somebody new comes, with an empty database.
    pub(crate) fn join(&mut self) {
        let name = format!("r{}", self.devices.len());
        let seen = Seen::default();
        let left = Some(Disk::new());
        self.devices.push(Device { name, host: None, left, away: false, program: VecDeque::new(), ahead_ms: 0, seen });
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
            self.mends.insert((back_ms, self.mend_count), crate::chaos::Mend::Rejoin(device));
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
        let device_name = self.devices[device].name.clone();
        let acknowledged = self.history.of(&device_name).filter(|(_, own)| own.acknowledged);
        let told = acknowledged.map(|(_, own)| own.version).max().unwrap_or_default();
        if version < told {
            let what = format!("{device_name} had told version {told}, and has {version} after its restart");
            return Err(Violation::new(Property::Version, what));
        }
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

    /// Somebody does the next thing they had in mind.
    fn somebody_writes(&mut self) -> Check {
        if !self.plains.is_empty() && self.random.happens(100) {
            self.plain_writes();
            return Ok(());
        }
        let awake = self.awake();
        if awake.is_empty() {
            return Ok(());
        }
        let host = *self.random.pick(&awake);
        let Some(device) = self.device_of(host) else { return Ok(()) };
        if self.devices[device].program.is_empty() {
            let program = self.habits.program(&mut self.random);
            self.devices[device].program = program.statements.into();
            if program.takes_its_time {
                return self.one_statement(device);
            }
            return self.finish_program(device);
        }
        self.one_statement(device)
    }

    /// A device writes something, and nothing happens meanwhile.
    pub(crate) fn write_now(&mut self, device: usize) -> Check {
        self.finish_program(device)?;
        let statement = self.habits.statement(&mut self.random);
        self.exec(device, &statement)
    }

    fn one_statement(&mut self, device: usize) -> Check {
        let Some(sql) = self.devices[device].program.pop_front() else { return Ok(()) };
        self.exec(device, &sql)?;
        if self.devices[device].program.is_empty() && self.is_in_transaction(device) {
            // Its COMMIT failed.
            return self.exec(device, "ROLLBACK");
        }
        Ok(())
    }

    fn finish_program(&mut self, device: usize) -> Check {
        while !self.devices[device].program.is_empty() {
            self.one_statement(device)?;
        }
        Ok(())
    }

    /// Everyone comes to an end with what they are doing, and somebody makes the tables that were lost before anybody heard of them.
    fn finish_programs(&mut self) -> Check {
        (0..self.devices.len()).try_for_each(|device| self.finish_program(device))?;
        self.creates().into_iter().try_for_each(|sql| self.exec(0, sql))
    }

    fn creates(&self) -> Vec<&'static str> {
        let tables = if self.habits.foreign_keys { CREATE.len() } else { CREATE.len() - 1 };
        CREATE[..tables].to_vec()
    }

    fn is_in_transaction(&self, device: usize) -> bool {
        self.devices[device].host.is_some_and(|host| self.net.hosts[host].node.replica().in_transaction())
    }

    /// Runs a statement, and checks what it sealed against what it did.
    fn exec(&mut self, device: usize, sql: &str) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        let now = self.net.now(host);
        self.statements += 1;
        let result = self.net.exec_only(host, sql, Scope::Synced);
        let name = self.devices[device].name.clone();
        self.net.trace.note(self.net.now_ms, || match &result {
            Ok(result) => format!("{name} runs {sql} ({} rows)", result.rows_affected),
            Err(error) => format!("{name} runs {sql}: {error}"),
        });
        let sealed = self.committed_since(device);
        let in_transaction = self.is_in_transaction(device);
        if !in_transaction {
            let node = self.net.hosts[host].node.node();
            let shown = look(node, now);
            let operations: Vec<_> = sealed.iter().flat_map(|one| one.operations.iter().flatten()).cloned().collect();
            let mut before = std::mem::replace(&mut self.devices[device].seen.picture, shown.0);
            if sql.starts_with("CREATE") {
                // Rows that waited for the table appear with it; that they are right is looked at below.
                let mut after = self.devices[device].seen.picture.clone();
                [&mut before, &mut after]
                    .into_iter()
                    .for_each(|rows| rows.retain(|(table, _), _| *table == "rtc_schema"));
                properties::capture(&name, &before, &after, &operations)?;
            } else {
                properties::capture(&name, &before, &self.devices[device].seen.picture, &operations)?;
            }
            let ops: Vec<Op> = operations.iter().map(op).collect();
            if let [one] = sealed.as_slice() {
                let relayed = self.may_be_taken_for_plain();
                properties::clock(
                    &name,
                    (now.wall_ms, relayed),
                    &self.devices[device].seen.vector,
                    &self.history,
                    &ops,
                )?;
                self.remember(device, one, ops, false)?;
            }
        }
        if sealed.len() > usize::from(!in_transaction) {
            let what = format!("{name} sealed {} transactions by {sql}", sealed.len());
            return Err(Violation::new(Property::Capture, what));
        }
        let replica = self.net.hosts[host].node.replica();
        let (version, vector) = (replica.version(), replica.vector().clone());
        let commits = self.net.hosts[host].disk.as_ref().map_or(0, Disk::commits);
        let seen = &mut self.devices[device].seen;
        (seen.version, seen.vector, seen.commits) = (version, vector, commits);
        self.net.poll(host);
        self.look(device)
    }

    /// What a device has committed since it was last looked at.
    fn committed_since(&self, device: usize) -> Vec<Committed> {
        let Device { host: Some(host), seen, .. } = &self.devices[device] else { return Vec::new() };
        let committed = self.net.hosts[*host].node.replica().committed();
        committed.filter(|committed| committed.version > seen.version).cloned().collect()
    }

    /// A device's own transaction becomes history.
    fn remember(&mut self, device: usize, committed: &Committed, ops: Vec<Op>, adopted: bool) -> Check {
        let name = self.devices[device].name.clone();
        let dots: Vec<u64> =
            committed.covers.iter().flat_map(|(_, ranges)| ranges.iter()).flat_map(|(a, b)| a..=b).collect();
        let own = committed.covers.iter().all(|(origin, _)| origin.as_str() == name);
        let ([seq], true) = (dots.as_slice(), own) else {
            let what = format!("{name} sealed a transaction as {:?}", committed.covers);
            return Err(Violation::new(Property::Dots, what));
        };
        let (at_ms, version) = (self.net.now_ms, committed.version);
        let transaction = Transaction { ops, at_ms, version, acknowledged: false, adopted };
        if !self.history.add((name.clone(), *seq), transaction) {
            let what = format!("{name} gave the dot or a clock value of its transaction {seq} before");
            return Err(Violation::new(Property::Dots, what));
        }
        Ok(())
    }

    /// Looks at a device after something happened to it that its user did not do.
    fn look(&mut self, device: usize) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        let name = self.devices[device].name.clone();
        self.history.acknowledge(&name, self.net.hosts[host].saved_version);
        let (version, seen) = (self.net.hosts[host].node.version(), self.devices[device].seen.version);
        if version < seen {
            return Err(Violation::new(Property::Version, format!("{name} had version {seen} and has {version}")));
        }
        let commits = self.net.hosts[host].disk.as_ref().map_or(0, Disk::commits);
        let (new_commits, merged) = (commits - self.devices[device].seen.commits, self.committed_since(device));
        if version == seen && new_commits == 0 {
            return Ok(());
        }
        if new_commits > merged.len() as u64 {
            let what = format!("{name} merged {} transactions or deltas in {new_commits} commits", merged.len());
            return Err(Violation::new(Property::WholeTransactions, what));
        }
        for committed in &merged {
            self.look_at_merged(device, committed)?;
        }
        self.devices[device].seen.version = version;
        self.devices[device].seen.commits = commits;
        self.look_again(device)
    }

    /// What a merge brought is new here, and somebody wrote it.
    fn look_at_merged(&mut self, device: usize, committed: &Committed) -> Check {
        let name = self.devices[device].name.clone();
        let seen = &self.devices[device].seen.vector;
        let new = committed.covers.minus(seen);
        if new != committed.covers {
            let what = format!("{name} had of {:?} already what {:?} does not say", committed.covers, new);
            return Err(Violation::new(Property::AppliedOnce, what));
        }
        let operations = committed.operations.iter().flatten();
        let is_own = committed.covers.iter().any(|(origin, _)| origin.as_str() == name);
        if is_own {
            let ops: Vec<Op> = operations.map(op).collect();
            // What is adopted comes from a plain peer, which wrote it itself or passes it on, or from one that was taken for one.
            let plain = self.may_be_taken_for_plain();
            let written = |op: &&Op| plain && self.history.is_written(op);
            if let Some(op) = ops.iter().find(|op| !written(op)) {
                let what = format!("{name} wrote by itself what no user and no plain peer wrote: {op:?}");
                return Err(Violation::new(Property::Echo, what));
            }
            self.remember(device, committed, ops, true)?;
        } else {
            for operation in operations {
                let Some((dot, ..)) = operation.place() else { continue };
                let told = op(operation);
                let written = self.history.transaction(&(dot.origin.as_str().to_owned(), dot.seq));
                if !written.is_some_and(|written| written.ops.iter().any(|written| told.is_part_of(written))) {
                    let what = format!("{name} took in {told:?} as of transaction {dot:?}, which nobody wrote there");
                    return Err(Violation::new(Property::Echo, what));
                }
            }
        }
        let covers = committed.covers.clone();
        self.devices[device].seen.vector.merge(&covers);
        Ok(())
    }

    fn may_be_taken_for_plain(&self) -> bool {
        !self.plains.is_empty() || SILENT.iter().any(|fault| self.net.faults.of(*fault) > 0)
    }

    /// What a reader of a device's database sees is the fold of whole transactions.
    fn look_again(&mut self, device: usize) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        if self.is_in_transaction(device) {
            return Ok(());
        }
        let now = self.net.now(host);
        let shown = look(self.net.hosts[host].node.node(), now);
        let vector = self.net.hosts[host].node.replica().vector().clone();
        let name = self.devices[device].name.clone();
        for (origin, ranges) in vector.iter() {
            let unknown = |seq: &u64| self.history.transaction(&(origin.as_str().to_owned(), *seq)).is_none();
            if let Some(seq) = ranges.iter().flat_map(|(first, last)| first..=last).find(unknown) {
                let what =
                    format!("{name} knows transaction {seq} of {origin}, which nobody committed or which was lost");
                return Err(Violation::new(Property::SavedBeforeTold, what));
            }
        }
        properties::whole_transactions(&name, &shown, &vector, &self.history)?;
        self.compare_registers(device, &vector)?;
        self.devices[device].seen.picture = shown.0;
        self.devices[device].seen.vector = vector;
        Ok(())
    }

    /// Who has the same transactions has the same registers, and so the same digest.
    fn compare_registers(&mut self, device: usize, vector: &VersionVector) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        let Some(digest) = self.net.hosts[host].node.replica().digest().unwrap() else { return Ok(()) };
        let (name, digest) = (self.devices[device].name.clone(), digest.to_string());
        let (known, whose) = self.digests.entry(format!("{vector:?}")).or_insert((digest.clone(), name.clone()));
        if *known == digest {
            return Ok(());
        }
        let what = format!("{name} has the transactions of {whose} and other registers: {digest}, not {known}");
        Err(Violation::new(Property::Registers, what))
    }

    fn plain_writes(&mut self) {
        let host = *self.random.pick(&self.plains);
        let (kind, table, pk, values) = self.habits.plain(&mut self.random);
        let now = self.net.now(host);
        let told = self.net.hosts[host].node.plain().write(kind, table, pk, values, now);
        self.net.trace.note(self.net.now_ms, || format!("plain peer {host} writes {told}"));
        self.net.faults.count(Fault::PlainPeer);
        self.history.add_plain(read(&told));
        self.net.poll(host);
    }

    /// Lets time pass until everyone has met everyone and has everything.
    fn converge(&mut self) -> Check {
        let deadline_ms = self.net.now_ms + CONVERGES_MS;
        while !(self.net.is_converged() && self.everyone_has_met()) {
            if !self.net.step(deadline_ms) {
                let what = format!("not within {CONVERGES_MS} ms:\n{}", self.net.picture());
                return Err(Violation::new(Property::Convergence, what));
            }
            self.look_at_touched()?;
        }
        self.pass_until(self.net.now_ms + SETTLES_MS)
    }

    fn everyone_has_met(&self) -> bool {
        let living = self.living();
        // Two plain peers that lost each other are their own concern.
        living.iter().filter(|host| self.net.hosts[**host].node.has_replica()).all(|host| {
            let mut peers = self.net.hosts[*host].node.peers();
            peers.sort();
            peers.dedup();
            peers.len() == living.len() - 1
        })
    }

    /// Everyone has everything: is it right, and is it quiet?
    fn end(&mut self) -> Check {
        let expected = fold(&TABLES, self.history.everything());
        for device in 0..self.devices.len() {
            let Some(host) = self.devices[device].host else { continue };
            let (name, now) = (self.devices[device].name.clone(), self.net.now(host));
            let node = self.net.hosts[host].node.node();
            let shown = look(node, now);
            if let Some((row, what)) = properties::difference(&shown.0, &expected) {
                let what = format!("{name} does not show what the oracle says: {what}");
                return Err(Violation { property: Property::Oracle, what, row: Some(row) });
            }
            properties::sound(&name, node, &self.history, now)?;
            if self.net.hosts[host].errors().contains(&ErrorCode::Diverged) {
                return Err(Violation::new(Property::Registers, format!("{name} told that it diverged")));
            }
        }
        self.net.forget();
        self.pass_until(self.net.now_ms + SILENCE_MS)?;
        let talks = (0..self.net.hosts.len()).find(|host| !self.net.hosts[*host].data().is_empty());
        match talks {
            Some(host) => {
                let what = format!("{} still says {:?}", self.name_of(host), self.net.hosts[host].data().first());
                Err(Violation::new(Property::Silence, what))
            }
            None => Ok(()),
        }
    }

    /// What happened to the row that a violation is about, by clock.
    fn story(&self, violation: &Violation) -> Vec<String> {
        let Some(row) = &violation.row else { return Vec::new() };
        let Some(table) = TABLES.iter().find(|table| table.name == row.0) else { return Vec::new() };
        let mut ops: Vec<&Op> =
            self.history.everything().filter(|op| op.table == row.0 && table.row_key(&op.pk) == *row).collect();
        ops.sort_by(|a, b| a.clock.cmp(&b.clock));
        ops.dedup();
        ops.iter().map(|op| format!("{:?} {:?} {:?}", op.clock, op.kind, op.values)).collect()
    }
}

/// A plain peer's operation in the oracle's terms.
fn read(told: &Json) -> Op {
    let columns = |columns: &Json| {
        let columns = columns.as_object().into_iter().flatten();
        columns.map(|(name, value)| (name.clone(), plain_value(value))).collect()
    };
    let hlc = &told["hlc"];
    let kind = match told["type"].as_str() {
        Some("INSERT") => Kind::Insert,
        Some("UPDATE") => Kind::Update,
        _ => Kind::Delete,
    };
    Op {
        clock: (
            hlc["ts"].as_u64().unwrap(),
            u32::try_from(hlc["counter"].as_u64().unwrap()).unwrap(),
            hlc["nodeId"].as_str().unwrap().to_owned(),
        ),
        kind,
        table: told["table"].as_str().unwrap().to_owned(),
        pk: columns(&told["pk"]),
        values: columns(&told["values"]),
    }
}

fn plain_value(value: &Json) -> Value {
    match value {
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Real(number.as_f64().unwrap().to_bits()), Value::Integer)
        }
        Json::String(text) => Value::Text(text.clone().into_bytes()),
        _ => Value::Null,
    }
}
