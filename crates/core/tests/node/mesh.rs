//! Rooms that are too large for links between everybody: bounded degree, few sends, and everything everywhere all the same.
#![allow(clippy::print_stdout, reason = "the figures of ARCHITECTURE.md")]

use std::collections::BTreeSet;

use rtc_battery_core::node::{Event, Input, MeshLimits};
use rtc_battery_sim::net::{Gossip, Net};

/// What [`MeshLimits`] has by default.
const MOST: usize = 10;

/// A small room that is as a large one.
const SMALL: MeshLimits = MeshLimits { full: 3, dial: 2, accept: 3 };

fn insert(net: &mut Net, host: usize, id: &str) {
    net.exec(host, &format!("INSERT INTO t VALUES ('{id}', {host}, 1.5)"));
}

fn living(net: &Net) -> Vec<usize> {
    (0..net.hosts.len()).filter(|host| !net.hosts[*host].dead).collect()
}

fn mean_degree(net: &Net) -> f64 {
    let living = living(net);
    living.iter().map(|host| net.degree(*host)).sum::<usize>() as f64 / living.len() as f64
}

/// How many of those living can be reached from the first, and over how many hops at most.
fn reach(net: &Net) -> (usize, usize) {
    let first = living(net)[0];
    let (mut seen, mut edge, mut hops) = (BTreeSet::from([first]), vec![first], 0);
    while !edge.is_empty() {
        let next =
            edge.iter().flat_map(|host| net.hosts[*host].links.values().filter_map(|link| Some(link.partner?.0)));
        edge = next.filter(|other| !net.hosts[*other].dead).collect::<BTreeSet<_>>().into_iter().collect();
        edge.retain(|other| seen.insert(*other));
        hops += usize::from(!edge.is_empty());
    }
    (seen.len(), hops)
}

/// So many transactions by as many peers, one after the other.
fn edit(net: &mut Net, round: &str, count: usize) {
    let living = living(net);
    for n in 0..count {
        insert(net, living[n * living.len() / count], &format!("{round} {n}"));
        net.pass_within(50, usize::MAX);
    }
}

/// Lets a room of so many live through an edit, the sudden death of every third, and silence. The mean of sends for each operation and peer.
fn live_and_die(seed: u64, nodes: usize) -> f64 {
    let mut net = Net::crowd(seed, nodes, MeshLimits::default());
    net.pass_within(15_000, usize::MAX);
    assert_eq!(reach(&net).0, nodes, "all of one piece");
    let (degree, hops) = (mean_degree(&net), reach(&net).1);
    assert!((4.0..=8.0).contains(&degree), "seed {seed}: {degree} links in the mean");

    net.forget();
    net.gossip = Some(Gossip::default());
    let count = 20;
    edit(&mut net, "before", count);
    assert!(net.converges_within(30_000, MOST), "seed {seed}: {}", net.picture());
    // What was said last has arrived, also where it was known.
    net.pass_within(1_000, MOST);
    let gossip = net.gossip.take().unwrap();
    assert_eq!(gossip.repeats.first(), None, "seed {seed}: sent to who had it");
    assert!(gossip.sends >= (count * (nodes - 1)) as u64, "it came to everybody");
    let said: usize = net.hosts.iter().map(|host| host.operations_said()).sum();
    let sends = said as f64 / (count * nodes) as f64;
    assert!(sends <= 7.0, "seed {seed}: {sends} sends for each operation and peer");

    let dead: Vec<usize> = (0..nodes).filter(|host| host % 10 < 3).collect();
    dead.iter().for_each(|host| net.kill(*host));
    let died_ms = net.now_ms;
    edit(&mut net, "after", count);
    assert!(
        net.converges_within(died_ms + 30_000 - net.now_ms, MOST),
        "seed {seed}: not within 30 s: {}",
        net.picture()
    );
    println!(
        "{nodes} nodes: {degree:.1} links in the mean, {hops} hops, {sends:.2} sends for each operation and peer; \
         {} died, all else converged {} ms later",
        dead.len(),
        net.now_ms - died_ms
    );
    net.pass_within(30_000, MOST);
    assert!(living(&net).iter().all(|host| net.degree(*host) >= 4), "who lost links has dialled again");
    silence(&mut net);
    sends
}

/// Nothing is said for a minute but pings, and what a new link begins with where one was exchanged for another.
fn silence(net: &mut Net) {
    net.pass_within(30_000, MOST);
    net.forget();
    let links: Vec<BTreeSet<_>> =
        net.hosts.iter().map(|host| host.links.values().map(|link| link.peer.clone()).collect()).collect();
    net.pass_within(60_000, MOST);
    for (host, links) in net.hosts.iter().zip(&links).filter(|(host, _)| !host.dead) {
        let (old, new): (Vec<_>, Vec<_>) = host.data().into_iter().partition(|said| links.contains(&said.to));
        assert!(old.iter().all(|said| said.kind == "bye"), "{old:?}");
        assert!(new.iter().all(|said| matches!(said.kind, "hello" | "digest" | "bye")), "{new:?}");
    }
}

