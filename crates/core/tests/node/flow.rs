//! What is large has a channel of its own, and nobody is sent more than it takes in: a busy or a stopped receiver holds the sender back.

use std::collections::BTreeSet;

use rtc_battery_core::node::{ErrorCode, Event, Input};
use rtc_battery_proto::SqlValue;
use rtc_battery_sim::net::Net;
use serde_json::json;

/// What one peer may have on its way to another: its window, what may be one frame more, and what is said all the same.
const MOST_UNDER_WAY: u64 = 2 * 1024 * 1024 + 64 * 1024;

/// What a channel holds at most.
const MOST_BUFFERED: u64 = 256 * 1024 + 16 * 1024;

fn megabytes(net: &mut Net, count: u32) {
    for n in 0..count {
        net.exec(0, &format!("INSERT INTO t VALUES ('large {n}', 1, randomblob(1000000))"));
    }
    net.settle();
}

/// How many bytes a host's channels were handed for another, so far: over the first, and for what is large.
fn handed(net: &Net, from: usize, to: usize) -> [u64; 2] {
    let link = &net.hosts[from].links[&net.link(from, to)];
    [0, 1].map(|lane| link.channels[lane].sent + link.channels[lane].buffered)
}

fn has(net: &mut Net, host: usize, id: &str) -> bool {
    net.exec(host, &format!("SELECT count(*) FROM t WHERE id = '{id}'")).values == [[SqlValue::Integer(1)]]
}

