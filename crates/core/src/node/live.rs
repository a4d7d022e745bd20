//! What was just committed and saved, as messages for the peers that lack it.
//!
//! Encoded once however many peers there are, and queued for each within bounds: a peer that falls behind is not remembered what it
//! missed, it is told our vector later and asks.

use std::collections::VecDeque;
use std::sync::Arc;

use rtc_battery_proto::frame::Body;
use rtc_battery_proto::packed::{Extent, pack};
use rtc_battery_proto::{Columns, Message, Operation, SyncResponse, VersionVector};

use super::{PART_BYTES, plain};
use crate::Replica;
use crate::replica::Committed;

/// Most bytes that wait for one peer, a single transaction larger than this excepted.
const MAX_QUEUED_BYTES: usize = 256 * 1024;

/// Longest message that goes among live ones, in bytes.
const MAX_SMALL_BYTES: usize = 2 * PART_BYTES;

/// A committed delta as messages.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) covers: VersionVector,
    /// For peers that read packed operations.
    packed: Vec<Body>,
    /// The same for those of ours that do not; empty where there is none.
    json: Vec<Body>,
    /// The same for peers that speak only the specification; empty where there is none.
    pub(super) plain: Vec<Arc<str>>,
    size_bytes: usize,
}

impl Live {
    /// `None` where the operations are not at hand: peers are told our vector instead.
    pub(super) fn of(committed: Committed, for_json: bool, for_plain: Option<&Replica>) -> Option<Self> {
        let Committed { covers, operations, .. } = committed;
        let operations = operations?;
        let plain = for_plain.map(|replica| plain::messages(replica, &operations)).unwrap_or_default();
        let parts = parts(&operations);
        let packed = parts_of(&parts, &covers, encode_packed);
        let json = match operations.as_slice() {
            _ if !for_json => Vec::new(),
            [payload] if is_whole(payload, &covers) => {
                vec![Message::Op { payload: payload.clone() }.encode().into()]
            }
            _ => parts_of(&parts, &covers, |operations, extent| encode_json(operations.to_vec(), extent)),
        };
        let size_bytes = packed.iter().chain(&json).map(Body::len_bytes).sum();
        Some(Self { covers, packed, json, plain, size_bytes })
    }

    /// Whether it is more than live messages may have to wait behind.
    pub(super) fn is_large(&self, reads_packed: bool) -> bool {
        let messages = self.messages(reads_packed);
        messages.len() > 1 || messages.first().is_some_and(|message| message.len_bytes() > MAX_SMALL_BYTES)
    }

