//! What is from the future, on a network: it waits at every device by its own clock, and is shown without being sent again.

use rtc_battery_core::node::{ErrorCode, Event};
use rtc_battery_sim::net::Net;

const HOUR_MS: i64 = 3_600_000;

/// Three devices with a table; the clock of the first is an hour fast.
fn room(seed: u64) -> Net {
    let mut net = Net::room(seed, 3);
    net.hosts[0].clock.ahead_ms = HOUR_MS;
    net.exec(0, "INSERT INTO t VALUES ('1', 'from the future', 0)");
    net.until("it is everywhere", |net| net.is_converged());
    net
}

fn released(net: &Net, host: usize) -> bool {
    net.hosts[host].told(&Event::Released { operations: 1 })
}

#[test]
fn what_is_set_aside_is_told_and_shown_in_its_time_without_being_sent_again() {
    let mut net = room(1);
    for host in 1..3 {
        assert_eq!(net.exec(host, "SELECT * FROM t").values.len(), 0);
        assert!(net.hosts[host].errors().contains(&ErrorCode::SetAside));
    }
    // One of them has nobody to ask, and the other's clock is a little faster.
    net.disconnect(1);
    net.hosts[2].clock.ahead_ms = HOUR_MS / 2;
    net.until("digests have been told", |net| net.now_ms > 120_000);
    net.forget();
    net.pass(20 * 60_000);
    assert!(!released(&net, 1) && !released(&net, 2));
    net.pass(5 * 60_000);
    assert!(!released(&net, 1) && released(&net, 2));
    net.pass(30 * 60_000);
    assert!(released(&net, 1));
    for host in 1..3 {
        assert_eq!(net.rows(host), net.rows(0));
    }
    assert!(net.hosts.iter().all(|host| host.operations_said() == 0), "nothing was sent again");
    assert!(!net.hosts.iter().any(|host| host.errors().contains(&ErrorCode::Diverged)));
}

#[test]
fn a_clock_that_is_set_forward_releases_at_the_next_look() {
    let mut net = room(2);
    net.disconnect(1);
    net.pass(10_000);
    net.hosts[1].clock.ahead_ms = HOUR_MS;
    net.until("it has looked", |net| released(net, 1));
}

#[test]
fn who_is_far_behind_tells_newcomers_what_it_does_not_show() {
    let mut net = room(3);
    net.disconnect(0);
    net.pass(5_000);
    let late = net.add();
    net.hosts[late].clock.ahead_ms = HOUR_MS;
    net.connect(late);
    net.until("it is at the newcomer", |net| net.is_converged() && net.rows(late).len() == 1);
    assert_eq!((net.rows(1).len(), net.rows(2).len()), (0, 0));
}

#[test]
fn an_open_transaction_is_waited_for() {
    let mut net = room(4);
    net.exec(1, "BEGIN; INSERT INTO t VALUES ('2', 'mine', 0)");
    net.hosts[1].clock.ahead_ms = HOUR_MS;
    net.pass(20_000);
    assert!(!released(&net, 1));
    net.exec(1, "COMMIT");
    assert!(released(&net, 1));
}

#[test]
fn what_did_not_fit_is_asked_for_again_over_the_same_link() {
    let mut net = room(5);
    net.exec(0, "INSERT INTO t SELECT 'n' || column1, hex(zeroblob(3000000)), 0 FROM (VALUES (1), (2), (3))");
    net.until("it is refused", |net| net.hosts[1].errors().contains(&ErrorCode::BadMessage));
    net.pass(60_000);
    assert!(!net.is_converged());
    net.wall_ms += HOUR_MS as u64;
    net.until("everybody has it", |net| net.is_converged());
    assert_eq!(net.exec(1, "SELECT * FROM t").values.len(), 4);
}

/// By how much a device was told that its clock is fast, each time.
fn skews(net: &Net, host: usize) -> Vec<u64> {
    let ahead = |event: &Event| match event {
        Event::ClockSkew { ahead_ms } => Some(*ahead_ms),
        _ => None,
    };
    net.hosts[host].events.iter().filter_map(ahead).collect()
}

#[test]
fn the_fast_device_is_told_and_the_others_are_not() {
    let mut net = room(6);
    net.pass(60_000);
    let told = skews(&net, 0);
    assert!(told.len() == 1 && told[0].abs_diff(HOUR_MS as u64) < 1_000, "{told:?}");
    assert_eq!((skews(&net, 1), skews(&net, 2)), (vec![], vec![]));
    // Set right, and wrong again.
    net.hosts[0].clock.ahead_ms = 4 * 60_000;
    net.pass(60_000);
    net.hosts[0].clock.ahead_ms = 6 * 60_000;
    net.pass(60_000);
    assert_eq!(skews(&net, 0).len(), 2);
    // Of two who disagree the faster one is told, whichever is wrong.
    net.disconnect(2);
    net.disconnect(0);
    let slow = net.add();
    net.hosts[slow].clock.ahead_ms = -HOUR_MS;
    net.connect(slow);
    net.pass(60_000);
    assert_eq!((skews(&net, 1).len(), skews(&net, slow).len()), (1, 0));
}
