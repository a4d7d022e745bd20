//! The life of one socket: read, write, ping, and the farewell.
//!
//! Reading and writing are two loops of one task, so that a client which does not read is still heard, and none of them waits for
//! another connection. Whatever ends first ends the session; the seat is given up before the farewell, so that the room does not wait for it.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use rand::RngExt;
use rtc_battery_proto::signaling::{ClientMessage, DecodeError, ServerMessage, code};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    Limits, Token,
    addresses::Addresses,
    ending::Ending,
    hub::{Hub, Seat},
    metrics::Metrics,
    origins::Origins,
    outbox::{Ended, Outbox},
    pace::Pace,
};

/// What is read from and gathered for a socket at a time. The library's default costs 130 KB a connection (axum #3178).
const BUFFER_BYTES: usize = 4 * 1024;

/// Messages between two flushes, so that pings find their place in an endless flow.
const BATCH: usize = 64;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) hub: Arc<Hub>,
    pub(crate) limits: Limits,
    pub(crate) origins: Origins,
    pub(crate) address_header: Option<String>,
    pub(crate) addresses: Arc<Addresses>,
    /// Over how long the farewells are spread.
    pub(crate) drain: Duration,
    /// Cancelled when the server goes down.
    pub(crate) shutdown: CancellationToken,
}

/// Talks to a client over a socket that has been upgraded, until either is done. `read`: what has been read from it.
pub(crate) async fn run<S>(socket: S, read: Vec<u8>, entry: Result<Token, Ending>, host: Arc<Host>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &host.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(BUFFER_BYTES.saturating_add(limits.max_outgoing_bytes()))
        .max_message_size(Some(limits.max_message_bytes))
        .max_frame_size(Some(limits.max_message_bytes));
    let mut socket = WebSocketStream::from_partially_read(socket, read, Role::Server, Some(config)).await;
    let metrics = &host.hub.metrics;
    metrics.accepted.inc();
    metrics.connections.inc();
    let ending = match entry {
        Ok(token) => converse(&mut socket, token, &host).await,
        Err(ending) => ending,
    };
    metrics.connections.dec();
    metrics.closed(ending.word());
    // A client that does not take its farewell in time goes without one.
    let _ = timeout(limits.close_timeout, farewell(socket, ending)).await;
}

async fn converse<S>(socket: &mut WebSocketStream<S>, token: Token, host: &Host) -> Ending
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let outbox = Arc::new(Outbox::new(&host.limits));
    let seat = host.hub.enter(token, Arc::clone(&outbox));
    let metrics = &host.hub.metrics;
    let connection = seat.connection().0;
    debug!(connection, "connected");
    let (sink, stream) = socket.split();
    let ending = tokio::select! {
        // The shutdown first: it must not look to the clients as if everybody else had left.
        biased;
        () = host.farewell_is_due() => Ending::Shutdown,
        ending = listen(stream, &seat, &outbox, host) => ending,
        Err(error) = speak(sink, &outbox, host.limits.ping_interval, metrics) => {
            Ending::of_error(&error, host.limits.max_message_bytes)
        }
        // After speaking, so that a server that was held up itself does not blame those it had no time for.
        ended = outbox.ended(metrics) => match ended {
            Ended::TooSlow => Ending::TooSlow,
            Ended::Replaced => Ending::Replaced,
        },
    };
    debug!(connection, ending = ending.word(), "over");
    ending
}

impl Host {
    /// Ends some time after the shutdown has begun, each time another.
    async fn farewell_is_due(&self) {
        self.shutdown.cancelled().await;
        if !self.drain.is_zero() {
            let wait = self.drain.mul_f64(rand::rng().random());
            sleep(wait).await;
        }
    }
}

