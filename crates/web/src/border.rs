//! What crosses between the shell and the node, as the plain objects whose types `js/src/generated` declares.
//!
//! Inputs and outputs cross as JSON text, in one call each; bytes and operations cross as they are.

use js_sys::{Array, JSON, JsString, Uint8Array};
use rtc_battery_core::Now;
use rtc_battery_core::node::{Call, Config, Effect, Event, Input, LinkId, MeshLimits, Output, Status};
use rtc_battery_core::replica::QueryResult;
use rtc_battery_proto::Operation;
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::failure::failure;
use crate::values::{self, object};
use crate::{operations, random};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r"
import type { Input } from '../src/generated/Input.js';
import type { Now } from '../src/generated/Now.js';
import type { Output } from '../src/generated/Output.js';
import type { Status } from '../src/generated/Status.js';
import type { QueryResult } from '../src/values.js';

/** Which room, and what is random about being in it. */
export interface RoomConfig {
    signalingUrl: string;
    token: string;
    /** Whether the token stays here and signaling is sealed with it; false is the specification's letter. */
    sealed: boolean;
    /** 32 random bytes: the only randomness. */
    seed: Uint8Array;
}

/** What a node is made of besides its storage. */
export interface NodeConfig extends RoomConfig {
    /** The room that the database belongs to: `roomOf(token)`. */
    room: string;
    /** 16 random bytes: names the database if it is new. */
    replicaId: Uint8Array;
}

/** A call of one of several tabs. */
export interface TabCall {
    /** Names the tab. */
    caller: string;
    /** Its number; 0 where nobody would ask again. */
    number: number;
    /** The tab has heard the answers to all calls before this one. */
    heard: number;
    /** It was first asked of a tab that is gone, in a transaction that is gone with it. */
    stranded: boolean;
}
";

#[wasm_bindgen]
extern "C" {
    /// Which room, and what is random about being in it.
    #[wasm_bindgen(typescript_type = "RoomConfig")]
    pub type JsRoomConfig;
    #[wasm_bindgen(method, getter, js_name = signalingUrl)]
    fn signaling_url(this: &JsRoomConfig) -> String;
    #[wasm_bindgen(method, getter)]
    fn token(this: &JsRoomConfig) -> String;
    #[wasm_bindgen(method, getter)]
    fn sealed(this: &JsRoomConfig) -> bool;
    #[wasm_bindgen(method, getter)]
    fn seed(this: &JsRoomConfig) -> Vec<u8>;

    /// What a node is made of besides its storage.
    #[wasm_bindgen(extends = JsRoomConfig, typescript_type = "NodeConfig")]
    pub type JsConfig;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn room(this: &JsConfig) -> String;
    #[wasm_bindgen(method, getter, js_name = replicaId)]
    pub(crate) fn replica_id(this: &JsConfig) -> Vec<u8>;

    /// A call of one of several tabs.
    #[wasm_bindgen(typescript_type = "TabCall")]
    pub type JsTabCall;
    #[wasm_bindgen(method, getter)]
    pub(crate) fn caller(this: &JsTabCall) -> String;
    #[wasm_bindgen(method, getter)]
    fn number(this: &JsTabCall) -> f64;
    #[wasm_bindgen(method, getter)]
    fn heard(this: &JsTabCall) -> f64;
    #[wasm_bindgen(method, getter)]
    fn stranded(this: &JsTabCall) -> bool;

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
    fn kind(this: &JsInput) -> String;
    #[wasm_bindgen(method, getter)]
    fn text(this: &JsInput) -> String;
    #[wasm_bindgen(method, getter)]
    fn bytes(this: &JsInput) -> JsValue;

    /// Something to perform, to tell, or when to come back.
    #[wasm_bindgen(typescript_type = "Output")]
    pub type JsOutput;

    /// How it stands with the room.
    #[wasm_bindgen(typescript_type = "Status")]
    pub type JsStatus;

    /// What statements returned.
    #[wasm_bindgen(typescript_type = "QueryResult")]
    pub type JsQueryResult;
}

pub(crate) fn read_now(now: &JsNow) -> Now {
    Now { wall_ms: now.wall_ms() as u64, mono_ms: now.mono_ms() as u64 }
}