    fn messages(&self, reads_packed: bool) -> &[Body] {
        if reads_packed { &self.packed } else { &self.json }
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

/// Operations in parts of about [`PART_BYTES`], one at least.
fn parts(operations: &[Operation]) -> Vec<&[Operation]> {
    let mut part_bytes = 0;
    let parts = operations.chunk_by(|before, _| {
        part_bytes += json_bytes(before);
        let fits = part_bytes < PART_BYTES;
        part_bytes = if fits { part_bytes } else { 0 };
        fits
    });
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { vec![&[]] } else { parts }
}

/// The only message, or a series: a part in each, and before it how far the series is.
fn parts_of(
    parts: &[&[Operation]],
    covers: &VersionVector,
    encode: impl Fn(&[Operation], Extent) -> Body,
) -> Vec<Body> {
    let (last, rest) = match parts {
        [rest @ .., last] => (*last, rest),
        [] => (&[][..], parts),
    };
    let total = parts.iter().map(|part| part.len() as u64).sum();
    let (mut messages, mut done) = (Vec::new(), 0);
    for part in rest {
        messages.push(progress(done, total));
        messages.push(encode(part, Extent::Part));
        done += part.len() as u64;
    }
    let end = if rest.is_empty() { Extent::Whole(covers.clone()) } else { Extent::End(covers.clone()) };
    messages.push(encode(last, end));
    messages
}

/// How far a series is.
pub(super) fn progress(done: u64, total: u64) -> Body {
    Message::SyncProgress { done, total }.encode().into()
}

/// Operations for a peer of ours, in what it reads.
pub(super) fn encode(operations: Vec<Operation>, extent: Extent, reads_packed: bool) -> Body {
    if reads_packed { encode_packed(&operations, extent) } else { encode_json(operations, extent) }
}

fn encode_packed(operations: &[Operation], extent: Extent) -> Body {
    pack(operations, &extent).map_or_else(|| encode_json(operations.to_vec(), extent), Body::Packed)
}

fn encode_json(operations: Vec<Operation>, extent: Extent) -> Body {
    let (covers, more) = match extent {
        Extent::Part => (None, true),
        Extent::Whole(covers) | Extent::End(covers) => (Some(covers), false),
    };
    Message::SyncResponse(SyncResponse { operations, covers, more }).encode().into()
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

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a series is half out: nothing else that is staged may come between.
    pub(super) fn in_series(&self) -> bool {
        self.told > 0
    }

    /// The next message, leaving out what the peer `has`; with the last message of one, what it then has too.
    pub(super) fn pop(
        &mut self,
        reads_packed: bool,
        has: impl Fn(&VersionVector) -> bool,
    ) -> Option<(Body, Option<Arc<Live>>)> {
        loop {
            let live = Arc::clone(self.waiting.front()?);
            if self.told == 0 && has(&live.covers) {
                self.drop_first();
                continue;
            }
            let messages = live.messages(reads_packed);
            let Some(message) = messages.get(self.told).cloned() else {
                self.drop_first();
                continue;
            };
            self.told += 1;
            if self.told < messages.len() {
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
    use rtc_battery_proto::packed::Packed;

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
        operation.values.get_or_insert_default().insert("v", value);
        operation
    }

    fn live(covers: &str, operations: Vec<Operation>) -> Live {
        Live::of(Committed { version: 1, covers: vector(covers), operations: Some(operations) }, true, None).unwrap()
    }

    /// Operations, what they cover, and whether others follow.
    fn read(body: &Body) -> (Vec<Operation>, Option<VersionVector>, bool) {
        match body {
            Body::Text(text) => match Message::decode(text) {
                Ok(Message::Op { payload }) => (vec![payload], None, false),
                Ok(Message::SyncResponse(part)) => (part.operations, part.covers, part.more),
                other => panic!("{other:?}"),
            },
            Body::Packed(bytes) => {
                let packed = Packed::read(bytes.clone()).unwrap();
                let covers = match packed.extent() {
                    Extent::Part => None,
                    Extent::Whole(covers) | Extent::End(covers) => Some(covers.clone()),
                };
                let more = covers.is_none();
                (packed.operations().unwrap(), covers, more)
            }
        }
    }

    #[test]
    fn one_whole_transaction_of_one_operation_is_an_op() {
        let op = live(r#"{"a":[[1,1]]}"#, vec![operation(0, 1, SqlValue::Null)]);
        let Body::Text(text) = &op.json[0] else { panic!("{op:?}") };
        assert!(matches!(Message::decode(text), Ok(Message::Op { .. })));
        // The rest of a larger transaction, and an operation that stands for more than itself.
        for (covers, n) in [(r#"{"a":[[1,1]]}"#, 3), (r#"{"a":[[1,2]]}"#, 1)] {
            let operations = vec![operation(0, n, SqlValue::Null)];
            let whole = live(covers, operations.clone());
            for messages in [&whole.json, &whole.packed] {
                let said: Vec<_> = messages.iter().map(read).collect();
                assert_eq!(said, [(operations.clone(), Some(vector(covers)), false)]);
            }
        }
    }

    #[test]
    fn a_large_transaction_is_a_series() {
        let blob = |n: u8| SqlValue::Blob((0..20_000u32).map(|at| ((at * at) >> 3) as u8 ^ n).collect());
        let operations: Vec<_> = (0..10).map(|counter| operation(counter.into(), 10, blob(counter))).collect();
        let live = live(r#"{"a":[[1,1]]}"#, operations.clone());
        for messages in [&live.json, &live.packed] {
            assert!(messages.len() > 3 && messages.iter().all(|message| message.len_bytes() < 2 * PART_BYTES));
            let (mut all, mut ends) = (Vec::new(), Vec::new());
            for message in messages {
                if *message == progress(all.len() as u64, 10) {
                    continue;
                }
                let (operations, covers, more) = read(message);
                all.extend(operations);
                ends.push((more, covers.is_some()));
            }
            assert_eq!(all, operations);
            assert_eq!(ends.pop(), Some((false, true)));
            assert!(ends.iter().all(|end| *end == (true, false)));
            assert_eq!(messages.len(), 2 * ends.len() + 1, "before each part but the last it is said how far it is");
        }
    }

    #[test]
    fn the_queue_is_bounded_and_leaves_no_series_half_told() {
        let blobs = |n| (0..n).map(|c| operation(c, n, SqlValue::Blob(vec![7; 40_000]))).collect::<Vec<_>>();
        let live = Arc::new(live(r#"{"a":[[1,1]]}"#, blobs(4)));
        let (mut queue, mut taken) = (LiveQueue::default(), 0);
        assert!(queue.push(&live));
        assert!(matches!(queue.pop(true, |_| false), Some((_, None))));
        while queue.push(&live) {
            taken += 1;
            assert!(queue.size_bytes <= MAX_QUEUED_BYTES.max(live.size_bytes) && taken < 100);
        }
        let rest = std::iter::from_fn(|| queue.pop(true, |_| false)).collect::<Vec<_>>();
        assert_eq!(rest.len(), live.packed.len() - 1);
        assert!(matches!(rest.last(), Some((_, Some(_)))) && queue.size_bytes == 0 && !queue.in_series());
    }

    #[test]
    fn what_the_peer_has_is_left_out() {
        let mut queue = LiveQueue::default();
        assert!(queue.push(&Arc::new(live(r#"{"a":[[1,1]]}"#, vec![operation(0, 1, SqlValue::Null)]))));
        assert!(queue.push(&Arc::new(live(r#"{"a":[[2,2]]}"#, vec![operation(0, 1, SqlValue::Null)]))));
        let first = vector(r#"{"a":[[1,1]]}"#);
        let (_, told) = queue.pop(true, |covers| *covers == first).unwrap();
        assert_eq!(told.unwrap().covers, vector(r#"{"a":[[2,2]]}"#));
        assert!(queue.pop(true, |_| false).is_none());
    }
}
