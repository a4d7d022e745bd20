//! Why a socket is given up, and what its client is told: an error message where there is something to say, then a close code.
//!
//! Only what makes going on impossible or pointless ends a socket. Everything else a client does wrong is an error message and no more.

use rtc_battery_proto::signaling::{ServerMessage, code};
use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::CloseCode};

use crate::TokenError;

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client closed, or its connection broke. Nobody is there to be told anything.
    Gone,
    /// The server is going down.
    Shutdown,
    /// The address names no room.
    NoRoom(TokenError),
    /// No `join` in time.
    NeverJoined,
    /// No frame for too long.
    Silent,
    /// It does not read.
    TooSlow,
    /// Another socket took its name with its key.
    Replaced,
    /// Its address has too many sockets.
    TooMany,
    /// A message beyond the bound. The rest of it is still on its way, so no other can follow.
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// A text that is not UTF-8.
    NotUtf8,
    /// Not WebSocket.
    Protocol,
}

impl Ending {
    /// What a failed socket is given up for.
    pub(crate) fn of_error(error: &tungstenite::Error, max_bytes: usize) -> Self {
        use tungstenite::{Error, error::ProtocolError};
        match error {
            Error::Capacity(_) => Self::TooLarge { max_bytes },
            Error::Utf8(_) => Self::NotUtf8,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::SendAfterClosing) => {
                Self::Gone
            }
            Error::Protocol(_) => Self::Protocol,
            _ => Self::Gone,
        }
    }

    /// The error message to send first. None: the close code says it all.
    pub(crate) fn error(&self) -> Option<ServerMessage> {
        let (code, message) = match self {
            Self::Gone | Self::Shutdown => return None,
            Self::NoRoom(error @ TokenError::Missing) => (code::MISSING_TOKEN, error.to_string()),
            Self::NoRoom(error @ TokenError::TooLong { .. }) => (code::TOKEN_TOO_LONG, error.to_string()),
            Self::NeverJoined => (code::JOIN_TIMEOUT, "no join came in time".into()),
            Self::Silent => (code::IDLE_TIMEOUT, "nothing was heard from this client for too long".into()),
            Self::TooSlow => (code::TOO_SLOW, "this client does not read fast enough".into()),
            Self::Replaced => (code::REPLACED, "another socket has joined under this name with its key".into()),
            Self::TooMany => {
                (code::TOO_MANY_CONNECTIONS, "this address has as many sockets as it may; close one of them".into())
            }
            Self::TooLarge { max_bytes } => (code::TOO_LARGE, format!("a message is at most {max_bytes} bytes")),
            Self::NotUtf8 => (code::PROTOCOL, "a text frame must be UTF-8".into()),
            Self::Protocol => (code::PROTOCOL, "these frames break the WebSocket protocol".into()),
        };
        Some(ServerMessage::Error { code: code.into(), message })
    }

    /// The WebSocket close code. None: nothing is sent.
    pub(crate) fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Gone => None,
            Self::Shutdown => Some(CloseCode::Restart),
            Self::NoRoom(_) | Self::NeverJoined | Self::Silent | Self::Replaced => Some(CloseCode::Policy),
            Self::TooSlow | Self::TooMany => Some(CloseCode::Again),
            Self::TooLarge { .. } => Some(CloseCode::Size),
            Self::NotUtf8 => Some(CloseCode::Invalid),
            Self::Protocol => Some(CloseCode::Protocol),
        }
    }

    /// One word for it, as metrics and logs have it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Shutdown => "shutdown",
            Self::NoRoom(TokenError::Missing) => code::MISSING_TOKEN,
            Self::NoRoom(TokenError::TooLong { .. }) => code::TOKEN_TOO_LONG,
            Self::NeverJoined => code::JOIN_TIMEOUT,
            Self::Silent => code::IDLE_TIMEOUT,
            Self::TooSlow => code::TOO_SLOW,
            Self::Replaced => code::REPLACED,
            Self::TooMany => code::TOO_MANY_CONNECTIONS,
            Self::TooLarge { .. } => code::TOO_LARGE,
            Self::NotUtf8 | Self::Protocol => code::PROTOCOL,
        }
    }
}
