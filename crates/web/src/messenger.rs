//! The specification's `WebRTCManager` in JavaScript: every method reads its arguments, calls the messenger's, and writes what it returned.

use rtc_battery_core::Messenger;
use rtc_battery_proto::PeerId;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::{self, JsInput, JsNow, JsOutput, JsRoomConfig, read_now};
use crate::failure::failure;
use crate::operations;
use crate::values::Strange;

/// A peer of a room without a database.
#[wasm_bindgen]
#[derive(Debug)]
pub struct RoomMessenger {
    messenger: Messenger,
}

#[wasm_bindgen]
impl RoomMessenger {
    /// A messenger that is offline.
    ///
    /// # Errors
    /// A failure with the code `internal`.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &JsRoomConfig, now: &JsNow) -> Result<Self, JsValue> {
        Ok(Self { messenger: Messenger::new(&border::read_config(config)?, read_now(now)) })
    }

    /// Enters the room, as soon as it can be reached and until [`disconnect`](Self::disconnect).
    pub fn connect(&mut self, now: &JsNow) {
        self.messenger.connect(read_now(now));
    }

    /// Leaves the room; the event `closed` tells when everyone was told.
    pub fn disconnect(&mut self, now: &JsNow) {
        self.messenger.disconnect(read_now(now));
    }

    /// Sends an operation to every peer.
    ///
    /// # Errors
    /// A failure with the code `bad-operation`.
    pub fn broadcast(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "unknown")] operation: &JsValue,
        now: &JsNow,
    ) -> Result<(), JsValue> {
        let operation = operations::from_js(operation)?;
        self.messenger.broadcast(operation, read_now(now));
        Ok(())
    }

    /// Asks a peer for all its operations; gives the number of the request, which `answered` or `unanswered` brings back.
    ///
    /// # Errors
    /// A failure with the code `unknown-peer`.
    #[wasm_bindgen(js_name = requestSync)]
    pub fn request_sync(
        &mut self,
        #[wasm_bindgen(unchecked_param_type = "unknown")] peer: &JsValue,
        now: &JsNow,
    ) -> Result<u32, JsValue> {
        let unknown = |what: &str| failure("unknown-peer", what);
        let name =
            peer.as_string().ok_or_else(|| unknown(&format!("a peer's id is a string, not {}", Strange(peer))))?;
        let peer = PeerId::new(&name).map_err(|error| unknown(&format!("no peer has this name: {error}")))?;
        let request = self.messenger.request_sync(&peer, read_now(now));
        request.map(|request| request.0).map_err(|error| unknown(&error.to_string()))
    }

    /// The peers that can be talked to.
    pub fn peers(&self) -> Vec<String> {
        self.messenger.peers().iter().map(PeerId::to_string).collect()
    }

    /// Takes what happened outside. Poll the outputs afterwards.
    ///
    /// # Errors
    /// A failure with the code `internal`.
    #[wasm_bindgen(js_name = handleInput)]
    pub fn handle_input(&mut self, input: &JsInput, now: &JsNow) -> Result<(), JsValue> {
        self.messenger.handle_input(border::read_input(input)?, read_now(now));
        Ok(())
    }

    /// The next thing to perform or tell, or when to come back.
    ///
    /// # Errors
    /// A failure with the code `internal`.
    #[wasm_bindgen(js_name = pollOutput)]
    pub fn poll_output(&mut self, now: &JsNow) -> Result<JsOutput, JsValue> {
        border::write_output(&self.messenger.poll_output(read_now(now)))
    }
}
