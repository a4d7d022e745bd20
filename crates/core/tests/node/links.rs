//! Rooms of nodes: who connects to whom, what happens to links that break, and what never happens.

use rtc_battery_core::node::{ErrorCode, Event, Input, LinkId};
use rtc_battery_sim::net::Net;

#[test]
fn a_newcomer_connects_to_everyone() {
    for seed in 0..20 {
        let mut net = Net::new(seed);
        for _ in 0..4 {
            let host = net.add();
            net.connect(host);
            net.pass(net.delays.signaling_ms.1 * 5);
        }
        net.until("everyone is connected", |net| net.is_full_mesh());
        for host in &net.hosts {
            assert_eq!(host.comings().len(), 3, "each came once: {:?}", host.events);
            assert_eq!(host.errors(), []);
        }
    }
}

/// The newcomer's offer takes about as long as those present wait for it, so that both offer, in either order.
#[test]
fn crossing_first_offers_leave_one_link() {
    let (mut polite_first, mut crossed) = ([false; 2], 0);
    for seed in 0..100 {
        let mut net = Net::new(seed);
        net.delays.signaling_ms = (500, 3_500);
        let (a, b) = (net.add(), net.add());
        polite_first[usize::from(net.peer(a) < net.peer(b))] = true;
        net.connect(a);
        net.pass(8_000);
        net.connect(b);
        net.until("they are connected", |net| net.is_full_mesh());
        net.pass(60_000);
        assert!(net.is_full_mesh(), "seed {seed}: it stays");
        let (polite, impolite) = if net.peer(a) < net.peer(b) { (a, b) } else { (b, a) };
        crossed += usize::from(net.hosts[polite].opened == 2);
        assert_eq!(net.hosts[impolite].opened, 1, "seed {seed}: the impolite one's offer stands");
        assert!(net.hosts[polite].opened <= 2, "seed {seed}: the polite one made way once");
        assert_eq!(net.hosts[a].comings().len() + net.hosts[b].comings().len(), 2, "seed {seed}");
    }
    assert_eq!(polite_first, [true; 2]);
    assert!(crossed > 20, "{crossed} of 100 crossed");
}

/// Both sides begin again in the same moment, with signaling from quick to as slow as the wait for the other's offer.
#[test]
fn both_sides_dial_again_at_once_and_make_one_link() {
    for (seed, slowest_ms) in (0..100).map(|seed| (seed, [200, 4_000][seed as usize % 2])) {
        let mut net = Net::room(seed, 2);
        net.delays.signaling_ms = (0, slowest_ms);
        net.break_links(0, 1);
        net.until("the link is lost", |net| !net.is_full_mesh());
        net.until("they are connected", |net| net.is_full_mesh());
        net.pass(60_000);
        assert!(net.is_full_mesh(), "seed {seed}: it stays");
    }
}

#[test]
fn a_server_that_comes_back_finds_everyone() {
    for seed in 0..30 {
        let mut net = Net::new(seed);
        for _ in 0..3 {
            net.add();
        }
        net.stop_server();
        (0..3).for_each(|host| net.connect(host));
        net.pass(20_000);
        for host in &net.hosts {
            assert_eq!(host.errors(), [ErrorCode::SignalingUnreachable], "told once");
        }
        net.start_server();
        // Everyone is a newcomer, so offers may cross.
        net.until("everyone is connected", |net| net.is_full_mesh());
        net.pass(60_000);
        assert!(net.is_full_mesh());
    }
}

#[test]
fn a_socket_that_died_without_a_word_is_replaced_and_nobody_notices() {
    for seed in 0..20 {
        let mut net = Net::room(seed, 3);
        net.forget();
        net.lose_socket(0);
        // The first wait of the backoff is a second at most.
        net.pass(2_000 + 2 * net.delays.signaling_ms.1);
        assert!(net.hosts[0].told(&Event::Online), "seed {seed}: its name was not given back to it");
        assert_eq!(net.hosts[0].errors(), [ErrorCode::SignalingUnreachable], "seed {seed}");
        net.pass(60_000);
        for host in &net.hosts {
            assert_eq!(host.comings(), [], "seed {seed}");
        }
        // It is there for who comes later.
        let newcomer = net.add();
        net.connect(newcomer);
        net.until("everyone is connected", |net| net.is_full_mesh());
    }
}

