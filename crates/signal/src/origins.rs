//! The sites whose pages may use this server.
//!
//! A browser says on which site a page is (`Origin`), and a page cannot change it; programs can, and say none. So this keeps other sites
//! from living on a server, not programs from reaching it.

use axum::http::{HeaderMap, HeaderValue, header};

/// Sites, as browsers name them: `https://example.com`, with a port where it is not the scheme's own.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

/// A text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no origin: write it as https://example.com, with a port where there is one, and without a path")]
pub struct OriginError(String);

impl Origins {
    /// These sites, and no others. None at all: every site.
    ///
    /// # Errors
    /// [`OriginError`] for a text that no browser would send.
    pub fn new(origins: impl IntoIterator<Item = String>) -> Result<Self, OriginError> {
        let read = |origin: String| {
            let host = origin.split_once("://").map(|(_, host)| host);
            let whole = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']));
            if whole { Ok(origin.to_ascii_lowercase()) } else { Err(OriginError(origin)) }
        };
        Ok(Self(origins.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Whether a request with these headers is welcome.
    pub(crate) fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        self.0.is_empty() || self.0.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    /// What to answer a page of another site that asks whether it may read an answer.
    pub(crate) fn allow_header(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return Some(HeaderValue::from_static("*"));
        }
        headers.get(header::ORIGIN).filter(|_| self.allow(headers)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> HeaderMap {
        [(header::ORIGIN, HeaderValue::from_static(origin))].into_iter().collect()
    }

    #[test]
    fn only_the_sites_named_are_allowed() {
        let origins = Origins::new(["https://Example.com".into(), "http://localhost:8080".into()]).unwrap();
        for origin in ["https://example.com", "http://localhost:8080"] {
            assert!(origins.allow(&from(origin)), "{origin}");
        }
        for origin in ["http://example.com", "https://example.com:444", "https://example.com.evil.net", "null"] {
            assert!(!origins.allow(&from(origin)), "{origin}");
        }
        assert!(origins.allow(&HeaderMap::new()), "a program");
        assert!(Origins::default().allow(&from("null")));
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for text in ["example.com", "https://example.com/", "https://", "*", "https://*.example.com", ""] {
            assert_eq!(Origins::new([text.into()]).unwrap_err(), OriginError(text.into()));
        }
    }
}
