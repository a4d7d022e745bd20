//! `/signal`: from an HTTP request to a session.
//!
//! A browser cannot read why a WebSocket was refused over HTTP. So whatever is wrong with the token is told on the socket; HTTP errors are for
//! requests that are no WebSocket at all.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
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
    session::{self, Host},
};

/// What the endpoint needs: the sessions' host, and who counts them.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) host: Arc<Host>,
    pub(crate) sessions: TaskTracker,
}

/// Answers a request to `/signal`.
pub(crate) async fn signal(State(gate): State<Gate>, mut request: Request) -> Response {
    let response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(Error::Protocol(MissingConnectionUpgradeHeader | MissingUpgradeWebSocketHeader)) => {
            let websocket = [(header::UPGRADE, HeaderValue::from_static("websocket"))];
            return (StatusCode::UPGRADE_REQUIRED, websocket, "this is a WebSocket endpoint\n").into_response();
        }
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let token = Token::from_query(request.uri().query(), gate.host.limits.max_token_bytes);
    let upgrade = hyper::upgrade::on(&mut request);
    gate.sessions.spawn(async move {
        match upgrade.await {
            Ok(socket) => session::run(TokioIo::new(socket), token, gate.host).await,
            Err(error) => debug!(%error, "no upgrade"),
        }
    });
    response
}
