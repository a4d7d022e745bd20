//! Many seeds, on all processors, and what they came to.
//!
//! A seed is run without a trace; one that fails is run again with it. One in a hundred runs twice with it, and both must read alike.

use std::fmt;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

#[cfg(feature = "planted-bugs")]
use rtc_battery_core::planted::{Bug, plant};

use crate::net::{Fault, Faults};
use crate::properties::{Property, Violation};
use crate::room::{self, Outcome};
use crate::trace::Trace;

/// One seed in so many runs twice.
const TWICE: u64 = 100;

/// Lines of a trace that are shown of a failure.
const SHOWN: usize = 40;

/// What many seeds came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were run.
    pub seeds: u64,
    /// How many of them twice.
    pub twice: u64,
    /// How often what went wrong.
    pub faults: Faults,
    /// Operations that were written.
    pub operations: u64,
    /// Statements that were run.
    pub statements: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// The seeds that failed, each with its report.
    pub failures: Vec<(u64, String)>,
}

/// Runs seeds from the first on, as long as they are to be run and none fails.
#[must_use]
pub fn run(first: u64, keep_going: bool, goes_on: impl Fn(u64) -> bool + Sync) -> Tally {
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    let work = || loop {
        if failed.load(Ordering::Relaxed) && !keep_going {
            return;
        }
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if !goes_on(seed) {
            return;
        }
        let twice = seed % TWICE == 0;
        let outcome = if twice { run_twice(seed) } else { room::run(seed, Trace::default()) };
        let report = outcome.violation.is_some().then(|| report(seed, outcome.violation.as_ref()));
        failed.fetch_or(report.is_some(), Ordering::Relaxed);
        let mut tally = tally.lock().unwrap();
        tally.add(&outcome, twice);
        tally.failures.extend(report.map(|report| (seed, report)));
    };
    on_all_processors(work);
    let mut tally = tally.into_inner().unwrap();
    tally.failures.sort();
    tally
}

fn run_twice(seed: u64) -> Outcome {
    let (first, second) = (room::run(seed, Trace::on()), room::run(seed, Trace::on()));
    if first.violation.is_some() {
        return first;
    }
    let pairs = first.trace.lines().iter().zip(second.trace.lines());
    let differs = pairs.clone().find(|(one, other)| one != other);
    let same = differs.is_none() && first.trace.lines().len() == second.trace.lines().len();
    let what = || format!("run twice, seed {seed} went two ways: {differs:?}");
    let violation = (!same).then(|| Violation::new(Property::Soundness, what()));
    Outcome { violation, ..first }
}

/// What became of a bug that was planted.
#[cfg(feature = "planted-bugs")]
#[derive(Debug)]
pub struct Found {
    /// Which.
    pub bug: Bug,
    /// In each trial: how many seeds it took, and which property told. `None` where it was not found.
    pub trials: Vec<Option<(u64, Property)>>,
}

#[cfg(feature = "planted-bugs")]
impl Found {
    /// The seeds it takes, half of the time.
    #[must_use]
    pub fn median(&self) -> Option<u64> {
        let mut seeds: Vec<u64> = self.trials.iter().map(|trial| trial.map_or(u64::MAX, |(seeds, _)| seeds)).collect();
        seeds.sort_unstable();
        seeds.get(seeds.len() / 2).copied().filter(|seeds| *seeds < u64::MAX)
    }
}

/// Plants each bug, and looks for it in so many trials, each with other seeds and `most` of them.
#[cfg(feature = "planted-bugs")]
#[must_use]
pub fn find_planted(first: u64, trials: u64, most: u64) -> Vec<Found> {
    let jobs: Vec<(Bug, u64)> =
        Bug::ALL.into_iter().flat_map(|bug| (0..trials).map(move |trial| (bug, trial))).collect();
    let (next, found) = (AtomicU64::new(0), Mutex::new(vec![None; jobs.len()]));
    on_all_processors(|| {
        while let Some((n, (bug, trial))) = jobs.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed) as usize) {
            plant(Some(*bug));
            let begin = first + trial * most;
            let told = |seed| Some((seed - begin + 1, room::run(seed, Trace::default()).violation?.property));
            found.lock().unwrap()[n] = (begin..begin + most).find_map(told);
            plant(None);
        }
    });
    let found = found.into_inner().unwrap();
    let trials =
        |bug| jobs.iter().zip(&found).filter(move |((of, _), _)| *of == bug).map(|(_, found)| *found).collect();
    Bug::ALL.into_iter().map(|bug| Found { bug, trials: trials(bug) }).collect()
}

fn on_all_processors(work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(&work);
        }
    });
}

/// A failure, for whoever looks for its cause.
fn report(seed: u64, violation: Option<&Violation>) -> String {
    let again = room::run(seed, Trace::on());
    let Some(violation) = again.violation.as_ref().or(violation) else { return String::new() };
    let mut text = format!("seed {seed}: {violation}\n");
    if !again.row.is_empty() {
        text += &format!("the row's history, by clock:\n  {}\n", again.row.join("\n  "));
    }
    // Keepalive and signaling say little of most things.
    let signals = violation.property == Property::Convergence;
    let noise = |text: &str| {
        let keepalive = text.contains(r#"{"type":"ping""#) || text.contains(r#"{"type":"pong""#);
        keepalive || (!signals && text.contains("hears from the server"))
    };
    let lines: Vec<_> = again.trace.lines().iter().filter(|line| !noise(&line.text)).collect();
    text += "what happened last:\n";
    for line in &lines[lines.len().saturating_sub(SHOWN)..] {
        let short: String = line.text.chars().take(260).collect();
        text += &format!("  {:>9.3} s  {short}\n", line.at_ms as f64 / 1000.0);
    }
    text + &format!("the whole of it: cargo run --release -p rtc-battery-sim -- --seeds 1 --seed {seed} --trace\n")
}

impl Tally {
    fn add(&mut self, outcome: &Outcome, twice: bool) {
        self.seeds += 1;
        self.twice += u64::from(twice);
        self.faults.add(&outcome.faults);
        self.operations += outcome.operations;
        self.statements += outcome.statements;
        self.virtual_ms += outcome.virtual_ms;
    }

    /// The kinds that happened less often.
    #[must_use]
    pub fn rarer_than(&self, times: u64) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|fault| self.faults.of(*fault) < times).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, twice, statements, operations, .. } = self;
        let hours = self.virtual_ms as f64 / 3_600_000.0;
        writeln!(
            f,
            "{seeds} seeds ({twice} of them twice), {hours:.1} virtual hours, {statements} statements, {operations} operations"
        )?;
        for fault in Fault::ALL {
            writeln!(f, "  {:<14} {}", format!("{fault:?}"), self.faults.of(fault))?;
        }
        Ok(())
    }
}
