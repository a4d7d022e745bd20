//! What is at which path.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio_util::task::TaskTracker;

use crate::{Config, Turn, hub::Hub, session::Host, site, upgrade};

/// All of them. `shared`: there are other processes, which may be out of reach.
pub(crate) fn router(config: Config, host: &Arc<Host>, sessions: &TaskTracker, shared: bool) -> Router {
    let gate = upgrade::Gate { host: Arc::clone(host), sessions: sessions.clone() };
    let hub = Arc::clone(&host.hub);
    let router = Router::new()
        .route("/signal", get(upgrade::signal).with_state(gate))
        .route("/healthz", get(health).with_state((Arc::clone(&hub), shared)))
        .route("/metrics", get(metrics).with_state(hub));
    let router = match config.turn {
        Some(turn) => router.route("/ice", get(ice).with_state((Arc::clone(host), Arc::new(turn)))),
        None => router,
    };
    match config.static_dir {
        Some(folder) => site::serve_folder(router, &folder),
        None => router,
    }
}

/// Local rooms work without the others, so this is no reason to restart anything.
async fn health(State((hub, shared)): State<(Arc<Hub>, bool)>) -> &'static str {
    if shared && hub.metrics.redis_up.get() == 0 {
        "degraded: redis is out of reach, local rooms go on\n"
    } else {
        "ok\n"
    }
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Response {
    hub.metrics.rooms.set(i64::try_from(hub.rooms()).unwrap_or(i64::MAX));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], hub.metrics.text()).into_response()
}

/// Credentials for the relay, for pages that may use this server.
async fn ice(State((host, turn)): State<(Arc<Host>, Arc<Turn>)>, headers: HeaderMap) -> Response {
    if !host.origins.allow(&headers) {
        host.hub.metrics.limit("origin");
        return (StatusCode::FORBIDDEN, "pages of this site are not welcome here\n").into_response();
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut answer = turn.answer(now_s, rand::random()).into_response();
    let head = answer.headers_mut();
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.insert(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = host.origins.allow_header(&headers) {
        head.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    answer
}
