//! The simulator (`crates/sim`), in a profile that is fast and keeps every assertion.

use anyhow::Result;

use crate::project::Project;

/// With the bugs that can be planted: those who look for them need them, and nobody else notices.
const PACKAGE: [&str; 8] =
    ["--quiet", "--locked", "--profile", "sim", "--package", "rtc-battery-sim", "--features", "planted-bugs"];

/// Compiles it.
pub(crate) fn compile(project: &Project) -> Result<()> {
    Ok(project.cargo().arg("build").args(PACKAGE).run()?)
}

/// Runs it.
pub(crate) fn run(project: &Project, args: &[&str]) -> Result<()> {
    Ok(project.cargo().arg("run").args(PACKAGE).arg("--").args(args).run()?)
}
