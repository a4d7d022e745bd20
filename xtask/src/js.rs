//! TypeScript to the npm package: types checked and declared by `tsc`, bundles by esbuild.

use std::fs;

use anyhow::Result;

use crate::project::Project;

/// Leaves the npm package in `js/dist`. The page and the worker see different globals, so each is checked with its own.
pub(crate) fn build(project: &Project) -> Result<()> {
    let dist = project.path("js/dist");
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    for config in ["js/tsconfig.json", "js/tsconfig.worker.json"] {
        project.npm_bin("tsc").args(["--project", config]).run()?;
    }
    project.shell.cmd("node").arg("js/build.mjs").run()?;
    fs::copy(project.path("js/pkg/rtc_battery.wasm"), dist.join("rtc_battery.wasm"))?;
    Ok(())
}