/// Connects, and sees each edit within half a second. Who has the table waits for no sync to show a row of it.
fn comes_and_sees_what_is_live(net: &mut Net, new: usize) {
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.exec(new, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    net.pass(3_000);
    for n in 0..10 {
        let id = format!("live {n}");
        net.exec(0, &format!("INSERT INTO t VALUES ('{id}', 1, 2)"));
        net.pass(500);
        assert!(has(net, new, &id), "{id} waits");
    }
}

#[test]
fn live_operations_do_not_wait_behind_a_sync() {
    let mut net = Net::room(1, 2);
    megabytes(&mut net, 20);
    let new = net.add();
    // 20 s for what is there.
    net.hosts[new].takes_bytes_per_ms = Some(1_000);
    comes_and_sees_what_is_live(&mut net, new);
    assert!(!has(&mut net, new, "large 19"), "the sync is over");
    net.settle();
    assert!(has(&mut net, new, "large 19"));
    let lanes: Vec<u64> = [0, 1].iter().flat_map(|host| handed(&net, *host, new)).collect();
    assert!(lanes[1] + lanes[3] > 20_000_000 && lanes[0] + lanes[2] < 100_000, "{lanes:?}");
    assert!(net.hosts.iter().all(|host| host.most_buffered <= MOST_BUFFERED));
}

/// Nor when the sync takes longer than peers wait before they compare what they have.
#[test]
fn live_operations_do_not_wait_behind_a_long_sync() {
    let mut net = Net::room(6, 1);
    megabytes(&mut net, 20);
    let new = net.add();
    // 40 s for what is there.
    net.hosts[new].takes_bytes_per_ms = Some(500);
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.exec(new, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    for n in 0..32 {
        let id = format!("live {n}");
        net.exec(0, &format!("INSERT INTO t VALUES ('{id}', 1, 2)"));
        net.pass(1_000);
        assert!(has(&mut net, new, &id), "{id} waits");
    }
    assert!(!has(&mut net, new, "large 19"), "the sync is over");
    net.settle();
    assert!(has(&mut net, new, "large 19"));
}

/// As in a page that is told much: of a browser's one queue what is live and what the user asks is taken first.
#[test]
fn what_is_live_is_taken_while_what_is_large_waits() {
    let mut net = Net::room(2, 1);
    megabytes(&mut net, 4);
    let new = net.add();
    net.hosts[new].busy = true;
    comes_and_sees_what_is_live(&mut net, new);
    let [_, under_way] = handed(&net, 0, new);
    assert!((1_000_000..MOST_UNDER_WAY).contains(&under_way), "{under_way} bytes");
    assert!(!has(&mut net, new, "large 0"));
    net.release_yield(new);
    net.settle();
    assert!(has(&mut net, new, "large 3"));
}

/// Nor does what is asked of the one who sends wait until a channel is full.
#[test]
fn what_is_large_is_made_between_other_things() {
    let mut net = Net::room(5, 1);
    megabytes(&mut net, 4);
    net.hosts[0].busy = true;
    let new = net.add();
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.exec(new, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    net.pass(3_000);
    let [_, one_message] = handed(&net, 0, new);
    assert!((1..100_000).contains(&one_message), "{one_message} bytes");
    net.exec(0, "INSERT INTO t VALUES ('live', 1, 2)");
    net.pass(500);
    assert!(has(&mut net, new, "live"));
    net.release_yield(0);
    net.settle();
}

#[test]
fn what_came_before_a_link_ended_is_not_lost() {
    let mut net = Net::room(3, 2);
    net.settle();
    net.hosts[1].busy = true;
    net.exec(0, "INSERT INTO t VALUES ('large', 1, randomblob(1000000))");
    net.pass(3_000);
    assert!(!has(&mut net, 1, "large"));
    net.kill(0);
    let link = net.link(1, 0);
    net.feed(1, Input::ChannelClosed { link });
    assert!(has(&mut net, 1, "large"));
}

/// Nobody waits until another has sent all that it has.
#[test]
fn what_several_send_is_taken_in_turns() {
    let mut net = Net::room(4, 3);
    net.settle();
    net.hosts[0].busy = true;
    for host in [1, 2] {
        net.exec(
            host,
            &format!(
                "INSERT INTO t SELECT '{host} ' || value, 1, randomblob(60000) FROM json_each('[1, 2, 3, 4, 5, 6]')"
            ),
        );
    }
    net.pass(3_000);
    let before = net.hosts[0].events.len();
    net.release_yield(0);
    net.settle();
    let first_end = |event: &Event| matches!(event, Event::SyncProgress { done, total, .. } if done == total);
    let unended = net.hosts[0].events[before..].split(first_end).next().unwrap();
    let begun: BTreeSet<_> = unended
        .iter()
        .filter_map(|event| match event {
            Event::SyncProgress { peer, .. } => Some(peer),
            _ => None,
        })
        .collect();
    assert_eq!(begun.len(), 2, "{begun:?}");
}

#[test]
fn an_open_transaction_holds_the_others_back_and_nobody_loses_its_link() {
    let mut net = Net::room(8, 2);
    net.settle();
    net.exec(1, "BEGIN");
    for n in 0..200 {
        net.exec(0, &format!("INSERT INTO t VALUES ('{n}', 1, randomblob(200000))"));
        net.pass(100);
    }
    // Once what is under way, and once what waits untaken.
    let [live, bulk] = handed(&net, 0, 1);
    assert!(live + bulk < 2 * MOST_UNDER_WAY, "{live} + {bulk} bytes");
    assert_eq!((net.hosts[1].errors(), net.hosts[1].comings()), (vec![], vec![]));
    net.exec(1, "COMMIT");
    net.settle();
    assert_eq!(net.rows(1).len(), 200);
    assert_eq!((net.hosts[0].comings(), net.hosts[1].comings()), (vec![], vec![]));
}

/// One who does not mind what is taken loses its link, and nobody else notices.
#[test]
fn who_sends_on_all_the_same_is_cut_off() {
    let mut net = Net::room(9, 3);
    net.settle();
    net.exec(0, "BEGIN");
    let (link, hog) = (net.link(0, 1), net.peer(1));
    let mut sent = 0;
    while !net.hosts[0].told(&Event::PeerLeave { peer: hog.clone() }) {
        let operation = json!({"hlc": {"ts": 1, "counter": 0, "nodeId": "x"}, "type": "INSERT", "table": "t", "pk": {"id": sent},
            "values": {"id": sent, "v": "x".repeat(200_000)}, "seq": sent + 1, "tx": {"first": {"ts": 1, "counter": 0}, "n": 1}});
        let text = json!({"type": "op", "payload": operation}).to_string();
        net.feed(0, Input::ChannelText { link, text });
        sent += 1;
        assert!(sent < 300, "nothing was cut off");
    }
    assert!((160..170).contains(&sent), "cut off after {sent}");
    assert_eq!((net.hosts[0].errors(), net.hosts[0].comings()), (vec![ErrorCode::BadMessage], vec![(false, hog)]));
    net.exec(0, "COMMIT");
    net.until("they are connected", |net| net.is_full_mesh());
    net.exec(2, "INSERT INTO t VALUES ('fine', 1, 2)");
    net.until("it goes on", |net| has(net, 0, "fine"));
}

/// The page stands still while a table of a megabyte is rewritten a hundred times.
#[test]
fn a_stopped_receiver_is_sent_a_bounded_part_and_converges_when_it_goes_on() {
    let mut net = Net::room(10, 2);
    for n in 0..100 {
        net.exec(0, &format!("INSERT INTO t VALUES ('{n:03}', 0, randomblob(10000))"));
    }
    net.settle();
    net.hosts.iter_mut().for_each(|host| host.most_buffered = 0);
    net.fall_asleep(1);
    for n in 1..=100 {
        for tenth in 0..10 {
            net.exec(0, &format!("UPDATE t SET v = {n}, w = randomblob(10000) WHERE id GLOB '0{tenth}*'"));
            net.pass(10);
        }
    }
    let unheard_bytes = net.hosts[1].unheard_bytes();
    assert!((100_000..MOST_UNDER_WAY).contains(&unheard_bytes), "{unheard_bytes} bytes wait for it");
    assert!(net.hosts[0].most_buffered <= MOST_BUFFERED, "{} bytes in a channel", net.hosts[0].most_buffered);
    net.wake_up(1);
    net.settle();
    assert_eq!(net.exec(1, "SELECT count(*) FROM t WHERE v = 100").values, [[SqlValue::Integer(100)]]);
    assert_eq!((net.hosts[0].comings(), net.hosts[1].comings()), (vec![], vec![]));
}

#[test]
fn what_was_said_last_over_either_channel_is_not_lost() {
    for seed in 0..40 {
        let mut net = Net::room(seed, 2);
        net.settle();
        net.delays.bytes_per_ms = 1_000;
        net.exec(0, "INSERT INTO t SELECT 'large ' || value, 1, randomblob(60000) FROM json_each('[1, 2, 3]')");
        net.exec(0, "INSERT INTO t VALUES ('last', 1, 2)");
        net.pass(net.delays.save_ms.1 + 1);
        net.disconnect(0);
        net.until("it has left", |net| net.hosts[0].told(&Event::Closed));
        // Not later: a browser that closes may lose what is under way.
        assert_eq!(net.rows(1).len(), 4, "seed {seed}");
    }
}

#[test]
fn where_the_second_channel_does_not_open_everything_goes_over_the_first() {
    let mut net = Net::room(12, 2);
    megabytes(&mut net, 3);
    net.has_second_channels = false;
    let new = net.add();
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.settle();
    let lanes = [0, 1].map(|host| handed(&net, host, new));
    assert!(has(&mut net, new, "large 2") && lanes[0][0] + lanes[1][0] > 3_000_000, "{lanes:?}");
    assert_eq!((lanes[0][1], lanes[1][1]), (0, 0));
}
