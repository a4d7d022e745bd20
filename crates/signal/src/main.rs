//! The signaling server as a program. What it does is in the library; here are the flags, the log and the signals.

mod files;
mod flags;
mod renewal;

use std::io::{self, Write};

use anyhow::Context;
use clap::Parser;
use rtc_battery_signal::serve;
use tokio::net::TcpListener;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::flags::{Flags, LogFormat};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    start_log(flags.log, flags.log_format);
    let (listen, tls_check) = (flags.listen.clone(), flags.tls_check);
    let config = flags.config()?;
    files::allow_many(config.limits.max_connections);
    let shutdown = told_to_stop()?;
    renewal::start(config.tls.clone(), tls_check)?;
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let mut out = io::stdout();
    writeln!(out, "listening on {scheme}://{}", listener.local_addr()?)?;
    out.flush()?;
    serve(listener, config, shutdown).await;
    Ok(())
}

/// Only our own lines, whatever the level: libraries trace frames and addresses, and those hold descriptions and tokens.
fn start_log(level: LevelFilter, format: LogFormat) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let ours = Targets::new().with_target("rtc_battery_signal", level);
    match format {
        LogFormat::Text => tracing_subscriber::registry().with(lines).with(ours).init(),
        LogFormat::Json => tracing_subscriber::registry().with(lines.json()).with(ours).init(),
    }
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
