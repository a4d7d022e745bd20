//! A renewed certificate is shown without a restart, and what cannot be used replaces nothing.

#![cfg(unix)]

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::ChildStderr,
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_tungstenite::client_async;

use crate::{
    certificates,
    harness::{self, join, within_reason},
    program,
};

/// Until newcomers are shown this certificate.
async fn shown(addr: SocketAddr, certificate: &CertificateDer<'static>) {
    within_reason(async { while certificates::dial(addr, certificate).await.is_err() {} }).await;
}

/// Until the log says so.
async fn logged(log: &mut tokio::io::Lines<BufReader<ChildStderr>>, words: &str) {
    within_reason(async { while !log.next_line().await.unwrap().unwrap().contains(words) {} }).await;
}

#[tokio::test]
async fn a_hangup_has_the_certificate_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let first = certificates::in_files(&cert, &key);
    let files = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let (mut child, addr) = program::start(&[&files[..], &["--tls-check", "3600"]].concat()).await;
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let stream = certificates::dial(addr, &first).await.unwrap();
    let (mut open, _) = client_async("wss://localhost/signal?token=t", stream).await.unwrap();

    let second = certificates::in_files(&cert, &key);
    assert!(certificates::dial(addr, &second).await.is_err(), "nobody has told it yet");
    program::signal(&child, "-HUP").await;
    shown(addr, &second).await;
    assert!(certificates::dial(addr, &first).await.is_err());
    logged(&mut log, "renewed").await;

    // Half a renewal: the key of another certificate, then none at all.
    let (other_cert, other_key) = (folder.path().join("other-cert.pem"), folder.path().join("other-key.pem"));
    certificates::in_files(&other_cert, &other_key);
    std::fs::copy(&other_key, &key).unwrap();
    program::signal(&child, "-HUP").await;
    logged(&mut log, "cannot be used").await;
    std::fs::remove_file(&key).unwrap();
    program::signal(&child, "-HUP").await;
    logged(&mut log, "key.pem").await;
    assert!(certificates::dial(addr, &second).await.is_ok(), "the old one is kept");

    // Who was there before noticed nothing of all this.
    open.send(join("a").into()).await.unwrap();
    assert!(within_reason(open.next()).await.unwrap().unwrap().to_text().unwrap().contains("peers"));
}

#[tokio::test]
async fn a_renewed_certificate_is_found_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let first = certificates::in_files(&cert, &key);
    let files = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let (mut child, addr) = program::start(&[&files[..], &["--tls-check", "0.01"]].concat()).await;
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    shown(addr, &first).await;
    std::fs::write(&cert, "half of a certifi").unwrap();
    logged(&mut log, "the old one is kept").await;
    shown(addr, &first).await;
    let second = certificates::in_files(&cert, &key);
    shown(addr, &second).await;
    logged(&mut log, "has been renewed").await;
}

#[tokio::test]
async fn a_hangup_without_a_certificate_ends_nothing() {
    let (mut child, addr) = program::start(&[]).await;
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    for _ in 0..2 {
        program::signal(&child, "-HUP").await;
        logged(&mut log, "no certificate to be renewed").await;
    }
    assert!(harness::fetch(addr, "/healthz").await.contains("ok"));
}
