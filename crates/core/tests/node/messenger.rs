//! Messengers: peers without a database, among themselves and among nodes.

use rtc_battery_core::node::{ErrorCode, Event, Input, RequestId};
use rtc_battery_proto::{Operation, PeerId};
use rtc_battery_sim::net::Net;
use serde_json::{Value, json};

fn operation(ts: u64, id: &str, v: &str) -> Operation {
    serde_json::from_value(operation_json(ts, id, v)).unwrap()
}

fn operation_json(ts: u64, id: &str, v: &str) -> Value {
    json!({"hlc": {"ts": ts, "counter": 0, "nodeId": "stranger"}, "type": "INSERT", "table": "t",
           "pk": {"id": id}, "values": {"id": id, "v": v}})
}

/// The operations told one by one, as JSON, and who told them.
fn told(net: &Net, host: usize) -> Vec<(PeerId, Value)> {
    let told = net.hosts[host].events.iter().filter_map(|event| match event {
        Event::Operation { peer, operation } => Some((peer.clone(), serde_json::to_value(operation).unwrap())),
        _ => None,
    });
    told.collect()
}

/// How requests ended: with operations, or with a reason.
fn ends(net: &Net, host: usize) -> Vec<(RequestId, Result<usize, String>)> {
    let ends = net.hosts[host].events.iter().filter_map(|event| match event {
        Event::Answered { request, operations, .. } => Some((*request, Ok(operations.len()))),
        Event::Unanswered { request, reason, .. } => Some((*request, Err(reason.clone()))),
        _ => None,
    });
    ends.collect()
}

fn said(net: &Net, host: usize) -> Vec<&'static str> {
    net.hosts[host].said.iter().map(|said| said.kind).collect()
}

