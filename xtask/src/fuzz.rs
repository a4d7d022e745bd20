//! The fuzz targets of `fuzz/`, by cargo-fuzz: so many executions of each in the tests, so many minutes of them in the soak.
//!
//! The tests begin with the committed corpora and a fixed seed, and nothing else decides what they try (`fuzz/src/chance.rs`): a clone of one commit at the same path tries
//! the same again, so a finding is found again. To try something else is for the soak, which begins with what earlier soaks found (in `fuzz/target`). An input that breaks
//! something is left in `fuzz/artifacts`; make a test of it.
//!
//! The tests run without AddressSanitizer: proto and core forbid `unsafe`, so it watches little, and it makes an execution of `room` four
//! times as slow (8 ms instead of 2). The soak has the time.

use std::collections::VecDeque;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result, ensure};
use xshell::cmd;

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
pub(crate) struct Executions(Jobs);

impl Executions {
    /// Compiles the targets. `alone`: nothing else is tested meanwhile.
    pub(crate) fn prepare(project: &Project, alone: bool) -> Result<Self> {
        step("fuzz: compile", || compile(project, Sanitizer::None))?;
        let (launch, mut jobs) = (Launch::prepare(project, Sanitizer::None)?, VecDeque::new());
        for (target, parts) in TARGETS {
            for seed in 1..=parts {
                let corpus = format!("target/corpus/test/{target}-{seed}");
                project.shell.remove_path(project.path("fuzz").join(&corpus))?;
                let runs = format!("-runs={}", RUNS.div_ceil(parts));
                // Reloading the corpus each second would let time decide.
                let arguments = [format!("-seed={seed}"), runs, "-reload=0".to_owned()];
                let Job { name, command } = launch.job(project, target, &corpus, &arguments)?;
                jobs.push_back(Job { name, command: if alone { command } else { in_background(&command) } });
            }
        }
        Ok(Self(Jobs::new(jobs)))
    }

    /// Executes them, on one processor.
    pub(crate) fn run(&self) -> Result<()> {
        step(&format!("fuzz: {RUNS} executions of each target"), || self.0.work())
    }

    /// Executes some of them, on another.
    pub(crate) fn help(&self) -> Result<()> {
        self.0.work()
    }
}

/// Runs all targets for about so long, slow ones for longer.
pub(crate) fn soak(project: &Project, seconds: u64) -> Result<()> {
    step("fuzz: compile", || compile(project, Sanitizer::Address))?;
    step(&format!("fuzz: all targets, for {seconds} s"), || {
        let shares: u64 = TARGETS.iter().map(|(_, parts)| u64::from(*parts)).sum();
        let (launch, mut jobs) = (Launch::prepare(project, Sanitizer::Address)?, VecDeque::new());
        for (target, parts) in TARGETS {
            let seconds = seconds * workers() as u64 * u64::from(parts) / shares;
            let arguments = [format!("-max_total_time={}", seconds.max(1))];
            jobs.push_back(launch.job(project, target, &format!("target/corpus/soak/{target}"), &arguments)?);
        }
        let jobs = Jobs::new(jobs);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers()).map(|_| scope.spawn(|| jobs.work())).collect();
            threads.into_iter().try_for_each(outcome)
        })
    })
}

