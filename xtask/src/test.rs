//! `cargo xtask test`: everything that has to hold before a change is kept.

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
    if wanted(Part::Fuzz) {
        fuzz::test(project)?;
    }
    if wanted(Part::Js) {
        javascript(project)?;
    }
    Ok(())
}

fn rust(project: &Project) -> Result<()> {
    let cargo = |args: &[&str]| Ok(project.cargo().args(args).run()?);
    step("rust: format", || {
        cargo(&["fmt", "--all", "--check"])?;
        fuzz::format(project)
    })?;
    step("rust: lints", || {
        cargo(&["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    })?;
    step("rust: lints, as the browser gets it", || wasm::lint(project))?;
    step("rust: tests", || cargo(&["test", "--quiet", "--locked", "--workspace"]))?;
    step("simulator: compile", || simulator::compile(project))?;
    step("simulator: rooms under faults for two minutes, at least 2,000", || {
        simulator::run(project, &["--seeds", "2000", "--minutes", "2"])
    })?;
    step("simulator: every planted bug is found within 500 rooms", || {
        simulator::run(project, &["--planted", "--seeds", "500"])
    })
}

fn javascript(project: &Project) -> Result<()> {
    build::everything(project)?;
    let server = step("server: compile", || build::server(project, "dev"))?;
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