/// Two that are connected, the first of them a messenger.
fn pair(seed: u64, other_is_node: bool) -> Net {
    let mut net = Net::new(seed);
    net.add_messenger();
    if other_is_node {
        net.add();
        net.exec(1, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    } else {
        net.add_messenger();
    }
    net.connect(0);
    net.connect(1);
    net.until("they are connected", |net| net.is_full_mesh());
    net.pass(500);
    net.forget();
    net
}

#[test]
fn two_messengers_tell_each_other_operations_and_have_nothing_to_answer() {
    for seed in 0..20 {
        let mut net = Net::new(seed);
        let (a, b) = (net.add_messenger(), net.add_messenger());
        net.connect(a);
        net.pass(seed * 50);
        net.connect(b);
        net.until("they are connected", |net| net.is_full_mesh());
        assert_eq!((said(&net, a)[0], said(&net, b)[0]), ("ping", "ping"));
        net.pass(500);
        for n in 0..50 {
            net.broadcast(a, operation(n, "x", "from a"));
        }
        let mut extended = operation(9, "y", "from b");
        extended.seq = Some(7);
        net.broadcast(b, extended);
        let request = net.request_sync(a, b).unwrap();
        net.pass(2_000);
        let expected: Vec<_> = (0..50).map(|n| (net.peer(a), operation_json(n, "x", "from a"))).collect();
        assert_eq!(told(&net, b), expected);
        assert_eq!(told(&net, a), [(net.peer(b), operation_json(9, "y", "from b"))]);
        assert_eq!(ends(&net, a), [(request, Ok(0))]);
        assert_eq!((net.hosts[a].errors(), net.hosts[b].errors()), (vec![], vec![]));
    }
}

#[test]
fn nodes_take_a_messenger_for_a_plain_peer_whoever_came_first() {
    for (seed, messenger_first) in (0..20).map(|seed| (seed, seed % 2 == 0)) {
        let mut net = Net::new(seed);
        let (node, messenger, other) = (net.add(), net.add_messenger(), net.add());
        net.exec(node, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
        net.exec(node, "INSERT INTO t VALUES ('old', 1, x'00ff'), ('older', 9007199254740993, 1.0)");
        let order = if messenger_first { [messenger, node] } else { [node, messenger] };
        order.into_iter().for_each(|host| {
            net.connect(host);
            net.pass(5_000);
        });
        net.connect(other);
        net.until("everyone is connected", |net| net.is_full_mesh());
        net.settle();
        assert_eq!(said(&net, messenger).iter().filter(|kind| **kind == "sync-response").count(), 2);
        let request = net.request_sync(messenger, node).unwrap();
        net.until("it is answered", |net| !ends(net, messenger).is_empty());
        assert_eq!(ends(&net, messenger), [(request, Ok(2))]);
        net.exec(node, "UPDATE t SET v = 2 WHERE id = 'old'");
        net.broadcast(messenger, operation(5, "new", "theirs"));
        net.until("all have it", |net| net.rows(other).len() == 3);
        net.settle();
        let told = told(&net, messenger);
        let from_node = told.iter().find(|(from, told)| *from == net.peer(node) && told["type"] == "UPDATE");
        let (_, update) = from_node.unwrap();
        assert_eq!(update["values"], json!({"v": 2}));
        let mut fields: Vec<_> = update.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["hlc", "pk", "prev", "table", "type", "values"]);
        let to_messenger = net.peer(messenger);
        let vectors = net.hosts[node].said.iter().filter(|said| said.to == to_messenger && said.kind == "vector");
        assert_eq!(vectors.count(), 0);
        for host in [node, messenger, other] {
            assert_eq!(net.hosts[host].errors(), [], "seed {seed}");
        }
    }
}

/// A node need not wait for two seconds until it knows whom it talks to.
#[test]
fn the_first_word_says_what_is_spoken() {
    let mut net = Net::new(3);
    let (node, messenger) = (net.add(), net.add_messenger());
    net.delays.channel_ms = (1, 1);
    net.connect(node);
    net.pass(1_000);
    net.connect(messenger);
    net.until("the channel is open", |net| net.hosts.iter().any(|host| !host.said.is_empty()));
    net.pass(50);
    assert_eq!((net.hosts[node].node.peers().len(), net.hosts[messenger].node.peers().len()), (1, 1));
}

#[test]
fn an_answer_in_many_parts_is_one_answer() {
    let mut net = pair(1, true);
    net.exec(
        1,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO t SELECT 'row ' || i, i, hex(randomblob(50)) FROM n",
    );
    net.pass(10_000);
    net.forget();
    let first = net.request_sync(0, 1).unwrap();
    let second = net.request_sync(0, 1).unwrap();
    net.until("both are answered", |net| ends(net, 0).len() == 2);
    assert_eq!(ends(&net, 0), [(first, Ok(3000)), (second, Ok(3000))]);
    assert_eq!(told(&net, 0), []);
    let parts: Vec<_> = net.hosts[1].said.iter().filter(|said| said.kind == "sync-response").collect();
    assert!(parts.len() > 8, "{} parts", parts.len());
    assert_eq!(parts.iter().filter(|said| said.ends).count(), 2);
}

#[test]
fn a_request_ends_when_the_peer_leaves_or_we_do() {
    for leaves in [0, 1] {
        let mut net = pair(2, true);
        net.exec(1, "INSERT INTO t VALUES ('large', hex(randomblob(60000)), 0), ('larger', hex(randomblob(60000)), 0)");
        net.pass(10_000);
        net.forget();
        net.delays.bytes_per_ms = 1;
        let request = net.request_sync(0, 1).unwrap();
        let queued = net.request_sync(0, 1).unwrap();
        net.until("the answer is on its way", |net| net.hosts[1].count("sync-response") > 0);
        net.disconnect(leaves);
        net.until("it is told", |net| ends(net, 0).len() == 2);
        net.pass(60_000);
        let ends: Vec<_> = ends(&net, 0).into_iter().map(|(request, end)| (request, end.is_err())).collect();
        assert_eq!(ends, [(request, true), (queued, true)]);
        assert_eq!(net.hosts[0].told(&Event::Closed), leaves == 0);
        let gone = net.request_sync(0, 1).unwrap_err();
        assert_eq!(gone.0, net.peer(1));
    }
}

#[test]
fn a_peer_that_does_not_answer_fails_the_request_and_a_late_answer_is_told() {
    let mut net = pair(3, true);
    net.exec(1, "INSERT INTO t VALUES ('x', 1, 2)");
    net.pass(1_000);
    net.forget();
    // While its user's transaction is open it cannot read what is committed.
    net.exec(1, "BEGIN");
    let request = net.request_sync(0, 1).unwrap();
    net.pass(14_000);
    assert_eq!(ends(&net, 0), []);
    net.pass(2_000);
    assert_eq!(ends(&net, 0), [(request, Err("it does not answer".into()))]);
    net.exec(1, "COMMIT");
    net.until("the late answer is told", |net| told(net, 0).len() == 1);
    let again = net.request_sync(0, 1).unwrap();
    net.until("it answers", |net| ends(net, 0).len() == 2);
    assert_eq!(ends(&net, 0)[1], (again, Ok(1)));
    assert!(net.is_full_mesh());
}

#[test]
fn a_peer_that_does_not_keep_up_loses_its_link_and_is_named() {
    let mut net = pair(4, false);
    net.delays.bytes_per_ms = 50;
    let value = "v".repeat(100_000);
    let mut sent = 0;
    while net.hosts[0].errors().is_empty() {
        net.broadcast(0, operation(sent, "x", &value));
        sent += 1;
    }
    assert!((85..95).contains(&sent), "{sent} of 100 kB in the queue and the channel");
    assert_eq!(net.hosts[0].errors(), [ErrorCode::Link]);
    let named = |event: &Event| matches!(event, Event::Error { peer: Some(peer), .. } if *peer == net.peer(1));
    assert!(net.hosts[0].events.iter().any(named));
    assert_eq!(net.hosts[0].comings(), [(false, net.peer(1))]);
    assert!(net.hosts[0].most_buffered < 512 * 1024);
    net.until("they are connected again", |net| net.is_full_mesh());
    net.delays.bytes_per_ms = 20_000;
    net.broadcast(0, operation(1, "y", "small"));
    net.until("it hears again", |net| told(net, 1).last().is_some_and(|(_, told)| told["pk"]["id"] == "y"));
}

#[test]
fn what_a_peer_cannot_take_is_told() {
    let mut net = pair(5, false);
    net.broadcast(0, operation(1, "x", &"v".repeat(300_000)));
    net.broadcast(0, operation(2, "y", "small"));
    net.pass(1_000);
    assert_eq!(net.hosts[0].errors(), [ErrorCode::TooLarge]);
    assert_eq!(told(&net, 1).len(), 1);
}

#[test]
fn bad_messages_are_borne_and_fail_what_they_answer() {
    let mut net = pair(6, false);
    let bad_operation = r#"{"hlc":{"ts":1},"type":"DELETE","table":"t","pk":{}}"#;
    for bad in ["[[[[", r#"{"type":"op"}"#, &format!(r#"{{"type":"op","payload":{bad_operation}}}"#)] {
        net.say(1, 0, bad);
        net.pass(10_000);
    }
    for ignored in [
        r#"{"type":"later"}"#,
        r#"{"type":"vector","vector":{}}"#,
        r#"{"type":"hello","protocol":9,"nodeId":"x","vector":{}}"#,
        r#"{"type":"pong"}"#,
    ] {
        net.say(1, 0, ignored);
    }
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage; 3]);
    let request = net.request_sync(0, 1).unwrap();
    net.say(1, 0, &format!(r#"{{"type":"sync-response","operations":[{bad_operation}]}}"#));
    assert_eq!(ends(&net, 0).len(), 1);
    assert!(matches!(&ends(&net, 0)[0], (id, Err(reason)) if *id == request && reason.contains("cannot be read")));
    net.pass(20_000);
    assert!(net.is_full_mesh() && net.hosts[0].comings().is_empty());
    assert_eq!((told(&net, 0).len(), ends(&net, 0).len()), (0, 1));
}

#[test]
fn a_whole_file_is_its_rows() {
    use base64::Engine as _;
    let mut file = rusqlite::Connection::open_in_memory().unwrap();
    file.execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('a', x'01'), ('b', 2.0)")
        .unwrap();
    let bytes = file.serialize("main").unwrap().to_vec();
    let full = json!({"type": "sync-full", "database": base64::engine::general_purpose::STANDARD.encode(bytes)});
    let mut net = pair(7, false);
    net.say(1, 0, &full.to_string());
    let told = told(&net, 0);
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(_, told)| told["hlc"]["ts"] == 0 && told["type"] == "INSERT"));
    assert_eq!(told[0].1["values"], json!({"id": "a", "v": {"$blob": "AQ=="}}));
    let request = net.request_sync(0, 1).unwrap();
    net.say(1, 0, &full.to_string());
    assert_eq!(ends(&net, 0), [(request, Ok(2))]);
    net.pass(1_000);
    let request = net.request_sync(0, 1).unwrap();
    net.say(1, 0, r#"{"type":"sync-full","database":"AAAA"}"#);
    assert!(matches!(&ends(&net, 0)[1], (id, Err(_)) if *id == request));
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage]);
}

