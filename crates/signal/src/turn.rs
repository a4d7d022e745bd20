//! Credentials for a TURN server, made from a secret that it shares with this one (coturn's `use-auth-secret`): a name that says until when
//! it is good, and the HMAC-SHA1 of that name as the password (draft-uberti-behave-turn-rest-00).
//!
//! The secret never leaves; who can ask `/ice` can use the relay until the credentials end. Clients renew at 80 % of their life.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// A TURN server and the secret shared with it.
#[derive(Clone)]
pub struct Turn {
    /// Where it is: `turn:turn.example.com:3478`, `turns:turn.example.com:5349?transport=tcp`. Browsers want few.
    pub urls: Vec<String>,
    /// What coturn has as `static-auth-secret`.
    pub secret: String,
    /// How long credentials are good for.
    pub ttl: Duration,
}

impl Turn {
    /// The answer of `/ice`, as `RTCConfiguration` has it, with the life of the credentials in seconds.
    pub(crate) fn answer(&self, now_s: u64, name: u64) -> String {
        let username = format!("{}:{name:016x}", now_s.saturating_add(self.ttl.as_secs()));
        let credential = self.credential(&username);
        let urls: Vec<String> = self.urls.iter().map(|url| quote(url)).collect();
        format!(
            r#"{{"iceServers":[{{"urls":[{}],"username":"{username}","credential":"{credential}"}}],"ttl":{}}}"#,
            urls.join(","),
            self.ttl.as_secs()
        )
    }

    fn credential(&self, username: &str) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()) else { return String::new() };
        mac.update(username.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("urls", &self.urls).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_what_openssl_says_it_is() {
        let turn = Turn {
            urls: vec!["turn:x".into(), r#"a"b"#.into()],
            secret: "north".into(),
            ttl: Duration::from_secs(600),
        };
        // printf 1600000600:000000000000002a | openssl dgst -sha1 -hmac north -binary | base64
        let expected = r#"{"iceServers":[{"urls":["turn:x","a\"b"],"username":"1600000600:000000000000002a","credential":"U5pPa0dUFxpITDFEO9u96PErCqc="}],"ttl":600}"#;
        assert_eq!(turn.answer(1_600_000_000, 42), expected);
        assert!(!format!("{turn:?}").contains("north"));
    }
}
