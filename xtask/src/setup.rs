//! What the machine must have. Each requirement is a check, an action for when it is not met, and a hint for when the action
//! cannot act; what is there already costs only the check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use xshell::cmd;

use crate::project::{Project, step};
use crate::wasm::{CLANG, LLVM_AR};

/// One thing that must be there.
pub(crate) struct Requirement {
    name: &'static str,
    met: fn(&Project) -> Result<bool>,
    provide: Provide,
    hint: &'static str,
}

enum Provide {
    /// Install these Debian packages.
    Apt(&'static [&'static str]),
    Run(fn(&Project) -> Result<()>),
    /// Only a person can.
    Nothing,
}

/// To build.
pub(crate) const BUILD: &[Requirement] = &[NODE, CLANG_19, LLVM_AR_19, LIBCLANG, RUST_SRC, NPM_PACKAGES];

/// To build and to test.
pub(crate) const TEST: &[Requirement] = &[
    NODE,
    CLANG_19,
    LLVM_AR_19,
    LIBCLANG,
    CHROMIUM,
    FIREFOX,
    WEBKIT,
    XVFB,
    REDIS,
    COTURN,
    IPTABLES,
    IPROUTE,
    RUST_SRC,
    CLIPPY,
    RUSTFMT,
    NPM_PACKAGES,
];

/// To measure the signaling server beside others.
pub(crate) const BENCH_SIGNAL: &[Requirement] = &[NODE, LIBCLANG, BENCH_PACKAGES];

/// To measure storage beside others'.
pub(crate) const BENCH_STORAGE: &[Requirement] = &[BENCH_PACKAGES];

/// To measure sync beside Yjs.
pub(crate) const BENCH_SYNC: &[Requirement] = &[NODE, BENCH_PACKAGES];

/// To run the fuzz targets.
pub(crate) const FUZZ: &[Requirement] = &[LIBCLANG, CARGO_FUZZ];

const NODE: Requirement = Requirement {
    name: "Node 20 or newer, with npm",
    met: |project| {
        let Ok(version) = cmd!(project.shell, "node --version").quiet().ignore_stderr().read() else {
            return Ok(false);
        };
        let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
        Ok(major.is_some_and(|major| major >= 20) && installed("npm"))
    },
    provide: Provide::Nothing,
    hint: "install Node 20 or newer, with npm",
};

const CLANG_19: Requirement = Requirement {
    name: "clang 19, which compiles SQLite to WebAssembly",
    met: |_| Ok(std::env::var_os("CC_wasm32_unknown_unknown").is_some() || installed(CLANG)),
    provide: Provide::Apt(&["clang-19"]),
    hint: "install clang 19, or name a clang that knows wasm32 in CC_wasm32_unknown_unknown",
};

const LLVM_AR_19: Requirement = Requirement {
    name: "llvm-ar 19",
    met: |_| Ok(std::env::var_os("AR_wasm32_unknown_unknown").is_some() || installed(LLVM_AR)),
    provide: Provide::Apt(&["llvm-19"]),
    hint: "install LLVM 19, or name an llvm-ar in AR_wasm32_unknown_unknown",
};

const LIBCLANG: Requirement = Requirement {
    name: "libclang with its own headers, which reads SQLite's header",
    met: |_| Ok(std::env::var_os("LIBCLANG_PATH").is_some() || libclang_found()),
    provide: Provide::Apt(&["libclang1-19", "libclang-common-19-dev"]),
    hint: "install libclang and clang's headers (stdarg.h), or name libclang's directory in LIBCLANG_PATH",
};

const CHROMIUM: Requirement = Requirement {
    name: "Chromium",
    met: |_| Ok(installed("chromium")),
    provide: Provide::Apt(&["chromium"]),
    hint: "install Chromium as `chromium`",
};

const FIREFOX: Requirement = Requirement {
    name: "Firefox",
    met: |_| Ok(installed("firefox-esr")),
    provide: Provide::Apt(&["firefox-esr"]),
    hint: "install Firefox as `firefox-esr`",
};

const WEBKIT: Requirement = Requirement {
    name: "WebKitGTK with its driver",
    met: |_| Ok(installed("WebKitWebDriver")),
    provide: Provide::Apt(&["webkit2gtk-driver"]),
    hint: "install WebKitGTK's driver as `WebKitWebDriver`",
};

