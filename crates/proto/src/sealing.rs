//! Sealed signaling: what a room's token is made into, so that the signaling server can introduce peers and do nothing else.
//!
//! From the token HKDF-SHA256 (RFC 5869) derives the room's name at the server and, for each sender, a key. Descriptions and candidates are
//! sealed with ChaCha20-Poly1305 (RFC 8439), bound to who sends, who is meant, which connection and which kind of message it is: a server
//! that reads, changes, redirects or swaps one has a text that does not open. A token is not stretched: one that can be guessed
//! can be guessed from the room's name.
//!
//! Invariant, on which the cipher rests: no number is used twice under one key. The key is the sender's own, and it is the sender that counts, so
//! whoever seals must never use a peer id again once it has forgotten how far it had counted. (A peer id is 128 random bits, made anew with
//! each node, and the count lives as long as the node.)
//!
//! It keeps nothing: which numbers have been heard before is for the receiver to know.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit as _, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;

use crate::PeerId;

/// What a sealed text begins with: the version of all of this.
const PREFIX: &str = "sealed-1";

const SALT: &[u8] = b"rtc-battery signaling 1";

/// Names an attempt to connect two peers, from the first offer until the connection is gone: whoever offers first draws it at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What kind of message is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedKind {
    /// An SDP offer.
    Offer,
    /// An SDP answer.
    Answer,
    /// An ICE candidate.
    Candidate,
}

/// From whom to whom a message goes, and what it is.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Who seals it.
    pub from: &'a PeerId,
    /// Who is meant to open it.
    pub to: &'a PeerId,
    /// What it is.
    pub kind: SealedKind,
}

/// What was in a sealed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Which connection it is about.
    pub connection: ConnectionId,
    /// The sender's number of it.
    pub number: u64,
    /// What was sealed.
    pub text: String,
}

/// Why a sealed text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is not in the form of a sealed text of this version.
    #[error("it is not sealed; both sides must seal, or none (`sealed: false`)")]
    NotSealed,
    /// Another token sealed it, or it was changed, or it was sealed for another peer or purpose.
    #[error("it was not sealed by that peer with this room's token")]
    Forged,
}

/// What a token is made into.
#[derive(Clone)]
pub struct RoomSecret(Hkdf<Sha256>);

impl fmt::Debug for RoomSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomSecret")
    }
}

impl RoomSecret {
    /// The secret of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Hkdf::new(Some(SALT), token.as_bytes()))
    }

    /// What the server knows the room by, in place of the token: 128 bits in hexadecimal.
    #[must_use]
    pub fn room(&self) -> String {
        let bytes: [u8; 16] = self.derive("room");
        format!("{:032x}", u128::from_be_bytes(bytes))
    }

    /// Seals a text. `number` is never the same twice for one sender.
    #[must_use]
    pub fn seal(&self, envelope: Envelope<'_>, connection: ConnectionId, number: u64, text: &str) -> String {
        let bound = envelope.bound_to(connection);
        let payload = Payload { msg: text.as_bytes(), aad: bound.as_bytes() };
        // The cipher refuses texts of 256 GiB and more, and nothing else.
        let sealed = self.cipher(envelope.from).encrypt(&nonce(number), payload).unwrap_or_default();
        format!("{PREFIX}.{:016x}.{number}.{}", connection.0, STANDARD_NO_PAD.encode(sealed))
    }

    /// Opens a sealed text.
    ///
    /// # Errors
    /// [`SealError`]; nothing of the text is to be believed then.
    pub fn open(&self, envelope: Envelope<'_>, sealed: &str) -> Result<Opened, SealError> {
        let parts: Vec<&str> = sealed.splitn(4, '.').collect();
        let [PREFIX, connection, number, body] = parts[..] else { return Err(SealError::NotSealed) };
        let connection = u64::from_str_radix(connection, 16).map_err(|_| SealError::NotSealed)?;
        let number: u64 = number.parse().map_err(|_| SealError::NotSealed)?;
        let body = STANDARD_NO_PAD.decode(body).map_err(|_| SealError::NotSealed)?;
        let connection = ConnectionId(connection);
        let bound = envelope.bound_to(connection);
        let payload = Payload { msg: &body, aad: bound.as_bytes() };
        let text = self.cipher(envelope.from).decrypt(&nonce(number), payload).map_err(|_| SealError::Forged)?;
        let text = String::from_utf8(text).map_err(|_| SealError::Forged)?;
        Ok(Opened { connection, number, text })
    }

    fn cipher(&self, from: &PeerId) -> ChaCha20Poly1305 {
        let key: [u8; 32] = self.derive(&format!("seal {from}"));
        ChaCha20Poly1305::new(Key::from_slice(&key))
    }

    fn derive<const N: usize>(&self, purpose: &str) -> [u8; N] {
        let mut bytes = [0; N];
        // HKDF gives up to 8,160 bytes; more is all that it refuses.
        let given = self.0.expand(purpose.as_bytes(), &mut bytes);
        debug_assert!(given.is_ok());
        bytes
    }
}

impl Envelope<'_> {
    /// Names have no line breaks, so no two of these are one text.
    fn bound_to(&self, connection: ConnectionId) -> String {
        let kind = match self.kind {
            SealedKind::Offer => "offer",
            SealedKind::Answer => "answer",
            SealedKind::Candidate => "ice",
        };
        format!("{PREFIX}\n{}\n{}\n{:016x}\n{kind}", self.from, self.to, connection.0)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::from(bytes)
}
