//! `cargo xtask build`: the npm package in `js/dist`, the static site in `demo/dist`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::project::{Project, step};
use crate::{bindings, js, setup, wasm};

/// What of `js/dist` a page or its developer tools load.
const LIBRARY: [&str; 5] = ["rtc-battery.js", "rtc-battery.js.map", "worker.js", "worker.js.map", "rtc_battery.wasm"];
const SITE: [&str; 3] = ["index.html", "app.js", "style.css"];

/// Sets up, then builds.
pub(crate) fn run(project: &Project) -> Result<()> {
    setup::run(project, setup::BUILD)?;
    everything(project)
}

/// Builds, on a machine that is set up.
pub(crate) fn everything(project: &Project) -> Result<()> {
    let linked = step("wasm: compile", || wasm::compile(project))?;
    step("wasm: bind and optimize", || bindings::generate(project, &linked))?;
    step("js: npm package", || js::build(project))?;
    step("demo: static site", || site(project))
}

/// Builds the signaling server in a profile; returns where it is.
pub(crate) fn server(project: &Project, profile: &str) -> Result<PathBuf> {
    let package = ["--package", "rtc-battery-signal"];
    project.cargo().args(["build", "--quiet", "--locked", "--profile", profile]).args(package).run()?;
    Ok(server_path(project, profile))
}

/// Where cargo leaves the server.
pub(crate) fn server_path(project: &Project, profile: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    project.target_dir().join(folder).join("rtc-battery-signal")
}

fn site(project: &Project) -> Result<()> {
    let dist = project.path("demo/dist");
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    fs::create_dir_all(&dist)?;
    for (from, files) in [("demo", &SITE[..]), ("js/dist", &LIBRARY[..])] {
        for file in files {
            let source = project.path(from).join(file);
            fs::copy(&source, dist.join(file)).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
