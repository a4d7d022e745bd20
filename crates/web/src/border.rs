//! What crosses between the shell and the node, as the plain objects whose types `js/src/generated` declares.
//!
//! Inputs and outputs cross as JSON text, in one call each; bytes cross as they are.

use js_sys::{Array, JSON, JsString, Uint8Array};
use rtc_battery_core::Now;
use rtc_battery_core::node::{Effect, Input, LinkId, Output};
use rtc_battery_core::replica::QueryResult;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::failure::failure;
use crate::values::{self, object};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r"
import type { Input } from '../src/generated/Input';
import type { Now } from '../src/generated/Now';
import type { Output } from '../src/generated/Output';
import type { QueryResult } from '../src/values';

/** What a node is made of besides its storage. */
export interface NodeConfig {
    signalingUrl: string;
    token: string;
    /** The room that the database belongs to: `roomOf(token)`. */
    room: string;
    /** 32 random bytes: the node's only randomness. */
    seed: Uint8Array;
    /** 16 random bytes: names the database if it is new. */
    replicaId: Uint8Array;
}
";

#[wasm_bindgen]
extern "C" {
    /// What a node is made of besides its storage.
    #[wasm_bindgen(typescript_type = "NodeConfig")]
    pub type JsConfig;
    #[wasm_bindgen(method, getter, js_name = signalingUrl)]
    pub(crate) fn signaling_url(this: &JsConfig) -> String;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn token(this: &JsConfig) -> String;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn room(this: &JsConfig) -> String;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn seed(this: &JsConfig) -> Vec<u8>;
    #[wasm_bindgen(method, getter, js_name = replicaId)]
    pub(crate) fn replica_id(this: &JsConfig) -> Vec<u8>;

    /// What the clocks say.
    #[wasm_bindgen(typescript_type = "Now")]
    pub type JsNow;
    #[wasm_bindgen(method, getter, js_name = wallMs)]
    fn wall_ms(this: &JsNow) -> f64;
    #[wasm_bindgen(method, getter, js_name = monoMs)]
    fn mono_ms(this: &JsNow) -> f64;

    /// Something that happened outside.
    #[wasm_bindgen(typescript_type = "Input")]
    pub type JsInput;
    #[wasm_bindgen(method, getter)]
    fn link(this: &JsInput) -> u32;
    #[wasm_bindgen(method, getter)]
    fn bytes(this: &JsInput) -> JsValue;

    /// Something to perform, to tell, or when to come back.
    #[wasm_bindgen(typescript_type = "Output")]
    pub type JsOutput;

    /// What statements returned.
    #[wasm_bindgen(typescript_type = "QueryResult")]
    pub type JsQueryResult;
}

pub(crate) fn read_now(now: &JsNow) -> Now {
    Now { wall_ms: now.wall_ms() as u64, mono_ms: now.mono_ms() as u64 }
}

/// Reads an input.
///
/// # Errors
/// A failure with the code `internal`: the shell's types are generated from ours.
pub(crate) fn read_input(input: &JsInput) -> Result<Input, JsValue> {
    if let Some(bytes) = input.bytes().dyn_ref::<Uint8Array>() {
        return Ok(Input::ChannelBinary { link: LinkId(input.link()), bytes: bytes.to_vec() });
    }
    let text = JSON::stringify(input)?.as_string().unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| failure("internal", &format!("an input that is none: {error}")))
}

/// Writes an output.
///
/// # Errors
/// None that could be met: what serde writes, JavaScript reads.
pub(crate) fn write_output(output: &Output) -> Result<JsOutput, JsValue> {
    if let Output::Effect(Effect::SendBinary { link, bytes }) = output {
        let bytes = Uint8Array::from(bytes.as_slice());
        let effect = object(&[("kind", "sendBinary".into()), ("link", link.0.into()), ("bytes", bytes.into())]);
        return Ok(object(&[("output", "effect".into()), ("value", effect)]).unchecked_into());
    }
    let text = serde_json::to_string(output).map_err(|error| failure("internal", &error.to_string()))?;
    Ok(JSON::parse(&text)?.unchecked_into())
}

pub(crate) fn write_result(result: &QueryResult) -> JsQueryResult {
    let columns: Array = result.columns.iter().map(|name| JsString::from(name.as_str())).collect();
    let row_to_js = |row: &Vec<_>| row.iter().map(values::to_js).collect::<Array>();
    let rows: Array = result.values.iter().map(row_to_js).collect();
    let affected = JsValue::from_f64(result.rows_affected as f64);
    object(&[("columns", columns.into()), ("values", rows.into()), ("rowsAffected", affected)]).unchecked_into()
}