/// Hears the client until there is nothing more to hear.
async fn listen(
    mut frames: impl Stream<Item = Result<Message, Error>> + Unpin,
    seat: &Seat,
    outbox: &Outbox,
    host: &Host,
) -> Ending {
    let (limits, metrics) = (&host.limits, &host.hub.metrics);
    let mut now = Instant::now();
    let mut pace = Pace::new(limits, now);
    // Asked for when it matters, which is once: when the time to join is over.
    let mut joined = false;
    // One timer for the whole life: when it rings, what has been heard meanwhile moves it on.
    let mut alarm = pin!(sleep_until(now + limits.join_timeout));
    loop {
        let frame = tokio::select! {
            biased;
            frame = frames.next() => match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Ending::of_error(&error, limits.max_message_bytes),
                None => return Ending::Gone,
            },
            () = &mut alarm => {
                joined = joined || seat.has_joined();
                match now + limits.idle_timeout {
                    _ if !joined => return Ending::NeverJoined,
                    due if due <= Instant::now() => return Ending::Silent,
                    due => {
                        alarm.as_mut().reset(due);
                        continue;
                    }
                }
            }
        };
        now = Instant::now();
        let crowded = match frame {
            Message::Text(text) => {
                metrics.received(text.len());
                match ClientMessage::decode(&text) {
                    Ok(message) => seat.handle(message),
                    Err(error) => refuse(outbox, code_of(&error), error.to_string(), metrics),
                }
            }
            Message::Binary(bytes) => {
                metrics.received(bytes.len());
                refuse(outbox, code::BINARY, "messages are text frames".into(), metrics)
            }
            // Pings are answered, and closing is acknowledged, by the library as it reads on.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => false,
        };
        if let Some(next) = pace.count(now) {
            metrics.limit("messages-per-second");
            sleep_until(next).await;
        } else if crowded {
            // The sessions that empty the queue may not have had their turn.
            tokio::task::yield_now().await;
        }
        // One that never stops talking is not heard past the time that it has to join.
        if !joined && now >= alarm.deadline() {
            joined = seat.has_joined();
            if !joined {
                return Ending::NeverJoined;
            }
        }
    }
}

/// Sends what the outbox holds, and pings. Ends only with an error.
async fn speak(
    mut frames: impl Sink<Message, Error = Error> + Unpin,
    outbox: &Outbox,
    ping_interval: Duration,
    metrics: &Metrics,
) -> Result<Infallible, Error> {
    let mut ping = interval_at(Instant::now() + ping_interval, ping_interval);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let first = tokio::select! {
            text = outbox.next() => {
                metrics.sent(text.len());
                Message::Text(text)
            }
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        frames.feed(first).await?;
        for text in std::iter::from_fn(|| outbox.pop()).take(BATCH) {
            metrics.sent(text.len());
            frames.feed(Message::Text(text)).await?;
        }
        frames.flush().await?;
    }
}

fn refuse(outbox: &Outbox, code: &'static str, message: String, metrics: &Metrics) -> bool {
    metrics.error(code);
    outbox.push(ServerMessage::Error { code: code.into(), message }.encode().into(), metrics)
}

fn code_of(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::TooLarge => code::TOO_LARGE,
        DecodeError::UnknownType(_) => code::UNKNOWN_TYPE,
        DecodeError::Malformed(_) | DecodeError::Missing(_) | DecodeError::Invalid { .. } => code::MALFORMED,
    }
}

/// Says why, closes, and hears the client out: closing a TCP connection on bytes that nobody has read resets it, and the client would lose
/// what it was told.
async fn farewell<S>(mut socket: WebSocketStream<S>, ending: Ending) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(code) = ending.close_code() else { return Ok(()) };
    if let Some(error) = ending.error() {
        socket.feed(Message::Text(error.encode().into())).await?;
    }
    socket.close(Some(CloseFrame { code, reason: "".into() })).await?;
    let socket = socket.get_mut();
    socket.shutdown().await?;
    tokio::io::copy(socket, &mut tokio::io::sink()).await?;
    Ok(())
}
