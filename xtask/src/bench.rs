//! `cargo xtask bench`: what things cost, as ratios beside what a user would pick instead.

use anyhow::Result;
use clap::ValueEnum;

use crate::project::{Project, step};
use crate::{build, setup};

/// One set of figures.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// `exec` in Chromium, beside `execLocal` and sql.js
    Exec,
    /// Capture and merge, natively and in WebAssembly, beside the same SQLite without them
    Capture,
}

/// Sets up and builds, then measures.
pub(crate) fn run(project: &Project, only: Option<Bench>) -> Result<()> {
    setup::run(project, setup::TEST)?;
    build::everything(project)?;
    if only != Some(Bench::Capture) {
        let server = build::server(project, "release")?;
        let node = project.shell.cmd("node").arg("bench/exec.mjs").env("RTC_BATTERY_SIGNAL", server);
        step("bench: exec in a page", || Ok(node.run()?))?;
    }
    if only != Some(Bench::Exec) {
        let cargo = project.cargo().args(["run", "--quiet", "--locked", "--release", "--package", "rtc-battery-bench"]);
        step("bench: capture and merge, natively", || Ok(cargo.run()?))?;
        let node = project.shell.cmd("node").arg("bench/capture.mjs");
        step("bench: capture and merge, in WebAssembly", || Ok(node.run()?))?;
    }
    Ok(())
}
