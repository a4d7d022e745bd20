//! What the server counts, for Prometheus at `/metrics`.
//!
//! Invariant: no label holds anything that a client chose, so their number is fixed.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// One label with one of a few values.
type Label = [(&'static str, &'static str); 1];
/// A counter for each value of a label.
type Counters = Family<Label, Counter<u64, AtomicU64>>;

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) connections: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) rooms: Gauge,
    pub(crate) redis_up: Gauge,
    pub(crate) relayed: Counter,
    pub(crate) sent: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) dropped: Counter,
    received: Counter,
    errors: Counters,
    closed: Counters,
    limits: Counters,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("rtc_signal"),
            connections: Gauge::default(),
            accepted: Counter::default(),
            rooms: Gauge::default(),
            redis_up: Gauge::default(),
            relayed: Counter::default(),
            sent: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            dropped: Counter::default(),
            received: Counter::default(),
            errors: Counters::default(),
            closed: Counters::default(),
            limits: Counters::default(),
        };
        let all = &mut metrics.registry;
        all.register("connections", "WebSockets that are open", metrics.connections.clone());
        all.register("accepted", "WebSockets that were opened", metrics.accepted.clone());
        all.register("rooms", "Rooms with somebody in them on this process", metrics.rooms.clone());
        all.register("redis_up", "Whether other processes are in reach", metrics.redis_up.clone());
        all.register("received_messages", "Messages from clients", metrics.received.clone());
        all.register("relayed_messages", "Offers, answers and candidates handed on", metrics.relayed.clone());
        all.register("sent_messages", "Messages to clients", metrics.sent.clone());
        all.register("dropped_messages", "Messages that were to be sent and were not", metrics.dropped.clone());
        all.register("received_bytes", "Bytes of messages from clients", metrics.received_bytes.clone());
        all.register("sent_bytes", "Bytes of messages to clients", metrics.sent_bytes.clone());
        all.register("errors", "Errors told to clients, by their code", metrics.errors.clone());
        all.register("closed", "WebSockets that ended, by why", metrics.closed.clone());
        all.register("limits_hit", "Bounds that clients ran into", metrics.limits.clone());
        metrics
    }

    /// A message came in.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.inc();
        self.received_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// A message went out.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc();
        self.sent_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// An error was told.
    pub(crate) fn error(&self, code: &'static str) {
        self.errors.get_or_create(&[("code", code)]).inc();
    }

    /// A socket ended.
    pub(crate) fn closed(&self, why: &'static str) {
        self.closed.get_or_create(&[("why", why)]).inc();
    }

    /// A bound was hit.
    pub(crate) fn limit(&self, limit: &'static str) {
        self.limits.get_or_create(&[("limit", limit)]).inc();
    }

    /// In OpenMetrics' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
