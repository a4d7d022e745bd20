//! The signaling server as a program. What it does is in the library; here are the flags, the log and the signals.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, ensure};
use clap::Parser;
use rtc_battery_signal::{Config, serve};
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Introduces RTC Battery peers to each other: WebSocket at /signal?token=..., health at /healthz.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Where to listen; port 0 takes a free one. The address is printed once it is open.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Also serve this folder, such as the demo, at /.
    #[arg(long = "static", value_name = "DIR")]
    static_dir: Option<PathBuf>,
    /// How much to log on standard error: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: LevelFilter,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    start_log(flags.log);
    if let Some(folder) = &flags.static_dir {
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
    }
    let shutdown = told_to_stop()?;
    let listener =
        TcpListener::bind(&flags.listen).await.with_context(|| format!("cannot listen on {}", flags.listen))?;
    let mut out = io::stdout();
    writeln!(out, "listening on http://{}", listener.local_addr()?)?;
    out.flush()?;
    serve(listener, Config { static_dir: flags.static_dir, ..Config::default() }, shutdown).await;
    Ok(())
}

/// Only our own lines, whatever the level: libraries trace frames and addresses, and those hold descriptions and tokens.
fn start_log(level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    tracing_subscriber::registry().with(lines).with(Targets::new().with_target("rtc_battery_signal", level)).init();
}

/// Ends at the first SIGTERM or SIGINT. From here on they no longer kill the process.
#[cfg(unix)]
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends at the first Ctrl-C.
#[cfg(not(unix))]
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
