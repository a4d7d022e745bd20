//! A real coturn accepts the credentials that `/ice` gives out, and no others.

#![cfg(unix)]

use std::{
    fs::{File, read_to_string},
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::{Stdio, id},
    thread::panicking,
    time::Duration,
};

use rtc_battery_signal::{Config, Turn};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::harness::{Server, within_reason};

const SECRET: &str = "north";

/// The client ends by itself, but for when a datagram of its is lost.
const CLIENT_ENDS: Duration = Duration::from_secs(10);

/// A relay on this host.
struct Coturn {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Coturn {
    /// Starts one. It says nothing when it is there.
    fn start(folder: &tempfile::TempDir) -> Self {
        let port = free_port();
        let log = folder.path().join("log");
        let child = Command::new("turnserver")
            .args(["-n", "--use-auth-secret", "--static-auth-secret", SECRET, "--realm", "example.com"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", &port.to_string()])
            .args(["--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--log-file", "stdout"])
            .arg("--pidfile")
            .arg(folder.path().join("pid"))
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("coturn is installed");
        Self { child, port, log }
    }

    /// Whether coturn's own client, with these credentials, allocates a relay and sends itself a message through it.
    /// `None`: it did not end.
    async fn relays(&mut self, username: &str, credential: &str) -> Option<bool> {
        assert_eq!(self.child.try_wait().unwrap(), None, "coturn ended");
        let client = Command::new("turnutils_uclient")
            .args(["-u", username, "-w", credential, "-p", &self.port.to_string()])
            .args(["-n", "1", "-m", "1", "-c", "-y", "127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status();
        let status = timeout(CLIENT_ENDS, client).await.ok()?;
        Some(status.expect("coturn is installed").success())
    }
}

impl Drop for Coturn {
    /// What coturn said, where a test failed.
    fn drop(&mut self) {
        if panicking() {
            eprintln!("{}", read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A port that is free for datagrams and for streams, below those that the other tests' connections are given: coturn binds
/// both, and while one is taken it waits and serves nobody.
fn free_port() -> u16 {
    let first = 20_000 + u16::try_from(id() % 10_000).unwrap();
    let free =
        |port: &u16| UdpSocket::bind(("127.0.0.1", *port)).is_ok() && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_000).find(free).expect("a port is free")
}

async fn credentials(secret: &str) -> (String, String) {
    let turn = Turn { urls: vec!["turn:127.0.0.1".into()], secret: secret.into(), ttl: Duration::from_secs(600) };
    let answer = Server::with(Config { turn: Some(turn), ..Config::default() }).await.fetch("/ice").await;
    let ice: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    let text = |name: &str| ice["iceServers"][0][name].as_str().unwrap().to_owned();
    (text("username"), text("credential"))
}

#[tokio::test]
async fn coturn_accepts_our_credentials_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut coturn = Coturn::start(&folder);
    let (username, credential) = credentials(SECRET).await;
    within_reason(async { while coturn.relays(&username, &credential).await != Some(true) {} }).await;
    // A life that was made longer is not what was signed, and another secret is another secret.
    let longer = username.replacen(|digit: char| digit.is_ascii_digit(), "9", 1);
    assert_eq!(coturn.relays(&longer, &credential).await, Some(false));
    let (username, credential) = credentials("south").await;
    assert_eq!(coturn.relays(&username, &credential).await, Some(false));
}
