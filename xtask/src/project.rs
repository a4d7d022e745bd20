//! Where things are, how a step is announced, and the cargo to call.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use xshell::{Cmd, Shell};

/// The work tree, with a shell that stands at its root.
pub(crate) struct Project {
    /// Runs commands; its current directory is the root.
    pub(crate) shell: Shell,
    root: PathBuf,
}

impl Project {
    /// The work tree that this program was built from.
    pub(crate) fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent directory")?.to_owned();
        let shell = Shell::new()?;
        shell.change_dir(&root);
        Ok(Self { shell, root })
    }

    /// A path below the root.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target_dir(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.path("target"), |dir| self.root.join(dir))
    }

    /// The cargo that runs us.
    pub(crate) fn cargo(&self) -> Cmd<'_> {
        self.shell.cmd(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    /// The same, with every lint of Clippy's an error. What it compiles is what the tests run: to check apart what they compile anyway takes five minutes. Clippy
    /// has the compiler leave its own optimizations (of MIR) out, so this is not for what ships.
    pub(crate) fn linting_cargo(&self) -> Cmd<'_> {
        let clippy = [("RUSTC_WORKSPACE_WRAPPER", "clippy-driver"), ("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__")];
        self.cargo().envs(clippy)
    }

    /// A program that `npm ci` installed.
    pub(crate) fn npm_bin(&self, name: &str) -> Cmd<'_> {
        self.shell.cmd(self.path("js/node_modules/.bin").join(name))
    }
}

/// Announces a step, runs it, and says how long it took.
pub(crate) fn step<T>(name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {name}");
    let start = Instant::now();
    let result = run().with_context(|| format!("{name}: failed"));
    let outcome = if result.is_ok() { "done" } else { "FAILED" };
    println!("<== {name}: {outcome} in {:.1} s", start.elapsed().as_secs_f64());
    result
}
