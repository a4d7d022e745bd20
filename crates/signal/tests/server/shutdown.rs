//! The caller says when to stop; everyone is told; stopping ends.

use std::time::Duration;

use rtc_battery_signal::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Server, within_reason};

#[tokio::test]
async fn everyone_is_told_that_the_server_restarts() {
    let server = Server::start().await;
    let [mut a, mut b] = server.room(["a", "b"]).await;
    let mut early = server.open("?token=t").await;
    let addr = server.addr;
    let stopping = server.stop();
    for client in [&mut a, &mut b, &mut early] {
        client.hears_close(CloseCode::Restart).await;
    }
    drop((a, b, early));
    within_reason(stopping).await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn nobody_can_hold_the_server_up() {
    let folder = tempfile::tempdir().unwrap();
    // More than the sockets' buffers hold.
    std::fs::write(folder.path().join("large"), vec![0; 50_000_000]).unwrap();
    let mut config = Config { static_dir: Some(folder.path().into()), ..Config::default() };
    config.limits.close_timeout = Duration::from_millis(100);
    let server = Server::with(config).await;
    // Clients that neither read nor answer, a request that never ends, a connection kept alive between two requests, and a file of which
    // only the beginning is read.
    let _stuck = server.room(["a", "b"]).await;
    let mut half = TcpStream::connect(server.addr).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await.unwrap();
    let mut kept = TcpStream::connect(server.addr).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    kept.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut file = TcpStream::connect(server.addr).await.unwrap();
    file.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    file.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    within_reason(server.stop()).await.unwrap();
}
