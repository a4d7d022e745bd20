//! What was just committed and saved, as messages for the peers that lack it.
//!
//! Encoded once however many peers there are, and queued for each within bounds: a peer that falls behind is not remembered what it
//! missed, it is told our vector later and asks.

use std::collections::VecDeque;
use std::sync::Arc;

use rtc_battery_proto::{Columns, Message, Operation, SyncResponse, VersionVector};

use super::{PART_BYTES, plain};
use crate::replica::Committed;

/// Most bytes that wait for one peer, a single transaction larger than this excepted.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// A committed delta as messages.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) covers: VersionVector,
    messages: Vec<String>,
    /// The same for peers that speak only the specification; empty where there is none.
    pub(super) plain: Vec<Arc<str>>,
    size_bytes: usize,
}

impl Live {
    /// `None` where the operations are not at hand: peers are told our vector instead.
    pub(super) fn of(committed: Committed, for_plain: bool) -> Option<Self> {
        let operations = committed.operations?;
        let plain = if for_plain { plain::messages(&operations) } else { Vec::new() };
        let messages = match <[Operation; 1]>::try_from(operations) {
            Ok([payload]) if is_whole(&payload, &committed.covers) => vec![Message::Op { payload }.encode()],
            Ok(operations) => series(operations.into(), &committed.covers),
            Err(operations) => series(operations, &committed.covers),
        };
        let size_bytes = messages.iter().map(String::len).sum();
        Some(Self { covers: committed.covers, messages, plain, size_bytes })
    }
}

/// Whether the operation alone is all that the vector covers, so that an `op` says everything.
fn is_whole(operation: &Operation, covers: &VersionVector) -> bool {
    operation.place().is_some_and(|(dot, extent, _)| {
        let mut only = VersionVector::default();
        only.insert(dot);
        extent.n == 1 && only == *covers
    })
}

/// Operations as a series of messages of about [`PART_BYTES`], the last with what they cover.
fn series(operations: Vec<Operation>, covers: &VersionVector) -> Vec<String> {
    let (mut messages, mut part, mut part_bytes) = (Vec::new(), Vec::new(), 0);
    for operation in operations {
        if part_bytes >= PART_BYTES {
            messages.push(encode_part(std::mem::take(&mut part)));
            part_bytes = 0;
        }
        part_bytes += json_bytes(&operation);
        part.push(operation);
    }
    messages.push(encode_end(part, covers.clone()));
    messages
}

/// A part of a series; another follows.
pub(super) fn encode_part(operations: Vec<Operation>) -> String {
    Message::SyncResponse(SyncResponse { operations, covers: None, more: true }).encode()
}

/// The end of a series, or all of it.
pub(super) fn encode_end(operations: Vec<Operation>, covers: VersionVector) -> String {
    Message::SyncResponse(SyncResponse { operations, covers: Some(covers), more: false }).encode()
}

/// About how long an operation is as JSON.
fn json_bytes(operation: &Operation) -> usize {
    let columns = |columns: &Columns| -> usize {
        columns.iter().map(|(name, value)| name.len() + 8 + value.size_bytes() / 3 * 4).sum()
    };
    let optional = |optional: &Option<Columns>| optional.as_ref().map_or(0, columns);
    200 + operation.table.len() + columns(&operation.pk) + optional(&operation.values) + optional(&operation.prev)
}

/// What waits to be told to one peer.
#[derive(Debug, Default)]
pub(super) struct LiveQueue {
    waiting: VecDeque<Arc<Live>>,
    /// How many messages of the first one are out.
    told: usize,
    size_bytes: usize,
}

impl LiveQueue {
    /// Adds one, or gives up on all that no message of is out yet: `false`.
    #[must_use]
    pub(super) fn push(&mut self, live: &Arc<Live>) -> bool {
        if !self.waiting.is_empty() && self.size_bytes + live.size_bytes > MAX_QUEUED_BYTES {
            self.waiting.truncate(usize::from(self.in_series()));
            self.size_bytes = self.waiting.iter().map(|live| live.size_bytes).sum();
            return false;
        }
        self.size_bytes += live.size_bytes;
        self.waiting.push_back(Arc::clone(live));
        true
    }

    /// Whether a series is half out: nothing else that is staged may come between.
    pub(super) fn in_series(&self) -> bool {
        self.told > 0
    }

    /// The next message, leaving out what the peer `has`; with the last message of one, what it then has too.
    pub(super) fn pop(&mut self, has: impl Fn(&VersionVector) -> bool) -> Option<(String, Option<Arc<Live>>)> {
        loop {
            let live = Arc::clone(self.waiting.front()?);
            if self.told == 0 && has(&live.covers) {
                self.drop_first();
                continue;
            }
            let message = live.messages.get(self.told).cloned().unwrap_or_default();
            self.told += 1;
            if self.told < live.messages.len() {
                return Some((message, None));
            }
            self.drop_first();
            return Some((message, Some(live)));
        }
    }

