//! What a client does wrong is told to it, and to nobody else.

use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{CloseCode, Data, OpCode},
    },
};

use crate::harness::{Server, ice, join};

/// 64 KiB, as in the documentation.
const MAX_MESSAGE_BYTES: usize = 65_536;

#[tokio::test]
async fn errors_are_for_the_sender_and_the_socket_goes_on() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    for (text, code) in [
        (ice("nobody", 1), "unknown-peer"),
        (join("a"), "already-joined"),
        (join("c"), "already-joined"),
        ("{".into(), "malformed"),
        (String::new(), "malformed"),
        ("[]".into(), "malformed"),
        ("null".into(), "malformed"),
        (r#"{"to":"b"}"#.into(), "malformed"),
        (r#"{"type":"offer","to":"b"}"#.into(), "malformed"),
        (r#"{"type":"offer","to":"b b","sdp":{}}"#.into(), "malformed"),
        (r#"{"type":"join","peerId":7}"#.into(), "malformed"),
        ("[".repeat(60_000), "malformed"),
        (r#"{"type":"peers","peerIds":[]}"#.into(), "unknown-type"),
        (r#"{"type":"error","code":"x","message":"x"}"#.into(), "unknown-type"),
        (r#"{"type":"dance"}"#.into(), "unknown-type"),
    ] {
        a.say(&text).await;
        a.hears_error(code).await;
    }
    a.send(Message::Binary(join("a").into_bytes().into())).await;
    a.hears_error("binary").await;
    a.hears_nothing_but(&mut b, "a").await;
    b.hears_nothing_but(&mut a, "b").await;
}

#[tokio::test]
async fn nothing_is_relayed_before_joining() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let mut early = server.open("?token=t").await;
    early.say(&ice("a", 1)).await;
    early.hears_error("not-joined").await;
    early.say(&join("early")).await;
    early.hears("peers", "type", "peers").await;
    a.hears("peer-join", "peerId", "early").await;
    b.hears("peer-join", "peerId", "early").await;
}

#[tokio::test]
async fn a_name_belongs_to_the_socket_that_has_it_while_it_lives() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let mut second = server.open("?token=t").await;
    second.say(&join("a")).await;
    second.hears_error("peer-id-in-use").await;
    // The holder is untouched, and what is for it comes to it.
    a.hears_nothing_but(&mut b, "a").await;
    drop(a);
    b.hears("peer-leave", "peerId", "a").await;
    second.say(&join("a")).await;
    second.hears("peers", "type", "peers").await;
    b.hears("peer-join", "peerId", "a").await;
}

fn offer_of(bytes: usize) -> String {
    let frame = r#"{"type":"offer","to":"b","sdp":""}"#;
    frame.replace(r#""""#, &format!(r#""{}""#, "x".repeat(bytes - frame.len())))
}

#[tokio::test]
async fn the_longest_message_passes() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let offer = offer_of(MAX_MESSAGE_BYTES);
    assert_eq!(offer.len(), MAX_MESSAGE_BYTES);
    a.say(&offer).await;
    assert_eq!(b.hear_text().await, offer.replace(r#""to":"b""#, r#""from":"a""#));
}

#[tokio::test]
async fn who_sends_too_much_is_told_and_closed() {
    let server = Server::start().await;
    for bytes in [MAX_MESSAGE_BYTES + 1, 10_000_000] {
        let [mut a, mut b] = server.room(["a", "b"]).await;
        a.say(&offer_of(bytes)).await;
        a.hears_error("too-large").await;
        a.hears_close(CloseCode::Size).await;
        b.hears("peer-leave", "peerId", "a").await;
    }
}

#[tokio::test]
async fn fragments_count_together() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let part = vec![b'x'; MAX_MESSAGE_BYTES / 2 + 1];
    a.send(Message::Frame(Frame::message(part.clone(), OpCode::Data(Data::Text), false))).await;
    a.send(Message::Frame(Frame::message(part, OpCode::Data(Data::Continue), false))).await;
    a.hears_error("too-large").await;
    a.hears_close(CloseCode::Size).await;
    b.hears("peer-leave", "peerId", "a").await;
}

#[tokio::test]
async fn who_does_not_speak_websocket_is_told_and_closed() {
    let server = Server::start().await;
    let [mut a, mut b, mut c] = server.room(["a", "b", "c"]).await;
    a.send(Message::Frame(Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true))).await;
    a.hears_error("protocol").await;
    a.hears_close(CloseCode::Invalid).await;
    b.hears("peer-leave", "peerId", "a").await;
    // A text frame without a mask.
    b.socket.get_mut().write_all(&[0x81, 0x02, b'{', b'}']).await.unwrap();
    b.hears_error("protocol").await;
    b.hears_close(CloseCode::Protocol).await;
    c.hears("peer-leave", "peerId", "a").await;
    c.hears("peer-leave", "peerId", "b").await;
}

#[tokio::test]
async fn an_address_without_a_usable_token_is_told_on_the_socket() {
    let server = Server::start().await;
    let long = format!("?token={}", "x".repeat(16 * 1024 + 1));
    for (query, code) in [
        ("", "missing-token"),
        ("?", "missing-token"),
        ("?token", "missing-token"),
        ("?token=", "missing-token"),
        ("?room=t", "missing-token"),
        (&long, "token-too-long"),
    ] {
        let mut client = server.open(query).await;
        client.hears_error(code).await;
        client.hears_close(CloseCode::Policy).await;
    }
}

#[tokio::test]
async fn what_is_no_websocket_gets_an_http_answer() {
    let server = Server::start().await;
    assert!(server.fetch("/signal?token=t").await.starts_with("HTTP/1.1 426 "));
    let old = "GET /signal?token=t HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(server.http(&old.replace("Upgrade\r\n", "Upgrade, close\r\n")).await.starts_with("HTTP/1.1 400 "));
    assert!(
        server.http("POST /signal?token=t HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.contains(" 405 ")
    );
    assert!(server.http("what is this\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}
