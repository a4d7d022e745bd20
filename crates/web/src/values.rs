//! SQL's values in JavaScript: null, number, bigint where a number cannot hold an INTEGER, string, Uint8Array.

use js_sys::{ArrayBuffer, BigInt, Object, Reflect, Uint8Array};
use rtc_battery_proto::{MAX_SAFE_INTEGER, SqlValue};
use wasm_bindgen::{JsCast, JsValue};

/// A plain object.
pub(crate) fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // Setting a property of a new object does not fail.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object.into()
}

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

/// Why a value is none that SQL knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAValue {
    /// A date, an object, a function.
    Kind,
    /// A bigint beyond 64 bits.
    TooLarge,
}

/// A parameter: a number without a fraction is an INTEGER as far as it is exact, booleans are 1 and 0, `undefined` is NULL.
pub(crate) fn from_js(value: &JsValue) -> Result<SqlValue, NotAValue> {
    if value.is_null() || value.is_undefined() {
        return Ok(SqlValue::Null);
    }
    if let Some(number) = value.as_f64() {
        return Ok(from_number(number));
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
        return integer.map(SqlValue::Integer).ok_or(NotAValue::TooLarge);
    }
    if let Some(bytes) = value.dyn_ref::<Uint8Array>() {
        return Ok(SqlValue::Blob(bytes.to_vec()));
    }
    if value.is_instance_of::<ArrayBuffer>() {
        return Ok(SqlValue::Blob(Uint8Array::new(value).to_vec()));
    }
    Err(NotAValue::Kind)
}

fn from_number(number: f64) -> SqlValue {
    let exact = number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER as f64;
    if exact { SqlValue::Integer(number as i64) } else { SqlValue::Real(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_a_fraction_are_integers_as_far_as_they_are_exact() {
        let max = MAX_SAFE_INTEGER as f64;
        for (number, integer) in [(0.0, 0), (-0.0, 0), (-7.0, -7), (max, MAX_SAFE_INTEGER), (-max, -MAX_SAFE_INTEGER)] {
            assert_eq!(from_number(number), SqlValue::Integer(integer));
        }
        for number in [0.5, max + 1.0, 1e300, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(from_number(number), SqlValue::Real(number));
        }
        assert!(matches!(from_number(f64::NAN), SqlValue::Real(real) if real.is_nan()));
    }
}
