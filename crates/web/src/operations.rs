//! The specification's `Operation` in JavaScript: a plain object of the fields that it names and no others.
//!
//! What comes in was made by anybody: a getter may throw, a column may be called `__proto__`, a value may be a Date. What is wrong is refused
//! with the field's name. Columns are own properties, whatever they are called, both ways.

use js_sys::{Array, Object, Reflect};
use rtc_battery_proto::{Columns, Hlc, MAX_TS_MS, Operation, OperationKind, ReplicaId, SqlValue, Tick};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::failure;
use crate::values::{self, Strange, object};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r"
import type { Operation } from '../src/operation.js';
";

/// Writes an operation. A REAL without a fraction would come back as an INTEGER: where `is_real` does not say of table and column that
/// they make a REAL of it again, it is `{ $real: '1.0' }`, and text that is not UTF-8 is `{ $text: base64 }`.
pub(crate) fn to_js(operation: &Operation, is_real: impl Fn(&str, &str) -> bool) -> JsValue {
    let Operation { hlc, kind, table, pk, values, prev, .. } = operation;
    let columns = |columns: &Columns| columns_to_js(columns, |column| is_real(table, column));
    let tick = hlc.tick;
    let hlc = object(&[
        ("ts", (tick.ts as f64).into()),
        ("counter", tick.counter.into()),
        ("nodeId", hlc.node.as_str().into()),
    ]);
    let kind = match kind {
        OperationKind::Insert => "INSERT",
        OperationKind::Update => "UPDATE",
        OperationKind::Delete => "DELETE",
    };
    let mut fields = vec![("hlc", hlc), ("type", kind.into()), ("table", table.into()), ("pk", columns(pk))];
    fields.extend(values.as_ref().map(|values| ("values", columns(values))));
    fields.extend(prev.as_ref().map(|prev| ("prev", columns(prev))));
    object(&fields)
}

fn columns_to_js(columns: &Columns, is_real: impl Fn(&str) -> bool) -> JsValue {
    let entry = |(name, value): (&str, &SqlValue)| Array::of2(&name.into(), &value_to_js(value, || is_real(name)));
    let entries: Array = columns.iter().map(entry).collect();
    // It defines own properties, where an assignment to `__proto__` would not. It fails for what is no list of pairs.
    Object::from_entries(&entries).map_or(JsValue::NULL, JsValue::from)
}

fn value_to_js(value: &SqlValue, is_real: impl FnOnce() -> bool) -> JsValue {
    match value {
        SqlValue::Real(real) if values::from_number(*real) != *value && !is_real() => {
            object(&[("$real", format!("{real:?}").into())])
        }
        SqlValue::Text(bytes) if std::str::from_utf8(bytes).is_err() => {
            // Its JSON is the escape already.
            let text = serde_json::to_string(value).unwrap_or_default();
            js_sys::JSON::parse(&text).unwrap_or(JsValue::NULL)
        }
        value => values::to_js(value),
    }
}

/// Reads an operation; fields that the specification does not name are ignored.
///
/// # Errors
/// A failure with the code `bad-operation` that names the field.
pub(crate) fn from_js(value: &JsValue) -> Result<Operation, JsValue> {
    read(value).map_err(|what| bad_operation(&what))
}

/// The error for an operation that is none.
pub(crate) fn bad_operation(what: &str) -> JsValue {
    failure("bad-operation", &format!("not an operation that can be applied: {what}"))
}

fn read(value: &JsValue) -> Result<Operation, String> {
    let fields = Fields::of(value, "it")?;
    Ok(Operation {
        hlc: read_hlc(&fields.value("hlc")?)?,
        kind: read_kind(&fields.value("type")?)?,
        table: text(&fields.value("table")?, "table")?,
        pk: fields.columns("pk")?.ok_or("pk is missing")?,
        values: fields.columns("values")?,
        prev: fields.columns("prev")?,
        seq: None,
        tx: None,
        adopted: None,
    })
}

fn read_hlc(value: &JsValue) -> Result<Hlc, String> {
    let fields = Fields::of(value, "hlc")?;
    let whole = |name: &str, max: u64| {
        let value = fields.value(name)?;
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..=max as f64).contains(number));
        number.ok_or_else(|| format!("hlc.{name} is {}, not a whole number from 0 to {max}", Strange(&value)))
    };
    let tick = Tick { ts: whole("ts", MAX_TS_MS)? as u64, counter: whole("counter", u32::MAX.into())? as u32 };
    let node = text(&fields.value("nodeId")?, "hlc.nodeId")?;
    let node = ReplicaId::new(&node).map_err(|error| format!("hlc.nodeId is none: {error}"))?;
    Ok(Hlc { tick, node })
}

fn read_kind(value: &JsValue) -> Result<OperationKind, String> {
    match value.as_string().as_deref() {
        Some("INSERT") => Ok(OperationKind::Insert),
        Some("UPDATE") => Ok(OperationKind::Update),
        Some("DELETE") => Ok(OperationKind::Delete),
        Some(other) => {
            Err(format!("type is {:?}, not INSERT, UPDATE or DELETE", other.chars().take(32).collect::<String>()))
        }
        None => Err(format!("type is {}, not INSERT, UPDATE or DELETE", Strange(value))),
    }
}

fn text(value: &JsValue, path: &str) -> Result<String, String> {
    value.as_string().ok_or_else(|| format!("{path} is {}, not a string", Strange(value)))
}

/// An object of somebody else's.
struct Fields<'a>(&'a JsValue);

impl<'a> Fields<'a> {
    fn of(value: &'a JsValue, path: &str) -> Result<Self, String> {
        let is_object = value.is_object() && !values::is_array(value);
        if is_object { Ok(Self(value)) } else { Err(format!("{path} is {}, not an object", Strange(value))) }
    }

    fn value(&self, name: &str) -> Result<JsValue, String> {
        Reflect::get(self.0, &name.into()).map_err(|error| unreadable(name, &error))
    }

    /// Columns by name; none for `undefined` and `null`.
    fn columns(&self, path: &str) -> Result<Option<Columns>, String> {
        let value = self.value(path)?;
        if value.is_undefined() || value.is_null() {
            return Ok(None);
        }
        if !values::is_plain(&value) {
            return Err(format!("{path} is {}, not an object of columns", Strange(&value)));
        }
        let entries = values::entries(&value).map_err(|error| unreadable(path, &error))?;
        let column = |(name, value): (String, JsValue)| {
            let value = value_from_js(&value).map_err(|what| format!("{path}.{name} {what}"))?;
            Ok((name, value))
        };
        entries.into_iter().map(column).collect::<Result<Columns, String>>().map(Some)
    }
}

fn unreadable(path: &str, error: &JsValue) -> String {
    let message = Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    format!("{path} cannot be read: {}", message.unwrap_or_else(|| Strange(error).to_string()))
}

/// A value as parameters have it, or one of the wire's escapes: an object with one `$` key.
fn value_from_js(value: &JsValue) -> Result<SqlValue, String> {
    if values::is_plain(value)
        && let Ok(entries) = values::entries(value)
        && let [(tag, escaped)] = &entries[..]
        && let Some(text) = escaped.as_string()
    {
        let escape = serde_json::json!({ tag: text });
        return serde_json::from_value(escape).map_err(|error| format!("is no SQL value: {error}"));
    }
    values::from_js(value).map_err(|error| error.about(value))
}
