//! The room token, out of the query of `/signal?token=...`.
//!
//! Any text is a token: it is compared, never looked into. It is a secret, so only its SHA-256 is kept, which is as good for comparing, is
//! what other processes hear of it, and costs the same however long the token is; and nothing here prints it.

use std::fmt;

use sha2::{Digest, Sha256};

/// Which room, and the right to be in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 32]);

/// Why a query names no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No `token`, or an empty one.
    #[error("the address needs a room token: /signal?token=...")]
    Missing,
    /// Longer than the server allows.
    #[error("the room token is longer than {max_bytes} bytes")]
    TooLong {
        /// How long a token may be.
        max_bytes: usize,
    },
}

impl Token {
    /// The token of a URL's query, read as the browser's `URLSearchParams` would: the first one counts, `+` is a space.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_query(query: Option<&str>, max_bytes: usize) -> Result<Self, TokenError> {
        let (_, token) = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .find(|(name, _)| name == "token")
            .ok_or(TokenError::Missing)?;
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > max_bytes {
            return Err(TokenError::TooLong { max_bytes });
        }
        Ok(Self(Sha256::digest(token.as_bytes()).into()))
    }

    /// The token as other processes know it, in hexadecimal.
    pub(crate) fn digest(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`Token::digest`] wrote.
    pub(crate) fn from_digest(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(query: &str) -> Result<Token, TokenError> {
        Token::from_query(Some(query), 10)
    }

    #[test]
    fn the_first_token_is_decoded() {
        let plain = token("token=a/b").unwrap();
        for same in ["token=a%2Fb", "x=1&token=a/b&token=c", "%74oken=a/b"] {
            assert_eq!(token(same).unwrap(), plain, "{same}");
        }
        assert_eq!(token("token=%C3%A9+").unwrap(), token("token=é%20").unwrap());
        assert_ne!(token("token=a").unwrap(), token("token=A").unwrap());
    }

    #[test]
    fn no_token_and_too_long_ones_are_refused() {
        for query in ["", "token", "token=", "Token=a", "t=a", "token=&token=a"] {
            assert_eq!(token(query), Err(TokenError::Missing), "{query}");
        }
        assert_eq!(Token::from_query(None, 10), Err(TokenError::Missing));
        assert!(token("token=0123456789").is_ok());
        assert_eq!(token("token=0123456789a"), Err(TokenError::TooLong { max_bytes: 10 }));
        // The bound is on the text, not on its encoding.
        assert!(token("token=%30%31%32%33%34%35%36%37%38%39").is_ok());
    }

    #[test]
    fn a_digest_is_read_back() {
        let plain = token("token=a").unwrap();
        assert_eq!(Token::from_digest(&plain.digest()), Some(plain));
        for odd in ["", "00", &"x".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(Token::from_digest(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        assert!(!format!("{:?}", token("token=hunter2")).contains("hunter2"));
    }
}
