//! Randomness comes from the shell, as bytes: names, and the seed of the core's one generator.

use wasm_bindgen::JsValue;

use crate::failure::failure;

/// Exactly `N` bytes.
///
/// # Errors
/// A failure with the code `internal`: the shell's constants are ours.
pub(crate) fn bytes<const N: usize>(bytes: Vec<u8>) -> Result<[u8; N], JsValue> {
    let length = bytes.len();
    bytes.try_into().map_err(|_| failure("internal", &format!("{length} random bytes instead of {N}")))
}
