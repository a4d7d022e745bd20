//! Several processes with the same rooms, through Redis: `--redis`.
//!
//! Every process has a name with a lease in Redis, and an inbox (a channel) under that name. A room is a hash: a peer's name, and which process
//! has its socket; entries of a process whose lease has ended count for nothing. Scripts change a room and tell the inboxes in one step, so
//! what a process hears of a room is in the order in which it happened (`scripts`, `wire`).
//!
//! A lease is renewed three times in its life, and with it everything that this process has is registered again. That heals whatever was
//! lost, a restarted Redis included. A process that lost Redis and found it takes a new name, so that nothing that it left under the old one
//! counts; meanwhile local rooms go on. Nobody is ever asked and waited for: a dead process stalls nothing.

mod scripts;
mod wire;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use rand::RngExt;
use redis::{
    AsyncConnectionConfig, Client, Pipeline, RedisError, TlsCertificates,
    aio::{MultiplexedConnection, PubSubStream},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep, timeout},
};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Notice, ProcessId, Share, hub::Hub};

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What may wait to be told to Redis. Beyond it Redis counts as lost.
const QUEUE: usize = 16_384;
/// What is told to it at once.
const BATCH: usize = 256;

/// The Redis server that processes share.
#[derive(Debug, Clone)]
pub struct Cluster {
    client: Client,
    lease: Duration,
}

/// Why no Redis server can be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The address is none that Redis could have.
    #[error("this is no address of a Redis server, such as redis://127.0.0.1:6379: {0}")]
    Address(#[from] RedisError),
    /// There is no certificate in what should hold an authority's.
    #[error("the authority must be a certificate in PEM")]
    Authority,
}

/// Why Redis is lost.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("it does not answer")]
    Silent,
    #[error("the subscription ended")]
    Unsubscribed,
    #[error("it does not keep up")]
    Behind,
}

impl Cluster {
    /// A process that says nothing for `lease` is dead to the others. 15 s is a good one. With `rediss://` the server's certificate is
    /// checked: by this `authority` (PEM), or by those that the system trusts.
    ///
    /// # Errors
    /// [`ClusterError`]. Whether anybody is there shows later.
    pub fn new(url: &str, authority: Option<&[u8]>, lease: Duration) -> Result<Self, ClusterError> {
        let Some(authority) = authority else { return Ok(Self { client: Client::open(url)?, lease }) };
        if !matches!(CertificateDer::pem_slice_iter(authority).next(), Some(Ok(_))) {
            return Err(ClusterError::Authority);
        }
        let trusted = TlsCertificates { client_tls: None, root_cert: Some(authority.to_vec()) };
        Ok(Self { client: Client::build_with_tls(url, trusted)?, lease })
    }

    /// Shares the hub's rooms until `stop`, through whatever becomes of Redis.
    pub(crate) async fn run(self, hub: Arc<Hub>, max_room_peers: usize, stop: CancellationToken) {
        let mut before = None;
        let mut lost_at = Instant::now();
        let mut told = false;
        loop {
            let process = ProcessId(rand::random());
            let mut connection = Connection { cluster: &self, hub: &hub, process, max_room_peers, shared: false };
            let lost = match connection.hold(before, &stop).await {
                Ok(()) => return,
                Err(lost) => lost,
            };
            if connection.shared {
                (before, lost_at, told) = (Some(process), Instant::now(), false);
                hub.go_alone();
            }
            if !told {
                warn!(error = %lost, "redis is out of reach; local rooms go on");
                told = true;
            }
            if lost_at.elapsed() > self.lease {
                hub.forget_others();
            }
            let pause = (self.lease / 15).mul_f64(rand::rng().random_range(0.5..1.5));
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Lost> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    async fn subscribe(&self, process: ProcessId) -> Result<PubSubStream, Lost> {
        let mut inbox = timeout(PATIENCE, self.client.get_async_pubsub()).await.map_err(|_| Lost::Silent)??;
        timeout(PATIENCE, inbox.subscribe(wire::inbox(process))).await.map_err(|_| Lost::Silent)??;
        Ok(inbox.into_on_message())
    }
}

/// Redis under one name, from when it is found until it is lost.
struct Connection<'a> {
    cluster: &'a Cluster,
    hub: &'a Hub,
    process: ProcessId,
    max_room_peers: usize,
    /// Rooms have been shared under this name.
    shared: bool,
}

impl Connection<'_> {
    /// Ends well only when stopped.
    async fn hold(&mut self, before: Option<ProcessId>, stop: &CancellationToken) -> Result<(), Lost> {
        let mut redis = self.cluster.connect().await?;
        // Before anything is registered: what others say after it must be heard.
        let inbox = self.cluster.subscribe(self.process).await?;
        if let Some(before) = before {
            redis::cmd("DEL").arg(wire::lease(before)).exec_async(&mut redis).await?;
        }
        self.renew(&mut redis).await?;
        let (sender, shares) = mpsc::channel(QUEUE);
        self.hub.share(sender, self.process);
        self.shared = true;
        info!("redis is in reach; rooms are shared");
        let (heard, hears) = watch::channel(Instant::now());
        tokio::select! {
            lost = self.listen(inbox, heard) => Err(lost),
            outcome = self.speak(redis, shares, hears, stop) => outcome,
        }
    }

