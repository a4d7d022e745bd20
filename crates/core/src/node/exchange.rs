//! What goes between a messenger and one peer over one link: operations that wait to be sent, requests of the peer's, requests of ours and what
//! came in answer.
//!
//! The specification gives a request and its answer no name, so there is one request out at a time, and what comes next is its answer. An answer
//! may be a series (`more`, additive: ours say it); a series that nobody asked for, or whose request has failed, must end before the next request
//! goes out, or its rest would be taken for the answer.

use std::collections::VecDeque;
use std::sync::Arc;

use rtc_battery_proto::{Message, Operation, SyncRequest, SyncResponse};

use super::io::RequestId;

/// Most bytes of operations that wait for one peer, a single one larger than this excepted.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;

/// A request that makes no progress for so long has failed, in milliseconds.
const STALL_MS: u64 = 15_000;

/// What an operation takes in memory besides its text, and each of its values. In bytes, measured.
const OPERATION_BYTES: usize = 768;
const VALUE_BYTES: usize = 64;

/// What operations that came in a message of `message_bytes` take in memory, roughly: of small ones that is ten times their JSON.
pub(super) fn size_in_memory(operations: &[Operation], message_bytes: usize) -> usize {
    let values = |operation: &Operation| {
        let columns = [operation.values.as_ref(), operation.prev.as_ref()].into_iter().flatten();
        operation.pk.len() + columns.map(|columns| columns.len()).sum::<usize>()
    };
    message_bytes + operations.iter().map(|operation| OPERATION_BYTES + VALUE_BYTES * values(operation)).sum::<usize>()
}

/// A request of ours.
#[derive(Debug)]
struct Request {
    id: RequestId,
    sent: bool,
    operations: Vec<Operation>,
}

/// The answer that is coming in, of which more is to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Series {
    #[default]
    None,
    /// To the request that is out.
    Answer,
    /// Nobody asked for it.
    Unasked,
    /// The request it answers has failed: nobody wants the rest.
    Unwanted,
}

/// What became of operations that came in a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nobody asked for them.
    Unasked(Vec<Operation>),
    /// The answer is complete.
    Answered(RequestId, Vec<Operation>),
    /// The answer does not fit in memory; it is given up.
    TooLarge(RequestId),
    /// There is nothing to tell now.
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Exchange {
    waiting: VecDeque<Arc<str>>,
    waiting_bytes: usize,
    /// How many requests of the peer's are to be answered.
    answers_due: u32,
    /// The first one is out, or is next.
    requests: VecDeque<Request>,
    series: Series,
    /// What the first request was answered by so far takes in memory.
    answer_bytes: usize,
    progress_at_ms: u64,
}

impl Exchange {
    /// Takes a message for the peer. `false` if the peer has fallen too far behind.
    #[must_use]
    pub(super) fn push(&mut self, message: &Arc<str>) -> bool {
        if self.waiting_bytes > 0 && self.waiting_bytes + message.len() > MAX_WAITING_BYTES {
            return false;
        }
        self.waiting_bytes += message.len();
        self.waiting.push_back(Arc::clone(message));
        true
    }

    /// Asks the peer for everything, after what it is being asked already.
    pub(super) fn request(&mut self, id: RequestId, now_ms: u64) {
        if self.requests.is_empty() {
            self.progress_at_ms = now_ms;
        }
        self.requests.push_back(Request { id, sent: false, operations: Vec::new() });
    }

    /// The peer asks.
    pub(super) fn handle_request(&mut self) {
        self.answers_due = self.answers_due.saturating_add(1);
    }

