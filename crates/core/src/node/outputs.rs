//! What the rooms of a node want done and told, in order, until the host polls it.

use std::collections::VecDeque;

use rtc_battery_proto::PeerId;

use super::io::{Effect, ErrorCode, Event, Output};

#[derive(Debug, Default)]
pub(super) struct Outputs(VecDeque<Output>);

impl Outputs {
    pub(super) fn effect(&mut self, effect: Effect) {
        self.0.push_back(Output::Effect(effect));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.0.push_back(Output::Event(event));
    }

    pub(super) fn error(&mut self, code: ErrorCode, message: String, peer: Option<&PeerId>) {
        self.event(Event::Error { code, message, peer: peer.cloned() });
    }

    /// Whether the signaling socket is to be closed and the host has not been told so yet: what it reports now is about that one.
    pub(super) fn close_a_socket(&self) -> bool {
        self.0.iter().any(|output| matches!(output, Output::Effect(Effect::CloseSignaling)))
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        self.0.pop_front()
    }
}

/// The start of a text from outside, short enough for a message to a person.
pub(super) fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}
