//! Sync with a peer that speaks only the specification: no vectors, no dots, no frames.
//!
//! All it can be asked is everything, and everything is what it is sent when it asks, in messages that it can take; live operations go one
//! by one. It removes duplicates by clock value, as we do with what it sends. Its messages cannot be staged, so nothing unsaved is told,
//! not even in part.

use std::collections::VecDeque;
use std::sync::Arc;

use rtc_battery_proto::{Message, Operation, SyncRequest, VersionVector};

use super::PART_BYTES;
use super::session::Saved;
use crate::Replica;
use crate::replica::{DeltaReader, StorageError};

/// Most bytes of live operations that wait. A peer that falls behind further is sent everything again.
const MAX_LIVE_BYTES: usize = 256 * 1024;

const RESPONSE_START: &str = r#"{"type":"sync-response","operations":["#;
const RESPONSE_END: &str = "]}";
/// Additive: who reads it knows that the answer goes on; who does not takes each response for what it is.
const RESPONSE_GOES_ON: &str = r#"],"more":true}"#;

/// Operations as `op` messages. What only ours understand is left out.
pub(super) fn messages(replica: &Replica, operations: &[Operation]) -> Vec<Arc<str>> {
    let for_them = operations.iter().filter(|operation| is_for_plain(operation));
    for_them.map(|operation| Message::Op { payload: replica.by_name(operation.clone()) }.encode().into()).collect()
}

/// The schema travels in a table of ours; such a peer brings its own.
fn is_for_plain(operation: &Operation) -> bool {
    operation.table != crate::replica::SCHEMA
}

#[derive(Debug)]
pub(super) struct Plain {
    ask_due: bool,
    /// Everything is to be sent.
    all_due: bool,
    reader: Option<DeltaReader>,
    /// Operations that were read and not sent, as JSON.
    read: VecDeque<String>,
    /// The peer has been told that the answer goes on.
    goes_on: bool,
    live: VecDeque<Arc<str>>,
    live_bytes: usize,
    /// Operations that do not fit in a message the peer takes, since last asked.
    skipped: u32,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            ask_due: true,
            all_due: false,
            reader: None,
            read: VecDeque::new(),
            goes_on: false,
            live: VecDeque::new(),
            live_bytes: 0,
            skipped: 0,
        }
    }
}

impl Plain {
    /// It asked. What it says that it has cannot say what is missing, so it is sent everything.
    pub(super) fn handle_request(&mut self) {
        self.all_due = true;
    }

    /// Tells what was just saved; `None` where it is not at hand.
    pub(super) fn tell(&mut self, messages: Option<&[Arc<str>]>) {
        let messages = messages.filter(|_| self.live_bytes <= MAX_LIVE_BYTES);
        let Some(messages) = messages else {
            self.all_due = true;
            return;
        };
        self.live_bytes += messages.iter().map(|message| message.len()).sum::<usize>();
        self.live.extend(messages.iter().cloned());
    }

    /// How many operations could not be sent because they are too large for the peer, since last asked.
    pub(super) fn take_skipped(&mut self) -> u32 {
        std::mem::take(&mut self.skipped)
    }

    /// The peer turns out to be one of ours, and waits for the end of an answer that will not go on: the end of it.
    pub(super) fn break_off(&mut self) -> Option<String> {
        std::mem::take(&mut self.goes_on).then(|| {
            (self.reader, self.all_due) = (None, false);
            self.read.clear();
            [RESPONSE_START, RESPONSE_END].concat()
        })
    }

    /// The next thing to say; when `leaving`, only what must not be lost.
    ///
    /// # Errors
    /// [`StorageError`].
    pub(super) fn next_message(
        &mut self,
        replica: &Replica,
        saved: &Saved,
        max_message_bytes: usize,
        leaving: bool,
    ) -> Result<Option<String>, StorageError> {
        if !leaving && std::mem::take(&mut self.ask_due) {
            return Ok(Some(Message::SyncRequest(SyncRequest { from_version: 0, vector: None }).encode()));
        }
        while let Some(message) = self.live.pop_front() {
            self.live_bytes -= message.len();
            if message.len() <= max_message_bytes {
                return Ok(Some(message.to_string()));
            }
            self.skipped += 1;
        }
        if leaving {
            return Ok(None);
        }
        self.next_of_all(replica, saved, max_message_bytes)
    }

    fn next_of_all(
        &mut self,
        replica: &Replica,
        saved: &Saved,
        max_message_bytes: usize,
    ) -> Result<Option<String>, StorageError> {
        if self.reader.is_none() && self.read.is_empty() {
            if !std::mem::take(&mut self.all_due) {
                return Ok(None);
            }
            self.reader = Some(replica.delta(&VersionVector::default())?);
        }
        if let Some(reader) = &mut self.reader
            && self.read.is_empty()
        {
            // What is read is sent as it is: it must be committed and saved.
            if replica.in_transaction() || replica.version() > saved.version {
                return Ok(None);
            }
            let part = replica.read_delta(reader, PART_BYTES)?;
            let operations = part.operations.into_iter().filter(is_for_plain);
            let as_json = |operation| serde_json::to_string(&replica.by_name(operation)).ok();
            self.read.extend(operations.filter_map(as_json));
            if part.end.is_some() {
                self.reader = None;
            }
        }
        Ok(Some(self.response(max_message_bytes)))
    }

    /// As many of the read operations as fit in one message, possibly none: that is an answer too.
    fn response(&mut self, max_message_bytes: usize) -> String {
        let room = max_message_bytes.saturating_sub(RESPONSE_START.len() + RESPONSE_GOES_ON.len());
        let mut message = RESPONSE_START.to_owned();
        while let Some(operation) = self.read.front() {
            let comma = usize::from(message.len() > RESPONSE_START.len());
            let filled = message.len() - RESPONSE_START.len();
            if operation.len() > room {
                self.skipped += 1;
            } else if filled + comma + operation.len() > room {
                break;
            } else {
                message.push_str(&","[..comma]);
                message.push_str(operation);
            }
            self.read.pop_front();
        }
        self.goes_on = self.reader.is_some() || !self.read.is_empty();
        message.push_str(if self.goes_on { RESPONSE_GOES_ON } else { RESPONSE_END });
        message
    }
}
