//! The room's name for what is kept on this device: it says which room a database belongs to and is part of the database's name. The
//! token is the room's secret and must not lie around in either.

use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::wasm_bindgen;

const HEX_CHARS: usize = 32;

/// The room of a token: 128 bits of a hash of it, in hexadecimal.
#[wasm_bindgen(js_name = roomOf)]
#[must_use]
pub fn room_of(token: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"rtc-battery room\0");
    hash.update(token);
    let mut room = format!("{:x}", hash.finalize());
    room.truncate(HEX_CHARS);
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_tells_tokens_apart_and_does_not_tell_the_token() {
        assert_eq!(room_of("a").len(), HEX_CHARS);
        assert_ne!(room_of("a"), room_of("b"));
        assert_ne!(room_of(""), room_of("\0"));
        // Databases are found again by it: it must never change.
        assert_eq!(room_of("token"), "5f4563b541d7bfae0005b7ea3677d8ff");
    }
}