/// What a thread came to.
pub(crate) fn outcome(thread: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// All targets at once, so that what they share is compiled once.
fn compile(project: &Project, sanitizer: Sanitizer) -> Result<()> {
    setup::run(project, setup::FUZZ)?;
    // cargo-fuzz does not pass `--locked` on.
    let manifest = ["--manifest-path", "fuzz/Cargo.toml", "--format-version", "1"];
    project.cargo().args(["metadata", "--locked"]).args(manifest).quiet().ignore_stdout().run()?;
    let (name, target_dir) = (sanitizer.name(), project.path("fuzz/target").join(sanitizer.name()));
    // Coverage counters and sanitizers are unstable options of the compiler.
    let build = project.cargo().args(["fuzz", "build", "--sanitizer", name, "--target-dir"]).arg(target_dir);
    Ok(build.env("RUSTC_BOOTSTRAP", "1").run()?)
}

/// How a target is started.
struct Launch {
    /// What stands before the target.
    prefix: Vec<&'static str>,
    /// The folder of the targets, below `fuzz`.
    targets: String,
}

impl Launch {
    fn prepare(project: &Project, sanitizer: Sanitizer) -> Result<Self> {
        let host = cmd!(project.shell, "rustc --print host-tuple").quiet().read()?;
        // Where the stack is depends on what is in the environment, and hash maps are seeded by where they are.
        // Whose memory it was is found by running the input again with the defaults.
        let mut prefix = vec![
            "-i",
            "ASAN_OPTIONS=detect_odr_violation=0:malloc_context_size=0:detect_stack_use_after_return=0:quarantine_size_mb=1",
        ];
        if cmd!(project.shell, "setarch -R true").quiet().ignore_stderr().run().is_ok() {
            prefix.extend(["setarch", "-R"]);
        }
        Ok(Self { prefix, targets: format!("target/{}/{host}/release", sanitizer.name()) })
    }

    /// `corpus`, below `fuzz`, is where new inputs go; the committed one stays as it is.
    fn job(&self, project: &Project, target: &str, corpus: &str, arguments: &[String]) -> Result<Job> {
        let (folder, artifacts) = (project.path("fuzz"), format!("artifacts/{target}/"));
        for made in [corpus, &artifacts] {
            project.shell.create_dir(folder.join(made))?;
        }
        // Sorted: files come from a folder in the order of the file system.
        let mut seeds: Vec<_> = project.shell.read_dir(folder.join("corpus").join(target))?;
        seeds.sort();
        let seeds: Vec<_> =
            seeds.iter().map(|seed| Ok(seed.strip_prefix(&folder)?.display().to_string())).collect::<Result<_>>()?;
        let mut command = Command::new("env");
        command
            .args(&self.prefix)
            .arg(format!("{}/{target}", self.targets))
            .args(["-verbosity=0".to_owned(), format!("-seed_inputs={}", seeds.join(","))])
            .args([format!("-max_len={MAX_INPUT_BYTES}"), format!("-rss_limit_mb={MAX_MEMORY_MIB}")])
            .arg(format!("-artifact_prefix={artifacts}"))
            .args(arguments)
            .arg(corpus)
            .current_dir(folder);
        Ok(Job { name: format!("{target} {}", arguments.join(" ")), command })
    }
}

/// The same, while something else has the processors. In a session of its own: Linux gives each session its share, however nice its processes are.
fn in_background(command: &Command) -> Command {
    let mut background = Command::new("setsid");
    let yields = r#"echo 19 2> /dev/null > /proc/self/autogroup; exec nice -n 19 "$@""#;
    background.args(["--wait", "sh", "-c", yields, "sh"]).arg(command.get_program()).args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        background.current_dir(folder);
    }
    background
}

/// What is still to be run.
struct Jobs(Mutex<VecDeque<Job>>);

impl Jobs {
    fn new(jobs: VecDeque<Job>) -> Self {
        Self(Mutex::new(jobs))
    }

    /// Runs one after the other, beside whoever else does, until none is left or one fails; tells what that one says.
    fn work(&self) -> Result<()> {
        let next = || self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(Job { name, mut command }) = next() {
            let output = command.output().with_context(|| format!("{name}: cannot be started"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{name} found something:\n{said}\n{}", input_of(&command, &said));
            println!("    {name}: nothing found");
        }
        Ok(())
    }
}

/// The input that a target says it has left somewhere: CI keeps what is printed, and not the file.
fn input_of(command: &Command, said: &str) -> String {
    let read = || {
        let (_, path) = said.split_once("Test unit written to ")?;
        std::fs::read(command.get_current_dir()?.join(path.lines().next()?)).ok()
    };
    read().map_or_else(|| "no input was left".to_owned(), |input| format!("the input: b\"{}\"", input.escape_ascii()))
}

fn workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