    async fn listen(&self, mut inbox: PubSubStream, heard: watch::Sender<Instant>) -> Lost {
        while let Some(message) = inbox.next().await {
            heard.send_replace(Instant::now());
            if let Some(notice) = str::from_utf8(message.get_payload_bytes()).ok().and_then(wire::read) {
                self.hub.hear(notice);
            }
        }
        Lost::Unsubscribed
    }

    async fn speak(
        &self,
        mut redis: MultiplexedConnection,
        mut shares: mpsc::Receiver<Share>,
        heard: watch::Receiver<Instant>,
        stop: &CancellationToken,
    ) -> Result<(), Lost> {
        let mut beat = interval(self.cluster.lease / 3);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = shares.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Err(Lost::Behind);
                    }
                    self.tell(&mut redis, &mut batch).await?;
                }
                _ = beat.tick() => {
                    // Our own heart beats come through the inbox.
                    if heard.borrow().elapsed() > self.cluster.lease {
                        return Err(Lost::Silent);
                    }
                    self.renew(&mut redis).await?;
                    self.register(&mut redis).await?;
                }
                () = stop.cancelled() => break,
            }
        }
        while shares.try_recv().map(|share| batch.push(share)).is_ok() {}
        self.tell(&mut redis, &mut batch).await?;
        Ok(redis::cmd("DEL").arg(wire::lease(self.process)).exec_async(&mut redis).await?)
    }

    async fn tell(&self, redis: &mut MultiplexedConnection, batch: &mut Vec<Share>) -> Result<(), Lost> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut pipe = Pipeline::with_capacity(batch.len());
        let mut relayed = Vec::new();
        for share in batch.drain(..) {
            match share {
                Share::Claim { token, connection, name, resume } => {
                    let claim = scripts::Claim { connection, name: &name, resume: resume.as_ref() };
                    scripts::claim(&mut pipe, self.process, token, &claim, self.max_room_peers, self.cluster.lease);
                }
                Share::Release { token, connection, name } => {
                    scripts::release(&mut pipe, self.process, token, connection, &name);
                }
                Share::Relay { process, token, to, message } => {
                    let text = wire::relay(self.process, token, &to, &message);
                    pipe.cmd("PUBLISH").arg(wire::inbox(process)).arg(text);
                    relayed.push((token, message, to));
                }
                Share::Unknown { process, token, from, to } => {
                    pipe.cmd("PUBLISH").arg(wire::inbox(process)).arg(wire::unknown(token, &from, &to)).ignore();
                }
            }
        }
        let heard_by: Vec<u64> = pipe.query_async(redis).await?;
        for ((token, message, to), _) in relayed.into_iter().zip(heard_by).filter(|(_, count)| *count == 0) {
            // Its process is dead, and its lease has not ended yet.
            if let Some(from) = message.from() {
                self.hub.hear(Notice::Unknown { token, from: from.clone(), to });
            }
        }
        Ok(())
    }

    /// This process lives.
    async fn renew(&self, redis: &mut MultiplexedConnection) -> Result<(), Lost> {
        let lease_ms = self.cluster.lease.as_millis().max(1).to_string();
        let mut pipe = Pipeline::new();
        pipe.cmd("SET").arg(wire::lease(self.process)).arg(1).arg("PX").arg(lease_ms).ignore();
        pipe.cmd("PUBLISH").arg(wire::inbox(self.process)).arg(wire::BEAT).ignore();
        Ok(pipe.exec_async(redis).await?)
    }

    /// Everybody who is here, room by room.
    async fn register(&self, redis: &mut MultiplexedConnection) -> Result<(), Lost> {
        let rooms = self.hub.registrations();
        for some in rooms.chunks(BATCH) {
            let mut pipe = Pipeline::with_capacity(some.len());
            for (token, members) in some {
                scripts::register(&mut pipe, self.process, *token, members, self.cluster.lease);
            }
            pipe.exec_async(redis).await?;
        }
        Ok(())
    }
}
