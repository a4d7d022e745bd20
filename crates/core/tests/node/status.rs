//! How it stands with peers, how far a sync is, and connections that are given new credentials.

use rtc_battery_core::node::{Event, Input, PeerState, PeerStatus, Status};
use rtc_battery_sim::net::Net;
use serde_json::json;

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
     INSERT INTO t SELECT 'row ' || i, i, randomblob(20) FROM n";

fn status(net: &mut Net, host: usize) -> Status {
    let now = net.now(host);
    let status = net.hosts[host].node.node().status(now);
    net.poll(host);
    status
}

fn of(net: &mut Net, host: usize, other: usize) -> PeerStatus {
    let peer = net.peer(other);
    status(net, host).peers.into_iter().find(|status| status.peer == peer).expect("it is known")
}

#[test]
fn a_status_tells_how_each_peer_is_reached_and_what_went_there() {
    let mut net = Net::room(1, 2);
    let new = net.add();
    net.hosts[new].relayed = true;
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.settle();
    let told = status(&mut net, new);
    assert!(told.online);
    let mut names: Vec<_> = [net.peer(0), net.peer(1)].into();
    names.sort();
    assert_eq!(told.peers.iter().map(|peer| peer.peer.clone()).collect::<Vec<_>>(), names);
    let least_ms = 2 * net.delays.channel_ms.0;
    for (host, other, relayed) in [(new, 0, true), (0, new, false), (0, 1, false)] {
        let status = of(&mut net, host, other);
        assert_eq!((status.state, status.relayed), (PeerState::Connected, Some(relayed)), "{status:?}");
        assert_eq!((status.peer_lacks, status.we_lack), (Some(0), Some(0)));
        let round_trip_ms = status.round_trip_ms.expect("it was measured when they met");
        assert!((least_ms..=1_000).contains(&round_trip_ms), "{status:?}, at least {least_ms}");
        let link = &net.hosts[host].links[&net.link(host, other)];
        let sent_bytes: u64 = link.channels.iter().map(|channel| channel.sent + channel.buffered).sum();
        assert_eq!(status.sent_bytes, sent_bytes);
        net.pass(1_000);
        assert!(of(&mut net, other, host).received_bytes >= status.sent_bytes);
    }
}

#[test]
fn who_asks_again_gets_a_fresh_measurement() {
    let mut net = Net::room(2, 2);
    net.pass(30_000);
    net.forget();
    status(&mut net, 0);
    assert_eq!(net.hosts[0].count("ping"), 1, "asked because somebody wants to know");
    status(&mut net, 0);
    assert_eq!(net.hosts[0].count("ping"), 1, "the answer is on its way");
    net.delays.channel_ms = (400, 400);
    net.pass(4_000);
    status(&mut net, 0);
    net.pass(2_000);
    assert_eq!(of(&mut net, 0, 1).round_trip_ms, Some(800));
}

#[test]
fn a_status_tells_who_is_behind_and_who_is_out_of_reach() {
    let mut net = Net::room(3, 2);
    net.hosts[1].saves_held = true;
    net.exec(0, "BEGIN");
    net.exec(1, "INSERT INTO t VALUES ('mine', 1, 1)");
    assert_eq!(of(&mut net, 1, 0).peer_lacks, Some(0), "what is not saved is told to nobody");
    net.release_saves(1);
    net.pass(1_000);
    net.exec(0, "ROLLBACK");
    net.settle();
    net.cut(0, 1);
    for n in 0..3 {
        net.exec(0, &format!("INSERT INTO t VALUES ('{n}', 1, 1)"));
    }
    net.until("the peer does not answer", |net| of(net, 0, 1).state != PeerState::Connected);
    let lost = of(&mut net, 0, 1);
    assert_eq!(lost.state, PeerState::Interrupted);
    net.until("it is given up", |net| matches!(of(net, 0, 1).state, PeerState::Waiting | PeerState::Connecting));
    let lost = of(&mut net, 0, 1);
    assert_eq!((lost.round_trip_ms, lost.relayed, lost.peer_lacks, lost.sent_bytes), (None, None, None, 0));
    net.mend(0, 1);
    net.until("they are connected", |net| net.is_full_mesh());
    net.settle();
    assert_eq!(of(&mut net, 1, 0).we_lack, Some(0));
}

/// How far each series was, as it was told: done and all, and where a sync was told.
fn progress(net: &Net, host: usize) -> (Vec<(u64, u64)>, bool) {
    let mut told = Vec::new();
    let mut applied_before_its_end = false;
    for event in &net.hosts[host].events {
        match event {
            Event::SyncProgress { done, total, .. } => told.push((*done, *total)),
            Event::Sync { .. } => applied_before_its_end = told.last().is_some_and(|(done, total)| done < total),
            _ => {}
        }
    }
    (told, applied_before_its_end)
}

