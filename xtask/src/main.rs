//! The project's commands. `cargo xtask --help` lists them.
//!
//! Each command first makes sure that the machine has what it needs ([`setup`]), so a fresh clone needs nothing but a Rust
//! toolchain and Node. This crate depends on no crate that compiles SQLite: it must build before the compilers are there.

#![allow(clippy::print_stdout, reason = "a command line tool talks on standard output")]

mod bench;
mod bindings;
mod build;
mod demo;
mod fuzz;
mod js;
mod project;
mod setup;
mod simulator;
mod soak;
mod test;
mod wasm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "RTC Battery's commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the npm package (js/dist) and the static site (demo/dist)
    Build,
    /// Build everything and serve the demo with its signaling server
    Demo {
        /// Where to listen; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: String,
    },
    /// Measure, beside what a user would pick instead
    Bench {
        /// Only these figures
        only: Option<bench::Bench>,
    },
    /// Run random tests for as long as you like, in release
    Soak {
        /// For about how long
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// Run all tests, in browsers too
    Test {
        /// Only this part
        only: Option<test::Part>,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  caused by: "));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    let project = Project::open()?;
    match command {
        Command::Build => build::run(&project),
        Command::Demo { listen } => demo::run(&project, listen),
        Command::Bench { only } => bench::run(&project, *only),
        Command::Soak { minutes } => soak::run(&project, *minutes),
        Command::Test { only } => test::run(&project, *only),
    }
}
