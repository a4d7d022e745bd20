//! What several processes lose: one of them, again and again; Redis that stands still, forgets, or comes back to two who have one name.

#![cfg(unix)]

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::process::Child;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::{
    cluster::{LEASE, Redis, health, health_at, process, processes},
    harness::{Client, Server, ice, join, within_reason},
    program,
    resume::join_with,
};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A process of its own, which can be killed.
async fn mortal(redis: &Redis) -> (Child, SocketAddr) {
    let (child, address) =
        program::start(&["--redis", &redis.url(), "--redis-lease", &LEASE.as_secs_f64().to_string()]).await;
    health_at(address, true).await;
    (child, address)
}

async fn joined(address: SocketAddr, text: &str) -> (Client, BTreeSet<String>) {
    let mut client = Client::open(address, "?token=t").await;
    client.say(text).await;
    let peers = client.hear().await;
    assert_eq!(peers["type"], "peers", "{peers}");
    (client, serde_json::from_value(peers["peerIds"].clone()).unwrap())
}

/// One of three processes is killed and started again, while two on the others talk all the time. Who comes back with its key, to another
/// process, has never been away; who does not has left, once; and nobody else is in any list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_and_started_again_under_load_leaves_no_ghosts() {
    const EACH: usize = 10;
    let redis = Redis::start().await;
    let [one, two] = processes::<2>(&redis).await;
    let (mut victim, mut address) = mortal(&redis).await;
    let (mut witness, _) = one.join("t", "witness").await;
    let (mut second, _) = two.join("t", "second").await;
    witness.hears("peer-join", "peerId", "second").await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(talk(one.join("load", "x").await.0, two.join("load", "y").await.0, Arc::clone(&stop)));
    let mut there: BTreeSet<String> = ["witness", "second"].map(str::to_owned).into();
    let mut kept = Vec::new();
    for round in 0..3 {
        let mut doomed = Vec::new();
        for n in 0..EACH {
            for name in [format!("back-{round}-{n}"), format!("gone-{round}-{n}")] {
                doomed.push(joined(address, &join_with(&name, KEY)).await.0);
                for witness in [&mut witness, &mut second] {
                    witness.hears("peer-join", "peerId", &name).await;
                }
            }
        }
        victim.kill().await.unwrap();
        for n in 0..EACH {
            let name = format!("back-{round}-{n}");
            let mut back = joined(two.addr, &join_with(&name, KEY)).await.0;
            second.say(&ice(&name, round)).await;
            while back.hear().await["from"] != "second" {}
            kept.push((back, name.clone()));
            there.insert(name);
        }
        (victim, address) = mortal(&redis).await;
        let lost = format!("gone-{round}-");
        for witness in [&mut witness, &mut second] {
            let mut gone = BTreeSet::new();
            while gone.len() < EACH {
                let heard = witness.hear().await;
                let name = heard["peerId"].as_str().filter(|name| name.starts_with(&lost)).expect("another").to_owned();
                assert!(heard["type"] == "peer-leave" && gone.insert(name), "{heard}");
            }
        }
        // On each of the three the room is who is there, and a name of the dead is free.
        for process in [one.addr, two.addr, address] {
            let name = format!("{lost}0");
            let (probe, peers) = joined(process, &join(&name)).await;
            assert_eq!(peers, there);
            for (kind, client) in [("peer-join", Some(probe)), ("peer-leave", None)] {
                for witness in [&mut witness, &mut second] {
                    witness.hears(kind, "peerId", &name).await;
                }
                drop(client);
            }
        }
    }
    for (back, name) in &mut kept {
        witness.say(&ice(name, 4_242)).await;
        while back.hear().await["from"] != "witness" {}
    }
    stop.store(true, Ordering::Relaxed);
    assert!(within_reason(load).await.unwrap() > 0);
}

#[tokio::test]
async fn who_writes_to_one_on_a_dead_process_is_told_before_its_lease_has_ended() {
    let redis = Redis::start().await;
    let flags = ["--redis", &redis.url(), "--redis-lease", "3600"];
    let (_one, address) = program::start(&flags).await;
    let (mut victim, doomed_address) = program::start(&flags).await;
    for address in [address, doomed_address] {
        health_at(address, true).await;
    }
    let (mut a, _) = joined(address, &join("a")).await;
    let (_doomed, _) = joined(doomed_address, &join("doomed")).await;
    a.hears("peer-join", "peerId", "doomed").await;
    victim.kill().await.unwrap();
    // Redis may hear of the death a moment later than of this.
    let told = async {
        loop {
            a.say(&ice("doomed", 1)).await;
            if tokio::time::timeout(LEASE, a.hears_error("unknown-peer")).await.is_ok() {
                return;
            }
        }
    };
    within_reason(told).await;
}

