//! Time and space: what a client can take of them before the server takes them back.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

use crate::harness::{Client, Server, ice, join, within_reason};

const SOON: Duration = Duration::from_millis(100);
const NEVER: Duration = Duration::from_secs(3600);

/// Sends to `stuck`, so many bytes at a time, until the server has given it up.
async fn overwhelm(sender: &mut Client, bytes: usize) {
    let load = "x".repeat(bytes);
    let flood = async {
        loop {
            sender.say(&format!(r#"{{"type":"ice","to":"stuck","candidate":"{load}"}}"#)).await;
            if let Some(heard) = sender.next().now_or_never() {
                break heard.unwrap();
            }
        }
    };
    assert!(within_reason(flood).await.contains("peer-leave"));
}

#[tokio::test]
async fn who_does_not_join_is_closed_whatever_else_it_says() {
    let server = Server::limited(|limits| {
        limits.join_timeout = 5 * SOON;
        limits.close_timeout = SOON;
    })
    .await;
    let mut silent = server.open("?token=t").await;
    silent.hears_error("join-timeout").await;
    silent.hears_close(CloseCode::Policy).await;

    // One that goes on talking gets no more time for it.
    let (mut sink, mut stream) = server.open("?token=t").await.socket.split();
    let chatter = async { while sink.send(Message::Ping("x".into())).await.is_ok() {} };
    let listening = async {
        loop {
            if let Message::Text(text) = stream.next().await.unwrap().unwrap() {
                return text;
            }
        }
    };
    let (_, text) = within_reason(async { tokio::join!(chatter, listening) }).await;
    assert!(text.contains("join-timeout"), "{text}");

    // And one that has joined is not closed.
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let mut third = server.open("?token=t").await;
    third.hears_error("join-timeout").await;
    a.hears_nothing_but(&mut b, "a").await;
}

#[tokio::test]
async fn a_socket_that_is_dead_is_noticed_and_one_that_only_answers_pings_lives() {
    let server = Server::limited(|limits| {
        limits.ping_interval = SOON;
        limits.idle_timeout = 20 * SOON;
    })
    .await;
    let [mut alive, mut dead] = server.room(["alive", "dead"]).await;
    // Nobody reads `dead`, so nothing answers for it. `alive` answers pings while it waits.
    alive.hears("peer-leave", "peerId", "dead").await;
    dead.hears_error("idle-timeout").await;
    dead.hears_close(CloseCode::Policy).await;
    let (_newcomer, peers) = server.join("t", "newcomer").await;
    assert_eq!(peers, ["alive"]);
    alive.hears("peer-join", "peerId", "newcomer").await;
}

#[tokio::test]
async fn who_does_not_read_is_closed_and_the_others_are_served() {
    let server = Server::limited(|limits| {
        limits.message_burst = 100_000;
        limits.queue_grace = SOON;
        limits.close_timeout = NEVER;
    })
    .await;
    let [sender, mut stuck, mut other] = server.room(["sender", "stuck", "other"]).await;
    let (mut sink, mut stream) = sender.socket.split();
    let mut sent = 0;
    let load = "x".repeat(40_000);
    let flood = async {
        loop {
            let heavy = format!(r#"{{"type":"ice","to":"stuck","candidate":"{load}"}}"#);
            sink.send(heavy.into()).await.unwrap();
            sink.send(ice("other", sent).into()).await.unwrap();
            sent += 1;
            if let Some(heard) = stream.next().now_or_never() {
                break heard.unwrap().unwrap();
            }
        }
    };
    let gone = within_reason(flood).await.into_text().unwrap();
    assert_eq!(gone.as_str(), r#"{"type":"peer-leave","peerId":"stuck"}"#);

    // Each message to the other arrived, with nothing but the departure among them.
    let mut heard = 0;
    while heard < sent {
        let message = other.hear().await;
        if message["type"] == "ice" {
            assert_eq!(message["candidate"]["n"], heard);
            heard += 1;
        }
    }

    // When it reads at last it finds what was sent before, why there is no more, and the end.
    let (last, code) = loop {
        let text = stuck.hear_text().await;
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["type"] == "error" {
            break (message, stuck.next().await);
        }
    };
    assert_eq!(last["code"], "too-slow");
    assert_eq!(code, Err(CloseCode::Again));
}

#[tokio::test]
async fn a_farewell_that_is_not_read_is_given_up() {
    let server = Server::limited(|limits| {
        limits.message_burst = 100_000;
        limits.queue_grace = SOON;
        limits.close_timeout = SOON;
    })
    .await;
    let [mut sender, mut stuck] = server.room(["sender", "stuck"]).await;
    overwhelm(&mut sender, 40_000).await;
    // The server's end is closed for good once sending fails.
    within_reason(async { while stuck.socket.send(Message::Ping("x".into())).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off() {
    let server = Server::limited(|limits| limits.header_timeout = SOON).await;
    for start in ["", "GET /signal?token=", "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within_reason(stream.read_to_end(&mut answer)).await.unwrap();
    }
    // One that was answered and asks for nothing more.
    let mut kept = TcpStream::connect(server.addr).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within_reason(kept.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn a_full_room_takes_nobody_until_somebody_leaves() {
    let server = Server::limited(|limits| limits.max_room_peers = 2).await;
    let [mut a, b] = server.room(["a", "b"]).await;
    let mut third = server.open("?token=t").await;
    third.say(&join("third")).await;
    third.hears_error("room-full").await;
    drop(b);
    a.hears("peer-leave", "peerId", "b").await;
    third.say(&join("third")).await;
    third.hears("peers", "type", "peers").await;
    a.hears("peer-join", "peerId", "third").await;
}

#[tokio::test]
async fn the_system_buffers_little_for_a_socket() {
    let server = Server::limited(|limits| {
        limits.message_burst = 100_000;
        limits.queue_grace = SOON;
        limits.close_timeout = NEVER;
    })
    .await;
    let (mut sender, _) = server.join("t", "sender").await;
    // The receiver's own end holds as little as it may, so that what it finds is what the server's end held.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(server.addr).await.unwrap();
    let (socket, _) = client_async(format!("ws://{}/signal?token=t", server.addr), stream).await.unwrap();
    let mut stuck = Client { socket };
    stuck.say(&join("stuck")).await;
    sender.hears("peer-join", "peerId", "stuck").await;
    overwhelm(&mut sender, 10_000).await;
    let mut bytes = 0;
    while let Ok(text) = stuck.next().await {
        bytes += text.len();
    }
    // Twice 32 KiB, the receiver's share, and what was in the session's hands.
    assert!(bytes < 200_000, "{bytes}");
}
