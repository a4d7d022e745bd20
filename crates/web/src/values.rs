//! SQL's values in JavaScript: null, number, bigint where a number cannot hold an INTEGER, string, Uint8Array.

use std::fmt;

use js_sys::{Array, ArrayBuffer, BigInt, Object, Reflect, Uint8Array};
use rtc_battery_proto::{MAX_SAFE_INTEGER, SqlValue};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

#[wasm_bindgen]
extern "C" {
    /// As js-sys has it, for objects whose getters may throw.
    #[wasm_bindgen(js_namespace = Object, js_name = entries, catch)]
    fn own_entries(object: &JsValue) -> Result<Array, JsValue>;

    /// As js-sys has it, for proxies that were revoked.
    #[wasm_bindgen(js_namespace = Array, js_name = isArray, catch)]
    fn is_array_or_throws(value: &JsValue) -> Result<bool, JsValue>;

    /// As js-sys has it, for arrays whose getters may throw.
    #[wasm_bindgen(js_namespace = Array, js_name = from, catch)]
    fn array_from(array: &JsValue) -> Result<Array, JsValue>;

    #[wasm_bindgen(js_name = Uint8Array)]
    type Bytes;

    /// As js-sys has it, for buffers that were transferred.
    #[wasm_bindgen(constructor, js_class = "Uint8Array", catch)]
    fn new(source: &JsValue) -> Result<Bytes, JsValue>;
}

/// Most elements of an array that is read: an array may say of itself that it has four billion.
const MAX_ELEMENTS: f64 = 1_000_000.0;

/// A plain object.
pub(crate) fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // Setting a property of a new object does not fail.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object.into()
}

/// Whether a value is an object that is nothing more: not an array, a Date, a Map, an instance of a class.
pub(crate) fn is_plain(value: &JsValue) -> bool {
    let prototype = |value: &JsValue| Reflect::get_prototype_of(value).ok().map(JsValue::from);
    let Some(prototype_of_it) = prototype(value) else { return false };
    // `Object.prototype`, of whichever window, is the one that has none itself.
    prototype_of_it.is_null() || prototype(&prototype_of_it).is_some_and(|next| next.is_null())
}

/// Whether a value is an array.
pub(crate) fn is_array(value: &JsValue) -> bool {
    is_array_or_throws(value).unwrap_or(false)
}

/// An array's elements.
///
/// # Errors
/// What is wrong with it, for a person.
pub(crate) fn elements(array: &JsValue) -> Result<Array, String> {
    let unreadable = |_| "cannot be read".to_owned();
    let length = Reflect::get(array, &"length".into()).map_err(unreadable)?.as_f64().unwrap_or_default();
    if length > MAX_ELEMENTS {
        return Err(format!("has {length} elements, more than the {MAX_ELEMENTS} that are read"));
    }
    array_from(array).map_err(unreadable)
}

/// An object's own properties.
///
/// # Errors
/// What a getter threw.
pub(crate) fn entries(object: &JsValue) -> Result<Vec<(String, JsValue)>, JsValue> {
    let pair = |entry: JsValue| {
        let entry: Array = entry.unchecked_into();
        (entry.get(0).as_string().unwrap_or_default(), entry.get(1))
    };
    Ok(own_entries(object)?.iter().map(pair).collect())
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
    /// Bytes whose buffer was transferred elsewhere.
    Detached,
}

impl NotAValue {
    /// What is wrong with the value, for a person.
    pub(crate) fn about(self, value: &JsValue) -> String {
        match self {
            Self::TooLarge => "is a bigint beyond 64 bits".to_owned(),
            Self::Detached => "has no bytes any more: its buffer was transferred".to_owned(),
            Self::Kind => format!(
                "is {}, which SQL does not know: pass null, a number, bigint, string, boolean or Uint8Array",
                Strange(value)
            ),
        }
    }
}

/// Says what a value is that should have been another: a number as it is, anything else by the name of its class or type.
pub(crate) struct Strange<'a>(pub(crate) &'a JsValue);

impl fmt::Display for Strange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_null() || self.0.is_undefined() {
            return f.write_str(if self.0.is_null() { "null" } else { "undefined" });
        }
        if let Some(number) = self.0.as_f64() {
            return write!(f, "{number}");
        }
        let property = |object: &JsValue, name: &str| Reflect::get(object, &name.into()).ok();
        let class = Some(self.0).filter(|value| value.is_object()).and_then(|value| property(value, "constructor"));
        let class = class.and_then(|class| property(&class, "name")?.as_string());
        let name = class.or_else(|| self.0.js_typeof().as_string()).unwrap_or_default();
        let article = if name.starts_with(['A', 'E', 'I', 'O', 'a', 'e', 'i', 'o']) { "an" } else { "a" };
        write!(f, "{article} {name}")
    }
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
    if value.is_instance_of::<Uint8Array>() || value.is_instance_of::<ArrayBuffer>() {
        return bytes_from_js(value).map(SqlValue::Blob);
    }
    Err(NotAValue::Kind)
}

fn bytes_from_js(value: &JsValue) -> Result<Vec<u8>, NotAValue> {
    if let Some(bytes) = value.dyn_ref::<Uint8Array>().filter(|bytes| bytes.length() > 0) {
        return Ok(bytes.to_vec());
    }
    let bytes = Bytes::new(value).map_err(|_| NotAValue::Detached)?;
    Ok(bytes.unchecked_into::<Uint8Array>().to_vec())
}

/// A number as SQL has it; NaN is NULL there.
pub(crate) fn from_number(number: f64) -> SqlValue {
    if number.is_nan() {
        return SqlValue::Null;
    }
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
        assert_eq!(from_number(f64::NAN), SqlValue::Null);
    }
}
