//! Errors on their way to JavaScript: `Error` objects with a `code`, SQLite's number or one of the shell's words.

use js_sys::{Error, Reflect};
use wasm_bindgen::JsValue;

/// An `Error` with a `code`.
pub(crate) fn failure(code: impl Into<JsValue>, message: &str) -> JsValue {
    let error = Error::new(message);
    // Setting a property of a new object does not fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}