const XVFB: Requirement = Requirement {
    name: "Xvfb, a screen for WebKitGTK, which has no headless mode",
    met: |_| Ok(installed("Xvfb")),
    provide: Provide::Apt(&["xvfb"]),
    hint: "install Xvfb",
};

const REDIS: Requirement = Requirement {
    name: "Redis, through which signaling servers share rooms",
    met: |_| Ok(installed("redis-server")),
    provide: Provide::Apt(&["redis-server"]),
    hint: "install Redis as `redis-server`",
};

const COTURN: Requirement = Requirement {
    name: "coturn, which must accept the credentials that the signaling server makes",
    met: |_| Ok(installed("turnserver") && installed("turnutils_uclient")),
    provide: Provide::Apt(&["coturn"]),
    hint: "install coturn",
};

const IPTABLES: Requirement = Requirement {
    name: "iptables, for networks that lose and translate packets",
    met: |_| Ok(installed("iptables")),
    provide: Provide::Apt(&["iptables"]),
    hint: "install iptables",
};

const IPROUTE: Requirement = Requirement {
    name: "ip and tc, for network namespaces",
    met: |_| Ok(installed("ip") && installed("tc")),
    provide: Provide::Apt(&["iproute2"]),
    hint: "install iproute2",
};

const RUST_SRC: Requirement = Requirement {
    name: "the source of Rust's standard library",
    met: |project| {
        let sysroot = cmd!(project.shell, "rustc --print sysroot").quiet().read()?;
        Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock").exists())
    },
    provide: Provide::Run(|project| component(project, "rust-src")),
    hint: "rustup component add rust-src",
};

const CLIPPY: Requirement = Requirement {
    name: "clippy",
    met: |project| Ok(cmd!(project.shell, "cargo clippy --version").quiet().ignore_stderr().read().is_ok()),
    provide: Provide::Run(|project| component(project, "clippy")),
    hint: "rustup component add clippy",
};

const RUSTFMT: Requirement = Requirement {
    name: "rustfmt",
    met: |project| Ok(cmd!(project.shell, "cargo fmt --version").quiet().ignore_stderr().read().is_ok()),
    provide: Provide::Run(|project| component(project, "rustfmt")),
    hint: "rustup component add rustfmt",
};

const CARGO_FUZZ: Requirement = Requirement {
    name: "cargo-fuzz",
    met: |project| {
        Ok(cmd!(project.shell, "cargo fuzz --version").quiet().ignore_stdout().ignore_stderr().run().is_ok())
    },
    provide: Provide::Run(|project| Ok(cmd!(project.shell, "cargo install cargo-fuzz@0.13.2 --locked --quiet").run()?)),
    hint: "cargo install cargo-fuzz@0.13.2 --locked",
};

const NPM_PACKAGES: Requirement = Requirement {
    name: "the npm packages of js/package-lock.json",
    met: |project| npm_installed(project, "js"),
    provide: Provide::Run(|project| npm_install(project, "js")),
    hint: "cd js && npm ci --ignore-scripts",
};

const BENCH_PACKAGES: Requirement = Requirement {
    name: "the npm packages of bench/package-lock.json",
    met: |project| npm_installed(project, "bench"),
    provide: Provide::Run(|project| npm_install(project, "bench")),
    hint: "cd bench && npm ci --ignore-scripts",
};

