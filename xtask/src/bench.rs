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
    /// Commits, opening and memory by the size of the database in Chromium, beside sql.js that exports the file, and SQLite on OPFS
    Storage,
    /// Sync between two pages, beside the raw channel, the bare insert, and Yjs
    Sync,
    /// The signaling server, beside PeerJS's and y-webrtc's
    Signal,
}

/// Sets up and builds, then measures.
pub(crate) fn run(project: &Project, only: Option<Bench>) -> Result<()> {
    let wanted = |bench| only.is_none_or(|only| only == bench);
    if wanted(Bench::Exec) || wanted(Bench::Capture) || wanted(Bench::Storage) || wanted(Bench::Sync) {
        setup::run(project, setup::TEST)?;
        build::everything(project)?;
    }
    if wanted(Bench::Exec) {
        let server = build::server(project, "release")?;
        let node = project.shell.cmd("node").arg("bench/exec.mjs").env("RTC_BATTERY_SIGNAL", server);
        step("bench: exec in a page", || Ok(node.run()?))?;
    }
    if wanted(Bench::Capture) {
        let cargo = project.cargo().args(["run", "--quiet", "--locked", "--release", "--package", "rtc-battery-bench"]);
        step("bench: capture and merge, natively", || Ok(cargo.run()?))?;
        let node = project.shell.cmd("node").arg("bench/capture.mjs");
        step("bench: capture and merge, in WebAssembly", || Ok(node.run()?))?;
    }
    if wanted(Bench::Storage) {
        setup::run(project, setup::BENCH_STORAGE)?;
        let server = build::server(project, "release")?;
        let node = project.shell.cmd("node").arg("bench/storage.mjs").env("RTC_BATTERY_SIGNAL", server);
        step("bench: storage in a page", || Ok(node.run()?))?;
    }
    if wanted(Bench::Sync) {
        setup::run(project, setup::BENCH_SYNC)?;
        let server = build::server(project, "release")?;
        let node = project.shell.cmd("node").arg("bench/sync.mjs").env("RTC_BATTERY_SIGNAL", server);
        step("bench: sync between two pages", || Ok(node.run()?))?;
    }
    if wanted(Bench::Signal) {
        signal(project)?;
    }
    Ok(())
}

/// The servers have core 0, the generator core 1.
fn signal(project: &Project) -> Result<()> {
    setup::run(project, setup::BENCH_SIGNAL)?;
    let server = build::server(project, "release")?;
    let package = ["--package", "rtc-battery-bench", "--bin", "signal", "--bin", "floor"];
    let cargo = project.cargo().args(["build", "--quiet", "--locked", "--release"]).args(package);
    step("bench: compile the load generator", || Ok(cargo.run()?))?;
    let generator =
        project.shell.cmd("taskset").args(["-c", "1"]).arg(project.target_dir().join("release/signal")).arg(server);
    step("bench: signaling", || Ok(generator.run()?))
}