    /// Operations came that take `size_bytes` in memory, of which no more than `room_bytes` can be kept.
    pub(super) fn handle_response(
        &mut self,
        operations: Vec<Operation>,
        more: bool,
        size_bytes: usize,
        room_bytes: usize,
        now_ms: u64,
    ) -> Taken {
        self.progress_at_ms = now_ms;
        let series = match self.series {
            Series::None if self.is_asking() => Series::Answer,
            Series::None => Series::Unasked,
            series => series,
        };
        self.series = if more { series } else { Series::None };
        let request = match (series, self.requests.front_mut()) {
            (Series::Answer, Some(request)) => request,
            (Series::Unwanted, _) => return Taken::Nothing,
            _ => return Taken::Unasked(operations),
        };
        if size_bytes > room_bytes {
            let id = request.id;
            self.finish(now_ms);
            return Taken::TooLarge(id);
        }
        self.answer_bytes += size_bytes;
        request.operations.extend(operations);
        if more {
            return Taken::Nothing;
        }
        self.finish(now_ms).map_or(Taken::Nothing, |request| Taken::Answered(request.id, request.operations))
    }

    /// A response came that cannot be read, so nobody knows whether it was the last of its series. Gives the request that it fails.
    pub(super) fn handle_bad_response(&mut self, now_ms: u64) -> Option<RequestId> {
        let answers = self.is_asking() && matches!(self.series, Series::None | Series::Answer);
        self.series = Series::None;
        let request = if answers { self.finish(now_ms) } else { None };
        request.map(|request| request.id)
    }

    /// Something of a message came.
    pub(super) fn note_progress(&mut self, now_ms: u64) {
        self.progress_at_ms = now_ms;
    }

    /// When the first request has had its time.
    pub(super) fn stall_at_ms(&self) -> Option<u64> {
        (!self.requests.is_empty()).then_some(self.progress_at_ms + STALL_MS)
    }

    /// Gives the request up that made no progress.
    pub(super) fn handle_timeout(&mut self, now_ms: u64) -> Option<RequestId> {
        let stalled = self.stall_at_ms().is_some_and(|at_ms| at_ms <= now_ms);
        let request = if stalled { self.finish(now_ms) } else { None };
        request.map(|request| request.id)
    }

    /// What is kept for a request takes in memory.
    pub(super) fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// The requests that no answer will come to, when the link is gone.
    pub(super) fn into_requests(self) -> impl Iterator<Item = RequestId> {
        self.requests.into_iter().map(|request| request.id)
    }

    /// The next thing to say; when `leaving`, only operations, and nothing is asked any more.
    pub(super) fn next_message(&mut self, now_ms: u64, leaving: bool) -> Option<String> {
        if !leaving && self.answers_due > 0 {
            self.answers_due -= 1;
            return Some(Message::SyncResponse(SyncResponse::default()).encode());
        }
        if !leaving
            && self.series == Series::None
            && let Some(request) = self.requests.front_mut().filter(|request| !request.sent)
        {
            request.sent = true;
            self.progress_at_ms = now_ms;
            return Some(Message::SyncRequest(SyncRequest { from_version: 0, vector: None }).encode());
        }
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= message.len();
        Some(message.to_string())
    }

    fn is_asking(&self) -> bool {
        self.requests.front().is_some_and(|request| request.sent)
    }

