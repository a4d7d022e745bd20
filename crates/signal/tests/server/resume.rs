//! A client takes its own name back from a socket of its own that nobody has noticed is dead, and nobody else can.

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Client, Server, ice, within_reason};

const KEY: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn join_with(name: &str, key: &str) -> String {
    serde_json::json!({"type": "join", "peerId": name, "resume": key}).to_string()
}

async fn joined(server: &Server, name: &str, key: &str) -> Client {
    let mut client = server.open("?token=t").await;
    client.say(&join_with(name, key)).await;
    client.hears("peers", "type", "peers").await;
    client
}

#[tokio::test]
async fn the_key_replaces_a_socket_at_once_and_the_room_notices_nothing() {
    let server = Server::start().await;
    let (mut other, _) = server.join("t", "other").await;
    let mut old = joined(&server, "a", KEY).await;
    other.hears("peer-join", "peerId", "a").await;
    let mut new = joined(&server, "a", KEY).await;
    old.hears_error("replaced").await;
    old.hears_close(CloseCode::Policy).await;
    drop(old);
    new.hears_nothing_but(&mut other, "a").await;
    other.hears_nothing_but(&mut new, "other").await;
}

#[tokio::test]
async fn no_other_key_takes_a_name_and_none_takes_one_without() {
    let server = Server::start().await;
    let (mut other, _) = server.join("t", "other").await;
    let mut a = joined(&server, "a", KEY).await;
    other.hears("peer-join", "peerId", "a").await;
    let mut thief = server.open("?token=t").await;
    for (name, key) in [("a", "fedcba9876543210"), ("other", KEY)] {
        thief.say(&join_with(name, key)).await;
        thief.hears_error("peer-id-in-use").await;
    }
    for key in ["short", "with a space in it", ""] {
        thief.say(&join_with("b", key)).await;
        thief.hears_error("malformed").await;
    }
    a.hears_nothing_but(&mut other, "a").await;
    other.hears_nothing_but(&mut a, "other").await;
}

#[tokio::test]
async fn a_socket_that_does_not_read_is_replaced_too() {
    let server = Server::limited(|limits| limits.message_burst = 100_000).await;
    let (mut other, _) = server.join("t", "other").await;
    let mut dead = joined(&server, "a", KEY).await;
    other.hears("peer-join", "peerId", "a").await;
    let load = "x".repeat(60_000);
    for _ in 0..20 {
        other.say(&format!(r#"{{"type":"ice","to":"a","candidate":"{load}"}}"#)).await;
    }
    let mut new = joined(&server, "a", KEY).await;
    other.say(&ice("a", 4242)).await;
    // Some of the load may have been handled after it came.
    while new.hear().await["candidate"]["n"] != 4242 {}
    // What it was sent before is lost with it; it is told so, should it read again.
    let mut last = None;
    while let Some(Ok(message)) = within_reason(dead.socket.next()).await {
        last = Some(message);
    }
    assert!(last.is_some_and(|message| message.is_close()));
}
