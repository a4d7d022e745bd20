//! What an operator sees and sets: metrics, origins, TURN credentials, TLS, a proxy's header, an orderly end.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{SinkExt, StreamExt};
use rtc_battery_signal::{Config, Origins, Tls, Turn};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    certificates,
    harness::{Client, Server, ice, join, within_reason},
};

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    a.say(&ice("b", 1)).await;
    b.hears("ice", "from", "a").await;
    a.say(&ice("nobody", 1)).await;
    a.hears_error("unknown-peer").await;
    a.say("{").await;
    a.hears_error("malformed").await;
    let (_elsewhere, _) = server.join("other", "c").await;
    let three = server.fetch("/metrics").await;
    assert!(three.contains("\nrtc_signal_connections 3\n"), "{three}");
    drop(b);
    a.hears("peer-leave", "peerId", "b").await;
    within_reason(async { while !server.fetch("/metrics").await.contains("\nrtc_signal_connections 2\n") {} }).await;
    let metrics = server.fetch("/metrics").await;
    let (head, body) = metrics.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    for line in [
        "rtc_signal_accepted_total 3",
        "rtc_signal_rooms 2",
        "rtc_signal_received_messages_total 6",
        "rtc_signal_relayed_messages_total 1",
        r#"rtc_signal_errors_total{code="unknown-peer"} 1"#,
        r#"rtc_signal_errors_total{code="malformed"} 1"#,
        "rtc_signal_redis_up 0",
    ] {
        assert!(body.lines().any(|it| it == line), "{line} is not in {body}");
    }
    let bytes = |name: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {body}"));
        line.trim().parse::<usize>().unwrap()
    };
    let heard = [join("a"), join("b"), ice("b", 1), ice("nobody", 1), "{".into(), join("c")];
    assert_eq!(bytes("rtc_signal_received_bytes_total"), heard.iter().map(String::len).sum::<usize>());
    assert!(bytes("rtc_signal_sent_bytes_total") > ice("b", 1).len(), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let config = Config {
        origins: Origins::new(["https://example.com".into()]).unwrap(),
        turn: Some(turn()),
        ..Config::default()
    };
    let server = Server::with(config).await;
    let dial = async |origin: Option<&str>| {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let mut request = format!("ws://{}/signal?token=t", server.addr).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        client_async(request, stream).await
    };
    assert!(dial(Some("https://example.com")).await.is_ok());
    assert!(dial(None).await.is_ok(), "a program");
    for origin in ["https://example.com.evil.net", "http://example.com", "null"] {
        let refused = dial(Some(origin)).await.unwrap_err().to_string();
        assert!(refused.contains("403"), "{refused}");
        let request = format!("GET /ice HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n");
        assert!(server.http(&request).await.starts_with("HTTP/1.1 403 "));
    }
    let request = "GET /ice HTTP/1.1\r\nHost: x\r\nOrigin: https://example.com\r\nConnection: close\r\n\r\n";
    let answer = server.http(request).await;
    assert!(answer.contains("access-control-allow-origin: https://example.com\r\n"), "{answer}");
}

fn turn() -> Turn {
    let urls = vec!["turn:turn.example.com:3478".into(), "turns:turn.example.com:5349?transport=tcp".into()];
    Turn { urls, secret: "north".into(), ttl: Duration::from_secs(600) }
}

#[tokio::test]
async fn ice_gives_out_credentials_that_end() {
    let server = Server::with(Config { turn: Some(turn()), ..Config::default() }).await;
    let mut names = BTreeSet::new();
    for _ in 0..2 {
        let answer = server.fetch("/ice").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        for line in ["HTTP/1.1 200", "content-type: application/json", "cache-control: no-store", "origin: *"] {
            assert!(head.contains(line), "{line}: {head}");
        }
        assert!(!body.contains("north"), "{body}");
        let ice: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(ice["ttl"], 600);
        let relay = &ice["iceServers"][0];
        assert_eq!(relay["urls"][1], "turns:turn.example.com:5349?transport=tcp");
        let name = relay["username"].as_str().unwrap().to_owned();
        assert!(name.split_once(':').unwrap().0.parse::<u64>().unwrap() > 1_700_000_000);
        names.insert(name);
    }
    assert_eq!(names.len(), 2, "no two have the same name");
    assert!(Server::start().await.fetch("/ice").await.starts_with("HTTP/1.1 404 "), "without a secret there is none");
}

