//! The queue of messages to one socket. Others fill it, the socket's session empties it.
//!
//! Filling never waits, so one slow reader holds nobody up. What a socket can make the server hold is bounded twice: never more than
//! `max_bytes`, and no more than `max_messages` for longer than `grace`. The second bound is patient because a burst is no fault of the
//! receiver: when a room of 200 joins at once, each gets hundreds of messages before its session has had a turn. Who breaks a bound, and
//! whose name another socket has taken, [has ended](Outbox::ended): its queue is dropped and takes nothing more.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{Limits, metrics::Metrics};

/// A bounded queue to one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    max_messages: usize,
    max_bytes: usize,
    grace: Duration,
    queue: Mutex<Queue>,
    /// There is something to send.
    filled: Notify,
    /// There is more to send than there should be, or nothing ever again.
    crowded: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Utf8Bytes>,
    bytes: usize,
    /// Since when more than `max_messages` have been waiting.
    crowded_since: Option<Instant>,
    ended: Option<Ended>,
}

/// Why a queue takes nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its socket broke a bound.
    TooSlow,
    /// Its socket has no name any more.
    Replaced,
}

impl Outbox {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max_messages: limits.max_queue_messages,
            max_bytes: limits.max_queue_bytes(),
            grace: limits.queue_grace,
            queue: Mutex::default(),
            filled: Notify::new(),
            crowded: Notify::new(),
        }
    }

    /// Adds a message at the end. True when the queue is longer than it should be: whoever fills it does well to give way.
    pub(crate) fn push(&self, message: Utf8Bytes, metrics: &Metrics) -> bool {
        let mut queue = self.lock();
        if queue.ended.is_some() {
            metrics.dropped.inc();
            return false;
        }
        if queue.bytes.saturating_add(message.len()) > self.max_bytes {
            metrics.dropped.inc();
            queue.end(Ended::TooSlow, metrics);
            self.crowded.notify_one();
            return false;
        }
        queue.bytes += message.len();
        queue.messages.push_back(message);
        self.filled.notify_one();
        if queue.messages.len() > self.max_messages && queue.crowded_since.is_none() {
            queue.crowded_since = Some(Instant::now());
            self.crowded.notify_one();
        }
        queue.crowded_since.is_some()
    }

    /// Takes the first message, if there is one.
    pub(crate) fn pop(&self) -> Option<Utf8Bytes> {
        let mut queue = self.lock();
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.len();
        if queue.messages.len() <= self.max_messages {
            queue.crowded_since = None;
        }
        Some(message)
    }

    /// Takes the first message, waiting for one.
    pub(crate) async fn next(&self) -> Utf8Bytes {
        loop {
            if let Some(message) = self.pop() {
                return message;
            }
            self.filled.notified().await;
        }
    }

    /// Nothing more is for this socket: another one has its place.
    pub(crate) fn replace(&self, metrics: &Metrics) {
        self.lock().end(Ended::Replaced, metrics);
        self.crowded.notify_one();
    }

    /// Ends when the queue has. It is empty then, and remains so.
    pub(crate) async fn ended(&self, metrics: &Metrics) -> Ended {
        loop {
            let since = match &*self.lock() {
                Queue { ended: Some(ended), .. } => return *ended,
                queue => queue.crowded_since,
            };
            match since {
                None => self.crowded.notified().await,
                Some(since) => tokio::select! {
                    () = self.crowded.notified() => {}
                    () = sleep_until(since + self.grace) => self.end_if_crowded_since(since, metrics),
                },
            }
        }
    }

    fn end_if_crowded_since(&self, since: Instant, metrics: &Metrics) {
        let mut queue = self.lock();
        if queue.crowded_since == Some(since) {
            queue.end(Ended::TooSlow, metrics);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn end(&mut self, ended: Ended, metrics: &Metrics) {
        metrics.dropped.inc_by(u64::try_from(self.messages.len()).unwrap_or(u64::MAX));
        *self = Self { ended: Some(ended), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn outbox() -> Outbox {
        Outbox::new(&Limits {
            max_queue_messages: 4,
            queue_grace: GRACE,
            max_message_bytes: 1_000,
            max_room_peers: 1,
            ..Limits::default()
        })
    }

    fn fill(outbox: &Outbox, count: usize) -> bool {
        (0..count).map(|n| outbox.push(n.to_string().into(), &Metrics::new())).last().unwrap()
    }

    async fn is_too_slow_within(outbox: &Outbox, wait: Duration) -> bool {
        timeout(wait, outbox.ended(&Metrics::new())).await == Ok(Ended::TooSlow)
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_out_in_order() {
        let outbox = outbox();
        assert!(!fill(&outbox, 3));
        for n in 0..3 {
            assert_eq!(outbox.next().await, n.to_string());
        }
        assert_eq!(outbox.pop(), None);
        let (message, ()) = tokio::join!(outbox.next(), async {
            outbox.push("later".into(), &Metrics::new());
        });
        assert_eq!(message, "later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_within_its_bound_may_wait_for_ever() {
        let outbox = outbox();
        fill(&outbox, 4);
        assert!(!is_too_slow_within(&outbox, 100 * GRACE).await);
        assert!(outbox.pop().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_is_worked_off_in_time_is_no_fault() {
        let outbox = outbox();
        assert!(fill(&outbox, 500));
        assert!(!is_too_slow_within(&outbox, GRACE - Duration::from_millis(1)).await);
        while outbox.pop().is_some() {}
        assert!(!is_too_slow_within(&outbox, 100 * GRACE).await);
        // The next burst has its own time.
        assert!(fill(&outbox, 5));
        assert!(!is_too_slow_within(&outbox, GRACE - Duration::from_millis(1)).await);
        assert!(is_too_slow_within(&outbox, Duration::from_millis(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_stays_too_long_is_dropped_and_takes_nothing_more() {
        let outbox = outbox();
        fill(&outbox, 5);
        advance(GRACE / 2).await;
        outbox.pop();
        fill(&outbox, 1);
        assert!(!is_too_slow_within(&outbox, GRACE - Duration::from_millis(1)).await);
        assert!(is_too_slow_within(&outbox, Duration::from_millis(1)).await);
        assert_eq!(outbox.pop(), None);
        assert!(!fill(&outbox, 1000));
        assert_eq!(outbox.pop(), None);
        assert!(is_too_slow_within(&outbox, Duration::ZERO).await, "once too slow, always");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_without_patience() {
        let outbox = outbox();
        let long = Utf8Bytes::from("x".repeat(1_000));
        let fits = outbox.max_bytes / long.len();
        for _ in 0..fits {
            outbox.push(long.clone(), &Metrics::new());
        }
        assert!(!is_too_slow_within(&outbox, GRACE / 2).await);
        outbox.push(long, &Metrics::new());
        assert!(is_too_slow_within(&outbox, Duration::ZERO).await);
        assert_eq!(outbox.pop(), None);
    }
}
