//! Listener, HTTP and shutdown. The caller owns the listener and says when to stop.
//!
//! HTTP/1 only: it is what a WebSocket opens with. Every task is counted, and every one of them ends by itself within
//! `close_timeout` of the shutdown, so waiting for them is all that stopping takes.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{Config, Limits, hub::Hub, session::Host, site, upgrade};

/// How long to wait after the system had no file or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until `shutdown` ends, then says farewell to every client (close code 1012) and returns when they are gone, at the latest
/// after [`Limits::close_timeout`].
pub async fn serve(listener: TcpListener, config: Config, shutdown: impl Future<Output = ()>) {
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let limits = config.limits.clone();
    let service = TowerToHyperService::new(router(config, tasks.clone(), stop.clone()));
    let http = http(&limits);
    let accept_all = async {
        loop {
            let stream = accept(&listener).await;
            tasks.spawn(serve_connection(http.clone(), stream, service.clone(), stop.clone(), limits.close_timeout));
        }
    };
    tokio::select! {
        () = accept_all => {}
        () = shutdown => {}
    }
    drop(listener);
    info!("stopping");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    info!("stopped");
}

fn router(config: Config, sessions: TaskTracker, shutdown: CancellationToken) -> Router {
    let hub = Hub::new(config.limits.max_room_peers);
    let host = Arc::new(Host { hub, limits: config.limits, shutdown });
    let router = Router::new()
        .route("/signal", get(upgrade::signal).with_state(upgrade::Gate { host, sessions }))
        .route("/healthz", get(async || "ok\n"));
    match config.static_dir {
        Some(folder) => site::serve_folder(router, &folder),
        None => router,
    }
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Room for a token of which every byte is percent-encoded, and a browser's usual headers.
    let head_bytes = limits.max_token_bytes.saturating_mul(3).saturating_add(32 * 1024);
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(head_bytes);
    http
}

async fn accept(listener: &TcpListener) -> TcpStream {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
            Err(error) => {
                warn!(%error, "cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    http: http1::Builder,
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    stop: CancellationToken,
    close_timeout: Duration,
) {
    // Signaling is small messages that someone waits for.
    let _ = stream.set_nodelay(true);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(close_timeout, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        debug!(%error, "connection failed");
    }
}
