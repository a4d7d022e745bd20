//! Several processes and a real Redis, both killed and brought back.
//!
//! The lease is short here, so that what takes seconds in production takes a moment. A test that needs `redis-server` fails without it.

#![cfg(unix)]

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener as Port},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rtc_battery_signal::{Cluster, Config, Limits};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use crate::{
    crowd::meet_everyone,
    harness::{Client, Server, fetch, ice, join, within_reason},
    program,
    resume::join_with,
};

pub(crate) const LEASE: Duration = Duration::from_millis(1_500);
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A `redis-server` that keeps nothing, on a port of its own.
pub(crate) struct Redis {
    port: u16,
    child: Option<Child>,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let mut redis = Self::absent();
        redis.revive().await;
        redis
    }

    /// An address at which there will be one.
    pub(crate) fn absent() -> Self {
        Self { port: Port::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(), child: None }
    }

    pub(crate) async fn revive(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        within_reason(async { while self.command("PING").await.as_deref() != Some("+PONG\r\n") {} }).await;
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// It stands still, or goes on.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn command(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut answer = vec![0; 64 * 1024];
        let count = stream.read(&mut answer).await.ok()?;
        String::from_utf8(answer[..count].to_vec()).ok()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) async fn process(redis: &Redis) -> Server {
    limited_process(redis, |_| {}).await
}

async fn limited_process(redis: &Redis, change: impl FnOnce(&mut Limits)) -> Server {
    let cluster = Some(Cluster::new(&redis.url(), None, LEASE).unwrap());
    let mut config = Config { cluster, ..Config::default() };
    change(&mut config.limits);
    Server::with(config).await
}

/// Until the process says that it is `well`.
pub(crate) async fn health(server: &Server, well: bool) {
    health_at(server.addr, well).await;
}

pub(crate) async fn health_at(addr: SocketAddr, well: bool) {
    within_reason(async { while fetch(addr, "/healthz").await.ends_with("\r\n\r\nok\n") != well {} }).await;
}

pub(crate) async fn processes<const N: usize>(redis: &Redis) -> [Server; N] {
    let mut servers = Vec::new();
    for _ in 0..N {
        let server = process(redis).await;
        health(&server, true).await;
        servers.push(server);
    }
    servers.try_into().ok().unwrap()
}

