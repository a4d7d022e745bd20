//! Clients in each server's own words. Two in a room, of which the first sends and the second receives.
//!
//! y-webrtc's server sends to everybody in a topic, the sender included; here only the receiver is in it, which is the best case for it.

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::server::{Protocol, Server};

/// What a candidate weighs, about.
pub(crate) const BYTES: usize = 300;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Two who have met.
pub(crate) struct Pair {
    pub(crate) sender: Socket,
    pub(crate) receiver: Socket,
    /// A message from the one to the other, around its time.
    pub(crate) frame: (String, String),
}

/// What comes before a message's time.
pub(crate) const MARK: &str = "\"t\":";

pub(crate) async fn pairs(server: &Server, count: usize) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for n in 0..count {
        let receiver = join(server, n, "receiver").await?;
        let sender = join(server, n, "sender").await?;
        pairs.push(Pair { sender, receiver, frame: frame(server.protocol(), n) });
    }
    Ok(pairs)
}

/// Clients that only are there.
pub(crate) async fn crowd(server: &Server, count: usize) -> Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(count);
    for n in 0..count {
        sockets.push(join(server, n / 2, if n % 2 == 0 { "receiver" } else { "sender" }).await?);
    }
    Ok(sockets)
}

fn frame(protocol: Protocol, n: usize) -> (String, String) {
    let fill = "x".repeat(BYTES - 100);
    match protocol {
        Protocol::Ours => (
            format!(r#"{{"type":"ice","to":"receiver-{n}","candidate":{{"t":"#),
            format!(r#","candidate":"{fill}"}}}}"#),
        ),
        Protocol::Peer => (
            format!(r#"{{"type":"CANDIDATE","dst":"receiver-{n}","payload":{{"t":"#),
            format!(r#","candidate":"{fill}"}}}}"#),
        ),
        Protocol::YWebrtc => {
            (format!(r#"{{"type":"publish","topic":"room-{n}","data":{{"t":"#), format!(r#","candidate":"{fill}"}}}}"#))
        }
    }
}

async fn join(server: &Server, n: usize, role: &str) -> Result<Socket> {
    let name = format!("{role}-{n}");
    let path = match server.protocol() {
        Protocol::Ours => format!("/signal?token=room-{n}"),
        Protocol::Peer => format!("/peerjs?key=peerjs&id={name}&token=t-{n}"),
        Protocol::YWebrtc => "/".into(),
    };
    let stream = TcpStream::connect(("127.0.0.1", server.port())).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(4 * 1024);
    let address = format!("ws://127.0.0.1:{}{path}", server.port());
    let (mut socket, _) = client_async_with_config(address, stream, Some(config)).await?;
    match server.protocol() {
        Protocol::Ours => {
            socket.send(format!(r#"{{"type":"join","peerId":"{name}"}}"#).into()).await?;
            answer(&mut socket, "peers").await?;
        }
        Protocol::Peer => answer(&mut socket, "OPEN").await?,
        Protocol::YWebrtc => {
            if role == "receiver" {
                socket.send(format!(r#"{{"type":"subscribe","topics":["room-{n}"]}}"#).into()).await?;
            }
            socket.send(r#"{"type":"ping"}"#.into()).await?;
            answer(&mut socket, "pong").await?;
        }
    }
    Ok(socket)
}

async fn answer(socket: &mut Socket, word: &str) -> Result<()> {
    loop {
        if let Message::Text(text) = socket.next().await.context("closed")??
            && text.contains(word)
        {
            return Ok(());
        }
    }
}
