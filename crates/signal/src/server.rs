//! Listener, HTTP and shutdown. The caller owns the listener and says when to stop.
//!
//! HTTP/1 only: it is what a WebSocket opens with. Every task is counted, and every one of them ends by itself within
//! `close_timeout` of the shutdown, so waiting for them is all that stopping takes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    Config, Limits, Tls, addresses::Addresses, endpoints, hub::Hub, session::Host, stream::Stream, visitor::Visitor,
};

/// How long to wait after the system had no file or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until `shutdown` ends, then says farewell to every client (close code 1012), spread over [`Config::drain`], and returns when they
/// are gone, at the latest [`Limits::close_timeout`] after that.
pub async fn serve(listener: TcpListener, mut config: Config, shutdown: impl Future<Output = ()>) {
    let hub = Hub::new(&config.limits);
    let cluster = config.cluster.take().map(|cluster| {
        let stop = CancellationToken::new();
        (tokio::spawn(cluster.run(Arc::clone(&hub), config.limits.max_room_peers, stop.clone())), stop)
    });
    let host = Arc::new(Host {
        addresses: Addresses::new(config.limits.max_connections_per_address),
        hub,
        limits: config.limits.clone(),
        origins: config.origins.clone(),
        address_header: config.address_header.clone(),
        drain: config.drain,
        shutdown: CancellationToken::new(),
    });
    let tasks = TaskTracker::new();
    let has_cluster = cluster.is_some();
    let server = Server {
        http: http(&config.limits),
        tls: config.tls.take(),
        service: TowerToHyperService::new(endpoints::router(config, &host, &tasks, has_cluster)),
        places: Arc::new(Semaphore::new(host.limits.max_connections.min(Semaphore::MAX_PERMITS))),
        host: Arc::clone(&host),
    };
    let accept_all = async {
        loop {
            let (stream, address) = accept(&listener).await;
            if let Some(visitor) = server.admit(address) {
                tasks.spawn(server.clone().serve(stream, visitor));
            }
        }
    };
    tokio::select! {
        () = accept_all => {}
        () = shutdown => {}
    }
    drop(listener);
    info!("stopping");
    host.shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    if let Some((task, stop)) = cluster {
        stop.cancel();
        // What it still has to tell others; if it cannot, its lease ends.
        let _ = timeout(host.limits.close_timeout, task).await;
    }
    info!("stopped");
}

/// What serving a connection takes.
#[derive(Clone)]
struct Server {
    http: http1::Builder,
    tls: Option<Tls>,
    service: TowerToHyperService<Router>,
    places: Arc<Semaphore>,
    host: Arc<Host>,
}

impl Server {
    /// A place for another connection. None: there is none, and it is dropped at once.
    fn admit(&self, address: SocketAddr) -> Option<Visitor> {
        let metrics = &self.host.hub.metrics;
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            metrics.limit("connections");
            return None;
        };
        // A proxy has one address for all.
        let place = if self.host.address_header.is_some() {
            None
        } else if let Some(place) = self.host.addresses.take(address.ip()) {
            Some(Arc::new(place))
        } else {
            metrics.limit("connections-per-address");
            return None;
        };
        Some(Visitor { place, _permit: Arc::new(permit) })
    }

    async fn serve(self, stream: TcpStream, visitor: Visitor) {
        let limits = &self.host.limits;
        // Signaling is small messages that someone waits for.
        let _ = stream.set_nodelay(true);
        let socket = socket2::SockRef::from(&stream);
        let _ = socket.set_recv_buffer_size(limits.socket_buffer_bytes);
        let _ = socket.set_send_buffer_size(limits.socket_buffer_bytes);
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => match timeout(limits.header_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%error, "no TLS"),
                Err(_) => return self.host.hub.metrics.limit("header-timeout"),
            },
        };
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(visitor.clone());
            self.service.call(request)
        });
        let stop = &self.host.shutdown;
        let mut connection = std::pin::pin!(self.http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(limits.close_timeout, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = outcome {
            if error.is_timeout() {
                self.host.hub.metrics.limit("header-timeout");
            }
            debug!(%error, "connection failed");
        }
    }
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Room for a token of which every byte is percent-encoded, and a browser's usual headers.
    let head_bytes = limits.max_token_bytes.saturating_mul(3).saturating_add(32 * 1024);
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(head_bytes);
    http
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
            Err(error) => {
                warn!(%error, "cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
