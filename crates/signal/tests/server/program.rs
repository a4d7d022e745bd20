//! The program: what it prints, what it logs, how it ends.

#![cfg(unix)]

use std::{net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Client, join, within_reason};

fn program(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtc-battery-signal"));
    command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it on a free port and waits for the line that says which.
pub(crate) async fn start(flags: &[&str]) -> (Child, SocketAddr) {
    let mut child = program(flags).args(["--listen", "127.0.0.1:0", "--drain", "0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = within_reason(lines.next_line()).await.unwrap().expect("it says where it listens");
    let (_, addr) = line.strip_prefix("listening on http").expect(&line).split_once("://").expect(&line);
    let addr = addr.parse().unwrap();
    (child, addr)
}

pub(crate) async fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
}

#[tokio::test]
async fn it_stops_gracefully_when_told() {
    for name in ["-TERM", "-INT"] {
        let (mut child, addr) = start(&[]).await;
        let mut client = Client::open(addr, "?token=t").await;
        client.say(&join("a")).await;
        client.hears("peers", "type", "peers").await;
        signal(&child, name).await;
        client.hears_close(CloseCode::Restart).await;
        drop(client);
        assert!(within_reason(child.wait()).await.unwrap().success(), "{name}");
    }
}

#[tokio::test]
async fn no_log_holds_a_token_or_a_description() {
    let (mut child, addr) = start(&["--log", "trace"]).await;
    let mut a = Client::open(addr, "?token=hunter2").await;
    a.say(&join("a")).await;
    a.hears("peers", "type", "peers").await;
    let mut b = Client::open(addr, "?token=hunter2").await;
    b.say(&join("b")).await;
    b.hears("peers", "type", "peers").await;
    a.hears("peer-join", "peerId", "b").await;
    b.say(r#"{"type":"offer","to":"a","sdp":{"sdp":"a=fingerprint"}}"#).await;
    a.hears("offer", "from", "b").await;
    for broken in [r#"{"type":"offer","to":"a","sdp":{"sdp":"a=fingerprint"}"#, r#""a=fingerprint""#] {
        b.say(broken).await;
        b.hears_error("malformed").await;
    }
    b.say(&"a=fingerprint".repeat(10_000)).await;
    b.hears_error("too-large").await;
    a.hears("peer-leave", "peerId", "b").await;
    signal(&child, "-TERM").await;
    a.hears_close(CloseCode::Restart).await;
    drop((a, b));
    let mut log = String::new();
    within_reason(child.stderr.take().unwrap().read_to_string(&mut log)).await.unwrap();
    assert!(log.contains("connected") && log.contains("stopped"), "it does log: {log}");
    for secret in ["hunter2", "fingerprint"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn what_it_cannot_do_it_says() {
    let (_running, addr) = start(&[]).await;
    for (flags, complaint) in [
        (["--listen", &addr.to_string()], "cannot listen on"),
        (["--static", "/nowhere/at/all"], "there is no folder /nowhere/at/all"),
        (["--log", "loud"], "--log"),
    ] {
        let output = within_reason(program(&flags).output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(complaint), "{said}");
    }
    // What a flag says, a variable says too.
    let output = within_reason(program(&[]).env("SIGNAL_STATIC", "/nowhere/at/all").output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("there is no folder /nowhere/at/all"), "{said}");
}

#[tokio::test]
async fn the_documentation_names_every_flag_and_its_default() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/signaling.md")).unwrap();
    let help = within_reason(program(&["--help"]).output()).await.unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let mut flags = 0;
    let mut rows = Vec::new();
    for line in help.lines().map(str::trim) {
        if let Some(flag) = line.split([' ', '<']).find(|word| word.starts_with("--")) {
            rows = docs.lines().filter(|row| row.starts_with('|') && row.contains(&format!("`{flag}"))).collect();
            assert!(!rows.is_empty() || ["--help", "--version"].contains(&flag), "{flag}");
            flags += 1;
        }
        if let Some((_, default)) = line.split_once("[default: ") {
            let default = default.trim_end_matches(']');
            assert!(rows.iter().any(|row| row.contains(&format!("`{default}`"))), "{default} is not in {rows:?}");
        }
    }
    assert!(flags > 25, "{help}");
}

#[tokio::test]
async fn a_log_can_be_read_by_programs() {
    let (mut child, addr) = start(&["--log", "debug", "--log-format", "json"]).await;
    let mut client = Client::open(addr, "?token=hunter2").await;
    client.say(&join("a")).await;
    client.hears("peers", "type", "peers").await;
    signal(&child, "-TERM").await;
    client.hears_close(CloseCode::Restart).await;
    drop(client);
    let mut log = String::new();
    within_reason(child.stderr.take().unwrap().read_to_string(&mut log)).await.unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| line["fields"]["message"] == "over" && line["fields"]["ending"] == "shutdown"),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
}
