//! The static site: a folder's files as they are.
//!
//! Browsers ask each time whether a file has changed (it has an ETag), so that a rebuilt demo is never mixed with an old one.

use std::path::Path;

use axum::{
    Router,
    http::{HeaderValue, header::CACHE_CONTROL},
};
use tower_http::{services::ServeDir, set_header::SetResponseHeader};

/// Serves the folder to every path that `router` does not know.
pub(crate) fn serve_folder(router: Router, folder: &Path) -> Router {
    let no_cache = HeaderValue::from_static("no-cache");
    router.fallback_service(SetResponseHeader::overriding(ServeDir::new(folder), CACHE_CONTROL, no_cache))
}