/// Makes sure of every requirement, in order.
pub(crate) fn run(project: &Project, requirements: &[Requirement]) -> Result<()> {
    let mut missing = Vec::new();
    for requirement in requirements {
        if !(requirement.met)(project)? {
            missing.push(requirement);
        }
    }
    let packages: BTreeSet<&str> = missing
        .iter()
        .filter_map(|requirement| match requirement.provide {
            Provide::Apt(packages) => Some(packages),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    if !packages.is_empty() {
        step("set-up: Debian packages", || apt_install(project, &packages)).with_context(|| hints(&missing))?;
    }
    for requirement in missing {
        let hint = || format!("{} is missing. What to do: {}", requirement.name, requirement.hint);
        if let Provide::Run(provide) = requirement.provide {
            step(&format!("set-up: {}", requirement.name), || provide(project)).with_context(hint)?;
        }
        ensure!((requirement.met)(project)?, hint());
    }
    Ok(())
}

fn hints(missing: &[&Requirement]) -> String {
    let line = |requirement: &&Requirement| format!("  {}: {}", requirement.name, requirement.hint);
    format!("missing on this machine:\n{}", missing.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn apt_install(project: &Project, packages: &BTreeSet<&str>) -> Result<()> {
    if !installed("apt-get") {
        bail!("this machine has no apt-get");
    }
    let root = cmd!(project.shell, "id -u").quiet().read()? == "0";
    ensure!(root || installed("sudo"), "installing packages needs root or sudo");
    let sudo: &[&str] = if root { &[] } else { &["sudo"] };
    let words = |command: &[&'static str]| -> Vec<String> {
        sudo.iter()
            .chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"].iter())
            .chain(command)
            .map(|word| (*word).to_owned())
            .collect()
    };
    for mut line in [words(&["update"]), words(&["install", "-y", "--no-install-recommends"])] {
        if line.iter().any(|word| word == "install") {
            line.extend(packages.iter().map(|package| (*package).to_owned()));
        }
        let (program, arguments) = line.split_first().context("a command has a program")?;
        project.shell.cmd(program).args(arguments).run()?;
    }
    Ok(())
}

fn component(project: &Project, name: &str) -> Result<()> {
    ensure!(installed("rustup"), "this Rust was not installed by rustup");
    Ok(cmd!(project.shell, "rustup component add {name}").run()?)
}

/// Whether a program is on the search path.
fn installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Whether bindgen will find libclang by itself: in the library directories, or in a version's own below /usr/lib.
fn libclang_found() -> bool {
    let mut directories: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from).into();
    for below in fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        directories.extend([below.path(), below.path().join("lib")]);
    }
    let mut files = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    files.any(|file| file.file_name().to_str().is_some_and(is_libclang))
        && directories.iter().any(|directory| has_headers(directory))
}

/// Whether clang's own headers are below a directory of libraries, in `clang/19/include`.
fn has_headers(directory: &Path) -> bool {
    let mut versions = fs::read_dir(directory.join("clang")).into_iter().flatten().flatten();
    versions.any(|version| version.path().join("include/stdarg.h").exists())
}

/// libclang.so, libclang-19.so, libclang.so.1, libclang-19.so.19; not libclang-cpp.so.19, which is another library.
fn is_libclang(file: &str) -> bool {
    let Some((name, _)) = file.split_once(".so") else { return false };
    let version = name.strip_prefix("libclang").map(|rest| rest.trim_start_matches('-'));
    version.is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn npm_installed(project: &Project, folder: &str) -> Result<bool> {
    let stamp = fs::read_to_string(npm_stamp(project, folder));
    Ok(stamp.is_ok_and(|stamp| lock_hash(project, folder).is_ok_and(|hash| hash == stamp)))
}

fn npm_install(project: &Project, folder: &str) -> Result<()> {
    let _folder = project.shell.push_dir(folder);
    cmd!(project.shell, "npm ci --ignore-scripts --no-audit --no-fund").run()?;
    Ok(fs::write(npm_stamp(project, folder), lock_hash(project, folder)?)?)
}

/// Written after `npm ci`, inside what it makes: gone when that is.
fn npm_stamp(project: &Project, folder: &str) -> PathBuf {
    project.path(&format!("{folder}/node_modules/.rtc-battery-lock-hash"))
}

fn lock_hash(project: &Project, folder: &str) -> Result<String> {
    Ok(format!("{:x}", Sha256::digest(fs::read(project.path(&format!("{folder}/package-lock.json")))?)))
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn libclang_is_known_by_its_name() {
        for file in ["libclang.so", "libclang.so.1", "libclang-19.so.19", "libclang-19.1.7.so"] {
            assert!(is_libclang(file), "{file}");
        }
        for file in ["libclang-cpp.so.19.1", "libclang_rt.so", "libclangAST.a", "libLLVM.so"] {
            assert!(!is_libclang(file), "{file}");
        }
    }
}
