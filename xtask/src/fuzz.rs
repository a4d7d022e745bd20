//! The fuzz targets of `fuzz/`, by cargo-fuzz: so many executions of each in the tests, so many minutes of them in the soak.
//!
//! The tests begin with the committed corpora and a fixed seed, so that they say the same of the same tree. The soak begins with what earlier
//! soaks found (in `fuzz/target`) and ends wherever chance leads it. An input that breaks something is left in `fuzz/artifacts`; make a
//! test of it.
//!
//! The tests run without AddressSanitizer: proto and core forbid `unsafe`, so it watches little, and it makes an execution of `room` four
//! times as slow (8 ms instead of 2). The soak has the time.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::project::{Project, step};
use crate::setup;

/// How often each target is executed in the tests.
const RUNS: u32 = 100_000;

/// Executions are independent, so a slow target is run as several with a part of the executions each. Slow ones first.
const TARGETS: [(&str, u32); 9] = [
    ("room", 4),
    ("file", 2),
    ("frames", 1),
    ("hlc", 1),
    ("message", 1),
    ("operation", 1),
    ("packed", 1),
    ("signaling_to_client", 1),
    ("signaling_to_server", 1),
];

/// Longest input, in bytes: a SQLite file of a few small pages, or a conversation of a dozen messages.
const MAX_INPUT_BYTES: u32 = 2048;

/// More memory than this is a finding, in MiB.
const MAX_MEMORY_MIB: u32 = 1024;

/// One process.
struct Job {
    name: String,
    command: Command,
}

/// What watches an execution.
#[derive(Clone, Copy)]
enum Sanitizer {
    None,
    Address,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Address => "address",
        }
    }
}

/// Formatting; the fuzz targets are a workspace of their own.
pub(crate) fn format(project: &Project) -> Result<()> {
    Ok(project.cargo().args(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]).run()?)
}

/// Every target, to be executed so often.
pub(crate) struct Executions {
    jobs: VecDeque<Job>,
    workers: usize,
}

impl Executions {
    /// Compiles the targets. `alone`: nothing else is tested meanwhile.
    pub(crate) fn prepare(project: &Project, alone: bool) -> Result<Self> {
        step("fuzz: compile", || compile(project, Sanitizer::None))?;
        let mut jobs = VecDeque::new();
        for (target, parts) in TARGETS {
            for seed in 1..=parts {
                let corpus = format!("fuzz/target/corpus/test/{target}-{seed}");
                project.shell.remove_path(&corpus)?;
                let runs = format!("-runs={}", RUNS.div_ceil(parts));
                let arguments = [format!("-seed={seed}"), runs];
                let Job { name, command } = job(project, Sanitizer::None, target, &corpus, &arguments)?;
                jobs.push_back(Job { name, command: if alone { command } else { in_background(&command) } });
            }
        }
        Ok(Self { jobs, workers: if alone { workers() } else { 1 } })
    }

    /// Executes them.
    pub(crate) fn run(self) -> Result<()> {
        step(&format!("fuzz: {RUNS} executions of each target"), || run(self.jobs, self.workers))
    }
}

/// Runs all targets for about so long, slow ones for longer.
pub(crate) fn soak(project: &Project, seconds: u64) -> Result<()> {
    step("fuzz: compile", || compile(project, Sanitizer::Address))?;
    step(&format!("fuzz: all targets, for {seconds} s"), || {
        let shares: u64 = TARGETS.iter().map(|(_, parts)| u64::from(*parts)).sum();
        let mut jobs = VecDeque::new();
        for (target, parts) in TARGETS {
            let seconds = seconds * workers() as u64 * u64::from(parts) / shares;
            let arguments = [format!("-max_total_time={}", seconds.max(1))];
            jobs.push_back(job(
                project,
                Sanitizer::Address,
                target,
                &format!("fuzz/target/corpus/soak/{target}"),
                &arguments,
            )?);
        }
        run(jobs, workers())
    })
}

/// All targets at once, so that what they share is compiled once.
fn compile(project: &Project, sanitizer: Sanitizer) -> Result<()> {
    setup::run(project, setup::FUZZ)?;
    // cargo-fuzz does not pass `--locked` on.
    let manifest = ["--manifest-path", "fuzz/Cargo.toml", "--format-version", "1"];
    project.cargo().args(["metadata", "--locked"]).args(manifest).quiet().ignore_stdout().run()?;
    Ok(cargo_fuzz(project, "build", sanitizer).run()?)
}

fn cargo_fuzz<'a>(project: &'a Project, command: &str, sanitizer: Sanitizer) -> xshell::Cmd<'a> {
    let name = sanitizer.name();
    let target_dir = project.path("fuzz/target").join(name);
    // Coverage counters and sanitizers are unstable options of the compiler.
    let cargo = project.cargo().args(["fuzz", command, "--sanitizer", name, "--target-dir"]).arg(target_dir);
    cargo.env("RUSTC_BOOTSTRAP", "1")
}

fn job(project: &Project, sanitizer: Sanitizer, target: &str, corpus: &str, arguments: &[String]) -> Result<Job> {
    project.shell.create_dir(corpus)?;
    // New inputs go to the first corpus; the committed one stays as it is.
    let corpora = [project.path(corpus), project.path("fuzz/corpus").join(target)];
    let limits = [format!("-max_len={MAX_INPUT_BYTES}"), format!("-rss_limit_mb={MAX_MEMORY_MIB}")];
    let command = cargo_fuzz(project, "run", sanitizer)
        .arg(target)
        .args(corpora)
        .args(["--", "-verbosity=0"])
        .args(limits)
        .args(arguments)
        // Whose memory it was is found by running the input again with the defaults.
        .env("ASAN_OPTIONS", "malloc_context_size=0:detect_stack_use_after_return=0:quarantine_size_mb=1");
    Ok(Job { name: format!("{target} {}", arguments.join(" ")), command: command.into() })
}

/// The same, while something else has the processors. In a session of its own: Linux gives each session its share, however nice its processes are.
fn in_background(command: &Command) -> Command {
    let mut background = Command::new("setsid");
    let yields = r#"echo 19 2> /dev/null > /proc/self/autogroup; exec nice -n 19 "$@""#;
    background.args(["--wait", "sh", "-c", yields, "sh"]).arg(command.get_program()).args(command.get_args());
    background.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        background.current_dir(folder);
    }
    background
}

/// Runs the jobs, so many at once, and tells what those say that fail.
fn run(jobs: VecDeque<Job>, workers: usize) -> Result<()> {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<()> {
        while let Some(Job { name, mut command }) = next() {
            let output = command.output().with_context(|| format!("{name}: cannot be started"))?;
            ensure!(output.status.success(), "{name} found something:\n{}", String::from_utf8_lossy(&output.stderr));
            println!("    {name}: nothing found");
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
