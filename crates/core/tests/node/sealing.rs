//! Sealed signaling: what the server sees, and what it can do to those who meet through it. It runs everything; it has not got the token.

use rtc_battery_core::node::{ErrorCode, Event, Input};
use rtc_battery_proto::sealing::{ConnectionId, Envelope, RoomSecret, SealedKind};
use rtc_battery_sim::net::Net;
use rtc_battery_sim::plain::PlainPeer;
use rtc_battery_sim::trace::Trace;
use serde_json::json;

/// What the server told, where the trace begins so.
fn relayed(net: &Net, begins: &str) -> Vec<String> {
    let lines = net.trace.lines().iter();
    lines.filter_map(|line| Some(line.text.split_once(begins)?.1.to_owned())).collect()
}

/// In how many of 20 rooms the one that the server put between two others ever had a channel, and those two ended up connected.
fn meetings(sealed: bool) -> (usize, usize) {
    let (mut between, mut true_ones) = (0, 0);
    for seed in 0..20 {
        let mut net = if sealed { Net::new(seed) } else { Net::unsealed(seed) };
        let (ada, bob) = (net.add(), net.add());
        let mallory = net.add_plain(PlainPeer::new("mallory"));
        net.interpose(mallory, bob);
        let mut order = [ada, bob, mallory];
        order.rotate_left(seed as usize % 3);
        for host in order {
            net.connect(host);
            net.pass(1_000);
        }
        let mut met = false;
        for _ in 0..60 {
            net.pass(1_000);
            met |= !net.links(mallory, ada).is_empty() || !net.links(mallory, bob).is_empty();
        }
        between += usize::from(met);
        true_ones += net.links(ada, bob).len();
    }
    (between, true_ones)
}

#[test]
fn a_server_that_puts_somebody_between_gets_no_channel_where_it_is_sealed() {
    let (between, _) = meetings(false);
    assert!(between > 10, "it can where nothing is sealed, in {between} of 20");
    let (between, true_ones) = meetings(true);
    assert_eq!(between, 0);
    // Who was meant is met all the same.
    assert_eq!(true_ones, 20);
}

#[test]
fn the_server_reads_neither_the_token_nor_a_description() {
    for sealed in [true, false] {
        let mut net = if sealed { Net::new(1) } else { Net::unsealed(1) };
        net.trace = Trace::on();
        for _ in 0..3 {
            let host = net.add();
            net.connect(host);
        }
        net.until("everyone is connected", |net| net.is_full_mesh());
        let heard = relayed(&net, "from the server ");
        let told = |what: &str| heard.iter().filter(|line| line.contains(what)).count();
        assert!(told("\"offer\"") > 0 && told("\"answer\"") > 0 && told("\"ice\"") > 0);
        for secret in ["ice-ufrag", "IN IP4", "candidate:1", "usernameFragment"] {
            assert_eq!(told(secret) == 0, sealed, "{secret}");
        }
    }
}

/// What the server relayed once it relays again, when those who met have parted.
#[test]
fn what_came_before_is_not_taken_again() {
    let mut net = Net::new(2);
    net.trace = Trace::on();
    for _ in 0..2 {
        let host = net.add();
        net.connect(host);
        net.pass(1_000);
    }
    net.until("they are connected", |net| net.is_full_mesh());
    let mut relayed = relayed(&net, "0 hears from the server ");
    relayed.retain(|text| text.contains("sealed-1"));
    assert!(relayed.iter().any(|text| text.contains("\"offer\"")) && relayed.len() >= 3, "{relayed:?}");
    net.break_links(0, 1);
    net.until("the link is lost", |net| net.hosts[0].links.is_empty());
    net.hosts[0].events.clear();
    let opened = net.hosts[0].opened;
    for text in relayed {
        net.feed(0, Input::SignalingText { text });
    }
    assert_eq!((net.hosts[0].opened, net.hosts[0].errors()), (opened, vec![ErrorCode::Signaling]));
    let said = |event: &Event| matches!(event, Event::Error { message, .. } if message.contains("it came before"));
    assert!(net.hosts[0].events.iter().any(said), "{:?}", net.hosts[0].events);
    net.until("they are connected again", |net| net.is_full_mesh());
}

/// The server may hold an answer back until there is another connection to answer.
#[test]
fn an_answer_is_taken_for_the_connection_that_it_answers() {
    let mut net = Net::new(3);
    net.trace = Trace::on();
    for _ in 0..2 {
        let host = net.add();
        net.connect(host);
        net.pass(net.delays.signaling_ms.1);
    }
    let (peer, me) = (net.peer(0), net.peer(1));
    net.until("the offer has come", |net| net.hosts[0].links.values().any(|link| link.remote.is_some()));
    net.fall_asleep(0);
    let link = *net.hosts[1].links.keys().next().unwrap();
    let relayed = relayed(&net, "0 hears from the server ");
    let named = |text: &String| text.split_once("sealed-1.")?.1.get(..16).map(str::to_owned);
    let name = relayed.iter().filter(|text| text.contains("\"offer\"")).find_map(named);
    let connection = u64::from_str_radix(&name.expect("an offer went through the server"), 16).unwrap();
    let answer = |connection, number| {
        let envelope = Envelope { from: &peer, to: &me, kind: SealedKind::Answer };
        let sdp = "v=0\r\no=- 999 1 IN IP4 h\r\na=ice-ufrag:x\r\n";
        let sealed = RoomSecret::of("room").seal(envelope, ConnectionId(connection), number, sdp);
        let message = json!({"type": "answer", "from": peer.as_str(), "sdp": {"type": "answer", "sdp": sealed}});
        Input::SignalingText { text: message.to_string() }
    };
    net.feed(1, answer(connection ^ 1, 1_000));
    assert_eq!(net.hosts[1].links[&link].remote, None);
    net.feed(1, answer(connection, 1_001));
    assert!(net.hosts[1].links[&link].remote.is_some());
}

#[test]
fn nobody_is_talked_down_to_what_is_not_sealed() {
    for sealed in [true, false] {
        let mut net = if sealed { Net::new(4) } else { Net::unsealed(4) };
        let ada = net.add();
        net.connect(ada);
        net.pass(1_000);
        let sdp = json!({"type": "offer", "sdp": "v=0\r\no=- 999 1 IN IP4 h\r\na=ice-ufrag:x\r\n"});
        let offer = json!({"type": "offer", "from": "bob", "sdp": sdp});
        net.feed(ada, Input::SignalingText { text: offer.to_string() });
        assert_eq!(net.hosts[ada].links.is_empty(), sealed);
        let errors = if sealed { vec![ErrorCode::Signaling] } else { vec![] };
        assert_eq!(net.hosts[ada].errors(), errors);
    }
}
