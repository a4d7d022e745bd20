//! What peers may send: other versions, the plain specification, nonsense. The session goes on, whatever comes.

use rtc_battery_core::node::{ErrorCode, Event, Input, LinkId};
use rtc_battery_proto::{MAX_ORIGINS, MAX_RANGES, frame};
use rtc_battery_sim::net::Net;

fn hello(protocol: u32) -> String {
    format!(r#"{{"type":"hello","protocol":{protocol},"nodeId":"other","vector":{{}}}}"#)
}

#[test]
fn a_newer_protocol_is_refused_and_left_alone() {
    let mut net = Net::room(1, 2);
    let peer = net.peer(1);
    net.say(1, 0, &hello(2));
    assert_eq!(net.hosts[0].errors(), [ErrorCode::NewerProtocol]);
    assert!(net.hosts[0].told(&Event::PeerLeave { peer }));
    net.pass(120_000);
    assert_eq!((net.hosts[0].links.len(), net.hosts[0].count("bye")), (0, 1));
    assert_eq!(net.hosts[0].errors(), [ErrorCode::NewerProtocol]);
}

#[test]
fn nonsense_is_told_seldom_and_borne() {
    let mut net = Net::room(2, 2);
    let op = r#"{"hlc":{"ts":1,"counter":0,"nodeId":"x"},"type":"DELETE","table":"t","pk":{"id":"x"}"#;
    let texts = [
        String::new(),
        "[[[[".into(),
        r#"{"type":"op"}"#.into(),
        // Of no transaction; of one that is more than it; beyond its own transaction.
        format!(r#"{{"type":"op","payload":{op}}}}}"#),
        format!(r#"{{"type":"op","payload":{op},"seq":1,"tx":{{"first":{{"ts":1,"counter":0}},"n":2}}}}}}"#),
        format!(r#"{{"type":"op","payload":{op},"seq":0,"tx":{{"first":{{"ts":1,"counter":0}},"n":1}}}}}}"#),
        format!(r#"{{"type":"sync-response","operations":[{op}}}]}}"#),
        r#"{"type":"sync-response","operations":[],"covers":{},"more":true}"#.into(),
        r#"{"type":"vector","vector":{"x":[[3,1]]}}"#.into(),
        format!(r#"{{"type":"vector","vector":{{}},"x":"{}"}}"#, "y".repeat(5_000_000)),
    ];
    for text in &texts {
        net.say(1, 0, text);
    }
    for unknown in [r#"{"type":"later","x":[1]}"#, r#"{"type":"sync-full","database":"AA=="}"#, r#"{"type":"hello"}"#] {
        net.say(1, 0, unknown);
    }
    let blamed = |event: &Event| matches!(event, Event::Error { code: ErrorCode::BadMessage, peer: Some(_), .. });
    assert_eq!(net.hosts[0].events.len(), 1, "{:?}", net.hosts[0].events);
    assert!(net.hosts[0].events.iter().all(blamed));
    net.exec(1, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.settle();
    assert!(net.is_full_mesh() && net.rows(0).len() == 1);
    net.pass(10_000);
    net.say(1, 0, &texts[1]);
    assert_eq!(net.hosts[0].errors().len(), 2);
}

#[test]
fn broken_frames_cost_the_link() {
    let mut net = Net::room(3, 2);
    let link = net.link(0, 1);
    net.feed(0, Input::ChannelBinary { link, bytes: vec![7, 7] });
    assert!(net.hosts[0].links.is_empty());
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage]);
    net.until("they are connected again", |net| net.is_full_mesh());
}

#[test]
fn promises_that_are_not_kept_are_not_asked_for_twice() {
    let mut net = Net::room(4, 3);
    net.say(1, 0, r#"{"type":"vector","vector":{"ghost":[[1,1000000]]}}"#);
    net.pass(300_000);
    assert_eq!(net.hosts[0].count("sync-request"), 1, "{:?}", net.hosts[0].data());
    // Nobody else is held up.
    net.exec(2, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.settle();
}

#[test]
fn pings_without_end_are_answered_once_each_time_there_is_room() {
    let mut net = Net::room(5, 2);
    let link = net.link(0, 1);
    net.cut(0, 1);
    for _ in 0..1_000 {
        net.feed(0, Input::ChannelText { link, text: r#"{"type":"ping"}"#.into() });
    }
    assert!(net.hosts[0].count("pong") <= 1_000);
    net.mend(0, 1);
    net.pass(10_000);
    assert!(net.is_full_mesh());
}

/// Two pages on copies of one database.
#[test]
fn a_peer_of_our_own_name_is_a_peer() {
    use rtc_battery_core::replica::Replica;
    use rtc_battery_proto::ReplicaId;

    let mut net = Net::new(6);
    for _ in 0..2 {
        let id = ReplicaId::new("twin").unwrap();
        let replica = Replica::open(rusqlite::Connection::open_in_memory().unwrap(), "room", &id).unwrap();
        let host = net.add_with(replica);
        net.connect(host);
    }
    net.until("they are connected", |net| net.is_full_mesh());
    net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    net.settle();
    net.exec(1, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.settle();
}

/// A peer that was written from the specification alone: no hello, no vectors. It is kept, and its pings are answered.
#[test]
fn a_plain_peer_is_kept() {
    let mut net = Net::new(7);
    let (ours, plain) = (net.add(), net.add());
    net.connect(ours);
    net.connect(plain);
    net.until("the link is being made", |net| !net.hosts[ours].links.is_empty());
    let link = net.link(ours, plain);
    let peer = net.peer(plain);
    // Its first word is not hello; what the node behind it would say is not let through.
    net.kill(plain);
    net.hosts[ours].links.get_mut(&link).unwrap().partner = Some((plain, LinkId(0)));
    net.feed(ours, Input::ChannelOpened { link, max_message_bytes: Some(65_536) });
    // Nothing but hello for two seconds; then what the specification knows.
    net.pass(1_999);
    let kinds = |net: &Net| net.hosts[ours].said.iter().map(|said| said.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&net), ["hello"]);
    assert!(net.hosts[ours].node.peers().is_empty());
    net.pass(1);
    assert!(net.hosts[ours].told(&Event::PeerJoin { peer }));
    assert_eq!(kinds(&net), ["hello", "sync-request"]);
    net.pass(3_000);
    assert_eq!(kinds(&net), ["hello", "sync-request", "ping"]);
    net.feed(ours, Input::ChannelText { link, text: r#"{"type":"sync-request","fromVersion":0}"#.into() });
    net.exec(ours, "CREATE TABLE t (id TEXT PRIMARY KEY)");
    for _ in 0..20 {
        net.pass(4_000);
        net.feed(ours, Input::ChannelText { link, text: r#"{"type":"ping"}"#.into() });
    }
    assert_eq!(net.hosts[ours].node.peers().len(), 1);
    assert_eq!((net.hosts[ours].count("pong"), net.hosts[ours].errors()), (20, vec![]));
}

/// A part of a series, of about so many bytes.
fn part(bytes: usize) -> String {
    format!(r#"{{"type":"sync-response","operations":[],"more":true,"x":"{}"}}"#, "y".repeat(bytes))
}

#[test]
fn what_is_staged_is_bounded_for_all_and_whoever_holds_most_loses_its_link() {
    let mut net = Net::room(8, 3);
    let (hog, part) = (net.peer(1), part(16_000_000));
    for _ in 0..9 {
        net.say(1, 0, &part);
    }
    for _ in 0..7 {
        net.say(2, 0, &part);
        assert_eq!(net.hosts[0].events, []);
    }
    net.say(2, 0, &part);
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage]);
    assert_eq!(net.hosts[0].comings(), [(false, hog)]);
    // The other's series goes on.
    let op = r#"{"hlc":{"ts":1,"counter":0,"nodeId":"x"},"type":"INSERT","table":"t","pk":{"id":"x"},
        "values":{"id":"x","v":1,"w":2},"seq":1,"tx":{"first":{"ts":1,"counter":0},"n":1}}"#;
    net.say(2, 0, &format!(r#"{{"type":"sync-response","operations":[{op}],"covers":{{"x":[[1,1]]}}}}"#));
    assert_eq!(net.rows(0).len(), 1);
    // And there is room again, for one who comes back too.
    net.until("they are connected again", |net| net.is_full_mesh());
    net.forget();
    for _ in 0..15 {
        net.say(1, 0, &part);
    }
    assert_eq!(net.hosts[0].events, []);
}

#[test]
fn messages_that_do_not_come_whole_are_bounded_for_all() {
    let mut net = Net::room(9, 4);
    let mut frame = vec![b'x'; frame::FRAME_BYTES];
    frame[0] = 1;
    let hog = net.peer(2);
    let links = [1, 2, 3].map(|peer| net.link(0, peer));
    let frames = frame::MAX_MESSAGE_BYTES / (frame::FRAME_BYTES - 1);
    for (link, tenths) in [(links[0], 6), (links[1], 8), (links[2], 7)] {
        for _ in 0..frames * tenths / 10 {
            net.feed(0, Input::ChannelBinary { link, bytes: frame.clone() });
        }
    }
    assert_eq!(net.hosts[0].comings(), [(false, hog)]);
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage]);
}

#[test]
fn vectors_are_bounded_wherever_they_are_told() {
    let mut net = Net::room(10, 2);
    net.until("nobody has anything to ask", |net| net.is_converged());
    let origins: Vec<String> = (0..=MAX_ORIGINS).map(|n| format!("\"g{n}\":[[1,1]]")).collect();
    let ranges: Vec<String> = (0..=MAX_RANGES).map(|n| format!("[{0},{0}]", 2 * n + 1)).collect();
    let vectors = [format!("{{{}}}", origins.join(",")), format!("{{\"x\":[{}]}}", ranges.join(","))];
    for vector in &vectors {
        net.say(1, 0, &part(10));
        for message in [
            format!(r#"{{"type":"vector","vector":{vector}}}"#),
            format!(r#"{{"type":"sync-request","fromVersion":0,"vector":{vector}}}"#),
            format!(r#"{{"type":"hello","protocol":1,"nodeId":"x","vector":{vector}}}"#),
            format!(r#"{{"type":"sync-response","operations":[],"covers":{vector}}}"#),
        ] {
            net.say(1, 0, &message);
            net.pass(10_000);
        }
    }
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage; 8]);
    assert_eq!(net.hosts[0].node.replica().vector().origin_count(), 1);
    net.exec(1, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.settle();
    assert!(net.is_full_mesh() && net.hosts[0].comings().is_empty());
}

#[test]
fn a_room_that_is_full_of_replicas_refuses_more_and_goes_on() {
    let mut net = Net::room(11, 2);
    let ghosts: Vec<String> = (2..MAX_ORIGINS).map(|n| format!("\"g{n}\":[[1,1]]")).collect();
    net.say(1, 0, &format!(r#"{{"type":"sync-response","operations":[],"covers":{{{}}}}}"#, ghosts.join(",")));
    assert_eq!(net.hosts[0].node.replica().vector().origin_count(), MAX_ORIGINS - 1);
    net.exec(1, "INSERT INTO t VALUES ('the last that fits', 1, 2)");
    net.until("it is there", |net| net.rows(0).len() == 1);
    net.pass(1_000);
    net.forget();
    let op = |node: &str, seq: u64| {
        format!(
            r#"{{"type":"op","payload":{{"hlc":{{"ts":1,"counter":{seq},"nodeId":"{node}"}},"type":"INSERT","table":"t",
            "pk":{{"id":"{node}"}},"values":{{"id":"{node}","v":1,"w":2}},"seq":{seq},"tx":{{"first":{{"ts":1,"counter":{seq}}},"n":1}}}}}}"#
        )
    };
    net.say(1, 0, &op("one-too-many", 1));
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage]);
    assert_eq!(net.rows(0).len(), 1);
    // Those that are known go on writing.
    net.say(1, 0, &op("g7", 2));
    net.exec(1, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.pass(1_000);
    assert_eq!(net.rows(0).len(), 3);
    // What is refused is asked for once, and nobody waits for it.
    let asked = |net: &Net| net.hosts[0].count("sync-request");
    net.say(1, 0, r#"{"type":"vector","vector":{"one-too-many":[[1,1]]}}"#);
    net.say(1, 0, r#"{"type":"sync-response","operations":[],"covers":{"one-too-many":[[1,1]]}}"#);
    net.pass(60_000);
    assert_eq!(asked(&net), 1);
    net.say(1, 0, r#"{"type":"vector","vector":{"one-too-many":[[1,2]]}}"#);
    net.say(1, 0, r#"{"type":"sync-response","operations":[],"covers":{"one-too-many":[[1,2]]}}"#);
    net.say(1, 0, r#"{"type":"vector","vector":{"g9":[[1,2]]}}"#);
    net.pass(100);
    assert_eq!(asked(&net), 3);
}
