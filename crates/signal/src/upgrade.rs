//! `/signal`: from an HTTP request to a session.
//!
//! A browser cannot read why a WebSocket was refused over HTTP. So whatever is wrong with the token is told on the socket; HTTP errors are for
//! requests that are no WebSocket at all, and for pages of sites that are not welcome.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::{
    Error,
    error::ProtocolError::{MissingConnectionUpgradeHeader, MissingUpgradeWebSocketHeader},
    handshake::server::create_response_with_body,
};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::{
    Token,
    ending::Ending,
    session::{self, Host},
    stream::Stream,
    visitor::Visitor,
};

/// What the endpoint needs: the sessions' host, and who counts them.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) host: Arc<Host>,
    pub(crate) sessions: TaskTracker,
}

/// Answers a request to `/signal`.
pub(crate) async fn signal(State(gate): State<Gate>, mut request: Request) -> Response {
    let host = gate.host;
    if !host.origins.allow(request.headers()) {
        host.hub.metrics.limit("origin");
        return (StatusCode::FORBIDDEN, "pages of this site are not welcome here\n").into_response();
    }
    let response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(Error::Protocol(MissingConnectionUpgradeHeader | MissingUpgradeWebSocketHeader)) => {
            let websocket = [(header::UPGRADE, HeaderValue::from_static("websocket"))];
            return (StatusCode::UPGRADE_REQUIRED, websocket, "this is a WebSocket endpoint\n").into_response();
        }
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let mut visitor = request.extensions().get::<Visitor>().cloned();
    let mut entry = Token::from_query(request.uri().query(), host.limits.max_token_bytes).map_err(Ending::NoRoom);
    if let (Some(name), Some(visitor)) = (&host.address_header, &mut visitor)
        && let Some(address) = forwarded(request.headers(), name)
    {
        match host.addresses.take(address) {
            Some(place) => visitor.place = Some(Arc::new(place)),
            None => {
                host.hub.metrics.limit("connections-per-address");
                entry = Err(Ending::TooMany);
            }
        }
    }
    let upgrade = hyper::upgrade::on(&mut request);
    gate.sessions.spawn(async move {
        match upgrade.await.map(own) {
            Ok(Some((stream, read))) => Box::pin(session::run(stream, read, entry, host)).await,
            Ok(None) => {}
            Err(error) => debug!(%error, "no upgrade"),
        }
        // The place among the connections is kept until here.
        drop(visitor);
    });
    response
}

/// The connection itself, out of what HTTP put around it, and what HTTP had read of it: copied, since it would keep all of HTTP's buffer.
fn own(upgraded: Upgraded) -> Option<(Stream, Vec<u8>)> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    Some((io.into_inner(), read_buf.to_vec()))
}

/// The last address in the header is the one that our own proxy saw.
fn forwarded(headers: &HeaderMap, name: &str) -> Option<IpAddr> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}