    /// The first request has come to its end; what may still come of its answer is not wanted.
    fn finish(&mut self, now_ms: u64) -> Option<Request> {
        if self.series == Series::Answer {
            self.series = Series::Unwanted;
        }
        self.answer_bytes = 0;
        self.progress_at_ms = now_ms;
        self.requests.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(count: u64) -> Vec<Operation> {
        let operation = |ts| {
            let json = format!(
                r#"{{"hlc":{{"ts":{ts},"counter":0,"nodeId":"a"}},"type":"DELETE","table":"t","pk":{{"id":1}}}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        (0..count).map(operation).collect()
    }

    fn asking() -> Exchange {
        let mut exchange = Exchange::default();
        exchange.request(RequestId(1), 0);
        assert!(exchange.next_message(0, false).unwrap().contains("sync-request"));
        exchange
    }

    #[test]
    fn an_answer_is_one_response_or_a_series() {
        let mut exchange = asking();
        assert_eq!(exchange.handle_response(vec![], false, 9, 99, 5), Taken::Answered(RequestId(1), vec![]));
        exchange.request(RequestId(2), 5);
        exchange.next_message(5, false);
        assert_eq!(exchange.handle_response(operations(2), true, 9, 99, 5), Taken::Nothing);
        assert_eq!(exchange.answer_bytes(), 9);
        let answered = Taken::Answered(RequestId(2), [operations(2), operations(1)].concat());
        assert_eq!(exchange.handle_response(operations(1), false, 9, 90, 5), answered);
        assert_eq!((exchange.answer_bytes(), exchange.stall_at_ms()), (0, None));
        let unasked = Taken::Unasked(operations(1));
        assert_eq!(exchange.handle_response(operations(1), false, 9, 99, 5), unasked);
    }

    #[test]
    fn a_second_request_waits_for_the_end_of_the_first() {
        let mut exchange = asking();
        exchange.request(RequestId(2), 0);
        assert_eq!(exchange.next_message(0, false), None);
        assert_eq!(exchange.handle_response(operations(1), true, 9, 99, 5_000), Taken::Nothing);
        assert_eq!((exchange.handle_timeout(19_999), exchange.stall_at_ms()), (None, Some(20_000)));
        assert_eq!(exchange.handle_timeout(20_000), Some(RequestId(1)));
        // The rest of the first answer is nobody's, and not the second's.
        assert_eq!(exchange.next_message(20_000, false), None);
        assert_eq!(exchange.handle_response(operations(1), true, 9, 99, 21_000), Taken::Nothing);
        assert_eq!(exchange.handle_response(operations(1), false, 9, 99, 22_000), Taken::Nothing);
        assert!(exchange.next_message(23_000, false).is_some());
        assert_eq!(exchange.stall_at_ms(), Some(38_000));
        let answered = Taken::Answered(RequestId(2), operations(1));
        assert_eq!(exchange.handle_response(operations(1), false, 9, 99, 24_000), answered);
    }

    #[test]
    fn a_series_that_nobody_asked_for_is_no_answer() {
        let mut exchange = Exchange::default();
        assert_eq!(exchange.handle_response(operations(1), true, 9, 99, 0), Taken::Unasked(operations(1)));
        exchange.request(RequestId(1), 0);
        assert_eq!(exchange.next_message(0, false), None);
        assert_eq!(exchange.handle_response(operations(1), false, 9, 99, 0), Taken::Unasked(operations(1)));
        assert!(exchange.next_message(0, false).is_some());
    }

    #[test]
    fn an_answer_that_does_not_fit_or_cannot_be_read_fails() {
        let mut exchange = asking();
        assert_eq!(exchange.handle_response(operations(1), true, 60, 100, 0), Taken::Nothing);
        assert_eq!(exchange.handle_response(operations(1), true, 60, 40, 0), Taken::TooLarge(RequestId(1)));
        assert_eq!(exchange.handle_response(operations(1), false, 60, 100, 0), Taken::Nothing);
        let mut exchange = asking();
        assert_eq!(exchange.handle_bad_response(0), Some(RequestId(1)));
        assert_eq!(exchange.handle_bad_response(0), None);
    }

    #[test]
    fn small_operations_count_for_what_they_take() {
        let message_bytes = operations(100).iter().map(|op| serde_json::to_string(op).unwrap().len()).sum();
        let size_bytes = size_in_memory(&operations(100), message_bytes);
        assert!((9 * message_bytes..14 * message_bytes).contains(&size_bytes), "{size_bytes} for {message_bytes}");
    }

    #[test]
    fn what_waits_is_bounded_and_answers_go_first() {
        let (mut exchange, message) = (Exchange::default(), Arc::from("x".repeat(1_000_000)));
        let taken = (0..20).take_while(|_| exchange.push(&message)).count();
        assert_eq!(taken, 8);
        exchange.handle_request();
        let empty = r#"{"type":"sync-response","operations":[]}"#;
        assert_eq!(exchange.next_message(0, false).as_deref(), Some(empty));
        assert_eq!(exchange.next_message(0, false).unwrap().len(), 1_000_000);
        assert!(exchange.push(&message));
        let mut exchange = Exchange::default();
        assert!(exchange.push(&Arc::from("x".repeat(2 * MAX_WAITING_BYTES))) && !exchange.push(&message));
    }
}
