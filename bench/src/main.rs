//! What capture and merge cost natively, beside the same SQLite without them: `cargo xtask bench capture`.
//!
//! Every figure is a ratio of processor times that were taken in one run, alternating, medians of several rounds; so it says the same
//! on a slow or busy machine.

#![allow(clippy::print_stdout, reason = "a command line tool talks on standard output")]

mod capture;
mod engines;
mod measure;

use anyhow::Result;

/// Rounds of each measurement, unless the first argument says otherwise.
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    // Of the measurements only those whose name has this in it.
    let only = arguments.next().unwrap_or_default();
    capture::run(rounds, &only)
}
