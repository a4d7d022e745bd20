//! The node in JavaScript: [`Input`]s and [`Output`]s as the plain objects whose types `js/src/generated` declares.

use js_sys::{Array, Object, Reflect};
use rtc_battery_core::node::{Config, Input, Output};
use rtc_battery_core::replica::{OpenError, QueryResult, Scope, SqlError, StorageError};
use rtc_battery_core::{Node, Now, Replica};
use rtc_battery_proto::{PeerId, ReplicaId};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::failure;
use crate::params;
use crate::storage::Storage;
use crate::values;

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeConfig {
    signaling_url: String,
    token: String,
    room: String,
    #[serde(with = "serde_bytes")]
    seed: [u8; 32],
    #[serde(with = "serde_bytes")]
    replica_id: [u8; 16],
}

/// A peer of a room, with the database in a [`Storage`].
#[wasm_bindgen]
#[derive(Debug)]
pub struct BatteryNode {
    node: Node,
}

#[wasm_bindgen]
impl BatteryNode {
    /// Opens the database. The node is offline until [`connect`](Self::connect).
    ///
    /// # Errors
    /// Failures with the codes `storage`, `other-room` and `newer-format`.
    #[wasm_bindgen(constructor)]
    pub fn open(
        storage: &Storage,
        #[wasm_bindgen(unchecked_param_type = "NodeConfig")] config: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Now")] now: JsValue,
    ) -> Result<Self, JsValue> {
        let NodeConfig { signaling_url, token, room, seed, replica_id } = serde_wasm_bindgen::from_value(config)?;
        let name = storage.store().file_name();
        let connection =
            Connection::open_with_flags_and_vfs(name, OpenFlags::default(), rtc_battery_vfs::VFS_NAME)
                .map_err(|error| storage_failure(&error.into()))?;
        let fresh_id = ReplicaId::from_random(u128::from_be_bytes(replica_id));
        let replica = Replica::open(connection, &room, &fresh_id).map_err(|error| open_failure(&error))?;
        Ok(Self { node: Node::new(Config { signaling_url, token, seed }, replica, read_now(now)?) })
    }

    /// Enters the room, as soon as it can be reached and until [`disconnect`](Self::disconnect).
    ///
    /// # Errors
    /// A `now` that is none.
    pub fn connect(&mut self, #[wasm_bindgen(unchecked_param_type = "Now")] now: JsValue) -> Result<(), JsValue> {
        self.node.connect(read_now(now)?);
        Ok(())
    }

    /// Leaves the room; the event `closed` tells when everyone was told.
    ///
    /// # Errors
    /// A `now` that is none.
    pub fn disconnect(&mut self, #[wasm_bindgen(unchecked_param_type = "Now")] now: JsValue) -> Result<(), JsValue> {
        self.node.disconnect(read_now(now)?);
        Ok(())
    }

    /// Runs SQL; `local` keeps what it writes on this device.
    ///
    /// # Errors
    /// Failures with SQLite's code (a number) or with the code `bad-parameter`.
    #[wasm_bindgen(unchecked_return_type = "QueryResult")]
    pub fn exec(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "unknown")] sql: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "unknown")] params: &JsValue,
        local: bool,
        #[wasm_bindgen(unchecked_param_type = "Now")] now: JsValue,
    ) -> Result<JsValue, JsValue> {
        let sql = sql.as_string().ok_or_else(|| params::refusal("the SQL is no string"))?;
        let params = params::from_js(params)?;
        let scope = if local { Scope::Local } else { Scope::Synced };
        let result = self.node.exec(&sql, &params, scope, read_now(now)?);
        result.map(|result| result_to_js(&result)).map_err(|error| sql_failure(&error))
    }

    /// Whether a transaction of the user is open.
    #[wasm_bindgen(js_name = inTransaction)]
    pub fn in_transaction(&self) -> bool {
        self.node.replica().in_transaction()
    }

    /// How many transactions the replica has committed or applied.
    pub fn version(&self) -> f64 {
        self.node.version() as f64
    }

    /// The peers that can be talked to.
    pub fn peers(&self) -> Vec<String> {
        self.node.peers().iter().map(PeerId::to_string).collect()
    }

    /// Takes what happened outside. Poll the outputs afterwards.
    ///
    /// # Errors
    /// A failure with the code `storage`.
    #[wasm_bindgen(js_name = handleInput)]
    pub fn handle_input(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Input")] input: JsValue,
        #[wasm_bindgen(unchecked_param_type = "Now")] now: JsValue,
    ) -> Result<(), JsValue> {
        let input: Input = serde_wasm_bindgen::from_value(input)?;
        self.node.handle_input(input, read_now(now)?).map_err(|error| storage_failure(&error))
    }

    /// The next thing to perform or tell, or when to come back.
    ///
    /// # Errors
    /// A failure with the code `storage`.
    #[wasm_bindgen(js_name = pollOutput, unchecked_return_type = "Output")]
    pub fn poll_output(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "Now")] now: JsValue,
    ) -> Result<JsValue, JsValue> {
        let output = self.node.poll_output(read_now(now)?).map_err(|error| storage_failure(&error))?;
        output_to_js(&output)
    }
}

fn read_now(now: JsValue) -> Result<Now, JsValue> {
    Ok(serde_wasm_bindgen::from_value(now)?)
}

fn output_to_js(output: &Output) -> Result<JsValue, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_missing_as_null(true);
    // The one 64-bit integer is made by hand: for any other the serializer would import functions that pass them as such.
    let (kind, value) = match output {
        Output::Effect(effect) => ("effect", effect.serialize(&serializer)?),
        Output::Event(event) => ("event", event.serialize(&serializer)?),
        Output::Idle(wake_at_ms) => ("idle", wake_at_ms.map_or(JsValue::NULL, |at_ms| JsValue::from_f64(at_ms as f64))),
    };
    Ok(object(&[("output", kind.into()), ("value", value)]))
}

fn result_to_js(result: &QueryResult) -> JsValue {
    let columns: Array = result.columns.iter().map(|name| JsValue::from_str(name)).collect();
    let row_to_js = |row: &Vec<_>| row.iter().map(values::to_js).collect::<Array>();
    let rows: Array = result.values.iter().map(row_to_js).collect();
    let affected = JsValue::from_f64(result.rows_affected as f64);
    object(&[("columns", columns.into()), ("values", rows.into()), ("rowsAffected", affected)])
}

fn object(fields: &[(&str, JsValue)]) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // Setting a property of a new object does not fail.
        let _ = Reflect::set(&object, &(*name).into(), value);
    }
    object.into()
}

fn sql_failure(error: &SqlError) -> JsValue {
    failure(error.code, &error.message)
}

fn storage_failure(error: &StorageError) -> JsValue {
    failure("storage", &error.to_string())
}

fn open_failure(error: &OpenError) -> JsValue {
    let code = match error {
        OpenError::Storage(_) => "storage",
        OpenError::OtherRoom => "other-room",
        OpenError::NewerFormat(_) => "newer-format",
    };
    failure(code, &error.to_string())
}
