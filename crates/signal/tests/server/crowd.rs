//! Many at once: the queue's bound must not hit those who do nothing wrong.

use std::collections::BTreeSet;

use crate::harness::{Client, Server, join, within_reason};

const CROWD: usize = 200;

/// About what a browser's data-channel offer with candidates weighs.
const SDP_BYTES: usize = 2_000;

fn name(n: usize) -> String {
    format!("peer-{n:03}")
}

/// As a peer does: joins, offers to all that were there, answers all that come, until it has met everyone. Nobody's offer comes before word
/// that it is there.
pub(crate) async fn meet_everyone(mut client: Client, me: usize, crowd: usize) -> Client {
    let sdp = "x".repeat(SDP_BYTES);
    client.say(&join(&name(me))).await;
    let (mut met, mut known) = (BTreeSet::new(), BTreeSet::new());
    while met.len() < crowd - 1 {
        let message = client.hear().await;
        match message["type"].as_str().unwrap() {
            "peers" => {
                for to in message["peerIds"].as_array().unwrap() {
                    assert!(known.insert(to.to_string()));
                    client.say(&format!(r#"{{"type":"offer","to":{to},"sdp":"{sdp}"}}"#)).await;
                }
            }
            "offer" => {
                assert!(known.contains(&message["from"].to_string()), "not heard of: {message}");
                client.say(&format!(r#"{{"type":"answer","to":{},"sdp":"{sdp}"}}"#, message["from"])).await;
                met.insert(message["from"].to_string());
            }
            "answer" => {
                met.insert(message["from"].to_string());
            }
            "peer-join" => assert!(known.insert(message["peerId"].to_string()), "twice: {message}"),
            _ => panic!("{message}"),
        }
    }
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_200_joins_at_once() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        clients.push(server.open("?token=t").await);
    }
    let tasks: Vec<_> =
        clients.into_iter().enumerate().map(|(n, client)| tokio::spawn(meet_everyone(client, n, CROWD))).collect();
    // Nobody leaves before everybody has met everybody.
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(within_reason(task).await.unwrap());
    }
}

#[tokio::test]
async fn who_was_not_reading_for_a_moment_finds_everything() {
    let server = Server::start().await;
    let (mut dreamer, _) = server.join("t", "dreamer").await;
    let mut others = Vec::new();
    for n in 0..CROWD {
        others.push(server.join("t", &name(n)).await.0);
    }
    for n in 0..CROWD {
        dreamer.hears("peer-join", "peerId", &name(n)).await;
    }
}

#[tokio::test]
async fn the_list_of_a_full_room_of_long_names_fits() {
    const PEERS: usize = 60;
    let server = Server::limited(|limits| {
        limits.max_room_peers = PEERS;
        limits.max_message_bytes = 1_000;
    })
    .await;
    // 128 characters of which most are escaped.
    let long = |n: usize| format!("{}{n:03}", r"\".repeat(125));
    let mut members = Vec::new();
    for n in 0..PEERS {
        let mut client = server.open("?token=t").await;
        client.say(&join(&long(n))).await;
        let peers = client.hear().await;
        assert_eq!(peers["peerIds"].as_array().unwrap().len(), n);
        members.push(client);
    }
}