#[test]
fn a_sample_says_nothing_of_who_is_not_in_it() {
    const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    for seed in 0..20 {
        let mut net = Net::room(seed, 4);
        net.sample(1);
        for host in 0..4 {
            net.lose_socket(host);
        }
        net.pass(60_000);
        // Links that are lost now are made anew, with those who were in nobody's sample, too.
        PAIRS.iter().for_each(|&(one, other)| net.cut(one, other));
        net.pass(120_000);
        PAIRS.iter().for_each(|&(one, other)| net.mend(one, other));
        net.until("everyone is connected again", |net| net.is_full_mesh());
        // Those whom a newcomer is not told of are told of it, and offer.
        let newcomer = net.add();
        net.connect(newcomer);
        net.until("everyone is connected", |net| net.is_full_mesh());
    }
}

#[test]
fn a_server_that_goes_while_links_are_being_made_loses_none() {
    for seed in 0..60 {
        let mut net = Net::new(seed);
        for _ in 0..3 {
            let host = net.add();
            net.connect(host);
        }
        net.pass(seed * 15);
        net.stop_server();
        net.pass(1_000);
        net.start_server();
        net.until("everyone is connected", |net| net.is_full_mesh());
    }
}

#[test]
fn losing_the_server_is_not_losing_the_peers() {
    let mut net = Net::room(1, 3);
    net.stop_server();
    net.pass(60_000);
    assert!(net.is_full_mesh());
    net.start_server();
    net.pass(60_000);
    assert!(net.is_full_mesh());
    for host in &net.hosts {
        assert_eq!((host.comings(), host.errors()), (vec![], vec![ErrorCode::SignalingUnreachable]));
    }
    // The server says that a peer left; its channel is open.
    let text = format!(r#"{{"type":"peer-leave","peerId":"{}"}}"#, net.peer(1));
    net.feed(0, Input::SignalingText { text });
    net.pass(60_000);
    assert!(net.is_full_mesh());
}

#[test]
fn edits_flow_over_the_same_links_while_the_server_is_gone_for_a_minute() {
    for seed in 0..20 {
        let mut net = Net::room(seed, 2);
        let links = [net.link(0, 1), net.link(1, 0)];
        let before = net.rows(0).len();
        net.stop_server();
        for second in 0..60 {
            let writer = second % 2;
            net.exec(writer, &format!("INSERT INTO t VALUES ('second {second}', 1, 2)"));
            net.pass(1_000);
            for host in 0..2 {
                assert_eq!(net.rows(host).len(), before + second + 1, "seed {seed}: edit {second} is with {host}");
            }
        }
        net.start_server();
        net.pass(60_000);
        assert_eq!([net.link(0, 1), net.link(1, 0)], links, "seed {seed}: the same links");
        assert!(net.hosts.iter().all(|host| host.comings().is_empty()), "seed {seed}: nobody left or came");
    }
}

#[test]
fn a_short_interruption_is_healed_by_restarting_ice() {
    for seed in 0..20 {
        let mut net = Net::room(seed, 2);
        let links = [net.link(0, 1), net.link(1, 0)];
        net.cut(0, 1);
        net.pass(9_000);
        net.exec(0, "INSERT INTO t VALUES ('while cut', 1, 2)");
        net.mend(0, 1);
        net.settle();
        net.pass(60_000);
        assert_eq!([net.link(0, 1), net.link(1, 0)], links, "seed {seed}: the same link");
        assert!(net.hosts.iter().all(|host| host.comings().is_empty()));
    }
}

#[test]
fn a_long_interruption_is_healed_by_a_new_link() {
    for seed in 0..20 {
        let mut net = Net::room(seed, 3);
        net.cut(0, 1);
        net.pass(120_000);
        assert!(!net.hosts[0].node.peers().contains(&net.peer(1)));
        net.exec(0, "INSERT INTO t VALUES ('by way of 2', 1, 2)");
        net.settle();
        net.mend(0, 1);
        net.until("they are connected", |net| net.is_full_mesh());
    }
}

#[test]
fn a_killed_peer_is_gone_and_is_not_dialled() {
    let mut net = Net::room(5, 3);
    let dead = net.peer(2);
    net.kill(2);
    net.until("it is gone for all", |net| net.is_full_mesh());
    for host in 0..2 {
        assert_eq!(net.hosts[host].comings(), [(false, dead.clone())]);
    }
    net.pass(120_000);
    assert!(net.is_full_mesh() && net.hosts[0].links.len() == 1);
}

#[test]
fn bye_is_said_and_answered() {
    let mut net = Net::room(6, 3);
    let (gone, started_ms) = (net.peer(0), net.now_ms);
    net.disconnect(0);
    assert!(net.hosts[0].node.peers().is_empty());
    net.until("all is closed", |net| net.hosts[0].told(&Event::Closed));
    assert!(net.now_ms - started_ms < 1_000, "nobody waited for a timeout");
    assert!(net.hosts[0].links.is_empty() && net.hosts[0].socket.is_none());
    assert_eq!(net.hosts[0].count("bye"), 2);
    net.pass(60_000);
    for host in 1..3 {
        assert_eq!(net.hosts[host].comings(), [(false, gone.clone())]);
        assert_eq!((net.hosts[host].count("bye"), net.hosts[host].links.len()), (1, 1));
    }
    // And back under the same name.
    net.connect(0);
    net.until("it is back", |net| net.is_full_mesh());
}

#[test]
fn leaving_does_not_wait_for_those_who_cannot_answer() {
    let mut net = Net::room(7, 2);
    net.cut(0, 1);
    net.disconnect(0);
    let started_ms = net.now_ms;
    net.until("all is closed", |net| net.hosts[0].told(&Event::Closed));
    assert!(net.now_ms - started_ms <= 2_000);
    // Nothing to leave.
    let alone = net.add();
    net.disconnect(alone);
    assert_eq!(net.hosts[alone].events, [Event::Closed]);
}

#[test]
fn late_word_of_an_old_link_does_not_touch_the_new_one() {
    let mut net = Net::room(8, 2);
    let old = net.link(0, 1);
    net.break_links(0, 1);
    net.until("the link is lost", |net| !net.is_full_mesh());
    net.until("they are connected", |net| net.is_full_mesh());
    assert_ne!(net.link(0, 1), old);
    net.forget();
    for link in [old, LinkId(99)] {
        for input in [
            Input::ChannelClosed { link },
            Input::LinkFailed { link, reason: "late".into() },
            Input::ChannelOpened { link, max_message_bytes: None },
            Input::ChannelText { link, text: r#"{"type":"bye"}"#.into() },
            Input::ChannelBinary { link, bytes: vec![9] },
            Input::ChannelDrained { link, sent_bytes: 7 },
            Input::LocalCandidate { link, candidate: "{}".into() },
        ] {
            net.feed(0, input);
        }
    }
    net.pass(60_000);
    assert!(net.is_full_mesh() && net.hosts[0].events.is_empty());
}

/// The old link waits for its end while the peer is back already on a new one.
#[test]
fn a_link_that_is_being_left_does_not_take_its_successor_along() {
    let mut net = Net::room(8, 2);
    let peer = net.peer(0);
    net.disconnect(0);
    net.until("bye was said", |net| net.hosts[1].told(&Event::PeerLeave { peer: peer.clone() }));
    net.cut(0, 1);
    net.connect(0);
    net.pass(100);
    net.mend(0, 1);
    net.until("it is back", |net| net.hosts[1].told(&Event::PeerJoin { peer: peer.clone() }));
    assert_eq!(net.hosts[1].links.len(), 2, "the old one is still being left");
    net.until("the old one is closed", |net| net.is_full_mesh());
    // Whoever comes back to the server knows the new one still.
    let links = [net.link(0, 1), net.link(1, 0)];
    net.stop_server();
    net.pass(1_000);
    net.start_server();
    net.pass(60_000);
    assert_eq!([net.link(0, 1), net.link(1, 0)], links);
    net.kill(0);
    net.until("it is gone", |net| net.hosts[1].node.peers().is_empty());
    assert_eq!(net.hosts[1].comings(), [(false, peer.clone()), (true, peer.clone()), (false, peer)]);
}

fn signaled(kind: &str, from: &Net, host: usize, session: u64) -> Input {
    let peer = from.peer(host);
    let sdp = format!(r"v=0\r\no=- {session} 7 IN IP4 h\r\na=ice-ufrag:x\r\n");
    Input::SignalingText {
        text: format!(r#"{{"type":"{kind}","from":"{peer}","sdp":{{"type":"{kind}","sdp":"{sdp}"}}}}"#),
    }
}

/// The peer restarts ICE on a connection that is closed here: an answer would be of no use to it, another connection is.
#[test]
fn an_offer_for_a_closed_connection_is_answered_by_a_new_one() {
    let mut net = Net::unsealed_room(8, 2);
    let (link, theirs) = (net.link(0, 1), net.link(1, 0));
    let session = net.hosts[1].links[&theirs].session;
    net.cut(0, 1);
    net.feed(0, Input::LinkFailed { link, reason: "only here".into() });
    assert!(net.hosts[0].links.is_empty());
    let offer = signaled("offer", &net, 1, session);
    net.feed(0, offer);
    assert!(net.hosts[0].links.values().all(|link| link.offers) && net.hosts[0].links.len() == 1);
    net.pass(100);
    net.mend(0, 1);
    net.until("they are connected", |net| net.is_full_mesh());
}

/// An answer of a third connection while one is being made: the one at the other end is not the one we think.
#[test]
fn an_answer_of_another_connection_begins_anew() {
    let mut net = Net::unsealed(8);
    net.delays.channel_ms = (2_000, 3_000);
    for _ in 0..2 {
        let host = net.add();
        net.connect(host);
        net.pass(1_000);
    }
    net.until("the first has answered", |net| net.hosts[0].links.values().any(|link| link.remote.is_some()));
    let link = net.link(0, 1);
    let answer = signaled("answer", &net, 1, 999_999);
    net.feed(0, answer);
    assert!(!net.hosts[0].links.contains_key(&link));
    net.until("they are connected", |net| net.is_full_mesh());
    // Once it stands, it takes more than that.
    let answer = signaled("answer", &net, 1, 999_999);
    net.feed(0, answer);
    assert!(net.is_full_mesh());
}

/// A page that lost its connection without the other side noticing dials again: the user sees no coming and going there.
#[test]
fn a_connection_that_is_replaced_is_not_a_peer_that_left() {
    for seed in 0..20 {
        let mut net = Net::room(seed, 2);
        let link = net.link(0, 1);
        net.cut(0, 1);
        net.feed(0, Input::LinkFailed { link, reason: "only here".into() });
        // The channel's end is lost on the way.
        net.pass(100);
        net.mend(0, 1);
        net.until("they are connected", |net| net.is_full_mesh());
        net.pass(60_000);
        assert!(net.is_full_mesh());
        assert_eq!(net.hosts[1].comings(), [], "seed {seed}");
        net.exec(0, "INSERT INTO t VALUES ('after', 1, 2)");
        net.settle();
    }
}

/// Two pages on one machine: its lid was closed for an hour.
#[test]
fn a_sleep_is_no_silence() {
    let mut net = Net::room(9, 2);
    (0..2).for_each(|host| net.fall_asleep(host));
    net.pass(3_600_000);
    (0..2).for_each(|host| net.wake_up(host));
    net.pass(60_000);
    assert!(net.is_full_mesh());
    assert!(net.hosts.iter().all(|host| host.comings().is_empty()));
    // The sockets may have died without a word: both were made anew.
    assert!(net.hosts.iter().all(|host| host.sockets == 2 && host.socket.is_some()));
}

/// The first thing that a page hears after a sleep is often that its socket is closed; it may be that it is open.
#[test]
fn what_is_said_of_a_socket_is_not_said_of_the_one_that_was_made_in_its_place() {
    for stale in [Input::SignalingClosed { reason: "gone".into() }, Input::SignalingOpened] {
        let mut net = Net::room(9, 2);
        net.hosts[0].clock.ahead_ms += 3_600_000;
        net.feed(0, stale);
        net.pass(60_000);
        assert_eq!(net.hosts[0].sockets, 2);
        let newcomer = net.add();
        net.connect(newcomer);
        net.until("the newcomer has met both", |net| net.is_full_mesh());
    }
}

#[test]
fn one_that_sleeps_alone_is_missed_and_comes_back() {
    let mut net = Net::room(9, 2);
    net.fall_asleep(0);
    net.pass(120_000);
    assert!(net.hosts[1].node.peers().is_empty());
    net.wake_up(0);
    net.until("they are connected", |net| net.is_full_mesh());
}
