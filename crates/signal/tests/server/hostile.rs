//! Clients that want to do harm: what each of them costs, and that nobody else notices.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Client, Server, ice, join, within_reason};

const SOON: Duration = Duration::from_millis(100);
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_flood_is_read_no_faster_than_the_bound_and_loses_nothing() {
    const SENT: usize = 60;
    let server = Server::limited(|limits| {
        limits.messages_per_second = 20;
        limits.message_burst = 10;
    })
    .await;
    let [mut flood, mut victim, mut other] = server.room(["flood", "victim", "other"]).await;
    for n in 0..SENT {
        flood.say(&ice("victim", n)).await;
    }
    // The flood has seconds to wait for its turn; who is not too fast goes past it, one message after the other.
    let mut next = 0;
    for n in 0..8 {
        other.say(&ice("victim", 4_242 + n)).await;
        while hears_past(&mut victim, &mut next).await != 4_242 + n {}
    }
    assert!(next < SENT, "nothing of the flood was held back");
    while next < SENT {
        hears_past(&mut victim, &mut next).await;
    }
    let metrics = server.fetch("/metrics").await;
    assert!(metrics.contains(r#"rtc_signal_limits_hit_total{limit="messages-per-second"}"#), "{metrics}");
}

/// The number of the next candidate; one of the flood's is the one that comes next in it.
async fn hears_past(victim: &mut Client, next: &mut usize) -> usize {
    let heard = victim.hear().await;
    let n = usize::try_from(heard["candidate"]["n"].as_u64().unwrap()).unwrap();
    if heard["from"] == "flood" {
        assert_eq!(n, *next, "{heard}");
        *next += 1;
    }
    n
}

#[tokio::test]
async fn a_slowloris_gets_its_time_and_no_more() {
    let server = Server::limited(|limits| limits.header_timeout = 3 * SOON).await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let mut drips = Vec::new();
    for _ in 0..20 {
        let (mut read, mut write) = TcpStream::connect(server.addr).await.unwrap().into_split();
        drips.push(tokio::spawn(async move {
            let drip = async {
                // A byte from time to time, for as long as anybody takes them.
                let mut pace = tokio::time::interval(SOON / 10);
                while write.write_all(b"x").await.is_ok() {
                    pace.tick().await;
                }
            };
            let end = async {
                let mut answer = Vec::new();
                let _ = read.read_to_end(&mut answer).await;
            };
            tokio::select! {
                () = drip => {}
                () = end => {}
            }
        }));
    }
    a.hears_nothing_but(&mut b, "a").await;
    for drip in drips {
        within_reason(drip).await.unwrap();
    }
}

#[tokio::test]
async fn half_a_frame_holds_nobody_and_ends_with_its_time() {
    let server = Server::limited(|limits| {
        limits.idle_timeout = 10 * SOON;
        limits.ping_interval = SOON;
    })
    .await;
    let (mut half, _) = server.join("t", "half").await;
    // A text of 60,000 bytes, of which ten come.
    let stream = half.socket.get_mut();
    stream.write_all(&[0x81, 0xfe, 0xea, 0x60, 1, 2, 3, 4]).await.unwrap();
    stream.write_all(&[b'x'; 10]).await.unwrap();
    let [mut a, mut b] = [server.join("t", "a").await.0, server.join("t", "b").await.0];
    a.hears("peer-join", "peerId", "b").await;
    tokio::join!(a.hears("peer-leave", "peerId", "half"), b.hears("peer-leave", "peerId", "half"));
    a.hears_nothing_but(&mut b, "a").await;
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let server = Server::limited(|limits| limits.max_connections_per_address = 2).await;
    let [mut a, b] = server.room(["a", "b"]).await;
    let mut third = TcpStream::connect(server.addr).await.unwrap();
    // Closed before anything is said, whether that shows as an end or as a reset.
    assert!(!matches!(within_reason(third.read(&mut [0; 1])).await, Ok(1..)));
    drop(b);
    a.hears("peer-leave", "peerId", "b").await;
    // The place is given back when the socket is done with, soon after its leaving was told.
    let again = async {
        loop {
            let stream = TcpStream::connect(server.addr).await.unwrap();
            let address = format!("ws://{}/signal?token=t", server.addr);
            if let Ok((socket, _)) = tokio_tungstenite::client_async(address, stream).await {
                return socket;
            }
        }
    };
    let mut again = within_reason(again).await;
    again.send(join("c").into()).await.unwrap();
    a.hears("peer-join", "peerId", "c").await;
}

#[tokio::test]
async fn all_addresses_together_have_so_many_connections() {
    let server = Server::limited(|limits| limits.max_connections = 1).await;
    let (_a, _) = server.join("t", "a").await;
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    assert!(!matches!(within_reason(second.read(&mut [0; 1])).await, Ok(1..)));
}

/// A reader that never reads, in a room of 200 that goes on talking: what waits for it is bounded, and the others get everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_reads_in_a_room_of_200_costs_a_bounded_queue() {
    const ROUNDS: usize = 40;
    let server = Server::limited(|limits| {
        limits.message_burst = 100_000;
        limits.queue_grace = NEVER;
        limits.max_queue_messages = 8;
        limits.close_timeout = NEVER;
    })
    .await;
    let (stuck, _) = server.join("t", "stuck").await;
    let mut others = Vec::new();
    for n in 0..199 {
        others.push(server.join("t", &format!("peer-{n}")).await.0);
    }
    let before = resident_bytes();
    let load = "x".repeat(30_000);
    let mut tasks = Vec::new();
    for (n, client) in others.into_iter().enumerate() {
        let (heavy, next) =
            (format!(r#"{{"type":"ice","to":"stuck","candidate":"{load}"}}"#), format!("peer-{}", (n + 1) % 199));
        let (mut sink, mut stream) = client.socket.split();
        tasks.push(tokio::spawn(async move {
            let send = async {
                for round in 0..ROUNDS {
                    sink.feed(heavy.clone().into()).await.unwrap();
                    sink.send(ice(&next, round).into()).await.unwrap();
                }
            };
            let hear = async {
                let mut heard = 0;
                while heard < ROUNDS {
                    let Message::Text(text) = stream.next().await.unwrap().unwrap() else { continue };
                    heard += usize::from(text.starts_with(r#"{"type":"ice""#));
                }
            };
            tokio::join!(send, hear);
            (sink, stream)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.push(within_reason(task).await.unwrap());
    }
    // 240 MB were for it; a queue of 8 messages of 64 KiB is what it may hold. The rest is the clients of this very process.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 60_000_000, "{grown} bytes more than before");
    let metrics = server.fetch("/metrics").await;
    assert!(metrics.contains(r#"rtc_signal_closed_total{why="too-slow"} 1"#), "{metrics}");
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("rtc_signal_dropped_messages_total "));
    assert!(dropped.unwrap().parse::<usize>().unwrap() > 8, "its queue went with it: {metrics}");
    drop(stuck);
}

/// What this process has in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn frames_of_10_mb_end_their_sender_before_they_are_read() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let mut bombs = Vec::new();
    for n in 0..10 {
        bombs.push(server.join("t", &format!("bomb-{n}")).await.0);
        a.hears("peer-join", "peerId", &format!("bomb-{n}")).await;
        b.hears("peer-join", "peerId", &format!("bomb-{n}")).await;
    }
    for bomb in &mut bombs {
        // The head says 10 MB; the server does not wait for them.
        let head = [0x82, 0xff, 0, 0, 0, 0, 0, 0x98, 0x96, 0x80, 1, 2, 3, 4];
        bomb.socket.get_mut().write_all(&head).await.unwrap();
        while let Ok(text) = bomb.next().await {
            assert!(!text.contains("error") || text.contains("too-large"), "{text}");
        }
    }
    for n in 0..10 {
        a.hears("peer-leave", "peerId", &format!("bomb-{n}")).await;
        b.hears("peer-leave", "peerId", &format!("bomb-{n}")).await;
    }
    a.hears_nothing_but(&mut b, "a").await;
}
