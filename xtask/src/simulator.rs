//! The simulator (`crates/sim`), in a profile that is fast and keeps every assertion.

use anyhow::Result;
use xshell::Cmd;

use crate::project::Project;

/// With the bugs that can be planted: those who look for them need them, and nobody else notices.
const BUILD: [&str; 6] = ["--quiet", "--locked", "--profile", "sim", "--features", "rtc-battery-sim/planted-bugs"];

/// Compiles it.
pub(crate) fn compile(project: &Project) -> Result<()> {
    Ok(project.cargo().arg("build").args(BUILD).args(["--package", "rtc-battery-sim"]).run()?)
}

/// Compiles it, and with it the tests of core and its own, which have random programs to run too: unoptimized they take several times as long. Lints what it
/// compiles.
pub(crate) fn compile_with_tests(project: &Project) -> Result<()> {
    Ok(with_tests(project, "build").arg("--all-targets").run()?)
}

/// Runs the tests of core and its own.
pub(crate) fn test(project: &Project) -> Result<()> {
    Ok(with_tests(project, "test").run()?)
}

fn with_tests<'a>(project: &'a Project, command: &str) -> Cmd<'a> {
    let packages = ["--package", "rtc-battery-core", "--package", "rtc-battery-sim"];
    project.linting_cargo().arg(command).args(BUILD).args(packages)
}

/// Runs it, once it is compiled in either way.
pub(crate) fn run(project: &Project, args: &[&str]) -> Result<()> {
    Ok(project.shell.cmd(project.target_dir().join("sim/rtc-battery-sim")).args(args).run()?)
}