#[tokio::test]
async fn joins_leaves_and_relays_cross_processes() {
    let redis = Redis::start().await;
    let [one, two, three] = processes::<3>(&redis).await;
    let (mut a, peers) = one.join("t", "a").await;
    assert!(peers.is_empty());
    let (mut b, peers) = two.join("t", "b").await;
    assert_eq!(peers, ["a"]);
    a.hears("peer-join", "peerId", "b").await;
    let (mut c, peers) = three.join("t", "c").await;
    assert_eq!(peers, ["a", "b"]);
    a.hears("peer-join", "peerId", "c").await;
    b.hears("peer-join", "peerId", "c").await;
    let (stranger, peers) = three.join("other", "a").await;
    assert!(peers.is_empty());
    drop(stranger);

    let offer = r#"{"type":"offer","to":"c","sdp":{ "sdp":"v=0\r\n é",  "type":"offer" }}"#;
    a.say(offer).await;
    assert_eq!(c.hear_text().await, offer.replace(r#""to":"c""#, r#""from":"a""#));
    for n in 0..300 {
        a.say(&ice("b", n)).await;
    }
    for n in 0..300 {
        assert_eq!(b.hear().await["candidate"]["n"], n, "order is kept per pair");
    }
    a.say(&ice("nobody", 1)).await;
    a.hears_error("unknown-peer").await;

    let mut twin = two.open("?token=t").await;
    twin.say(&join("a")).await;
    twin.hears_error("peer-id-in-use").await;
    twin.say(&ice("a", 1)).await;
    twin.hears_error("not-joined").await;
    twin.say(&join("d")).await;
    twin.hears("peers", "type", "peers").await;
    for client in [&mut a, &mut b, &mut c] {
        client.hears("peer-join", "peerId", "d").await;
    }
    drop(twin);
    drop(c);
    for client in [&mut a, &mut b] {
        let mut gone = [client.hear().await, client.hear().await].map(|leave| leave["peerId"].to_string());
        gone.sort();
        assert_eq!(gone, [r#""c""#, r#""d""#]);
    }
    a.hears_nothing_but(&mut b, "a").await;
    b.hears_nothing_but(&mut a, "b").await;
    // Nothing remains of a room that is empty.
    drop((a, b));
    within_reason(async { while redis.command("KEYS *room*").await.as_deref() != Some("*0\r\n") {} }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_on_three_processes_joins_at_once() {
    const CROWD: usize = 60;
    let redis = Redis::start().await;
    let servers = processes::<3>(&redis).await;
    let mut clients = Vec::new();
    for n in 0..CROWD {
        clients.push(servers[n % 3].open("?token=t").await);
    }
    let meet = |(n, client)| tokio::spawn(meet_everyone(client, n, CROWD));
    let tasks: Vec<_> = clients.into_iter().enumerate().map(meet).collect();
    // Nobody leaves before everybody has met everybody.
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(within_reason(task).await.unwrap());
    }
}

#[tokio::test]
async fn who_joined_and_says_nothing_more_stays() {
    let redis = Redis::start().await;
    let (one, [two]) =
        (limited_process(&redis, |limits| limits.join_timeout = LEASE / 3).await, processes::<1>(&redis).await);
    health(&one, true).await;
    let (mut a, _) = one.join("t", "a").await;
    let (mut pings, _) = one.join("t", "pings").await;
    a.hears("peer-join", "peerId", "pings").await;
    // When one that came later is told that its time is over, so is theirs.
    let mut late = one.open("?token=t").await;
    late.hears_error("join-timeout").await;
    pings.send(Message::Ping("x".into())).await;
    let (mut b, peers) = two.join("t", "b").await;
    assert_eq!(peers, ["a", "pings"]);
    for client in [&mut a, &mut pings] {
        client.hears("peer-join", "peerId", "b").await;
    }
    a.hears_nothing_but(&mut b, "a").await;
    b.hears_nothing_but(&mut pings, "b").await;
}

#[tokio::test]
async fn a_key_takes_its_name_to_another_process() {
    let redis = Redis::start().await;
    let [one, two] = processes::<2>(&redis).await;
    let (mut other, _) = one.join("t", "other").await;
    let mut old = one.open("?token=t").await;
    old.say(&join_with("a", KEY)).await;
    old.hears("peers", "type", "peers").await;
    other.hears("peer-join", "peerId", "a").await;
    let mut new = two.open("?token=t").await;
    new.say(&join_with("a", "fedcba9876543210")).await;
    new.hears_error("peer-id-in-use").await;
    new.say(&join_with("a", KEY)).await;
    new.hears("peers", "type", "peers").await;
    old.hears_error("replaced").await;
    old.hears_close(CloseCode::Policy).await;
    new.hears_nothing_but(&mut other, "a").await;
    other.hears_nothing_but(&mut new, "other").await;
}

#[tokio::test]
async fn a_room_is_full_across_processes() {
    let redis = Redis::start().await;
    let (one, two) = (
        limited_process(&redis, |limits| limits.max_room_peers = 2).await,
        limited_process(&redis, |limits| limits.max_room_peers = 2).await,
    );
    health(&one, true).await;
    health(&two, true).await;
    let (mut a, _) = one.join("t", "a").await;
    let (b, _) = two.join("t", "b").await;
    a.hears("peer-join", "peerId", "b").await;
    let mut third = one.open("?token=t").await;
    third.say(&join("c")).await;
    third.hears_error("room-full").await;
    drop(b);
    a.hears("peer-leave", "peerId", "b").await;
    third.say(&join("c")).await;
    third.hears("peers", "type", "peers").await;
}

#[tokio::test]
async fn who_was_on_a_killed_process_has_left_and_is_no_ghost() {
    let redis = Redis::start().await;
    let lease = LEASE.as_secs_f64().to_string();
    let (flags, url) = (["--redis-lease", &lease, "--redis"], redis.url());
    let flags = [&flags[..], &[&url]].concat();
    let (mut victim, address) = program::start(&flags).await;
    let [one, two] = processes::<2>(&redis).await;
    let (mut a, _) = one.join("t", "a").await;
    let (mut b, _) = two.join("t", "b").await;
    a.hears("peer-join", "peerId", "b").await;
    let mut doomed = Client::open(address, "?token=t").await;
    // It may still be on its way to Redis; then it learns of the others later.
    doomed.say(&join("doomed")).await;
    a.hears("peer-join", "peerId", "doomed").await;
    b.hears("peer-join", "peerId", "doomed").await;
    victim.kill().await.unwrap();
    // The others go on talking, and miss nothing but the one who is gone.
    let (mut a_knows, mut b_knows) = (false, false);
    for n in 0.. {
        a.say(&ice("b", n)).await;
        b_knows |= hears_past_leave(&mut b, "doomed", n).await;
        b.say(&ice("a", n)).await;
        a_knows |= hears_past_leave(&mut a, "doomed", n).await;
        if a_knows && b_knows {
            break;
        }
    }
    let (mut c, peers) = one.join("t", "c").await;
    assert_eq!(peers, ["a", "b"]);
    // The name is free again.
    a.hears("peer-join", "peerId", "c").await;
    b.hears("peer-join", "peerId", "c").await;
    let (_back, peers) = two.join("t", "doomed").await;
    assert_eq!(peers, ["a", "b", "c"]);
    c.hears("peer-join", "peerId", "doomed").await;
}

/// The candidate with this number comes next, or after word that somebody left: whether that came.
async fn hears_past_leave(client: &mut Client, name: &str, n: usize) -> bool {
    let mut left = false;
    loop {
        let heard = client.hear().await;
        if heard["candidate"]["n"] == n {
            return left;
        }
        assert!(heard["type"] == "peer-leave" && heard["peerId"] == name && !left, "wanted {n}: {heard}");
        left = true;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_restarted_under_load_leaves_nobody_out() {
    let mut redis = Redis::start().await;
    let [one, two, three] = processes::<3>(&redis).await;
    let (mut a, _) = one.join("t", "a").await;
    let (mut b, _) = two.join("t", "b").await;
    let (mut c, _) = three.join("t", "c").await;
    a.hears("peer-join", "peerId", "b").await;
    a.hears("peer-join", "peerId", "c").await;
    b.hears("peer-join", "peerId", "c").await;
    // A room that is on one process only talks all the time.
    let (local, mut local_other) = (one.join("local", "x").await.0, one.join("local", "y").await.0);
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let stop = std::sync::Arc::clone(&stop);
        let mut local = local;
        async move {
            local.hears("peer-join", "peerId", "y").await;
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                local_other.hears_nothing_but(&mut local, "y").await;
                local.hears_nothing_but(&mut local_other, "x").await;
                rounds += 1;
            }
            rounds
        }
    });
    for _ in 0..2 {
        // Load across processes, too, while it is killed.
        for n in 0..50 {
            a.say(&ice("b", n)).await;
        }
        redis.kill();
        for server in [&one, &two, &three] {
            health(server, false).await;
        }
        redis.revive().await;
        for server in [&one, &two, &three] {
            health(server, true).await;
        }
        // What is said across processes arrives again, in both directions, and nobody was told that anybody had left.
        for (from, to, name) in [(0, 1, "b"), (1, 2, "c"), (2, 0, "a")] {
            let mut all = [&mut a, &mut b, &mut c];
            let arrived = async {
                loop {
                    all[from].say(&ice(name, 7_777)).await;
                    // The first ones may go to the name that the other process had before.
                    let heard = tokio::time::timeout(Duration::from_millis(100), all[to].hear()).await;
                    let Ok(heard) = heard else { continue };
                    assert!(heard["type"] == "ice" || heard["code"] == "unknown-peer", "{heard}");
                    if heard["candidate"]["n"] == 7_777 {
                        return;
                    }
                }
            };
            within_reason(arrived).await;
        }
        // Joins, too.
        let (mut d, peers) = two.join("t", "d").await;
        assert_eq!(peers.into_iter().collect::<BTreeSet<_>>(), ["a", "b", "c"].map(str::to_owned).into());
        for client in [&mut a, &mut b, &mut c] {
            until(client, "peer-join", "d").await;
        }
        d.say(&ice("a", 8_888)).await;
        until(&mut a, "ice", "d").await;
        drop(d);
        for client in [&mut a, &mut b, &mut c] {
            until(client, "peer-leave", "d").await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(within_reason(load).await.unwrap() > 0);
}

/// Past candidates that are still on their way.
async fn until(client: &mut Client, kind: &str, name: &str) {
    loop {
        let heard = client.hear().await;
        if heard["type"] == kind && [&heard["peerId"], &heard["from"]].iter().any(|it| **it == name) {
            return;
        }
        assert!(heard["type"] == "ice" || heard["code"] == "unknown-peer", "wanted {kind} of {name}: {heard}");
    }
}

#[tokio::test]
async fn without_redis_local_rooms_go_on_and_with_it_they_are_one() {
    let mut redis = Redis::absent();
    let (one, two) = (process(&redis).await, process(&redis).await);
    assert!(one.fetch("/healthz").await.contains("degraded"));
    let [mut a, mut b] = one.room(["a", "b"]).await;
    a.hears_nothing_but(&mut b, "a").await;
    let (mut c, peers) = two.join("t", "c").await;
    assert!(peers.is_empty());
    redis.revive().await;
    for client in [&mut a, &mut b] {
        client.hears("peer-join", "peerId", "c").await;
    }
    let heard: BTreeSet<String> = [c.hear().await, c.hear().await].iter().map(ToString::to_string).collect();
    let expected = ["a", "b"].map(|name| serde_json::json!({"type": "peer-join", "peerId": name}).to_string());
    assert_eq!(heard, expected.into());
    c.hears_nothing_but(&mut a, "c").await;

    // Gone for longer than a lease, whoever is elsewhere counts as gone.
    redis.kill();
    a.hears("peer-leave", "peerId", "c").await;
    b.hears("peer-leave", "peerId", "c").await;
    a.hears_nothing_but(&mut b, "a").await;
    // A process that stops while it is away stops all the same.
    within_reason(one.stop()).await.unwrap();
}

#[tokio::test]
async fn a_process_that_stops_in_order_leaves_at_once() {
    let redis = Redis::start().await;
    let [one, two] = processes::<2>(&redis).await;
    let (mut a, _) = one.join("t", "a").await;
    let (mut b, _) = two.join("t", "b").await;
    a.hears("peer-join", "peerId", "b").await;
    let stopping = two.stop();
    b.hears_close(CloseCode::Restart).await;
    drop(b);
    within_reason(stopping).await.unwrap();
    a.hears("peer-leave", "peerId", "b").await;
    assert_eq!(redis.command("EVAL \"return #redis.call('KEYS','*process*')\" 0").await.as_deref(), Some(":1\r\n"));
}