/// Reads a call of this caller.
pub(crate) fn read_call<'a>(call: &JsTabCall, caller: &'a str) -> Call<'a> {
    let number = Some(call.number() as u64).filter(|number| *number > 0);
    Call { caller, number, heard: call.heard() as u64, stranded: call.stranded() }
}

/// Reads a room's config.
///
/// # Errors
/// A failure with the code `internal`: the seed has another length.
pub(crate) fn read_config(config: &JsRoomConfig) -> Result<Config, JsValue> {
    let (signaling_url, token) = (config.signaling_url(), config.token());
    Ok(Config {
        signaling_url,
        token,
        sealed: config.sealed(),
        mesh: MeshLimits::default(),
        seed: random::bytes(config.seed())?,
    })
}

/// Reads an input.
///
/// # Errors
/// A failure with the code `internal`: the shell's types are generated from ours.
pub(crate) fn read_input(input: &JsInput) -> Result<Input, JsValue> {
    if let Some(bytes) = input.bytes().dyn_ref::<Uint8Array>() {
        let (link, bytes) = (LinkId(input.link()), bytes.to_vec());
        let bulk = input.kind() == "bulkBinary";
        return Ok(if bulk { Input::BulkBinary { link, bytes } } else { Input::ChannelBinary { link, bytes } });
    }
    if input.kind() == "channelText" {
        return Ok(Input::ChannelText { link: LinkId(input.link()), text: input.text() });
    }
    let text = JSON::stringify(input)?.as_string().unwrap_or_default();
    serde_json::from_str(&text).map_err(|error| failure("internal", &format!("an input that is none: {error}")))
}

/// Writes an output.
///
/// # Errors
/// None that could be met: what serde writes, JavaScript reads.
pub(crate) fn write_output(output: &Output) -> Result<JsOutput, JsValue> {
    let (output, fields) = match output {
        Output::Effect(effect @ (Effect::SendBinary { link, bytes } | Effect::SendBulk { link, bytes })) => {
            let kind = if matches!(effect, Effect::SendBulk { .. }) { "sendBulk" } else { "sendBinary" };
            let bytes = Uint8Array::from(bytes.as_slice());
            ("effect", vec![("kind", kind.into()), ("link", link.0.into()), ("bytes", bytes.into())])
        }
        Output::Effect(Effect::SendText { link, text }) => {
            ("effect", vec![("kind", "sendText".into()), ("link", link.0.into()), ("text", text.into())])
        }
        Output::Event(Event::Operation { peer, operation }) => {
            let operation = write_operation(operation);
            ("event", vec![("kind", "operation".into()), ("peer", peer.as_str().into()), ("operation", operation)])
        }
        Output::Event(Event::Answered { request, peer, operations }) => {
            let operations: Array = operations.iter().map(write_operation).collect();
            let fields = [
                ("kind", "answered".into()),
                ("request", request.0.into()),
                ("peer", peer.as_str().into()),
                ("operations", operations.into()),
            ];
            ("event", fields.to_vec())
        }
        plain => return Ok(write(plain)?.unchecked_into()),
    };
    Ok(object(&[("output", output.into()), ("value", object(&fields))]).unchecked_into())
}

/// Writes a status.
///
/// # Errors
/// None that could be met: what serde writes, JavaScript reads.
pub(crate) fn write_status(status: &Status) -> Result<JsStatus, JsValue> {
    Ok(write(status)?.unchecked_into())
}

fn write(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let text = serde_json::to_string(value).map_err(|error| failure("internal", &error.to_string()))?;
    JSON::parse(&text)
}

/// Who has no tables does not know which columns are REAL.
fn write_operation(operation: &Operation) -> JsValue {
    operations::to_js(operation, |_, _| false)
}

pub(crate) fn write_result(result: &QueryResult) -> JsQueryResult {
    let columns: Array = result.columns.iter().map(|name| JsString::from(name.as_str())).collect();
    let row_to_js = |row: &Vec<_>| row.iter().map(values::to_js).collect::<Array>();
    let rows: Array = result.values.iter().map(row_to_js).collect();
    let affected = JsValue::from_f64(result.rows_affected as f64);
    object(&[("columns", columns.into()), ("values", rows.into()), ("rowsAffected", affected)]).unchecked_into()
}
