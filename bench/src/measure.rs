//! Processor time, taken in turns: whatever else the machine does falls on both sides alike.

use std::time::Duration;

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

/// One thing to measure: makes what it needs outside of the time, and returns the time of the rest.
pub(crate) type Run<'a> = &'a dyn Fn() -> Result<Duration>;

/// Processor time of this thread that `act` takes.
pub(crate) fn time<T>(act: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = thread_time();
    let done = act()?;
    Ok((thread_time().saturating_sub(start), done))
}

/// Medians of so many rounds, each of which runs everything once.
pub(crate) fn medians<const N: usize>(rounds: usize, runs: [Run<'_>; N]) -> Result<[Duration; N]> {
    let mut times: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..rounds.max(1) {
        for (run, times) in runs.iter().zip(&mut times) {
            times.push(run()?);
        }
    }
    Ok(times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    }))
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
