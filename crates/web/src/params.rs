//! Parameters of a statement: an array by position, an object by name.

use rtc_battery_core::replica::Params;
use wasm_bindgen::JsValue;

use crate::failure::failure;
use crate::values::{self, Strange};

/// SQL and its parameters.
///
/// # Errors
/// A failure with the code `bad-parameter`.
pub(crate) fn statement(sql: &JsValue, params: &JsValue) -> Result<(String, Params), JsValue> {
    let sql = sql.as_string().ok_or_else(|| refusal("the SQL is no string"))?;
    Ok((sql, from_js(params)?))
}

/// Reads them; `undefined` and `null` are none.
///
/// # Errors
/// A failure with the code `bad-parameter` that names the parameter.
fn from_js(params: &JsValue) -> Result<Params, JsValue> {
    if params.is_undefined() || params.is_null() {
        return Ok(Params::None);
    }
    if values::is_array(params) {
        let array = values::elements(params).map_err(|what| refusal(&format!("params {what}")))?;
        let mut values = Vec::with_capacity(array.length() as usize);
        for (index, value) in array.iter().enumerate() {
            values.push(read(&value, || (index + 1).to_string())?);
        }
        return Ok(Params::Positional(values));
    }
    if !values::is_plain(params) {
        return Err(refusal(&format!("params is {}, neither an array nor an object", Strange(params))));
    }
    let entries = values::entries(params).map_err(|_| refusal("params cannot be read"))?;
    let mut values = Vec::new();
    for (name, value) in entries {
        let value = read(&value, || name.clone())?;
        values.push((name, value));
    }
    Ok(Params::Named(values))
}

/// The error for what SQL cannot be given.
fn refusal(message: &str) -> JsValue {
    failure("bad-parameter", message)
}

fn read(value: &JsValue, name: impl FnOnce() -> String) -> Result<rtc_battery_proto::SqlValue, JsValue> {
    values::from_js(value).map_err(|error| refusal(&format!("parameter {} {}", name(), error.about(value))))
}
