//! The program: what it prints, what it logs, how it ends.

#![cfg(unix)]

use std::{net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{self, Client, join, within_reason};

fn program(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtc-battery-signal"));
    command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it on a free port and waits for the line that says which.
pub(crate) async fn start(flags: &[&str]) -> (Child, SocketAddr) {
    listening(program(flags).args(["--listen", "127.0.0.1:0", "--drain", "0"])).await
}

async fn listening(command: &mut Command) -> (Child, SocketAddr) {
    let mut child = command.spawn().unwrap();
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
async fn no_log_holds_a_token_a_name_an_address_or_a_description() {
    let secrets = ["--turn-url", "turn:x", "--turn-secret", "hunter3", "--redis", "redis://:hunter4@127.0.0.1:1"];
    let (mut child, addr) = start(&[&["--log", "trace"][..], &secrets].concat()).await;
    let mut a = Client::open(addr, "?token=hunter2").await;
    a.say(r#"{"type":"join","peerId":"alice","resume":"hunter5-0123456789"}"#).await;
    a.hears("peers", "type", "peers").await;
    let mut b = Client::open(addr, "?token=hunter2").await;
    b.say(&join("bob")).await;
    b.hears("peers", "type", "peers").await;
    a.hears("peer-join", "peerId", "bob").await;
    b.say(r#"{"type":"offer","to":"alice","sdp":{"sdp":"a=fingerprint"}}"#).await;
    a.hears("offer", "from", "bob").await;
    b.say(r#"{"type":"offer","to":"carol","sdp":{"sdp":"a=fingerprint"}}"#).await;
    b.hears_error("unknown-peer").await;
    for broken in [r#"{"type":"offer","to":"alice","sdp":{"sdp":"a=fingerprint"}"#, r#""a=fingerprint""#] {
        b.say(broken).await;
        b.hears_error("malformed").await;
    }
    b.say(&"a=fingerprint".repeat(10_000)).await;
    b.hears_error("too-large").await;
    a.hears("peer-leave", "peerId", "bob").await;
    assert!(harness::fetch(addr, "/ice").await.contains("credential"));
    assert!(harness::fetch(addr, "/signal?token=hunter2").await.contains(" 426 "));
    signal(&child, "-TERM").await;
    a.hears_close(CloseCode::Restart).await;
    drop((a, b));
    let mut log = String::new();
    within_reason(child.stderr.take().unwrap().read_to_string(&mut log)).await.unwrap();
    assert!(log.contains("connected") && log.contains("redis") && log.contains("stopped"), "it does log: {log}");
    for secret in ["hunter", "fingerprint", "alice", "bob", "carol", "127.0.0.1"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    assert!(!log.contains('\x1b'), "what is no terminal is sent no colours: {log}");
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
            let variable = format!("SIGNAL_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
            let is_set = !rows.is_empty() && is_variable(&help, &variable);
            assert!(is_set || ["--help", "--version"].contains(&flag), "{flag}, {variable}");
            flags += 1;
        }
        if let Some((_, default)) = line.split_once("[default: ") {
            let default = default.trim_end_matches(']');
            assert!(rows.iter().any(|row| row.contains(&format!("`{default}`"))), "{default} is not in {rows:?}");
        }
    }
    assert!(flags > 25, "{help}");
}

/// Secrets are named without their value.
fn is_variable(help: &str, name: &str) -> bool {
    ["=", "]"].iter().any(|end| help.contains(&format!("[env: {name}{end}")))
}

#[tokio::test]
async fn what_deploy_sets_exists() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |file: &str| std::fs::read_to_string(format!("{root}/{file}")).unwrap();
    let (unit, container) = (read("deploy/rtc-battery-signal.service"), read("deploy/Containerfile"));
    let help = String::from_utf8(within_reason(program(&["--help"]).output()).await.unwrap().stdout).unwrap();
    let mut variables = 0;
    let words =
        [&unit, &container].into_iter().flat_map(|text| text.split(|c: char| !c.is_ascii_uppercase() && c != '_'));
    for name in words.filter(|word| word.starts_with("SIGNAL_") && *word != "SIGNAL_NAME") {
        assert!(is_variable(&help, name), "{name}");
        variables += 1;
    }
    assert!(variables > 2);
    // With another one rustup would fetch the toolchain that the repository asks for, each time.
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.split('"').nth(1).unwrap();
    assert!(container.contains(&format!("/rust:{channel}-")), "{channel}");
}

#[tokio::test]
async fn it_holds_more_connections_than_a_shell_lets_it_have_files() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"ulimit -Sn 64; exec "$0" --listen 127.0.0.1:0 --drain 0"#,
        env!("CARGO_BIN_EXE_rtc-battery-signal"),
    ]);
    let (_child, addr) = listening(command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true)).await;
    let mut clients = Vec::new();
    for n in 0..100 {
        let mut client = within_reason(Client::open(addr, "?token=t")).await;
        client.say(&join(&format!("peer-{n}"))).await;
        client.hears("peers", "type", "peers").await;
        clients.push(client);
    }
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