#[test]
fn a_hundred_in_a_room_that_loses_a_third_at_once() {
    live_and_die(1, 100);
}

/// It came there by way of others before our own storage had it.
#[test]
fn who_says_that_it_has_something_is_not_sent_it() {
    for (says, sent) in [(true, 0), (false, 1)] {
        let mut net = Net::room(9, 2);
        net.hosts[0].saves_held = true;
        insert(&mut net, 0, "known");
        if says {
            let vector = serde_json::to_string(net.hosts[0].node.replica().vector()).unwrap();
            net.say(1, 0, &format!(r#"{{"type":"vector","vector":{vector}}}"#));
        }
        net.release_saves(0);
        net.pass(1_000);
        assert_eq!(net.hosts[0].operations_said(), sent);
    }
}

/// As `cargo xtask soak` runs it, in release.
#[test]
#[ignore = "minutes, and only in release"]
fn a_thousand_in_a_room_that_loses_a_third_at_once() {
    for seed in 1..=2 {
        live_and_die(seed, 1_000);
    }
}

#[test]
fn a_room_that_joins_within_a_second_comes_down_to_few_links() {
    let mut net = Net::new(2);
    net.sample(30);
    for _ in 0..60 {
        let host = net.add();
        net.connect(host);
    }
    net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    assert!(net.converges_within(20_000, 60), "{}", net.picture());
    net.pass_within(20_000, 60);
    net.pass_within(60_000, MOST);
    assert_eq!(reach(&net).0, 60);
    assert!(mean_degree(&net) <= 8.0, "{}", mean_degree(&net));
    // Nobody dials without end.
    let opened: usize = net.hosts.iter().map(|host| host.opened).sum();
    net.pass_within(60_000, MOST);
    let later: usize = net.hosts.iter().map(|host| host.opened).sum();
    assert!(later - opened < 60, "{} connections in a minute of calm", later - opened);
}

/// A channel loses nothing, so it is the node behind it that does.
fn lose_tellings(seed: u64, nodes: usize, mesh: MeshLimits) {
    let mut net = Net::crowd(seed, nodes, mesh);
    net.pass_within(15_000, usize::MAX);
    net.chances.untold = 200;
    edit(&mut net, "lossy", 60);
    assert!(net.converges_within(120_000, mesh.accept), "seed {seed}: {}", net.picture());
    assert_eq!(net.rows(nodes - 1).len(), 60);
}

#[test]
fn what_a_fifth_of_all_tellings_loses_comes_by_anti_entropy() {
    // With few neighbours, so that much is lost.
    (0..2).for_each(|seed| lose_tellings(seed, 40, MeshLimits { full: 6, dial: 2, accept: 4 }));
    lose_tellings(2, 100, MeshLimits::default());
}

/// As `cargo xtask soak` runs it, in release.
#[test]
#[ignore = "minutes, and only in release"]
fn what_a_fifth_of_all_tellings_loses_comes_to_a_thousand() {
    lose_tellings(3, 1_000, MeshLimits::default());
}

#[test]
fn a_chain_is_enough_in_a_mesh_too() {
    for seed in 0..5 {
        let mut net = Net::new(seed);
        net.mesh = MeshLimits { full: 2, dial: 1, accept: 2 };
        (0..3).for_each(|_| _ = net.add());
        net.cut(0, 2);
        (0..3).for_each(|host| net.connect(host));
        net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
        assert!(net.converges_within(300_000, 2), "{}", net.picture());
        insert(&mut net, 2, "from the other end");
        assert!(net.converges_within(300_000, 2), "{}", net.picture());
        assert_eq!(net.rows(0).len(), 1);
    }
}

#[test]
fn a_room_grows_out_of_a_full_mesh_and_shrinks_back_into_one() {
    let mut net = Net::new(3);
    net.sample(30);
    net.mesh = MeshLimits { full: 8, dial: 3, accept: 5 };
    let mut net = net.with(8);
    let late: Vec<usize> = (0..6).map(|_| net.add()).collect();
    late.iter().for_each(|host| net.connect(*host));
    net.pass(30_000);
    net.pass_within(60_000, 5);
    assert_eq!(reach(&net).0, 14);
    assert!(net.hosts.iter().all(|host| host.errors().is_empty()), "that is no error");
    // Who makes way has not left the room.
    let status = net.status(0);
    assert_eq!((status.others, status.peers.len()), (13, net.degree(0)));
    assert_eq!(net.hosts[0].node.peers().len(), net.degree(0));
    // At the threshold nothing changes.
    let opened: usize = net.hosts.iter().map(|host| host.opened).sum();
    net.disconnect(late[0]);
    for host in &late[1..5] {
        net.disconnect(*host);
    }
    net.pass(20_000);
    let later: usize = net.hosts.iter().map(|host| host.opened).sum();
    assert!(later - opened < 12, "{} connections because five left", later - opened);
    net.disconnect(late[5]);
    net.disconnect(7);
    net.pass(60_000);
    let present: Vec<usize> = (0..7).collect();
    assert!(present.iter().all(|host| net.hosts[*host].node.peers().len() == 6), "{}", net.picture());
}

#[test]
fn who_stays_in_the_room_is_dialled_again_and_who_leaves_is_not() {
    for (bye, again) in [(r#"{"type":"bye","stays":true}"#, true), (r#"{"type":"bye"}"#, false)] {
        let mut net = Net::room(8, 3);
        net.say(1, 0, bye);
        net.pass(30_000);
        assert!(!net.is_full_mesh(), "left to others for a while");
        net.pass(90_000);
        assert_eq!(net.is_full_mesh(), again, "{bye}");
    }
}

#[test]
fn two_halves_that_formed_apart_grow_together() {
    let mut net = Net::crowd(4, 30, MeshLimits { full: 6, dial: 3, accept: 6 });
    let across = |one: usize, other: usize| (one % 2) != (other % 2);
    for one in 0..30 {
        (0..one).filter(|other| across(one, *other)).for_each(|other| net.cut(one, other));
    }
    net.pass_within(240_000, usize::MAX);
    insert(&mut net, 0, "even");
    insert(&mut net, 1, "odd");
    net.pass_within(30_000, 6);
    assert!(!net.is_converged());
    for one in 0..30 {
        (0..one).filter(|other| across(one, *other)).for_each(|other| net.mend(one, other));
    }
    assert!(net.converges_within(120_000, 6), "{}", net.picture());
    assert_eq!(net.rows(0).len(), 2);
}

#[test]
fn who_knows_nobody_left_asks_for_other_names() {
    let mut net = Net::new(5);
    net.mesh = SMALL;
    net.sample(2);
    for _ in 0..12 {
        let host = net.add();
        net.connect(host);
        net.pass(100);
    }
    net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    assert!(net.converges_within(120_000, usize::MAX));
    // The last one was told two names.
    let told: Vec<usize> =
        (0..11).filter(|host| net.hosts[11].links.values().any(|l| l.peer == net.peer(*host))).collect();
    net.status(11);
    told.iter().for_each(|host| net.kill(*host));
    let alive =
        |net: &Net| net.hosts[11].links.values().filter(|l| l.partner.is_some_and(|p| !net.hosts[p.0].dead)).count();
    let end_ms = net.now_ms + 180_000;
    while alive(&net) < 2 {
        assert!(net.now_ms < end_ms, "{}", net.picture());
        net.pass(1_000);
    }
}

/// What neighbours claim of their links is their word alone.
#[test]
fn lies_about_links_cost_the_liar_at_most() {
    for claim in [0, 1_000_000_000_u64] {
        let mut net = Net::crowd(6, 12, SMALL);
        net.pass_within(15_000, usize::MAX);
        let end_ms = net.now_ms + 400_000;
        let mut met = BTreeSet::new();
        while net.now_ms < end_ms {
            let neighbours: Vec<usize> = net.hosts[0].links.values().filter_map(|link| Some(link.partner?.0)).collect();
            for liar in &neighbours {
                net.say(*liar, 0, &format!(r#"{{"type":"ping","links":{claim}}}"#));
            }
            met.extend(neighbours);
            net.pass_within(2_000, 3);
        }
        assert!(met.len() > 3, "nobody holds all places for ever");
        insert(&mut net, 0, "heard");
        assert!(net.converges_within(60_000, 3), "{}", net.picture());
        assert!(net.hosts[0].opened < 400, "{} connections in seven minutes", net.hosts[0].opened);
    }
}

/// The server may say what it likes: that there is nobody, that there are more than there can be, that all have left.
#[test]
fn a_server_that_miscounts_breaks_nothing() {
    for count in [0, 1, u64::MAX] {
        let mut net = Net::crowd(7, 8, SMALL);
        let peers: Vec<String> = (1..8).map(|host| format!("\"{}\"", net.peer(host))).collect();
        let text = format!(r#"{{"type":"peers","peerIds":[{}],"count":{count}}}"#, peers.join(","));
        net.feed(0, Input::SignalingText { text });
        for n in 0..2_000 {
            net.feed(0, Input::SignalingText { text: format!(r#"{{"type":"peer-leave","peerId":"ghost{n}"}}"#) });
        }
        net.pass_within(60_000, 8);
        insert(&mut net, 0, "still there");
        assert!(net.converges_within(60_000, 8), "{}", net.picture());
        assert!(
            !net.hosts[0].events.iter().any(|event| matches!(event, Event::Error { .. })),
            "{:?}",
            net.hosts[0].events
        );
    }
}
