//! The node in JavaScript: every method reads its arguments, calls the node's, and writes what it returned.

use rtc_battery_core::replica::{Params, QueryResult, Salvaged, Scope, SqlError, StorageError};
use rtc_battery_core::{Node, Replica};
use rtc_battery_proto::{PeerId, ReplicaId};
use rtc_battery_vfs::VFS_NAME;
use rusqlite::{Connection, OpenFlags};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::{self, JsConfig, JsInput, JsNow, JsOutput, JsQueryResult, JsStatus, JsTabCall, read_now};
use crate::failure::{failure, open_failure, sql_failure, storage_failure};
use crate::storage::{Storage, salvaged_to_js};
use crate::{params, random};

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
    pub fn open(storage: &Storage, config: &JsConfig, now: &JsNow) -> Result<Self, JsValue> {
        let connection = connect(storage).map_err(|error| storage_failure(&error.into()))?;
        let fresh_id = ReplicaId::from_random(u128::from_be_bytes(random::bytes(config.replica_id())?));
        let replica = Replica::open(connection, &config.room(), &fresh_id).map_err(|error| open_failure(&error))?;
        Ok(Self { node: Node::new(border::read_config(config)?, replica, read_now(now)) })
    }

    /// Enters the room, as soon as it can be reached and until [`disconnect`](Self::disconnect).
    pub fn connect(&mut self, now: &JsNow) {
        self.node.connect(read_now(now));
    }

    /// Leaves the room; the event `closed` tells when everyone was told.
    pub fn disconnect(&mut self, now: &JsNow) {
        self.node.disconnect(read_now(now));
    }

    /// Runs SQL; `local` keeps what it writes on this device.
    ///
    /// # Errors
    /// Failures with SQLite's code (a number) or with the code `bad-parameter`.
    pub fn exec(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "unknown")] sql: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "unknown")] params: &JsValue,
        local: bool,
        now: &JsNow,
    ) -> Result<JsQueryResult, JsValue> {
        let now = read_now(now);
        self.run(sql, params, local, |node, sql, params, scope| node.exec(sql, params, scope, now))
    }

    /// The same for one of several tabs, whose turn it is: see [`may_call`](Self::may_call).
    ///
    /// # Errors
    /// As [`exec`](Self::exec); SQLite's code 516 where the tab's transaction is gone.
    pub fn call(
        &mut self,
        call: &JsTabCall,
        #[wasm_bindgen(unchecked_param_type = "unknown")] sql: &JsValue,
        #[wasm_bindgen(unchecked_param_type = "unknown")] params: &JsValue,
        local: bool,
        now: &JsNow,
    ) -> Result<JsQueryResult, JsValue> {
        let (caller, now) = (call.caller(), read_now(now));
        let call = border::read_call(call, &caller);
        self.run(sql, params, local, |node, sql, params, scope| node.call(call, sql, params, scope, now))
    }

    /// Whether a tab need not wait: no transaction is open, or it is the tab's own.
    #[wasm_bindgen(js_name = mayCall)]
    pub fn may_call(&self, caller: &str) -> bool {
        self.node.may_call(caller)
    }

    /// A tab is gone: what it left open is undone.
    ///
    /// # Errors
    /// A failure with the code `storage`.
    #[wasm_bindgen(js_name = callerGone)]
    pub fn caller_gone(&mut self, caller: &str) -> Result<(), JsValue> {
        self.node.caller_gone(caller).map_err(|error| storage_failure(&error))
    }

    /// The database as a plain SQLite file.
    ///
    /// # Errors
    /// Failures with the codes `in-transaction` and `storage`.
    #[wasm_bindgen(js_name = exportFile)]
    pub fn export_file(&self) -> Result<Vec<u8>, JsValue> {
        self.node.export().map_err(|error| storage_failure(&error))
    }

    /// Takes in a plain SQLite file. Gives what was left out of it and why.
    ///
    /// # Errors
    /// Failures with the codes `in-transaction` and `bad-file`.
    #[wasm_bindgen(js_name = importFile)]
    pub fn import_file(&mut self, file: &[u8], now: &JsNow) -> Result<Vec<String>, JsValue> {
        if self.in_transaction() {
            return Err(storage_failure(&StorageError::InTransaction));
        }
        let applied = self.node.import(file, read_now(now));
        applied.map(|applied| applied.refused).map_err(|error| failure("bad-file", &error.to_string()))
    }

    /// Takes in what can be read of a damaged database of this room.
    ///
    /// # Errors
    /// A failure with the code `storage`: not of the damaged database, but of this one.
    #[wasm_bindgen(unchecked_return_type = "Salvaged")]
    pub fn salvage(&mut self, damaged: &Storage, now: &JsNow) -> Result<JsValue, JsValue> {
        let salvaged = match connect(damaged) {
            Ok(damaged) => self.node.salvage(damaged, read_now(now)).map_err(|error| storage_failure(&error))?,
            // Its first page is not to be read.
            Err(_) => Salvaged::default(),
        };
        Ok(salvaged_to_js(&salvaged))
    }

    /// Whether there are TEMP tables, views or triggers of the user's: they are gone when this is.
    ///
    /// # Errors
    /// A failure with the code `storage`.
    #[wasm_bindgen(js_name = hasTemporary)]
    pub fn has_temporary(&self) -> Result<bool, JsValue> {
        self.node.replica().has_temporary().map_err(|error| storage_failure(&error))
    }

    /// Whether a transaction of the user is open.
    #[wasm_bindgen(js_name = inTransaction)]
    pub fn in_transaction(&self) -> bool {
        self.node.replica().in_transaction()
    }

    /// How many operations of its users the replica has made since it was opened.
    pub fn written(&self) -> f64 {
        self.node.replica().written() as f64
    }

    /// How many transactions the replica has committed or applied.
    pub fn version(&self) -> f64 {
        self.node.version() as f64
    }

    /// How it stands with the room and each peer. Poll the outputs afterwards.
    ///
    /// # Errors
    /// None that could be met: what serde writes, JavaScript reads.
    pub fn status(&mut self, now: &JsNow) -> Result<JsStatus, JsValue> {
        border::write_status(&self.node.status(read_now(now)))
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
    pub fn handle_input(&mut self, input: &JsInput, now: &JsNow) -> Result<(), JsValue> {
        let input = border::read_input(input)?;
        self.node.handle_input(input, read_now(now)).map_err(|error| storage_failure(&error))
    }

    /// The next thing to perform or tell, or when to come back.
    ///
    /// # Errors
    /// A failure with the code `storage`.
    #[wasm_bindgen(js_name = pollOutput)]
    pub fn poll_output(&mut self, now: &JsNow) -> Result<JsOutput, JsValue> {
        let output = self.node.poll_output(read_now(now)).map_err(|error| storage_failure(&error))?;
        border::write_output(&output)
    }
}

impl BatteryNode {
    /// Reads a statement, has it run, and writes what it returned.
    fn run(
        &mut self,
        sql: &JsValue,
        params: &JsValue,
        local: bool,
        run: impl FnOnce(&mut Node, &str, &Params, Scope) -> Result<QueryResult, SqlError>,
    ) -> Result<JsQueryResult, JsValue> {
        let (sql, params) = params::statement(sql, params)?;
        let scope = if local { Scope::Local } else { Scope::Synced };
        let result = run(&mut self.node, &sql, &params, scope).map_err(|error| sql_failure(&error))?;
        Ok(border::write_result(&result))
    }
}

/// The storage is the journal: a commit is a batch of pages, saved all or nothing.
fn connect(storage: &Storage) -> rusqlite::Result<Connection> {
    let name = storage.store().file_name();
    let connection = Connection::open_with_flags_and_vfs(name, OpenFlags::default(), VFS_NAME)?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    Ok(connection)
}
