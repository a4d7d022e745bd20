//! A server in this process and clients that speak to it through TCP.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use rtc_battery_signal::{Config, Limits, serve};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};

/// A test that waits this long for something has failed.
const WATCHDOG: Duration = Duration::from_secs(60);

pub(crate) async fn within_reason<T>(wait: impl Future<Output = T>) -> T {
    timeout(WATCHDOG, wait).await.expect("what was promised did not come")
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn limited(change: impl FnOnce(&mut Limits)) -> Self {
        let mut config = Config::default();
        change(&mut config.limits);
        Self::with(config).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        Self { addr, stop, task: tokio::spawn(serve(listener, config, shutdown)) }
    }

    pub(crate) fn stop(self) -> JoinHandle<()> {
        self.stop.send(()).unwrap();
        self.task
    }

    pub(crate) async fn open(&self, query: &str) -> Client {
        Client::open(self.addr, query).await
    }

    /// A client that is in the room, and the names that were there before it.
    pub(crate) async fn join(&self, token: &str, name: &str) -> (Client, Vec<String>) {
        let mut client = self.open(&format!("?token={token}")).await;
        client.say(&join(name)).await;
        let peers = client.hear().await;
        assert_eq!(peers["type"], "peers", "{peers}");
        (client, serde_json::from_value(peers["peerIds"].clone()).unwrap())
    }

    /// Clients in the room `t` under these names, who have heard of each other.
    pub(crate) async fn room<const N: usize>(&self, names: [&str; N]) -> [Client; N] {
        let mut clients = Vec::new();
        for name in names {
            let (client, _) = self.join("t", name).await;
            for earlier in &mut clients {
                Client::hears(earlier, "peer-join", "peerId", name).await;
            }
            clients.push(client);
        }
        clients.try_into().ok().unwrap()
    }

    /// Sends an HTTP request as it is, and reads until the server closes.
    pub(crate) async fn http(&self, request: &str) -> String {
        http(self.addr, request).await
    }

    pub(crate) async fn fetch(&self, path: &str) -> String {
        fetch(self.addr, path).await
    }
}

async fn http(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    within_reason(stream.read_to_end(&mut response)).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

pub(crate) async fn fetch(addr: SocketAddr, path: &str) -> String {
    http(addr, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn open(addr: SocketAddr, query: &str) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (socket, _) = client_async(format!("ws://{addr}/signal{query}"), stream).await.unwrap();
        Self { socket }
    }

    pub(crate) async fn send(&mut self, message: Message) {
        within_reason(self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.send(Message::Text(text.into())).await;
    }

    /// The next text, or how the socket was closed.
    pub(crate) async fn next(&mut self) -> Result<String, CloseCode> {
        loop {
            match within_reason(self.socket.next()).await.expect("closed without a word").unwrap() {
                Message::Text(text) => return Ok(text.to_string()),
                Message::Close(frame) => return Err(frame.expect("closed without a code").code),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("the server sent {other:?}"),
            }
        }
    }

    pub(crate) async fn hear_text(&mut self) -> String {
        self.next().await.expect("a message, not the end")
    }

    pub(crate) async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.hear_text().await).unwrap()
    }

    /// The next thing it hears is this type with this value in this field.
    pub(crate) async fn hears(&mut self, kind: &str, field: &str, value: &str) {
        let heard = self.hear().await;
        assert!(heard["type"] == kind && heard[field] == value, "wanted {kind} with {field} {value}: {heard}");
    }

    pub(crate) async fn hears_error(&mut self, code: &str) {
        let heard = self.hear().await;
        assert!(heard["type"] == "error" && heard["code"] == code, "wanted {code}: {heard}");
        assert!(heard["message"].as_str().is_some_and(|text| !text.is_empty()), "{heard}");
    }

    pub(crate) async fn hears_close(&mut self, code: CloseCode) {
        assert_eq!(self.next().await, Err(code));
    }

    /// Whatever it has not heard yet, nothing of it comes before a message that the other sends now.
    pub(crate) async fn hears_nothing_but(&mut self, other: &mut Client, my_name: &str) {
        other.say(&ice(my_name, 4242)).await;
        let heard = self.hear().await;
        assert!(heard["type"] == "ice" && heard["candidate"]["n"] == 4242, "{heard}");
    }
}

pub(crate) fn join(name: &str) -> String {
    serde_json::json!({"type": "join", "peerId": name}).to_string()
}

pub(crate) fn ice(to: &str, n: usize) -> String {
    format!(r#"{{"type":"ice","to":"{to}","candidate":{{"n":{n}}}}}"#)
}
