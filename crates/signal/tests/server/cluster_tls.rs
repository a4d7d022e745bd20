//! Redis behind TLS: `rediss:`, checked by an authority of one's own.

#![cfg(unix)]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener as Port},
    path::Path,
    process::Stdio,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rtc_battery_signal::{Cluster, Config};
use tokio::process::{Child, Command};

use crate::{
    cluster::{LEASE, health_at},
    harness::{Client, Server, join},
    program,
};

/// A new authority's certificate, and what it signed for this host, in files.
fn authority(folder: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let host = params.signed_by(&key, &issuer).unwrap();
    for (file, pem) in [("ca.pem", authority.pem()), ("cert.pem", host.pem()), ("key.pem", key.serialize_pem())] {
        fs::write(folder.join(file), pem).unwrap();
    }
    authority.pem()
}

/// A `redis-server` that takes nothing but TLS, and its address.
fn redis(folder: &Path) -> (Child, String) {
    let port = Port::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("redis-server")
        .args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--tls-auth-clients", "no"])
        .args(["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "ca.pem"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed");
    (child, format!("rediss://127.0.0.1:{port}"))
}

async fn process(url: &str, authority: &str) -> Server {
    let cluster = Some(Cluster::new(url, Some(authority.as_bytes()), LEASE).unwrap());
    Server::with(Config { cluster, ..Config::default() }).await
}

#[tokio::test]
async fn rooms_are_shared_through_redis_behind_tls() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trusted = authority(folder.path());
    let (_redis, url) = redis(folder.path());
    let one = process(&url, &trusted).await;
    // Another authority would have signed for anybody: this process stays alone.
    let distrustful = process(&url, &authority(elsewhere.path())).await;
    // As the program has it.
    let ca = folder.path().join("ca.pem");
    let (_child, two) = program::start(&["--redis", &url, "--redis-ca", ca.to_str().unwrap()]).await;
    health_at(one.addr, true).await;
    health_at(two, true).await;
    let (mut a, _) = one.join("t", "a").await;
    let mut b = Client::open(two, "?token=t").await;
    b.say(&join("b")).await;
    b.hears("peers", "type", "peers").await;
    a.hears("peer-join", "peerId", "b").await;
    a.hears_nothing_but(&mut b, "a").await;
    b.hears_nothing_but(&mut a, "b").await;
    health_at(distrustful.addr, false).await;
    let (_, peers) = distrustful.join("t", "c").await;
    assert!(peers.is_empty());
}

#[tokio::test]
async fn an_authority_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = authority(folder.path());
    let error = |url: &str, authority: &str| Cluster::new(url, Some(authority.as_bytes()), LEASE).unwrap_err();
    assert!(error("rediss://127.0.0.1", "no certificate").to_string().contains("PEM"));
    let plain = error("redis://127.0.0.1", &trusted).to_string();
    assert!(plain.contains("rediss://"), "{plain}");
}
