//! SQL's values in JavaScript: null, number, bigint where a number cannot hold an INTEGER, string, Uint8Array.

use js_sys::{ArrayBuffer, BigInt, Uint8Array};
use rtc_battery_proto::{MAX_SAFE_INTEGER, SqlValue};
use wasm_bindgen::{JsCast, JsValue};

use crate::failure::failure;

/// What SQL returned. Text that is not UTF-8 shows U+FFFD where it is not.
pub(crate) fn to_js(value: &SqlValue) -> JsValue {
    match value {
        SqlValue::Null => JsValue::NULL,
        SqlValue::Integer(integer) => integer_to_js(*integer),
        SqlValue::Real(real) => JsValue::from_f64(*real),
        SqlValue::Text(bytes) => JsValue::from_str(&String::from_utf8_lossy(bytes)),
        SqlValue::Blob(bytes) => Uint8Array::from(bytes.as_slice()).into(),
    }
}

fn integer_to_js(integer: i64) -> JsValue {
    if integer.unsigned_abs() <= MAX_SAFE_INTEGER.unsigned_abs() {
        return JsValue::from_f64(integer as f64);
    }
    // By way of text: 64-bit integers cannot cross. Digits are always a BigInt.
    BigInt::new(&integer.to_string().into()).map_or(JsValue::NULL, JsValue::from)
}

/// A parameter: a number without a fraction is an INTEGER as far as it is exact, booleans are 1 and 0, `undefined` is NULL.
///
/// # Errors
/// A failure with the code `bad-parameter` for what SQL does not know.
pub(crate) fn from_js(value: &JsValue) -> Result<SqlValue, JsValue> {
    if value.is_null() || value.is_undefined() {
        return Ok(SqlValue::Null);
    }
    if let Some(number) = value.as_f64() {
        let exact = number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER as f64;
        return Ok(if exact { SqlValue::Integer(number as i64) } else { SqlValue::Real(number) });
    }
    if let Some(boolean) = value.as_bool() {
        return Ok(SqlValue::Integer(boolean.into()));
    }
    if let Some(text) = value.as_string() {
        return Ok(SqlValue::Text(text.into_bytes()));
    }
    if let Some(integer) = value.dyn_ref::<BigInt>() {
        let digits = integer.to_string(10).ok().and_then(|digits| digits.as_string());
        let integer = digits.and_then(|digits| digits.parse().ok());
        return integer.map(SqlValue::Integer).ok_or_else(|| bad_parameter("a bigint beyond 64 bits"));
    }
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        return Ok(SqlValue::Blob(bytes.to_vec()));
    }
    if value.is_instance_of::<ArrayBuffer>() {
        return Ok(SqlValue::Blob(Uint8Array::new(value).to_vec()));
    }
    Err(bad_parameter(&format!("{value:?}")))
}

fn bad_parameter(what: &str) -> JsValue {
    failure(
        "bad-parameter",
        &format!("{what} is no value for a parameter: use null, number, bigint, string, boolean or Uint8Array"),
    )
}
