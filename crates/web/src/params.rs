//! Parameters of a statement: an array by position, an object by name.

use js_sys::{Array, Function, Object, Reflect};
use rtc_battery_core::replica::Params;
use wasm_bindgen::{JsCast, JsValue};

use crate::failure::failure;
use crate::values::{self, NotAValue};

/// Reads them; `undefined` and `null` are none.
///
/// # Errors
/// A failure with the code `bad-parameter` that names the parameter.
pub(crate) fn from_js(params: &JsValue) -> Result<Params, JsValue> {
    if params.is_undefined() || params.is_null() {
        return Ok(Params::None);
    }
    if let Some(array) = params.dyn_ref::<Array>() {
        let mut values = Vec::with_capacity(array.length() as usize);
        for (index, value) in array.iter().enumerate() {
            values.push(read(&value, || (index + 1).to_string())?);
        }
        return Ok(Params::Positional(values));
    }
    let kind = kind_of(params);
    if kind != "Object" {
        return Err(refusal(&format!("params is a {kind}, neither an array nor an object")));
    }
    let mut values = Vec::new();
    for entry in Object::entries(params.unchecked_ref()).iter() {
        let entry: Array = entry.unchecked_into();
        let name = entry.get(0).as_string().unwrap_or_default();
        values.push((name.clone(), read(&entry.get(1), || name)?));
    }
    Ok(Params::Named(values))
}

/// The error for what SQL cannot be given.
pub(crate) fn refusal(message: &str) -> JsValue {
    failure("bad-parameter", message)
}

fn read(value: &JsValue, name: impl FnOnce() -> String) -> Result<rtc_battery_proto::SqlValue, JsValue> {
    values::from_js(value).map_err(|error| {
        let what = match error {
            NotAValue::TooLarge => "is a bigint beyond 64 bits".to_owned(),
            NotAValue::Kind => format!(
                "is a {}, which SQL does not know: pass null, a number, bigint, string, boolean or Uint8Array",
                kind_of(value)
            ),
        };
        refusal(&format!("parameter {} {what}", name()))
    })
}

/// The name of a value's class, or what `typeof` says.
fn kind_of(value: &JsValue) -> String {
    let class = Reflect::get(value, &"constructor".into()).ok().and_then(|class| class.dyn_into::<Function>().ok());
    class.map_or_else(|| value.js_typeof().as_string().unwrap_or_default(), |class| class.name().into())
}
