//! A signaling server that lies: peers that are not there, offers that nobody made, nonsense of any size. What it costs is bounded, what is
//! connected stays, and whoever is real is met.

use rtc_battery_core::node::{ErrorCode, Input};
use rtc_battery_proto::PeerId;
use rtc_battery_sim::net::Net;
use serde_json::{Value, json};

fn hear(net: &mut Net, host: usize, message: &Value) {
    net.feed(host, Input::SignalingText { text: message.to_string() });
}

fn ghost_join(net: &mut Net, host: usize, n: usize) {
    hear(net, host, &json!({"type": "peer-join", "peerId": format!("ghost{n}")}));
}

fn description(kind: &str, session: usize) -> Value {
    json!({"type": kind, "sdp": format!("v=0\r\no=- {session} 1 IN IP4 h\r\na=ice-ufrag:g{session}\r\n")})
}

fn ghost_offer(net: &mut Net, host: usize, n: usize) {
    hear(net, host, &json!({"type": "offer", "from": format!("ghost{n}"), "sdp": description("offer", 1_000_000 + n)}));
}

/// Those of its links that lead to somebody.
fn real_links(net: &Net, host: usize) -> usize {
    net.hosts[host].links.values().filter(|link| link.partner.is_some()).count()
}

fn count(net: &Net, host: usize, code: ErrorCode) -> usize {
    net.hosts[host].errors().iter().filter(|error| **error == code).count()
}

