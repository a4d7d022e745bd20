//! Joining, relaying and leaving, as the specification has them.

use futures_util::SinkExt;

use crate::harness::{Server, ice, join, within_reason};

#[tokio::test]
async fn a_joiner_learns_who_is_there_and_they_learn_of_it() {
    let server = Server::start().await;
    let (mut a, peers) = server.join("t", "a").await;
    assert!(peers.is_empty());
    let (mut b, peers) = server.join("t", "b").await;
    assert_eq!(peers, ["a"]);
    a.hears("peer-join", "peerId", "b").await;
    let (_, peers) = server.join("t", "c").await;
    assert_eq!(peers, ["a", "b"]);
    a.hears("peer-join", "peerId", "c").await;
    b.hears("peer-join", "peerId", "c").await;
}

#[tokio::test]
async fn of_a_large_room_who_asks_gets_a_sample_and_others_the_list() {
    let server = Server::limited(|limits| limits.sample_peers = 2).await;
    let [_a, _b, _c] = server.room(["a", "b", "c"]).await;
    let mut asks = server.open("?token=t").await;
    asks.say(r#"{"type":"join","peerId":"d","sample":true}"#).await;
    let peers = asks.hear().await;
    let names = peers["peerIds"].as_array().unwrap();
    assert!(names.len() == 2 && names[0] != names[1] && peers["count"] == 3, "{peers}");
    assert!(names.iter().all(|name| ["a", "b", "c"].iter().any(|it| name == it)), "{peers}");
    let mut plain = server.open("?token=t").await;
    plain.say(&join("e")).await;
    assert_eq!(plain.hear_text().await, r#"{"type":"peers","peerIds":["a","b","c","d"]}"#);
}

#[tokio::test]
async fn who_is_in_a_large_room_gets_other_names_when_it_asks() {
    let server = Server::limited(|limits| limits.sample_peers = 2).await;
    let [mut a, mut b, _c, _d] = server.room(["a", "b", "c", "d"]).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 3 {
        a.say(r#"{"type":"sample"}"#).await;
        let peers = a.hear().await;
        let names: Vec<String> = serde_json::from_value(peers["peerIds"].clone()).unwrap();
        assert!(peers["type"] == "peers" && peers["count"] == 3 && names.len() == 2, "{peers}");
        seen.extend(names);
    }
    assert!(!seen.contains("a"));
    b.hears_nothing_but(&mut a, "b").await;
    let mut stranger = server.open("?token=t").await;
    stranger.say(r#"{"type":"sample"}"#).await;
    stranger.hears_error("not-joined").await;
}

#[tokio::test]
async fn a_departure_is_heard_however_the_socket_goes() {
    let server = Server::start().await;
    let [mut a, mut b, c] = server.room(["a", "b", "c"]).await;
    within_reason(b.socket.close(None)).await.unwrap();
    a.hears("peer-leave", "peerId", "b").await;
    drop(c);
    a.hears("peer-leave", "peerId", "c").await;
    let (_, peers) = server.join("t", "b").await;
    assert_eq!(peers, ["a"]);
}

#[tokio::test]
async fn descriptions_and_candidates_arrive_byte_for_byte_from_who_sent_them() {
    let server = Server::start().await;
    let [mut a, mut b, mut c] = server.room(["a", "b", "c"]).await;
    let sdp = r#"{ "sdp":"v=0\r\n\u00e9é\/", "type":"offer",  "later": [1.0, 1e400, {"x":null}] }"#;
    for kind in ["offer", "answer"] {
        // Who claims to be another is still called by its own name.
        a.say(&format!(r#"{{"sdp":{sdp},"from":"c","to":"b","type":"{kind}"}}"#)).await;
        assert_eq!(b.hear_text().await, format!(r#"{{"type":"{kind}","from":"a","sdp":{sdp}}}"#));
    }
    for candidate in [r#"{"candidate":"","sdpMid":"0", "usernameFragment":"x"}"#, "null"] {
        b.say(&format!(r#"{{"type":"ice","to":"a","candidate":{candidate}}}"#)).await;
        assert_eq!(a.hear_text().await, format!(r#"{{"type":"ice","from":"b","candidate":{candidate}}}"#));
    }
    c.hears_nothing_but(&mut a, "c").await;
}

#[tokio::test]
async fn order_is_kept_per_pair() {
    const EACH: usize = 1_000;
    let server = Server::limited(|limits| limits.message_burst = 3_000).await;
    let [mut a, mut b, mut c] = server.room(["a", "b", "c"]).await;
    let flow = |mut client: crate::harness::Client| async move {
        for n in 0..EACH {
            client.socket.feed(ice("a", n).into()).await.unwrap();
        }
        client.socket.flush().await.unwrap();
        client
    };
    b.hears_nothing_but(&mut c, "b").await;
    c.hears_nothing_but(&mut b, "c").await;
    let flows = (tokio::spawn(flow(b)), tokio::spawn(flow(c)));
    let mut next = [0, 0];
    for _ in 0..2 * EACH {
        let heard = a.hear().await;
        let from = usize::from(heard["from"] == "c");
        assert_eq!(heard["candidate"]["n"], next[from], "{heard}");
        next[from] += 1;
    }
    // The sockets live until here.
    let (b, c) = (flows.0.await.unwrap(), flows.1.await.unwrap());
    drop((b, c));
}

#[tokio::test]
async fn rooms_are_apart() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let (mut stranger, peers) = server.join("other", "a").await;
    assert!(peers.is_empty());
    stranger.say(&ice("b", 1)).await;
    stranger.hears_error("unknown-peer").await;
    drop(stranger);
    b.hears_nothing_but(&mut a, "b").await;
    a.hears_nothing_but(&mut b, "a").await;
}

#[tokio::test]
async fn any_text_is_a_token() {
    let server = Server::start().await;
    let long = "%C3%A9".repeat(5_000);
    let tokens = [
        "x",
        "X",
        "a/b",
        "a%2Fb%3F%26%23",
        "%E2%82%AC%F0%9F%94%8B",
        "a%20b",
        "%00",
        "..",
        "%25",
        &long,
        "'%22%3Cscript%3E",
    ];
    let mut first = Vec::new();
    for token in tokens {
        let (client, peers) = server.join(token, "first").await;
        assert!(peers.is_empty(), "{token} is a room of its own");
        first.push(client);
    }
    for (token, first) in tokens.iter().zip(&mut first) {
        let (_, peers) = server.join(token, "second").await;
        assert_eq!(peers, ["first"], "{token}");
        first.hears("peer-join", "peerId", "second").await;
    }
}

#[tokio::test]
async fn a_room_is_forgotten_when_it_is_empty() {
    let server = Server::start().await;
    for _ in 0..3 {
        let mut a = server.open("?token=t").await;
        a.say(&join("a")).await;
        assert_eq!(a.hear_text().await, r#"{"type":"peers","peerIds":[]}"#);
        // The server answers a close after the seat has been given up, or closes the connection.
        within_reason(a.socket.close(None)).await.unwrap();
        while let Some(Ok(_)) = within_reason(futures_util::StreamExt::next(&mut a.socket)).await {}
    }
}
