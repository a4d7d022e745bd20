//! What signaling costs: our server beside PeerJS's and y-webrtc's, under one load generator in one run (`cargo xtask bench signal`).
//!
//! Each server runs alone on core 0, the generator on core 1. Figures: memory of a connection that idles in a room, processor time of a
//! message that is relayed, how long messages take at given rates, and the highest rate. `floor` beside them is a server that does nothing
//! but relay. Usage: `signal OURS [ROUND_SECONDS [IDLE [NAME ...]]]`, in the repository's root; the names are of
//! those to measure.

#![allow(clippy::print_stdout, reason = "a command line tool talks on standard output")]

mod client;
mod load;
mod server;

use std::time::Duration;

use anyhow::{Context, Result};

use crate::server::{Kind, Server};

/// Messages a second at which latency is measured.
const RATES: [u32; 5] = [1_000, 5_000, 10_000, 20_000, 40_000];
/// Pairs that talk.
const PAIRS: usize = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let ours = arguments.next().context("usage: signal OURS [ROUND_SECONDS [IDLE [NAME ...]]]")?;
    let seconds = arguments.next().map_or(Ok(5), |it| it.parse())?;
    let idle: usize = arguments.next().map_or(Ok(10_000), |it| it.parse())?;
    let round = Duration::from_secs(seconds);
    let floor = std::env::current_exe()?.with_file_name("floor");
    let mut kinds = vec![Kind::Ours(ours), Kind::Floor(floor), Kind::Peer, Kind::YWebrtc];
    let names: Vec<String> = arguments.collect();
    kinds.retain(|kind| names.is_empty() || names.iter().any(|name| name == kind.name()));

    println!("\n{idle} idle connections, two in a room: resident memory of the server for each");
    for kind in &kinds {
        let server = Server::start(kind).await?;
        let before = server.resident_bytes()?;
        let clients = client::crowd(&server, idle).await?;
        let bytes = (server.resident_bytes()?.saturating_sub(before)) / idle;
        println!("  {:10} {:6.1} KB", kind.name(), kilo(bytes));
        drop(clients);
    }

    println!(
        "\n{PAIRS} pairs: processor time of the server for a relayed message of {} bytes, and latency",
        client::BYTES
    );
    println!("  {:10} {:>9} {:>9} {:>10} {:>10} {:>10}", "", "asked/s", "done/s", "CPU us", "p50 ms", "p99 ms");
    for kind in &kinds {
        let server = Server::start(kind).await?;
        let pairs = client::pairs(&server, PAIRS).await?;
        let mut run = load::Run::new(server, pairs);
        // Whatever compiles at run time has its chance first.
        run.at_most(Duration::from_secs(2)).await?;
        for rate in RATES {
            let figures = run.at_rate(rate, round).await?;
            println!("  {:10} {rate:>9} {figures}", kind.name());
        }
        let figures = run.at_most(round).await?;
        println!("  {:10} {:>9} {figures}", kind.name(), "highest");
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a figure to read")]
fn kilo(bytes: usize) -> f64 {
    bytes as f64 / 1_000.0
}
