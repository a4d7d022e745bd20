//! Compiles `crates/web` and SQLite to one WebAssembly module that the oldest supported browsers can load.
//!
//! Chrome 80, Firefox 78 and Safari 14 know the first version of WebAssembly (plus mutable globals) and nothing later, and
//! lowering a stock build afterwards does not get there. So the standard library is compiled too, with the rest, for that
//! version; on a stable toolchain that takes `RUSTC_BOOTSTRAP`. The C compiler is told the same.
//!
//! SQLite's source is the very one that `libsqlite3-sys` compiles natively, with the same options.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xshell::Cmd;

use crate::project::Project;

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "wasm";
const PACKAGE: &str = "rtc-battery-web";

/// C compiler and archiver for the target, unless the environment names others.
pub(crate) const CLANG: &str = "clang-19";
pub(crate) const LLVM_AR: &str = "llvm-ar-19";

/// Builds the module; returns where it is, as the linker left it.
pub(crate) fn compile(project: &Project) -> Result<PathBuf> {
    cargo(project, "build")?.run()?;
    Ok(project.target_dir().join(TARGET).join(PROFILE).join("rtc_battery_web.wasm"))
}

/// `cargo clippy` of the crate as the browser gets it.
pub(crate) fn lint(project: &Project) -> Result<()> {
    Ok(cargo(project, "clippy")?.args(["--", "-D", "warnings"]).run()?)
}

fn cargo<'a>(project: &'a Project, command: &str) -> Result<Cmd<'a>> {
    // `cargo run` hands `[env]` of .cargo/config.toml to us: the one list of SQLite options.
    let sqlite_flags =
        std::env::var("LIBSQLITE3_FLAGS").context("run this as `cargo xtask`: LIBSQLITE3_FLAGS is not set")?;
    let mut cargo = project
        .cargo()
        .args([command, "--quiet", "--locked", "--package", PACKAGE, "--lib", "--target", TARGET, "--profile", PROFILE])
        .arg("-Zbuild-std=std,panic_abort")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-C target-cpu=mvp")
        .env("CFLAGS_wasm32_unknown_unknown", "-mcpu=mvp")
        .env("SQLITE_WASM_RS_SOURCE_DIR", sqlite_source(project)?)
        .env("SQLITE_WASM_RS_FLAGS", sqlite_flags);
    for (name, tool) in [("CC_wasm32_unknown_unknown", CLANG), ("AR_wasm32_unknown_unknown", LLVM_AR)] {
        if std::env::var_os(name).is_none() {
            cargo = cargo.env(name, tool);
        }
    }
    Ok(cargo)
}

/// The directory of the SQLite amalgamation that the native build compiles.
fn sqlite_source(project: &Project) -> Result<PathBuf> {
    let output = project.cargo().args(["metadata", "--format-version", "1", "--locked"]).quiet().read()?;
    let metadata: Value = serde_json::from_str(&output).context("cargo metadata")?;
    let manifests: Vec<&str> = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?
        .iter()
        .filter(|package| package["name"] == "libsqlite3-sys")
        .filter_map(|package| package["manifest_path"].as_str())
        .collect();
    let [manifest] = manifests[..] else {
        bail!("expected one version of libsqlite3-sys, found {}: native and wasm must share it", manifests.len());
    };
    Ok(PathBuf::from(manifest).with_file_name("sqlite3"))
}
