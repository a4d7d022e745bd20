//! Plain SQL on a [`Storage`], without replication.

use js_sys::Array;
use rtc_battery_proto::SqlValue;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::failure;
use crate::storage::Storage;
use crate::values;

/// A connection to a storage's database.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Database {
    connection: Connection,
}

#[wasm_bindgen]
impl Database {
    /// Opens it.
    ///
    /// # Errors
    /// SQLite's, with its code.
    #[wasm_bindgen(constructor)]
    pub fn open(storage: &Storage) -> Result<Self, JsValue> {
        let open = || {
            let name = storage.store().file_name();
            let connection =
                Connection::open_with_flags_and_vfs(name, OpenFlags::default(), rtc_battery_vfs::VFS_NAME)?;
            connection.pragma_update(None, "journal_mode", "MEMORY")?;
            Ok(Self { connection })
        };
        open().map_err(|error| sql_failure(&error))
    }

    /// Runs one statement with parameters by position; returns its rows.
    ///
    /// # Errors
    /// SQLite's, with its code, or a value that SQL does not know.
    #[wasm_bindgen(unchecked_return_type = "(null | number | bigint | string | Uint8Array)[][]")]
    pub fn query(&self, sql: &str, params: Vec<JsValue>) -> Result<Array, JsValue> {
        let mut values = Vec::with_capacity(params.len());
        for value in &params {
            values.push(rusqlite::types::Value::from(match values::from_js(value)? {
                SqlValue::Null => rusqlite::types::Value::Null,
                SqlValue::Integer(integer) => integer.into(),
                SqlValue::Real(real) => real.into(),
                SqlValue::Text(text) => String::from_utf8_lossy(&text).into_owned().into(),
                SqlValue::Blob(blob) => blob.into(),
            }));
        }
        let run = || {
            let mut statement = self.connection.prepare(sql)?;
            let width = statement.column_count();
            let mut rows = statement.query(rusqlite::params_from_iter(values))?;
            let found = Array::new();
            while let Some(row) = rows.next()? {
                let cells = Array::new();
                for index in 0..width {
                    cells.push(&values::to_js(&match row.get_ref(index)? {
                        ValueRef::Null => SqlValue::Null,
                        ValueRef::Integer(integer) => SqlValue::Integer(integer),
                        ValueRef::Real(real) => SqlValue::Real(real),
                        ValueRef::Text(text) => SqlValue::Text(text.to_vec()),
                        ValueRef::Blob(blob) => SqlValue::Blob(blob.to_vec()),
                    }));
                }
                found.push(&cells);
            }
            Ok(found)
        };
        run().map_err(|error| sql_failure(&error))
    }
}

fn sql_failure(error: &rusqlite::Error) -> JsValue {
    let code = error.sqlite_error().map_or(1, |error| error.extended_code);
    failure(code, &error.to_string())
}