/// What was said to the old connection may be lost: to the user the peer left and came again.
#[test]
fn a_connection_that_is_replaced_is_a_peer_that_left() {
    let mut net = pair(8, false);
    let link = net.link(1, 0);
    net.cut(0, 1);
    let request = net.request_sync(0, 1).unwrap();
    net.feed(1, Input::LinkFailed { link, reason: "only here".into() });
    // The channel's end is lost on the way.
    net.pass(100);
    net.mend(0, 1);
    net.until("the other connection is taken up", |net| !net.hosts[0].comings().is_empty());
    assert_eq!(net.hosts[0].comings(), [(false, net.peer(1))]);
    assert_eq!(ends(&net, 0), [(request, Err("the connection was replaced".into()))]);
    net.until("they are connected again", |net| net.is_full_mesh());
    assert_eq!(net.hosts[0].comings().last(), Some(&(true, net.peer(1))));
}

#[test]
fn a_sleep_fails_no_request() {
    let mut net = pair(9, true);
    net.exec(1, "BEGIN");
    let request = net.request_sync(0, 1).unwrap();
    net.pass(5_000);
    net.fall_asleep(0);
    net.pass(12_000);
    net.wall_ms += 3_600_000;
    net.wake_up(0);
    assert_eq!(ends(&net, 0), []);
    net.exec(1, "COMMIT");
    net.until("it is answered", |net| !ends(net, 0).is_empty());
    assert_eq!(ends(&net, 0), [(request, Ok(0))]);
}

