//! `cargo xtask soak`: what the tests do, many times over, in release. For a night, or before a release.

use std::time::{Duration, Instant};

use anyhow::Result;
use xshell::Cmd;

use crate::project::{Project, step};
use crate::{fuzz, setup};

/// Random programs of one round: about half a minute.
const CASES: u64 = 400;

/// The fuzzers get this part of the time: one third.
const FUZZ_SHARE: u64 = 3;

/// Runs ten times the merge schedules of the tests and a million updates of one row, then the fuzzers, and new random
/// programs until the time is over.
pub(crate) fn run(project: &Project, minutes: u64) -> Result<()> {
    setup::run(project, setup::BUILD)?;
    let compile = ["--no-run", "--lib", "--test", "replica_bounded", "--test", "replica_differential"];
    step("soak: compile", || Ok(core_tests(project, &compile).run()?))?;
    let start = Instant::now();
    step("soak: merge, 3,000 sets in every order and 200,000 schedules", || {
        Ok(core_tests(project, &["--lib", "merge::schedules"]).env("RTC_BATTERY_SCHEDULES", "10").run()?)
    })?;
    step("soak: a million updates of one row", || {
        Ok(core_tests(project, &["--test", "replica_bounded"]).env("RTC_BATTERY_UPDATES", "1000000").run()?)
    })?;
    fuzz::soak(project, minutes * 60 / FUZZ_SHARE)?;
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < Duration::from_secs(minutes * 60) {
        rounds += 1;
        step(&format!("soak: random programs, round {rounds} of {CASES} for each property"), || {
            let test = core_tests(project, &["--test", "replica_differential"]);
            Ok(test.env("PROPTEST_CASES", CASES.to_string()).run()?)
        })?;
    }
    let seconds = start.elapsed().as_secs();
    println!(
        "soak: nothing found in {seconds} s: schedules, updates, fuzz targets, {} random programs for each property",
        rounds * CASES
    );
    Ok(())
}

fn core_tests<'a>(project: &'a Project, args: &[&str]) -> Cmd<'a> {
    project.cargo().args(["test", "--quiet", "--locked", "--release", "--package", "rtc-battery-core"]).args(args)
}
