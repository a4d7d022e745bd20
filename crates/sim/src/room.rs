//! One room under one seed: devices write while everything breaks, then everything is mended, and everyone must have everything.
//!
//! Whatever a node does is looked at in the very step in which it does it ([`watch`](crate::watch)).

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rtc_battery_core::node::ErrorCode;
use rtc_battery_core::replica::Scope;

use crate::chaos::{Mends, Rates};
use crate::device::Device;
use crate::floors::Floors;
use crate::history::{History, op, plain_op};
use crate::net::{Backup, Disk, Fault, Faults, Net};
use crate::oracle::{Op, fold};
use crate::plain::PlainPeer;
use crate::properties::{self, Check, Property, Violation, look};
use crate::random::Random;
use crate::shape;
use crate::trace::Trace;
use crate::workload::{CREATE, Habits, TABLES};

/// Within so much virtual time after everything is mended everyone has met everyone and has everything, in milliseconds.
const CONVERGES_MS: u64 = 300_000;

/// What was said last has arrived, and digests are compared, so long after that. Then there must be silence, in milliseconds.
const SETTLES_MS: u64 = 45_000;

/// For how long silence is listened to, in milliseconds.
const SILENCE_MS: u64 = 35_000;

/// A room. See the module's documentation.
#[derive(Debug)]
pub struct Room {
    pub(crate) net: Net,
    pub(crate) random: Random,
    pub(crate) rates: Rates,
    pub(crate) devices: Vec<Device>,
    pub(crate) mends: Mends,
    pub(crate) mend_count: u64,
    pub(crate) plains: Vec<usize>,
    habits: Habits,
    pub(crate) history: History,
    statements: u64,
    /// What a device's disk had, to be put back.
    pub(crate) backup: Option<(usize, Backup)>,
    /// That happens once in a room: what is safe at others' must stay there.
    pub(crate) was_put_back: bool,
    pub(crate) floors: Floors,
    /// Digests of registers, by vector and floor, and whose they were first.
    pub(crate) digests: BTreeMap<String, (String, String)>,
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
        let (rates, mut habits) = (Rates::draw(&mut random), Habits::draw(&mut random));
        // In rooms of their own, so that the other seeds go on telling what they told.
        habits.definitions = if seed % 4 == 2 { 60 } else { 0 };
        habits.alterations = if seed % 4 == 1 { 300 } else { 0 };
        let retention_ms = (seed % 4 == 3).then(|| *random.pick(&[15_000, 60_000, 1_800_000]));
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
            backup: None,
            was_put_back: false,
            floors: Floors::new(retention_ms),
            digests: BTreeMap::new(),
        }
    }

    fn play(&mut self) -> Check {
        let plains = *self.random.pick(&[0, 0, 1, 1, 2]);
        // What they heard nobody knows, so nobody can say what they bring back.
        let plains = if self.floors.retention_ms.is_some() { 0 } else { plains };
        // They meet those only who do as they do.
        self.net.sealed = plains == 0;
        for _ in 0..self.random.between((2, 5)) {
            self.join();
        }
        for _ in 0..plains {
            let plain = PlainPeer::new(&format!("plain{}", self.plains.len()));
            let host = self.net.add_plain(plain);
            self.plains.push(host);
            self.net.connect(host);
        }
        self.trouble()?;
        self.mend_all()?;
        self.finish_programs()?;
        self.let_time_catch_up();
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

    /// The device that a host has open.
    pub(crate) fn device_of(&self, host: usize) -> Option<usize> {
        self.devices.iter().position(|device| device.host == Some(host))
    }

    pub(crate) fn name_of(&self, host: usize) -> String {
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
        let first = (0..self.devices.len()).find(|device| !self.is_mute(*device)).unwrap_or(0);
        self.creates().into_iter().try_for_each(|sql| self.exec(first, sql))
    }

    pub(crate) fn creates(&self) -> Vec<&'static str> {
        let tables = if self.habits.foreign_keys { CREATE.len() } else { CREATE.len() - 1 };
        let shifting = (self.habits.alterations > 0).then_some(shape::CREATE);
        CREATE[..tables].iter().copied().chain(shifting).collect()
    }

    pub(crate) fn is_in_transaction(&self, device: usize) -> bool {
        self.devices[device].host.is_some_and(|host| self.net.hosts[host].node.replica().in_transaction())
    }

    /// Runs a statement, and checks what it sealed against what it did.
    fn exec(&mut self, device: usize, sql: &str) -> Check {
        let Some(host) = self.devices[device].host else { return Ok(()) };
        if self.is_mute(device) {
            return Ok(());
        }
        let now = self.net.now(host);
        if sql == shape::CREATE && shape::is_renamed(self.net.hosts[host].node.node(), now) {
            // It would be another table.
            return Ok(());
        }
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
            let before = std::mem::replace(&mut self.devices[device].seen.picture, shown.0);
            properties::capture(&name, before, self.devices[device].seen.picture.clone(), &operations)?;
            let ops: Vec<Op> = operations.iter().map(op).collect();
            if let [one] = sealed.as_slice() {
                let relayed = self.may_be_taken_for_plain();
                let Device { seen, ahead, .. } = &self.devices[device];
                properties::clock(
                    &name,
                    (now.wall_ms, relayed),
                    (&seen.vector, ahead, &self.floors),
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

    fn plain_writes(&mut self) {
        let host = *self.random.pick(&self.plains);
        let (kind, table, pk, values) = self.habits.plain(&mut self.random);
        let now = self.net.now(host);
        let told = self.net.hosts[host].node.plain().write(kind, table, pk, values, now);
        self.net.trace.note(self.net.now_ms, || format!("plain peer {host} writes {told}"));
        self.net.faults.count(Fault::PlainPeer);
        self.history.add_plain(plain_op(&told));
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
        if self.floors.retention_ms.is_some() {
            self.forget_together(CONVERGES_MS)?;
        }
        self.pass_until(self.net.now_ms + SETTLES_MS)?;
        if self.floors.retention_ms.is_some() {
            // Retention ends for more while that passes.
            self.forget_together(CONVERGES_MS)?;
        }
        Ok(())
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
        let mut all = None;
        for device in 0..self.devices.len() {
            let Some(host) = self.devices[device].host else { continue };
            let (name, now) = (self.devices[device].name.clone(), self.net.now(host));
            let node = self.net.hosts[host].node.node();
            let shown = look(node, now);
            let expected = self.floors.sure(&properties::of_tables_that_are(&expected));
            let of_all = all.get_or_insert_with(|| shown.0.clone());
            if let Some((row, what)) = properties::difference(&shown.0, of_all) {
                let what = format!("{name} does not show what others do: {what}");
                return Err(Violation { property: Property::Oracle, what, row: Some(row) });
            }
            let shown = (self.floors.sure(&shown.0), shown.1);
            if let Some((row, what)) = properties::difference(&shown.0, &expected) {
                let what = format!("{name} does not show what the oracle says: {what}");
                return Err(Violation { property: Property::Oracle, what, row: Some(row) });
            }
            self.parted(device)?;
            let node = self.net.hosts[host].node.node();
            properties::sound(&name, node, &self.history, now)?;
            if self.net.hosts[host].errors().contains(&ErrorCode::Diverged) && self.is_one_content() {
                return Err(Violation::new(Property::Registers, format!("{name} told that it diverged")));
            }
        }
        let digests =
            self.devices.iter().filter_map(|device| Some(self.net.hosts[device.host?].node.replica().digest()));
        let digests: BTreeSet<_> = digests.map(|digest| digest.unwrap().map(|digest| digest.to_string())).collect();
        if digests.len() > 1 && !self.floors.any_contested() {
            return Err(Violation::new(
                Property::Registers,
                format!("not the same everywhere in the end: {digests:?}"),
            ));
        }
        // Who forgets says so, and a while later all see whether they keep the same.
        let mut still = 0;
        while still < 2 {
            let floors = self.floor_vectors();
            self.net.forget();
            self.pass_until(self.net.now_ms + SILENCE_MS)?;
            still = if self.floor_vectors() == floors { still + 1 } else { 0 };
        }
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
