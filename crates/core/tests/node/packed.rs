//! Between ours operations travel packed, live and in answers; who does not say that it reads them gets JSON, and bad bytes are borne.

use rtc_battery_core::node::{ErrorCode, Event, Input};
use rtc_battery_proto::frame::{Body, split};
use rtc_battery_proto::packed::{Extent, Packed, VERSION, pack};
use rtc_battery_proto::{Operation, VersionVector};
use rtc_battery_sim::net::{Net, Said};
use serde_json::json;

const ROWS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                    INSERT INTO t SELECT 'row ' || i, i, 'a text that is the same everywhere' FROM n";

fn carries(said: &&Said) -> bool {
    matches!(said.kind, "op" | "sync-response")
}

/// How what a host said was packed, message by message.
fn packed(net: &Net, host: usize) -> Vec<bool> {
    net.hosts[host].said.iter().filter(carries).map(|said| said.packed).collect()
}

fn hello(packed: u32) -> String {
    json!({"type": "hello", "protocol": 1, "nodeId": "other", "vector": {}, "packed": packed}).to_string()
}

/// Somebody says packed operations to host 0, over the link to host 1.
fn say(net: &mut Net, bytes: Vec<u8>) {
    let link = net.link(0, 1);
    for bytes in split(&Body::Packed(bytes)) {
        net.feed(0, Input::ChannelBinary { link, bytes });
    }
}

fn insert(id: &str, seq: u64) -> (Operation, VersionVector) {
    let operation = json!({"hlc": {"ts": 1, "counter": 0, "nodeId": "other"}, "type": "INSERT", "table": "t", "pk": {"id": id},
        "values": {"id": id, "v": 1, "w": 2}, "seq": seq, "tx": {"first": {"ts": 1, "counter": 0}, "n": 1}});
    let covers = json!({"other": [[1, seq]]});
    (serde_json::from_value(operation).unwrap(), serde_json::from_value(covers).unwrap())
}

#[test]
fn ours_tell_each_other_packed_operations_live_and_in_answers() {
    let mut net = Net::room(1, 2);
    net.exec(0, "INSERT INTO t VALUES ('one', 1, 2)");
    net.exec(0, ROWS);
    net.settle();
    let new = net.add();
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.settle();
    assert_eq!(net.rows(new).len(), 1001);
    let all: Vec<bool> = (0..3).flat_map(|host| packed(&net, host)).collect();
    assert!(all.len() > 5 && all.iter().all(|packed| *packed), "{all:?}");
}

#[test]
fn who_does_not_read_them_gets_json() {
    for (version, expected) in [(0, false), (VERSION, true), (VERSION + 1, true)] {
        let mut net = Net::room(2, 2);
        net.say(1, 0, &hello(version));
        net.forget();
        net.exec(0, "INSERT INTO t VALUES ('one', 1, 2)");
        net.exec(0, ROWS);
        net.settle();
        net.say(1, 0, r#"{"type":"sync-request","fromVersion":0,"vector":{}}"#);
        net.pass(1_000);
        let all = packed(&net, 0);
        assert!(all.len() > 5 && all.iter().all(|packed| *packed == expected), "{version}: {all:?}");
        assert_eq!(net.rows(1).len(), 1001);
    }
}

#[test]
fn bytes_that_are_none_are_told_seldom_and_borne() {
    let mut net = Net::room(3, 2);
    let (operation, covers) = insert("x", 1);
    let good = pack(&[operation], &Extent::Whole(covers)).unwrap();
    for bytes in [vec![], vec![7; 9], good[..good.len() - 1].to_vec(), [&good[..], &[0]].concat()] {
        say(&mut net, bytes);
    }
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage]);
    assert_eq!(net.rows(0).len(), 0);
    say(&mut net, good);
    assert_eq!(net.rows(0).len(), 1);
    net.exec(1, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.until("the link goes on", |net| net.rows(0).len() == 2);
}

/// What cannot be unpacked is found at the end of its series, and then all of it is nothing.
#[test]
fn a_series_with_a_bad_part_is_nothing_and_is_told() {
    let mut net = Net::room(4, 2);
    let parts = |bad: bool| {
        let ((one, _), (other, covers)) = (insert("x", 1), insert("y", 2));
        let mut first = pack(&[one], &Extent::Part).unwrap();
        if bad {
            first.push(0);
        }
        assert!(Packed::read(first.clone()).is_ok(), "its head can be read");
        [first, pack(&[other], &Extent::End(covers)).unwrap()]
    };
    parts(true).into_iter().for_each(|part| say(&mut net, part));
    assert_eq!((net.rows(0).len(), net.hosts[0].errors()), (0, vec![ErrorCode::BadMessage]));
    assert_eq!(net.exec(0, "SELECT count(*) FROM temp.rtc_staged").values, [[rtc_battery_proto::SqlValue::Integer(0)]]);
    parts(false).into_iter().for_each(|part| say(&mut net, part));
    assert_eq!(net.rows(0).len(), 2);
    let told = |event: &Event| matches!(event, Event::Sync { operations: 2, .. });
    assert_eq!(net.hosts[0].events.iter().filter(|event| told(event)).count(), 1);
}

#[test]
fn packed_operations_of_one_who_never_said_hello_are_not_taken() {
    let mut net = Net::new(5);
    let host = net.add();
    net.connect(host);
    let plain = net.add();
    net.connect(plain);
    net.until("a channel opens", |net| net.hosts[0].links.values().any(|link| link.partner.is_some()));
    let (operation, covers) = insert("x", 1);
    say(&mut net, pack(&[operation], &Extent::Whole(covers)).unwrap());
    assert_eq!(net.hosts[0].node.replica().version(), 0);
    assert_eq!(net.hosts[0].errors(), [ErrorCode::BadMessage]);
}
