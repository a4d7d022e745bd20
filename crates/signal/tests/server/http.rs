//! Health and the static site.

use std::{fs, path::Path};

use rtc_battery_signal::Config;

use crate::harness::Server;

async fn site(folder: &Path) -> Server {
    fs::create_dir(folder.join("js")).unwrap();
    for (file, content) in [
        ("index.html", "<title>demo</title>"),
        ("app.js", "export {}"),
        ("core.wasm", "\0asm"),
        ("style.css", "p {}"),
        ("js/worker.js", "worker"),
    ] {
        fs::write(folder.join(file), content).unwrap();
    }
    Server::with(Config { static_dir: Some(folder.into()), ..Config::default() }).await
}

#[tokio::test]
async fn it_is_well() {
    let health = Server::start().await.fetch("/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200 OK") && health.ends_with("\r\n\r\nok\n"), "{health}");
}

#[tokio::test]
async fn files_come_with_their_type_and_are_asked_for_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = site(folder.path()).await;
    for (path, content_type, content) in [
        ("/", "text/html", "<title>demo</title>"),
        ("/index.html", "text/html", "<title>demo</title>"),
        ("/app.js?v=1", "text/javascript", "export {}"),
        ("/core.wasm", "application/wasm", "\0asm"),
        ("/style.css", "text/css", "p {}"),
        ("/js/worker.js", "text/javascript", "worker"),
    ] {
        let answer = server.fetch(path).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{path}: {head}");
        assert!(head.contains(&format!("content-type: {content_type}")), "{path}: {head}");
        assert!(head.contains("cache-control: no-cache"), "{path}: {head}");
        assert_eq!(body, content, "{path}");
    }
}

#[tokio::test]
async fn a_file_is_sent_again_only_when_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let server = site(folder.path()).await;
    let first = server.fetch("/app.js").await;
    let etag = first.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = format!("GET /app.js HTTP/1.1\r\nHost: x\r\nIf-None-Match: {etag}\r\nConnection: close\r\n\r\n");
    assert!(server.http(&again).await.starts_with("HTTP/1.1 304 "));
    fs::write(folder.path().join("app.js"), "export { rebuilt }").unwrap();
    assert!(server.http(&again).await.ends_with("export { rebuilt }"));
}

#[tokio::test]
async fn only_the_folder_is_served_and_the_endpoints_stay() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret"), "secret").unwrap();
    let folder = outer.path().join("site");
    fs::create_dir(&folder).unwrap();
    let server = site(&folder).await;
    for path in ["/nothing", "/../secret", "/%2e%2e/secret", "/js/..%2f..%2f..%2fsecret", "//secret"] {
        assert!(server.fetch(path).await.starts_with("HTTP/1.1 404 "), "{path}");
    }
    assert!(server.fetch("/healthz").await.ends_with("ok\n"));
    let (_, peers) = server.join("t", "a").await;
    assert!(peers.is_empty());
}

#[tokio::test]
async fn without_a_folder_there_is_no_site() {
    assert!(Server::start().await.fetch("/").await.starts_with("HTTP/1.1 404 "));
}