    fn drop_first(&mut self) {
        self.told = 0;
        self.size_bytes -= self.waiting.pop_front().map_or(0, |live| live.size_bytes);
    }
}

#[cfg(test)]
mod tests {
    use rtc_battery_proto::SqlValue;

    use super::*;

    fn vector(json: &str) -> VersionVector {
        serde_json::from_str(json).unwrap()
    }

    fn operation(counter: u32, n: u32, value: SqlValue) -> Operation {
        let json = format!(
            r#"{{"hlc":{{"ts":9,"counter":{counter},"nodeId":"a"}},"type":"UPDATE","table":"t","pk":{{"id":1}},
                "values":{{}},"seq":1,"tx":{{"first":{{"ts":9,"counter":0}},"n":{n}}}}}"#
        );
        let mut operation: Operation = serde_json::from_str(&json).unwrap();
        operation.values.get_or_insert_default().insert("v".into(), value);
        operation
    }

    fn live(covers: &str, operations: Vec<Operation>) -> Live {
        Live::of(Committed { version: 1, covers: vector(covers), operations: Some(operations) }, false).unwrap()
    }

    #[test]
    fn one_whole_transaction_of_one_operation_is_an_op() {
        let op = live(r#"{"a":[[1,1]]}"#, vec![operation(0, 1, SqlValue::Null)]);
        assert!(matches!(Message::decode(&op.messages[0]), Ok(Message::Op { .. })));
        // The rest of a larger transaction, and an operation that stands for more than itself.
        for (covers, n) in [(r#"{"a":[[1,1]]}"#, 3), (r#"{"a":[[1,2]]}"#, 1)] {
            let whole = live(covers, vec![operation(0, n, SqlValue::Null)]);
            let Ok(Message::SyncResponse(response)) = Message::decode(&whole.messages[0]) else { panic!("{whole:?}") };
            assert_eq!((response.covers, response.more), (Some(vector(covers)), false));
        }
    }

    #[test]
    fn a_large_transaction_is_a_series() {
        let operations: Vec<_> =
            (0..10).map(|counter| operation(counter, 10, SqlValue::Blob(vec![7; 20_000]))).collect();
        let live = live(r#"{"a":[[1,1]]}"#, operations.clone());
        assert!(live.messages.len() > 3 && live.messages.iter().all(|message| message.len() < 2 * PART_BYTES));
        let (mut all, mut ends) = (Vec::new(), Vec::new());
        for message in &live.messages {
            let Ok(Message::SyncResponse(part)) = Message::decode(message) else { panic!("{message}") };
            all.extend(part.operations);
            ends.push((part.more, part.covers.is_some()));
        }
        assert_eq!(all, operations);
        assert_eq!(ends.pop(), Some((false, true)));
        assert!(ends.iter().all(|end| *end == (true, false)));
    }

    #[test]
    fn the_queue_is_bounded_and_leaves_no_series_half_told() {
        let blobs = |n| (0..n).map(|c| operation(c, n, SqlValue::Blob(vec![7; 40_000]))).collect::<Vec<_>>();
        let live = Arc::new(live(r#"{"a":[[1,1]]}"#, blobs(4)));
        let (mut queue, mut taken) = (LiveQueue::default(), 0);
        assert!(queue.push(&live));
        assert!(matches!(queue.pop(|_| false), Some((_, None))));
        while queue.push(&live) {
            taken += 1;
            assert!(queue.size_bytes <= MAX_QUEUED_BYTES.max(live.size_bytes) && taken < 100);
        }
        let rest = std::iter::from_fn(|| queue.pop(|_| false)).collect::<Vec<_>>();
        assert_eq!(rest.len(), live.messages.len() - 1);
        assert!(matches!(rest.last(), Some((_, Some(_)))) && queue.size_bytes == 0 && !queue.in_series());
    }

    #[test]
    fn what_the_peer_has_is_left_out() {
        let mut queue = LiveQueue::default();
        assert!(queue.push(&Arc::new(live(r#"{"a":[[1,1]]}"#, vec![operation(0, 1, SqlValue::Null)]))));
        assert!(queue.push(&Arc::new(live(r#"{"a":[[2,2]]}"#, vec![operation(0, 1, SqlValue::Null)]))));
        let first = vector(r#"{"a":[[1,1]]}"#);
        let (_, told) = queue.pop(|covers| *covers == first).unwrap();
        assert_eq!(told.unwrap().covers, vector(r#"{"a":[[2,2]]}"#));
        assert!(queue.pop(|_| false).is_none());
    }
}