fn assert_progress((told, applied): (Vec<(u64, u64)>, bool)) {
    let (last, before) = told.split_last().expect("it was told");
    assert_eq!(last.0, last.1, "{told:?}");
    assert!(before.len() >= 2 && before.iter().all(|(done, total)| done < total && *total == last.1), "{told:?}");
    assert!(before.windows(2).all(|two| two[0].0 <= two[1].0), "{told:?}");
    assert!(applied, "the end is told when it is applied: {told:?}");
}

#[test]
fn a_newcomer_is_told_how_far_it_is() {
    let mut net = Net::room(4, 2);
    net.exec(0, MANY);
    net.exec(1, "DELETE FROM t WHERE v % 3 = 0");
    net.settle();
    let new = net.add();
    net.hosts[new].takes_bytes_per_ms = Some(200);
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.settle();
    assert_progress(progress(&net, new));
}

#[test]
fn a_large_transaction_is_told_as_it_comes_and_small_ones_are_not() {
    let mut net = Net::room(5, 2);
    net.exec(0, "INSERT INTO t VALUES ('small', 1, 1)");
    net.settle();
    assert_eq!(progress(&net, 1).0, []);
    net.hosts[1].takes_bytes_per_ms = Some(200);
    net.exec(0, MANY);
    net.settle();
    assert_progress(progress(&net, 1));
    assert_eq!(progress(&net, 1).0.last(), Some(&(3_000, 3_000)));
}

#[test]
fn a_peer_that_makes_up_progress_does_no_harm() {
    let mut net = Net::room(6, 2);
    for (done, total) in [(7, 3), (u64::MAX, u64::MAX), (0, 0)] {
        net.say(0, 1, &json!({"type": "sync-progress", "done": done, "total": total}).to_string());
        net.pass(200);
    }
    let told = progress(&net, 1).0;
    assert!(told.len() == 3 && told.iter().all(|(done, total)| done < total), "{told:?}");
    net.exec(0, "INSERT INTO t VALUES ('small', 1, 1)");
    net.settle();
    assert_eq!(net.hosts[1].errors(), []);
}

/// Which generation of its own each end speaks, as the other has heard.
fn generations(net: &Net) -> [String; 2] {
    let heard = |host: usize, other| net.hosts[host].links[&net.link(host, other)].remote.clone().unwrap().ufrag;
    [heard(1, 0), heard(0, 1)]
}

fn renew(net: &mut Net, host: usize) {
    let link = net.link(host, 1 - host);
    net.feed(host, Input::ServersRenewed { link });
}

/// Both are given new ones at about the same time, as is usual.
#[test]
fn a_relayed_connection_restarts_with_new_credentials_and_stays() {
    for seed in 0..40 {
        let mut net = Net::room(seed, 2);
        net.delays.signaling_ms = (0, 200);
        net.hosts[0].relayed = true;
        net.hosts[1].relayed = true;
        net.pass(10_000);
        let (before, opened) = (generations(&net), net.hosts[0].opened);
        renew(&mut net, 0);
        if seed % 4 > 0 {
            net.pass(seed % 4 * 50 - 50);
            renew(&mut net, 1);
        }
        net.pass(10_000);
        let after = generations(&net);
        assert!(after[0] != before[0] && after[1] != before[1], "seed {seed}: {before:?} {after:?}");
        assert!(net.is_full_mesh() && net.hosts[0].opened == opened, "seed {seed}");
        assert_eq!((net.hosts[0].comings(), net.hosts[1].comings()), (vec![], vec![]), "seed {seed}");
    }
}

#[test]
fn a_direct_connection_does_not_and_one_without_signaling_does_later() {
    let mut net = Net::room(7, 2);
    let before = generations(&net);
    renew(&mut net, 0);
    net.pass(20_000);
    assert_eq!(generations(&net), before, "it uses no relay");

    let mut net = Net::room(8, 2);
    net.hosts[0].relayed = true;
    net.hosts[1].relayed = true;
    net.pass(10_000);
    let before = generations(&net);
    net.stop_server();
    net.pass(1_000);
    renew(&mut net, 0);
    net.pass(20_000);
    assert_eq!(generations(&net), before);
    net.start_server();
    net.until("it restarts", |net| generations(net)[0] != before[0]);
    net.pass(5_000);
    assert!(net.is_full_mesh());
    assert_eq!(net.hosts[0].comings(), []);
}
