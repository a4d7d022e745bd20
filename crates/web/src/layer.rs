//! The specification's `SQLLayer` in JavaScript: every method reads its arguments, calls the layer's, and writes what it returned.

use js_sys::{Array, Reflect};
use rtc_battery_core::replica::{ApplyError, SqlLayer, StorageError};
use rtc_battery_proto::{Operation, ReplicaId};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::border::{self, JsNow, read_now};
use crate::failure::{failure, open_failure, sql_failure, storage_failure};
use crate::{operations, params, random};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r"
/** What `SQLLayer.execute` gives. */
export interface Executed {
    result: QueryResult;
    operations: Operation[];
}
";

#[wasm_bindgen]
extern "C" {
    /// A result and operations.
    #[wasm_bindgen(typescript_type = "Executed")]
    pub type JsExecuted;
}

/// A database in memory that tells its operations and takes those of others.
#[wasm_bindgen]
#[derive(Debug)]
pub struct MemoryLayer {
    layer: SqlLayer,
}

#[wasm_bindgen]
impl MemoryLayer {
    /// An empty database, named by 16 random bytes.
    ///
    /// # Errors
    /// A failure with the code `storage`.
    #[wasm_bindgen(constructor)]
    pub fn open(replica_id: Vec<u8>) -> Result<Self, JsValue> {
        let id = ReplicaId::from_random(u128::from_be_bytes(random::bytes(replica_id)?));
        let layer = SqlLayer::open(&id).map_err(|error| open_failure(&error))?;
        Ok(Self { layer })
    }

    /// Runs SQL.
    ///
    /// # Errors
    /// Failures with SQLite's code (a number) and `operations`, or with the code `bad-parameter`.
    pub fn execute(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "unknown")] sql: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "unknown")] params: &JsValue,
        now: &JsNow,
    ) -> Result<JsExecuted, JsValue> {
        let (sql, params) = params::statement(sql, params)?;
        match self.layer.execute(&sql, &params, read_now(now)) {
            Ok(executed) => {
                let result = border::write_result(&executed.result);
                let operations = self.write_operations(&executed.operations);
                Ok(crate::values::object(&[("result", result.into()), ("operations", operations)]).unchecked_into())
            }
            Err(failed) => {
                let failure = sql_failure(&failed.error);
                // Setting a property of a new object does not fail.
                let _ = Reflect::set(&failure, &"operations".into(), &self.write_operations(&failed.operations));
                Err(failure)
            }
        }
    }

    /// Takes in an operation. Gives what was taken and cannot be shown here, and why.
    ///
    /// # Errors
    /// Failures with the codes `bad-operation`, `in-transaction` and `storage`.
    #[wasm_bindgen(js_name = applyOperation)]
    pub fn apply_operation(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "unknown")] operation: &JsValue,
        now: &JsNow,
    ) -> Result<Vec<String>, JsValue> {
        let operation = operations::from_js(operation)?;
        self.layer.apply(operation, read_now(now)).map_err(|error| match error {
            ApplyError::Refused(why) => operations::bad_operation(&why),
            ApplyError::Storage(error) => storage_failure(&error),
        })
    }

    /// The database as a plain SQLite file.
    ///
    /// # Errors
    /// Failures with the codes `in-transaction` and `storage`.
    #[wasm_bindgen(js_name = exportFile)]
    pub fn export_file(&self) -> Result<Vec<u8>, JsValue> {
        self.layer.export().map_err(|error| storage_failure(&error))
    }

    /// Takes in a plain SQLite file. Gives what was left out of it and why.
    ///
    /// # Errors
    /// Failures with the codes `in-transaction` and `bad-file`.
    #[wasm_bindgen(js_name = importFile)]
    pub fn import_file(&mut self, file: &[u8], now: &JsNow) -> Result<Vec<String>, JsValue> {
        if self.layer.in_transaction() {
            return Err(storage_failure(&StorageError::InTransaction));
        }
        self.layer.import(file, read_now(now)).map_err(|error| failure("bad-file", &error.to_string()))
    }

    fn write_operations(&self, operations: &[Operation]) -> JsValue {
        let is_real = |table: &str, column: &str| self.layer.is_real(table, column);
        operations.iter().map(|operation| operations::to_js(operation, is_real)).collect::<Array>().into()
    }
}
