//! RTC Battery's core for JavaScript: as thin as it can be.
//!
//! Everything here translates: JavaScript's values to Rust's and back. It decides nothing, and no 64-bit integer crosses as
//! one (Chrome 80 and Safari 14.0 cannot pass them): versions and generations are numbers, SQL's integers are numbers or
//! `bigint`s made from text. `xtask` checks the module for that.

mod border;
mod failure;
mod layer;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
#[allow(unsafe_code, reason = "is the allocator")]
mod memory;
mod messenger;
mod node;
mod operations;
mod params;
mod random;
mod room;
mod storage;
mod values;
mod vigil;

use wasm_bindgen::prelude::wasm_bindgen;

pub use layer::MemoryLayer;
pub use messenger::RoomMessenger;
pub use node::BatteryNode;
pub use room::room_of;
pub use storage::Storage;
pub use vigil::TabVigil;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(message: &str);
}

/// Runs when the module is instantiated: a panic says in the console what happened, before it traps.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}