/// Two on different processes answer each other until they are stopped, and hear nothing else: how often.
async fn talk(mut x: Client, mut y: Client, stop: Arc<AtomicBool>) -> usize {
    x.hears("peer-join", "peerId", "y").await;
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        y.hears_nothing_but(&mut x, "y").await;
        x.hears_nothing_but(&mut y, "x").await;
        rounds += 1;
    }
    rounds
}

#[tokio::test]
async fn a_redis_that_stands_still_is_noticed_and_holds_no_local_room_up() {
    let redis = Redis::start().await;
    let [one, two] = processes::<2>(&redis).await;
    let [mut a, mut b] = one.room(["a", "b"]).await;
    redis.signal("-STOP");
    // Whoever joins meanwhile waits until the process has noticed, and no longer.
    let (mut c, peers) = one.join("t", "c").await;
    assert_eq!(peers, ["a", "b"]);
    for client in [&mut a, &mut b] {
        client.hears("peer-join", "peerId", "c").await;
    }
    for server in [&one, &two] {
        health(server, false).await;
    }
    a.hears_nothing_but(&mut b, "a").await;
    redis.signal("-CONT");
    for server in [&one, &two] {
        health(server, true).await;
    }
    registered(&redis, 3).await;
    let (mut d, peers) = two.join("t", "d").await;
    assert_eq!(peers, ["a", "b", "c"]);
    for client in [&mut a, &mut b, &mut c] {
        client.hears("peer-join", "peerId", "d").await;
    }
    c.hears_nothing_but(&mut d, "c").await;
    d.hears_nothing_but(&mut c, "d").await;
}

/// Until so many members are in Redis.
async fn registered(redis: &Redis, members: usize) {
    let count = r#"EVAL "local n = 0 for _, key in ipairs(redis.call('KEYS', '*room*')) do n = n + redis.call('HLEN', key) end return n" 0"#;
    let answer = format!(":{members}\r\n");
    within_reason(async { while redis.command(count).await.as_ref() != Some(&answer) {} }).await;
}

#[tokio::test]
async fn what_redis_forgot_is_registered_again_and_nobody_has_left() {
    let redis = Redis::start().await;
    let [one, two] = processes::<2>(&redis).await;
    let (mut a, _) = one.join("t", "a").await;
    let (mut b, _) = two.join("t", "b").await;
    a.hears("peer-join", "peerId", "b").await;
    assert_eq!(redis.command("FLUSHALL").await.as_deref(), Some("+OK\r\n"));
    registered(&redis, 2).await;
    let (_c, peers) = two.join("t", "c").await;
    assert_eq!(peers, ["a", "b"]);
    for client in [&mut a, &mut b] {
        client.hears("peer-join", "peerId", "c").await;
    }
    a.hears_nothing_but(&mut b, "a").await;
    b.hears_nothing_but(&mut a, "b").await;
}

#[tokio::test]
async fn of_two_who_took_one_name_while_redis_was_away_one_keeps_it() {
    let mut redis = Redis::absent();
    let servers = [process(&redis).await, process(&redis).await];
    let mut twins: Vec<Client> = Vec::new();
    for server in &servers {
        twins.push(server.join("t", "twin").await.0);
    }
    redis.revive().await;
    let (mut first, mut second) = (twins.remove(0), twins.remove(0));
    let mut keeper = tokio::select! {
        () = first.hears_error("replaced") => {
            first.hears_close(CloseCode::Policy).await;
            second
        }
        () = second.hears_error("replaced") => {
            second.hears_close(CloseCode::Policy).await;
            first
        }
    };
    for (server, name) in servers.iter().zip(["p", "q"]) {
        let (mut client, peers) = Server::join(server, "t", name).await;
        assert_eq!(peers, ["twin"]);
        keeper.hears("peer-join", "peerId", name).await;
        keeper.hears_nothing_but(&mut client, "twin").await;
        drop(client);
        keeper.hears("peer-leave", "peerId", name).await;
    }
}
