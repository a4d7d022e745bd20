//! `cargo run --release -p rtc-battery-sim -- --seeds N [--seed S] [--minutes M] [--trace]`
#![allow(clippy::print_stdout, reason = "a command line tool talks on standard output")]
#![allow(clippy::disallowed_methods, reason = "how long to go on is a matter of real time; what a seed does is not")]

#[cfg(feature = "planted-bugs")]
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rtc_battery_sim::campaign::{self, Tally};
use rtc_battery_sim::room;
use rtc_battery_sim::trace::Trace;

/// Whole rooms of nodes on a virtual network, broken on purpose. One seed is one course of events.
#[derive(Parser)]
struct Cli {
    /// How many seeds; together with --minutes: at least
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on for so many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Go on when a seed fails
    #[arg(long)]
    keep_going: bool,
    /// Fail where a kind of fault happened less often
    #[arg(long, default_value_t = 0)]
    each_fault: u64,
    /// Plant each bug of the list and look for it, in so many trials of --seeds seeds at most
    #[cfg(feature = "planted-bugs")]
    #[arg(long, num_args = 0..=1, default_missing_value = "1")]
    planted: Option<u64>,
    /// Print all that happens under the first seed
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // What a panic says is in the report of its seed.
    std::panic::set_hook(Box::new(|_| {}));
    if cli.trace {
        return trace(cli.seed);
    }
    #[cfg(feature = "planted-bugs")]
    if let Some(trials) = cli.planted {
        return planted(&cli, trials);
    }
    let start = Instant::now();
    let length = cli.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let least = cli.seed.saturating_add(cli.seeds);
    let goes_on = |seed| seed < least || length.is_some_and(|length| start.elapsed() < length);
    let tally = campaign::run(cli.seed, cli.keep_going, goes_on);
    let per_minute = tally.seeds as f64 / start.elapsed().as_secs_f64() * 60.0;
    print!("{tally}");
    println!("in {:.0} s: {per_minute:.0} seeds a minute", start.elapsed().as_secs_f64());
    verdict(&tally, cli.each_fault)
}

/// Failures that are shown in full.
const SHOWN: usize = 3;

fn verdict(tally: &Tally, each_fault: u64) -> ExitCode {
    for (_, report) in tally.failures.iter().take(SHOWN) {
        println!("\n{report}");
    }
    if !tally.failures.is_empty() {
        let seeds: Vec<u64> = tally.failures.iter().map(|(seed, _)| *seed).collect();
        println!("{} seeds failed: {seeds:?}", seeds.len());
        return ExitCode::FAILURE;
    }
    let rare = tally.rarer_than(each_fault);
    if !rare.is_empty() {
        println!("fewer than {each_fault} times: {rare:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Every bug must be found.
#[cfg(feature = "planted-bugs")]
fn planted(cli: &Cli, trials: u64) -> ExitCode {
    let found = campaign::find_planted(cli.seed, trials, cli.seeds);
    println!("| planted bug | median seeds to find it | told by |\n|---|---|---|");
    for one in &found {
        let median = one.median().map_or("not found".to_owned(), |seeds| seeds.to_string());
        let told: BTreeSet<String> =
            one.trials.iter().flatten().map(|(_, property)| format!("`{property:?}`")).collect();
        println!("| `{:?}` | {median} | {} |", one.bug, told.into_iter().collect::<Vec<_>>().join(", "));
    }
    if found.iter().all(|one| one.median().is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn trace(seed: u64) -> ExitCode {
    let outcome = room::run(seed, Trace::on());
    for line in outcome.trace.lines() {
        println!("{:>9.3} s  {}", line.at_ms as f64 / 1000.0, line.text);
    }
    match outcome.violation {
        Some(violation) => {
            println!("{violation}\n  {}", outcome.row.join("\n  "));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
