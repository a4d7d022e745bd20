//! `cargo xtask soak`: what the tests do, many times over, in release. For a night, or before a release.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use xshell::Cmd;

use crate::project::{Project, step};
use crate::{build, fuzz, setup, simulator};

/// Random programs of one round: about half a minute.
const CASES: u64 = 400;

/// The fuzzers get this part of the time: one third.
const FUZZ_SHARE: u64 = 3;

/// Runs ten times the merge schedules of the tests, a million updates of one row, rooms of a thousand, the fuzzers for a third of the time, rooms under faults for half of it,
/// a browser that is killed 200 times while it writes, the tests of networks at length, and then new random programs until it is over.
pub(crate) fn run(project: &Project, minutes: u64) -> Result<()> {
    setup::run(project, setup::TEST)?;
    let compile = ["--no-run", "--lib", "--test", "replica", "--test", "node"];
    step("soak: compile", || Ok(core_tests(project, &compile).run()?))?;
    step("soak: compile the simulator", || simulator::compile(project))?;
    let start = Instant::now();
    step("soak: merge, 3,000 sets in every order and 200,000 schedules", || {
        Ok(core_tests(project, &["--lib", "merge::schedules"]).env("RTC_BATTERY_SCHEDULES", "10").run()?)
    })?;
    step("soak: a million updates of one row", || {
        Ok(core_tests(project, &["--test", "replica", "bounded::"]).env("RTC_BATTERY_UPDATES", "1000000").run()?)
    })?;
    step("soak: rooms of a thousand, of which a third dies", || {
        Ok(core_tests(project, &["--test", "node", "mesh::", "--", "--ignored"]).run()?)
    })?;
    fuzz::soak(project, minutes * 60 / FUZZ_SHARE)?;
    // Half of the time.
    let half = (minutes as f64 / 2.0).to_string();
    let first = seed_of_today().to_string();
    step(&format!("soak: rooms under faults for {half} minutes, from seed {first} on"), || {
        simulator::run(project, &["--minutes", &half, "--seeds", "1", "--seed", &first, "--each-fault", "500"])
    })?;
    build::everything(project)?;
    let server = step("server: compile", || build::server(project, "dev"))?;
    step("soak: Chromium is killed 200 times while it writes", || {
        let test = project.shell.cmd("node").args(["--test", "js/test/killed.test.mjs"]);
        Ok(test.env("RTC_BATTERY_SIGNAL", &server).env("RTC_BATTERY_KILLS", "200").run()?)
    })?;
    step("soak: networks that lose, translate and break, and what has to go well every time", || {
        let files = ["js/test/network.test.mjs", "js/test/endurance.test.mjs"];
        let test = project.shell.cmd("node").args(["--test", "--test-concurrency=1"]).args(files);
        Ok(test.env("RTC_BATTERY_SIGNAL", &server).env("RTC_BATTERY_SOAK", "1").run()?)
    })?;
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < Duration::from_secs(minutes * 60) {
        rounds += 1;
        step(&format!("soak: random programs, round {rounds} of {CASES} for each property"), || {
            let test = core_tests(project, &["--test", "replica", "differential::"]);
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

/// Other seeds each time; the simulator prints the one that fails.
fn seed_of_today() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs() * 10_000)
}

fn core_tests<'a>(project: &'a Project, args: &[&str]) -> Cmd<'a> {
    project.cargo().args(["test", "--quiet", "--locked", "--release", "--package", "rtc-battery-core"]).args(args)
}
