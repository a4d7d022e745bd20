//! `cargo xtask test`: everything that has to hold before a change is kept.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::project::{Project, step};
use crate::{build, fuzz, setup, simulator, wasm};

/// One part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Formatting, lints and native tests
    Rust,
    /// Random bytes for everything that bytes from outside reach
    Fuzz,
    /// Build, types, and tests in Node and in browsers
    Js,
}

/// Sets up, then runs the tests.
pub(crate) fn run(project: &Project, only: Option<Part>) -> Result<()> {
    let wanted = |part| only.is_none_or(|only| only == part);
    if wanted(Part::Rust) || wanted(Part::Js) {
        setup::run(project, setup::TEST)?;
    }
    if wanted(Part::Rust) {
        rust(project)?;
    }
    let alone = !wanted(Part::Js);
    let executions = wanted(Part::Fuzz).then(|| fuzz::Executions::prepare(project, alone)).transpose()?;
    let server = wanted(Part::Js).then(|| built(project, wanted(Part::Rust))).transpose()?;
    // Browsers wait more than they work: the fuzz targets have what they leave, and then all.
    thread::scope(|scope| {
        let fuzz = executions.as_ref().map(|executions| scope.spawn(|| executions.run()));
        let javascript = server.map_or(Ok(()), |server| javascript(project, &server));
        let help = executions.as_ref().filter(|_| javascript.is_ok()).map_or(Ok(()), fuzz::Executions::help);
        let fuzz = fuzz.map_or(Ok(()), fuzz::outcome);
        javascript.and(help).and(fuzz)
    })
}

fn rust(project: &Project) -> Result<()> {
    step("rust: format", || {
        project.cargo().args(["fmt", "--all", "--check"]).run()?;
        fuzz::format(project)
    })?;
    let elsewhere = |command: &str| {
        let but_for_core = ["--workspace", "--exclude", "rtc-battery-core", "--exclude", "rtc-battery-sim"];
        project.linting_cargo().args([command, "--quiet", "--locked"]).args(but_for_core)
    };
    step("rust: lint and compile all but core", || Ok(elsewhere("build").arg("--all-targets").run()?))?;
    step("core and simulator: lint and compile", || simulator::compile_with_tests(project))?;
    step("rust: lints, as the browser gets it", || wasm::lint(project))?;
    step("rust: tests but for those of core", || Ok(elsewhere("test").run()?))?;
    step("core and simulator: tests", || simulator::test(project))?;
    step("simulator: rooms under faults for two minutes, at least 2,000", || {
        simulator::run(project, &["--seeds", "2000", "--minutes", "2"])
    })?;
    step("simulator: every planted bug is found within 500 rooms", || {
        simulator::run(project, &["--planted", "--seeds", "500"])
    })
}

/// Builds what the browsers load; gives the server that they are served by. `tested`: its own tests have just run, and left it there (by itself it would
/// be compiled again with all that it stands on, for fewer features).
fn built(project: &Project, tested: bool) -> Result<PathBuf> {
    build::everything(project)?;
    if tested {
        return Ok(build::server_path(project, "dev"));
    }
    step("server: compile", || build::server(project, "dev"))
}

fn javascript(project: &Project, server: &Path) -> Result<()> {
    step("js: tests in Node and in browsers", || {
        let mut files: Vec<_> = project
            .shell
            .read_dir("js/test")?
            .into_iter()
            .filter(|path| path.to_str().is_some_and(|path| path.ends_with(".test.mjs")))
            .collect();
        files.sort();
        files.first().context("js/test has no tests")?;
        // One file at a time: browsers that compete for the processor make each other's timeouts.
        let node = project.shell.cmd("node").args(["--test", "--test-concurrency=1"]).args(files);
        Ok(node.env("RTC_BATTERY_SIGNAL", server).run()?)
    })
}
