//! A tab's watch over the tab that leads, in JavaScript.

use rtc_battery_core::node::{Doubt, Vigil};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// One tab's watch, while it does not lead. Times are in milliseconds of the monotonic clock.
#[wasm_bindgen(js_name = Vigil)]
#[derive(Debug)]
pub struct TabVigil {
    vigil: Vigil,
}

#[wasm_bindgen(js_class = Vigil)]
impl TabVigil {
    /// Begins; `jitter_ms` is drawn by lot below a second.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(jitter_ms: f64, now_ms: f64) -> Self {
        Self { vigil: Vigil::new(jitter_ms as u64, now_ms as u64) }
    }

    /// Whether an answer is waited for.
    pub fn expect(&mut self, waiting: bool, now_ms: f64) {
        self.vigil.expect(waiting, now_ms as u64);
    }

    /// Somebody leads: it said something, or the lead has just changed.
    pub fn heard(&mut self, now_ms: f64) {
        self.vigil.heard(now_ms as u64);
    }

    /// What to do now, if anything.
    #[wasm_bindgen(unchecked_return_type = "'ask' | 'takeOver' | undefined")]
    pub fn look(&mut self, now_ms: f64) -> JsValue {
        match self.vigil.look(now_ms as u64) {
            None => JsValue::UNDEFINED,
            Some(Doubt::Ask) => "ask".into(),
            Some(Doubt::TakeOver) => "takeOver".into(),
        }
    }

    /// When to look again.
    #[wasm_bindgen(js_name = wakeAtMs)]
    #[must_use]
    pub fn wake_at_ms(&self) -> f64 {
        self.vigil.wake_at_ms() as f64
    }
}
