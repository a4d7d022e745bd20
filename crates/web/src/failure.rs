//! Errors on their way to JavaScript: `Error` objects with a `code`, SQLite's number or one of the shell's words.

use js_sys::{Error, Reflect};
use rtc_battery_core::replica::{OpenError, SqlError, StorageError};
use wasm_bindgen::JsValue;

/// An `Error` with a `code`.
pub(crate) fn failure(code: impl Into<JsValue>, message: &str) -> JsValue {
    let error = Error::new(message);
    // Setting a property of a new object does not fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    error.into()
}

pub(crate) fn sql_failure(error: &SqlError) -> JsValue {
    failure(error.code, &error.message)
}

pub(crate) fn storage_failure(error: &StorageError) -> JsValue {
    match error {
        StorageError::InTransaction => failure("in-transaction", "a transaction is open: COMMIT or ROLLBACK first"),
        StorageError::Sqlite(_) | StorageError::Corrupt(_) => failure("storage", &error.to_string()),
    }
}

pub(crate) fn open_failure(error: &OpenError) -> JsValue {
    match error {
        OpenError::Storage(error) => storage_failure(error),
        OpenError::OtherRoom => failure("other-room", &error.to_string()),
        OpenError::NewerFormat(_) => failure("newer-format", &error.to_string()),
        OpenError::Busy => failure("database-busy", &error.to_string()),
        OpenError::NoWal(_) => failure("storage", &error.to_string()),
    }
}
