//! TypeScript to the npm package: types checked and declared by `tsc`, bundles by esbuild.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::project::Project;

/// Goes into the package from the root.
const TEXTS: [&str; 3] = ["README.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// What `js/package.json` says of the work tree and not of the package.
const NOT_PUBLISHED: [&str; 2] = ["private", "devDependencies"];

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
    for text in TEXTS {
        fs::copy(project.path(text), dist.join(text)).with_context(|| format!("cannot copy {text}"))?;
    }

    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(project.path("js/package.json"))?)?;
    let fields = manifest.as_object_mut().context("js/package.json is no object")?;
    fields.retain(|name, _| !NOT_PUBLISHED.contains(&name.as_str()));
    Ok(fs::write(dist.join("package.json"), serde_json::to_string_pretty(&manifest)?)?)
}