/// What a crowd of ghosts costs one of two: how many connections at a time and in ten minutes, and what its user is told.
fn crowd_of_ghosts(full: usize) -> (usize, usize, Vec<ErrorCode>) {
    let mut net = Net::unsealed(1);
    net.mesh.full = full;
    let mut net = net.with(2);
    let opened = net.hosts[0].opened;
    let (me, real) = (net.peer(0), net.peer(1));
    let crowd: Vec<String> =
        (0..5_000).map(|n| format!("ghost{n}")).chain([me.to_string(), real.to_string()]).collect();
    hear(&mut net, 0, &json!({"type": "peers", "peerIds": crowd}));
    let mut most = 0;
    for _ in 0..600 {
        net.pass(1_000);
        most = most.max(net.hosts[0].links.len());
    }
    let (opened, errors) = (net.hosts[0].opened - opened, net.hosts[0].errors());
    assert_eq!((net.hosts[0].comings(), net.hosts[0].node.peers()), (vec![], vec![real]));
    net.exec(1, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.settle();
    (most, opened, errors)
}

#[test]
fn a_crowd_of_ghosts_costs_a_bounded_number_of_connections() {
    let (most, opened, errors) = crowd_of_ghosts(usize::MAX);
    assert_eq!(most, 33, "32 that are being made, and the real one");
    assert!((350..=400).contains(&opened), "{opened} connections in ten minutes: 100 at once and one in two seconds");
    assert_eq!(errors, [ErrorCode::Signaling], "told once");
}

#[test]
fn in_a_large_room_it_costs_no_more_and_is_no_error() {
    let (most, opened, errors) = crowd_of_ghosts(24);
    assert!(most <= 33, "{most} at a time");
    assert!(opened <= 400, "{opened} connections in ten minutes");
    assert_eq!(errors, []);
}

#[test]
fn a_real_peer_among_five_thousand_ghosts_is_met() {
    let mut net = Net::unsealed(1);
    let (old, new) = (net.add_messenger(), net.add_messenger());
    net.haunt((0..5_000).map(|n| PeerId::new(&format!("ghost{n}")).unwrap()));
    net.connect(old);
    net.pass(1_000);
    net.connect(new);
    let end_ms = net.now_ms + 4 * 3_600_000;
    while net.hosts[old].node.peers().is_empty() {
        assert!(net.now_ms < end_ms, "not within four hours");
        net.pass(10_000);
    }
    net.pass(60_000);
    assert_eq!(net.hosts[old].node.peers(), [net.peer(new)], "it stays");
    assert_eq!(net.hosts[new].node.peers(), [net.peer(old)]);
}

#[test]
fn a_real_peer_is_not_crowded_out_of_the_table() {
    let mut net = Net::unsealed(4);
    let (old, new) = (net.add_messenger(), net.add_messenger());
    net.connect(old);
    net.pass(1_000);
    (0..9_000).for_each(|n| ghost_join(&mut net, old, n));
    net.connect(new);
    net.until("its offer is answered", |net| net.hosts[old].node.peers().len() == 1);
}

#[test]
fn coming_and_going_without_end_is_borne() {
    let mut net = Net::unsealed_room(2, 2);
    let opened = net.hosts[0].opened;
    for n in 0..6_000 {
        ghost_join(&mut net, 0, n);
        if n % 3 > 0 {
            hear(&mut net, 0, &json!({"type": "peer-leave", "peerId": format!("ghost{}", n / 2)}));
        }
        if n % 30 == 0 {
            net.pass(1_000);
            assert!(net.hosts[0].links.len() <= 33);
        }
    }
    let opened = net.hosts[0].opened - opened;
    assert!(opened <= 100 + 100 + 1, "{opened} connections in 200 seconds");
    assert!(net.hosts[0].errors().len() <= 20, "{:?}", net.hosts[0].errors());
    assert_eq!((net.hosts[0].node.peers().len(), net.hosts[0].comings()), (1, vec![]));
}

#[test]
fn a_flood_of_offers_is_answered_within_bounds_and_stops_no_dial() {
    let mut net = Net::unsealed_room(3, 2);
    let opened = net.hosts[0].opened;
    for n in 0..2_000 {
        ghost_offer(&mut net, 0, n);
        // The same again, from another connection each time.
        ghost_offer(&mut net, 0, 7);
        hear(
            &mut net,
            0,
            &json!({"type": "ice", "from": format!("ghost{n}"), "candidate": {"candidate": "x".repeat(1_000), "usernameFragment": "other"}}),
        );
    }
    assert_eq!(net.hosts[0].links.len(), 97, "96 that are being made, and the real one");
    let real = net.add();
    net.connect(real);
    let end_ms = net.now_ms + 4 * 3_600_000;
    while real_links(&net, real) < 2 {
        assert!(net.now_ms < end_ms, "the newcomer is met");
        net.pass(1_000);
        assert!(net.hosts[0].links.len() <= 32 + 96 + 2);
    }
    let (opened, seconds) = (net.hosts[0].opened - opened, net.now_ms / 1_000);
    assert!(opened as u64 <= 200 + seconds, "{opened} connections in {seconds} s");
    assert!(net.hosts[0].node.peers().contains(&net.peer(1)));
}

#[test]
fn what_others_are_said_to_say_makes_nobody_known_and_replaces_no_link_that_stands() {
    let mut net = Net::unsealed_room(4, 2);
    let (me, peer, link) = (net.peer(0), net.peer(1), net.link(0, 1));
    for n in 0..5_000 {
        let from = format!("stranger{n}");
        hear(
            &mut net,
            0,
            &json!({"type": "ice", "from": from, "candidate": {"candidate": "x", "usernameFragment": "y"}}),
        );
        hear(&mut net, 0, &json!({"type": "answer", "from": from, "sdp": description("answer", n)}));
        hear(&mut net, 0, &json!({"type": "answer", "from": peer, "sdp": description("answer", n)}));
        hear(&mut net, 0, &json!({"type": "offer", "from": peer, "sdp": description("offer", n)}));
        hear(&mut net, 0, &json!({"type": "offer", "from": me, "sdp": description("offer", n)}));
        hear(&mut net, 0, &json!({"type": "ice", "from": me, "candidate": {"candidate": "x"}}));
    }
    hear(&mut net, 0, &json!({"type": "peer-join", "peerId": me}));
    hear(&mut net, 0, &json!({"type": "peer-leave", "peerId": me}));
    for n in 0..100 {
        net.pass(3_000);
        hear(&mut net, 0, &json!({"type": "offer", "from": peer, "sdp": description("offer", n)}));
    }
    assert_eq!((net.link(0, 1), net.hosts[0].links.len()), (link, 1));
    assert_eq!(net.hosts[0].events, []);
}

#[test]
fn nonsense_of_any_size_is_told_seldom() {
    let mut net = Net::unsealed_room(5, 2);
    let peer = net.peer(1);
    let deep = "[".repeat(500_000);
    let texts = [
        "x".repeat(1 << 20),
        "x".repeat((1 << 20) + 1),
        deep.clone(),
        format!(r#"{{"type":"peers","peerIds":{deep}"#),
        format!(r#"{{"type":"offer","from":"{peer}","sdp":{deep}{}}}"#, "]".repeat(500_000)),
        format!(r#"{{"type":"offer","from":"{peer}","sdp":{{"type":"offer","sdp":"{}"}}}}"#, "s".repeat(1_000_000)),
        format!(r#"{{"type":"offer","from":"{peer}","sdp":{{"type":"offer","sdp":"o=- "#),
        format!(r#"{{"type":"offer","from":"{peer}","sdp":{{"type":"answer","sdp":""}}}}"#),
        format!(
            r#"{{"type":"ice","from":"{peer}","candidate":{{"candidate":{}{}}}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        ),
        format!(r#"{{"type":"ice","from":"{peer}","candidate":{{"candidate":"{}"}}}}"#, "c".repeat(1_000_000)),
        r#"{"type":"peers"}"#.into(),
        r#"{"type":7}"#.into(),
        String::new(),
    ];
    for _ in 0..100 {
        for text in &texts {
            net.feed(0, Input::SignalingText { text: text.clone() });
        }
    }
    assert_eq!(net.hosts[0].errors(), [ErrorCode::Signaling]);
    net.pass(10_000);
    net.feed(0, Input::SignalingText { text: texts[0].clone() });
    assert_eq!(count(&net, 0, ErrorCode::Signaling), 2);
    net.exec(1, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.settle();
    assert!(net.is_full_mesh() && net.hosts[0].comings().is_empty());
}

/// Until rooms are a partial mesh, this is how large they are.
#[test]
fn a_hundred_peers_make_a_full_mesh_at_once() {
    let mut net = Net::unsealed(6);
    for _ in 0..100 {
        let host = net.add_messenger();
        net.connect(host);
    }
    while !net.is_full_mesh() {
        assert!(net.now_ms < 60_000, "within a minute");
        net.pass(500);
    }
    assert!(net.hosts.iter().all(|host| host.errors().is_empty()));
}