#[test]
fn who_leaves_has_told_what_was_broadcast_before() {
    for other_is_node in [false, true] {
        let mut net = pair(9, other_is_node);
        net.delays.bytes_per_ms = 2_000;
        for n in 0..2_000 {
            net.broadcast(0, operation(n, &n.to_string(), &"v".repeat(1_000)));
        }
        net.disconnect(0);
        net.until("it has left", |net| net.hosts[1].told(&Event::PeerLeave { peer: net.peer(0) }));
        net.pass(1_000);
        let heard = if other_is_node { net.rows(1).len() } else { told(&net, 1).len() };
        assert_eq!(heard, 2_000);
    }
}

#[test]
fn a_node_that_leaves_has_told_a_plain_peer_what_it_wrote_before() {
    let mut net = pair(10, true);
    net.delays.bytes_per_ms = 2_000;
    for n in 0..200 {
        net.exec(1, &format!("INSERT INTO t VALUES ('{n}', '{}', 0)", "v".repeat(2_000)));
    }
    net.pass(20);
    net.disconnect(1);
    net.until("it has left", |net| net.hosts[0].told(&Event::PeerLeave { peer: net.peer(1) }));
    assert_eq!(told(&net, 0).len(), 200);
}

#[test]
fn a_peer_that_takes_nothing_keeps_nobody_from_leaving() {
    let mut net = pair(11, false);
    net.delays.bytes_per_ms = 1;
    for n in 0..2_000 {
        net.broadcast(0, operation(n, "x", &"v".repeat(1_000)));
    }
    net.disconnect(0);
    net.until("it has left", |net| net.hosts[0].events.contains(&Event::Closed));
}
