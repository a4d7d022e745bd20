//! A real coturn accepts the credentials that `/ice` gives out, and no others.

#![cfg(unix)]

use std::{net::UdpSocket, process::Stdio, time::Duration};

use rtc_battery_signal::{Config, Turn};
use tokio::process::{Child, Command};

use crate::harness::{Server, within_reason};

const SECRET: &str = "north";

/// A relay on this host, and its port. It says nothing when it is there.
fn coturn(folder: &tempfile::TempDir) -> (Child, u16) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("turnserver")
        .args(["-n", "--use-auth-secret", "--static-auth-secret", SECRET, "--realm", "example.com"])
        .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--listening-port", &port.to_string()])
        .args(["--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--log-file", "stdout"])
        .arg("--pidfile")
        .arg(folder.path().join("pid"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("coturn is installed");
    (child, port)
}

/// coturn's own client allocates a relay with these credentials and sends itself a message through it.
async fn relays(port: u16, username: &str, credential: &str) -> bool {
    let client = Command::new("turnutils_uclient")
        .args([
            "-u",
            username,
            "-w",
            credential,
            "-p",
            &port.to_string(),
            "-n",
            "1",
            "-m",
            "1",
            "-c",
            "-y",
            "127.0.0.1",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    within_reason(client).await.expect("coturn is installed").success()
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
    let (_coturn, port) = coturn(&folder);
    let (username, credential) = credentials(SECRET).await;
    within_reason(async { while !relays(port, &username, &credential).await {} }).await;
    // A life that was made longer is not what was signed, and another secret is another secret.
    let longer = username.replacen(|digit: char| digit.is_ascii_digit(), "9", 1);
    assert!(!relays(port, &longer, &credential).await);
    let (username, credential) = credentials("south").await;
    assert!(!relays(port, &username, &credential).await);
}