#[tokio::test]
async fn a_proxys_header_says_whose_connection_it_is() {
    let mut config = Config { address_header: Some("x-forwarded-for".into()), ..Config::default() };
    config.limits.max_connections_per_address = 1;
    let server = Server::with(config).await;
    let dial = async |addresses: &str| {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        let mut request = format!("ws://{}/signal?token=t", server.addr).into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", addresses.parse().unwrap());
        Client { socket: client_async(request, stream).await.unwrap().0 }
    };
    let mut first = dial("192.0.2.1").await;
    first.say(&join("a")).await;
    first.hears("peers", "type", "peers").await;
    // What the client itself put before the proxy's word counts for nothing.
    let mut same = dial("203.0.113.9, 192.0.2.1").await;
    same.hears_error("too-many-connections").await;
    same.hears_close(CloseCode::Again).await;
    let mut other = dial("192.0.2.1, 192.0.2.2").await;
    other.say(&join("b")).await;
    other.hears("peers", "type", "peers").await;
    first.hears("peer-join", "peerId", "b").await;
}

#[tokio::test]
async fn it_serves_wss_with_a_certificate_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = certificates::in_files(&cert, &key);
    let config = Config { tls: Some(Tls::read(&cert, &key).unwrap()), ..Config::default() };
    let server = Server::with(config).await;
    // Who speaks plainly to it, or not at all, holds nobody up.
    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _silent = TcpStream::connect(server.addr).await.unwrap();

    let mut sockets = Vec::new();
    for name in ["a", "b"] {
        let stream = certificates::dial(server.addr, &made).await.unwrap();
        let (mut socket, _) = client_async("wss://localhost/signal?token=t", stream).await.unwrap();
        socket.send(join(name).into()).await.unwrap();
        assert!(within_reason(socket.next()).await.unwrap().unwrap().to_text().unwrap().contains("peers"));
        sockets.push(socket);
    }
    let offer = format!(r#"{{"type":"offer","to":"a","sdp":"{}"}}"#, "x".repeat(60_000));
    sockets[1].send(offer.clone().into()).await.unwrap();
    for expected in [r#"{"type":"peer-join","peerId":"b"}"#.to_owned(), offer.replace(r#""to":"a""#, r#""from":"b""#)] {
        match within_reason(sockets[0].next()).await.unwrap().unwrap() {
            Message::Text(text) => assert_eq!(text.as_str(), expected),
            other => panic!("{other:?}"),
        }
    }
    let mut rest = Vec::new();
    let _ = within_reason(plain.read_to_end(&mut rest)).await;
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP"));
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    certificates::in_files(&cert, &key);
    let mut config = Config { tls: Some(Tls::read(&cert, &key).unwrap()), ..Config::default() };
    config.limits.header_timeout = Duration::from_millis(100);
    let server = Server::with(config).await;
    // Nothing, and the beginning of a ClientHello.
    for start in [&[][..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(start).await.unwrap();
        assert!(!matches!(within_reason(stream.read(&mut [0; 1])).await, Ok(1..)));
    }
}

#[test]
fn a_certificate_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let missing = Tls::read(&cert, &key).unwrap_err().to_string();
    assert!(missing.contains("cert.pem"), "{missing}");
    let [one, two] = [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".into()]).unwrap());
    std::fs::write(&cert, one.cert.pem()).unwrap();
    std::fs::write(&key, "no key").unwrap();
    let garbage = Tls::read(&cert, &key).unwrap_err().to_string();
    assert!(garbage.contains("key.pem"), "{garbage}");
    std::fs::write(&key, two.signing_key.serialize_pem()).unwrap();
    let unequal = Tls::read(&cert, &key).unwrap_err().to_string();
    assert!(unequal.contains("cannot be used"), "{unequal}");
}

#[tokio::test]
async fn farewells_are_spread_over_the_drain_and_until_its_own_everyone_is_served() {
    let server = Server::with(Config { drain: Duration::from_secs(100_000), ..Config::default() }).await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let address = server.addr;
    let stopping = server.stop();
    // Nobody new gets in.
    within_reason(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    a.hears_nothing_but(&mut b, "a").await;
    b.hears_nothing_but(&mut a, "b").await;
    stopping.abort();

    let server = Server::with(Config { drain: Duration::from_millis(300), ..Config::default() }).await;
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(server.join(&format!("room-{n}"), "a").await.0);
    }
    let stopping = server.stop();
    for client in &mut clients {
        client.hears_close(CloseCode::Restart).await;
    }
    drop(clients);
    within_reason(stopping).await.unwrap();
}
