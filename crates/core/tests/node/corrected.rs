//! A device whose clock was far ahead and is set right, on a network: what it wrote is everywhere within moments, and undoes nothing later.

use rtc_battery_core::node::ErrorCode;
use rtc_battery_sim::net::Net;

const HOUR_MS: i64 = 3_600_000;

fn corrected(net: &Net, host: usize) -> bool {
    net.hosts[host].errors().contains(&ErrorCode::ClockCorrected)
}

/// Three devices; the clock of the first is two hours fast, and it has written.
fn room(seed: u64) -> Net {
    let mut net = Net::room(seed, 3);
    net.hosts[0].clock.ahead_ms = 2 * HOUR_MS;
    net.exec(0, "INSERT INTO t VALUES ('1', 'from the future', 0)");
    net.until("it is everywhere", |net| net.is_converged());
    assert_eq!((net.rows(1).len(), net.rows(2).len()), (0, 0));
    net
}

#[test]
fn what_was_written_while_the_clock_was_fast_is_shown_when_it_is_right() {
    let mut net = room(1);
    net.disconnect(2);
    net.pass(5_000);
    net.hosts[0].clock.ahead_ms = 0;
    net.until("it has stepped back", |net| corrected(net, 0) && net.rows(1) == net.rows(0));
    assert_eq!(net.rows(1).len(), 1);
    net.exec(1, "UPDATE t SET v = 'later'");
    net.connect(2);
    net.until("the third has it too", |net| net.is_converged() && net.rows(2) == net.rows(1));
    net.pass(3 * 3_600_000);
    for host in 0..3 {
        assert_eq!(net.exec(host, "SELECT v FROM t").values.len(), 1);
        assert_eq!(net.rows(host), net.rows(1), "the future has come, and undoes nothing");
        assert!(!net.hosts[host].errors().contains(&ErrorCode::Diverged));
    }
}

#[test]
fn it_is_done_once_somebody_says_what_time_it_is() {
    let mut net = room(2);
    net.disconnect(0);
    net.pass(5_000);
    net.hosts[0].clock.ahead_ms = 0;
    net.exec(0, "INSERT INTO t VALUES ('2', 'before anybody was met', 0)");
    net.pass(60_000);
    assert!(!corrected(&net, 0));
    net.connect(0);
    net.until("it has stepped back", |net| corrected(net, 0) && net.is_converged());
    assert_eq!(net.rows(1).len(), 2);
    assert_eq!(net.rows(1), net.rows(0));
}

#[test]
fn a_clock_that_is_set_back_wrongly_takes_nothing_back() {
    let mut net = room(3);
    let id = net.hosts[1].node.replica().id().clone();
    net.hosts[1].clock.ahead_ms = -5 * HOUR_MS;
    net.exec(1, "INSERT INTO t VALUES ('2', 'right', 0)");
    net.pass(10 * 60_000);
    assert!(!corrected(&net, 1));
    assert_eq!(*net.hosts[1].node.replica().id(), id);
    assert_eq!(net.rows(2).len(), 1);
}
