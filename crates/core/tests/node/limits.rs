//! What one peer may make another do and keep: beyond it the peer is dropped and left alone for a while, and the others notice nothing.

use rtc_battery_core::node::{ErrorCode, Event, Input};
use rtc_battery_proto::frame::{Body, split};
use rtc_battery_proto::packed::{Extent, pack};
use rtc_battery_proto::{MAX_ORIGINS, Operation};
use rtc_battery_sim::net::Net;
use serde_json::{Map, Value, json};

/// For so long the first time, in milliseconds.
const ALONE_MS: u64 = 60_000;

/// A room of three, the second of which overdoes it with the first.
fn room(seed: u64) -> Net {
    let mut net = Net::room(seed, 3);
    net.settle();
    net.pass(15_000);
    net.forget();
    net
}

/// It says this until it is dropped. How often.
fn until_dropped(net: &mut Net, most: usize, mut say: impl FnMut(&mut Net, usize)) -> usize {
    let offender = net.peer(1);
    for n in 0..most {
        say(net, n);
        if net.hosts[0].told(&Event::PeerLeave { peer: offender.clone() }) {
            return n + 1;
        }
    }
    panic!("not dropped after {most}")
}

/// The first has dropped the second, and says why.
fn assert_dropped(net: &mut Net, reason: &str) {
    let (offender, other) = (net.peer(1), net.peer(2));
    let told = |event: &Event| {
        matches!(event, Event::Error { code: ErrorCode::BadMessage, peer: Some(peer), message }
        if *peer == offender && message.contains(reason) && message.contains("left alone for 60 s"))
    };
    assert_eq!(net.hosts[0].errors().len(), 1, "{:?}", net.hosts[0].events);
    assert!(net.hosts[0].events.iter().any(told), "{:?}", net.hosts[0].events);
    assert_eq!(net.hosts[0].comings(), [(false, offender)]);
    // It offers and is not answered, and what it writes comes by way of others.
    net.exec(1, "INSERT INTO t VALUES ('by another way', 1, 2)");
    net.exec(2, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.pass(ALONE_MS - 1_000);
    assert_eq!((net.rows(0).len(), net.rows(1).len()), (2, 2));
    assert_eq!(net.hosts[0].node.peers(), [other]);
    assert_eq!((net.hosts[2].errors(), net.hosts[2].comings()), (vec![], vec![]), "the others notice nothing");
    net.until("it is taken again", |net| net.is_full_mesh());
}

#[test]
fn who_sends_more_bytes_than_a_channel_carries() {
    let mut net = room(1);
    // Of a row that is not there: nothing that shows.
    let operation = json!({"hlc": {"ts": 1, "counter": 0, "nodeId": "x"}, "type": "DELETE", "table": "t", "pk": {"id": "x"},
        "seq": 1, "tx": {"first": {"ts": 1, "counter": 0}, "n": 1}});
    let text = format!(r#"{{"type":"op",{}"payload":{operation}}}"#, " ".repeat(64 << 20));
    let said = until_dropped(&mut net, 20, |net, _| net.say(1, 0, &text));
    assert_eq!(said, 8, "512 MiB at once");
    assert_dropped(&mut net, "more bytes than a channel carries");
}

#[test]
fn who_talks_and_tells_nothing() {
    let mut net = room(2);
    let text = json!({"type": "later", "x": "y".repeat(1 << 20)}).to_string();
    let said = until_dropped(&mut net, 100, |net, _| net.say(1, 0, &text));
    assert_eq!(said, 64, "64 MiB at once");
    assert_dropped(&mut net, "talks more than it tells");
}

#[test]
fn who_tells_more_operations_than_can_be_merged() {
    let mut net = room(3);
    // Four megabytes each, which are short on their way.
    let operation = json!({"hlc": {"ts": 1, "counter": 0, "nodeId": "other"}, "type": "INSERT", "table": "t", "pk": {"id": "x"},
        "values": {"id": "x", "v": "y".repeat(4 << 20)}, "seq": 1, "tx": {"first": {"ts": 1, "counter": 0}, "n": 1}});
    let operation: Operation = serde_json::from_value(operation).unwrap();
    let part = pack(&[operation], &Extent::Part).unwrap();
    let said = until_dropped(&mut net, 1_000, |net, n| {
        let link = net.link(0, 1);
        for bytes in split(&Body::Packed(part.clone())) {
            net.feed(0, Input::ChannelBinary { link, bytes });
        }
        if n % 40 == 39 {
            // It takes it all back, so that nothing is kept.
            net.say(1, 0, r#"{"type":"sync-response","operations":[]}"#);
        }
    });
    assert!((480..=490).contains(&said), "{said} of 4,096 KiB each: as much work as 2,000,000 operations");
    assert_dropped(&mut net, "more operations than can be merged");
}

#[test]
fn who_names_replicas_that_nobody_has_heard_of() {
    let mut net = room(4);
    let tell = |net: &mut Net, from: usize, first: usize, count: usize| {
        let covers: Map<String, Value> =
            (first..first + count).map(|n| (format!("ghost{n}"), json!([[1, 1]]))).collect();
        net.say(from, 0, &json!({"type": "sync-response", "operations": [], "covers": covers}).to_string());
    };
    let origins = |net: &Net| net.hosts[0].node.replica().vector().iter().count();
    let (before, many) = (origins(&net), MAX_ORIGINS - 1_000);
    // The same again, over and over, is nothing new.
    for _ in 0..3 {
        tell(&mut net, 1, 0, many);
    }
    assert_eq!((origins(&net) - before, net.hosts[0].comings()), (many, vec![]));
    tell(&mut net, 1, many, 1_001);
    assert_eq!(origins(&net) - before, many, "nothing of it is kept");
    // Who passed them on is not blamed, and what others bring has room.
    assert_dropped(&mut net, "names more replicas");
    tell(&mut net, 2, many, 100);
    assert!(origins(&net) - before >= many + 100);
}

/// With a transaction of the user's open everything waits.
#[test]
fn who_fills_what_all_have_together() {
    let mut net = room(5);
    net.exec(0, "BEGIN");
    let megabyte = |n: usize, node: &str| {
        let operation = json!({"hlc": {"ts": 1, "counter": 0, "nodeId": node}, "type": "INSERT", "table": "t", "pk": {"id": n},
            "values": {"id": n, "v": "x".repeat(1 << 20)}, "seq": n + 1, "tx": {"first": {"ts": 1, "counter": 0}, "n": 1}});
        json!({"type": "op", "payload": operation}).to_string()
    };
    (0..12).for_each(|n| net.say(2, 0, &megabyte(n, "honest")));
    let said = until_dropped(&mut net, 40, |net, n| net.say(1, 0, &megabyte(n, "hog")));
    assert!((18..=20).contains(&said), "{said}");
    net.exec(0, "COMMIT");
    assert_eq!(net.rows(0).len(), 12, "what others said is kept");
    net.exec(0, "DELETE FROM t");
    assert_dropped(&mut net, "more than can be kept");
}
