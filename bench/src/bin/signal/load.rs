//! Messages at a rate, or as many as go through, and what they cost.
//!
//! At a rate the clock says when a message is due, and its latency counts from then: a server that falls behind cannot slow the clock down.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use anyhow::{Context, Result, ensure};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::Notify,
    task::{JoinHandle, LocalSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{MARK, Pair, Socket},
    server::Server,
};

/// How finely due messages are sent.
const TICK: Duration = Duration::from_millis(1);
/// Messages of each pair that may be on their way when as many as possible go through.
const WINDOW: usize = 16;
/// How long the last messages of a round may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Run {
    server: Server,
    local: LocalSet,
    senders: Vec<Rc<Sender>>,
    heard: Rc<Heard>,
    start: Instant,
    _readers: Vec<JoinHandle<()>>,
}

struct Sender {
    sink: RefCell<Option<SplitSink<Socket, Message>>>,
    frame: (String, String),
    /// Messages that it has sent and its receiver has not got.
    on_their_way: RefCell<usize>,
    arrived: Notify,
}

#[derive(Default)]
struct Heard {
    latencies_us: RefCell<Vec<u32>>,
    more: Notify,
}

pub(crate) struct Figures {
    per_second: f64,
    processor_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Run {
    pub(crate) fn new(server: Server, pairs: Vec<Pair>) -> Self {
        let (local, heard, start) = (LocalSet::new(), Rc::new(Heard::default()), Instant::now());
        let (mut senders, mut readers) = (Vec::new(), Vec::new());
        for Pair { sender, receiver, frame } in pairs {
            let (sink, rest) = sender.split();
            let sender = Rc::new(Sender {
                sink: RefCell::new(Some(sink)),
                frame,
                on_their_way: RefCell::new(0),
                arrived: Notify::new(),
            });
            readers.push(local.spawn_local(drain(rest)));
            let (sink, stream) = receiver.split();
            readers.push(local.spawn_local(hear(sink, stream, Rc::clone(&sender), Rc::clone(&heard), start)));
            senders.push(sender);
        }
        Self { server, local, senders, heard, start, _readers: readers }
    }

    /// Messages at this rate.
    pub(crate) async fn at_rate(&mut self, per_second: u32, round: Duration) -> Result<Figures> {
        let (senders, start) = (self.senders.clone(), self.start);
        self.measure(async move |began: Instant| {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut sent, mut next) = (0_u64, 0);
            while began.elapsed() < round {
                tick.tick().await;
                let due = began.elapsed().as_secs_f64() * f64::from(per_second);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of messages")]
                let due = due as u64;
                while sent < due {
                    let at = began + Duration::from_secs(1) * u32::try_from(sent)? / per_second;
                    senders[next].send(at - start).await?;
                    next = (next + 1) % senders.len();
                    sent += 1;
                }
            }
            Ok(sent)
        })
        .await
    }

    /// As many messages as go through.
    pub(crate) async fn at_most(&mut self, round: Duration) -> Result<Figures> {
        let (senders, start) = (self.senders.clone(), self.start);
        self.measure(async move |began: Instant| {
            let each = senders.iter().map(async |sender| {
                let mut sent = 0;
                while began.elapsed() < round {
                    while *sender.on_their_way.borrow() < WINDOW {
                        sender.send(start.elapsed()).await?;
                        sent += 1;
                    }
                    sender.arrived.notified().await;
                }
                anyhow::Ok(sent)
            });
            Ok(futures_util::future::try_join_all(each).await?.into_iter().sum())
        })
        .await
    }

    async fn measure(&mut self, load: impl AsyncFnOnce(Instant) -> Result<u64>) -> Result<Figures> {
        self.heard.latencies_us.borrow_mut().clear();
        let (before, began) = (self.server.processor_time()?, Instant::now());
        let heard = Rc::clone(&self.heard);
        let sent = self
            .local
            .run_until(async move {
                let sent = load(began).await?;
                let all = async {
                    while heard.latencies_us.borrow().len() < usize::try_from(sent).unwrap_or(usize::MAX) {
                        heard.more.notified().await;
                    }
                };
                timeout(PATIENCE, all).await.context("messages were lost")?;
                anyhow::Ok(sent)
            })
            .await?;
        let (elapsed, processor) = (began.elapsed(), self.server.processor_time()? - before);
        let mut latencies = self.heard.latencies_us.take();
        latencies.sort_unstable();
        ensure!(!latencies.is_empty(), "nothing was sent");
        let at = |percent: usize| f64::from(latencies[(latencies.len() - 1) * percent / 100]) / 1_000.0;
        #[allow(clippy::cast_precision_loss, reason = "a count of messages")]
        let sent = sent as f64;
        Ok(Figures {
            per_second: sent / elapsed.as_secs_f64(),
            processor_us: processor.as_secs_f64() * 1e6 / sent,
            p50_ms: at(50),
            p99_ms: at(99),
        })
    }
}

impl Sender {
    async fn send(&self, at: Duration) -> Result<()> {
        *self.on_their_way.borrow_mut() += 1;
        let mut sink = self.sink.take().context("one sends at a time")?;
        let text = format!("{}{}{}", self.frame.0, at.as_micros(), self.frame.1);
        let outcome = sink.send(Message::text(text)).await;
        self.sink.replace(Some(sink));
        Ok(outcome?)
    }
}

async fn drain(mut stream: SplitStream<Socket>) {
    while stream.next().await.is_some() {}
}

async fn hear(
    _sink: SplitSink<Socket, Message>,
    mut stream: SplitStream<Socket>,
    sender: Rc<Sender>,
    heard: Rc<Heard>,
    start: Instant,
) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let Some((_, rest)) = text.split_once(MARK) else { continue };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Ok(sent_us) = rest[..digits].parse::<u128>() else { continue };
        let latency = start.elapsed().as_micros().saturating_sub(sent_us);
        heard.latencies_us.borrow_mut().push(u32::try_from(latency).unwrap_or(u32::MAX));
        heard.more.notify_one();
        *sender.on_their_way.borrow_mut() -= 1;
        sender.arrived.notify_one();
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { per_second, processor_us, p50_ms, p99_ms } = self;
        write!(f, "{per_second:>9.0} {processor_us:>10.1} {p50_ms:>10.2} {p99_ms:>10.2}")
    }
}
