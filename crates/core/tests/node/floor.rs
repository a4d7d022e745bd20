//! Rooms that forget deleted rows, and who comes back after too long.

use rtc_battery_core::Replica;
use rtc_battery_core::node::{ErrorCode, Event};
use rtc_battery_proto::ReplicaId;
use rtc_battery_sim::net::Net;
use rusqlite::Connection;

const MINUTE_MS: u64 = 60_000;

/// A room whose nodes remember deleted rows for half an hour.
fn room(seed: u64, nodes: usize) -> Net {
    let mut net = Net::room(seed, nodes);
    (0..nodes).for_each(|host| remember(&mut net, host));
    net.exec(0, "CREATE TABLE n (id INTEGER PRIMARY KEY, v, w)");
    net.exec(0, "INSERT INTO n VALUES (1, 'one', 0), (2, 'two', 0), (3, 'three', 0)");
    net.until("everybody has the rows", |net| net.is_converged());
    net
}

fn remember(net: &mut Net, host: usize) {
    net.hosts[host].node.node().remember_deleted_for(30 * MINUTE_MS);
}

fn deletes(net: &mut Net, host: usize) -> String {
    let rows = net.exec(host, "SELECT value FROM rtc_stats WHERE name = 'deletes'").values;
    format!("{:?}", rows[0][0])
}

fn rows(net: &mut Net, host: usize) -> Vec<String> {
    let rows = net.exec(host, "SELECT id, v, w FROM n ORDER BY id").values;
    rows.iter().map(|row| format!("{row:?}")).collect()
}

fn has_diverged(net: &Net) -> bool {
    net.hosts.iter().any(|host| host.errors().contains(&ErrorCode::Diverged))
}

/// Everybody who is online has the same rows, registers and floor.
fn in_step(net: &Net, hosts: &[usize]) -> bool {
    let first = net.hosts[hosts[0]].node.replica();
    hosts.iter().all(|host| {
        let replica = net.hosts[*host].node.replica();
        replica.vector() == first.vector()
            && replica.floor() == first.floor()
            && replica.digest().unwrap() == first.digest().unwrap()
    })
}

#[test]
fn a_room_forgets_together_and_falls_silent() {
    let mut net = room(1, 3);
    net.exec(1, "DELETE FROM n WHERE id < 3");
    net.until("everybody knows", |net| net.is_converged());
    net.pass(29 * MINUTE_MS);
    assert_eq!(deletes(&mut net, 0), "2");
    net.pass(5 * MINUTE_MS);
    net.until("all have one floor", |net| in_step(net, &[0, 1, 2]));
    for host in 0..3 {
        assert_eq!(deletes(&mut net, host), "0");
        assert_eq!(rows(&mut net, host), [r#"[3, "three", 0]"#]);
    }
    net.settle();
    net.hosts.iter_mut().for_each(|host| host.said.clear());
    net.pass(20 * MINUTE_MS);
    assert!(net.hosts.iter().all(|host| host.data().is_empty()), "there is nothing more to say");
    assert!(!has_diverged(&net));
}

#[test]
fn who_was_away_for_too_long_takes_what_is_there_and_keeps_its_edits() {
    for seed in 0..6 {
        let mut net = room(seed, 3);
        net.disconnect(2);
        net.pass(1000);
        net.exec(0, "DELETE FROM n WHERE id < 3");
        net.exec(1, "UPDATE n SET v = 'drei' WHERE id = 3; INSERT INTO n VALUES (4, 'four', 0)");
        net.exec(2, "UPDATE n SET w = 'mine' WHERE id = 2");
        net.exec(2, "UPDATE n SET w = 'mine' WHERE id = 3");
        net.pass(70 * MINUTE_MS);
        assert_eq!(deletes(&mut net, 0), "0", "seed {seed}");
        assert_eq!(rows(&mut net, 2).len(), 3);
        net.connect(2);
        net.until("everybody has the same", |net| in_step(net, &[0, 1, 2]));
        let expected = [r#"[2, "two", "mine"]"#, r#"[3, "drei", "mine"]"#, r#"[4, "four", 0]"#];
        for host in 0..3 {
            assert_eq!(rows(&mut net, host), expected, "seed {seed}, host {host}");
        }
        assert!(net.hosts[2].errors().contains(&ErrorCode::BroughtBack));
        assert!(!has_diverged(&net), "seed {seed}");
        // And goes on as any other.
        net.exec(2, "DELETE FROM n WHERE id = 2");
        net.until("everybody has the same", |net| in_step(net, &[0, 1, 2]));
        assert_eq!(rows(&mut net, 0).len(), 2);
    }
}

/// Found by the simulator (527): a floor that rose after it was told, and before everything was. What was forgotten in between came back.
#[test]
fn who_tells_everything_tells_the_floor_before_the_end_of_it() {
    let mut net = room(1, 2);
    net.exec(1, "DELETE FROM n WHERE id < 3");
    net.until("everybody knows", |net| net.is_converged());
    net.pass(40 * MINUTE_MS);
    net.until("all have one floor", |net| in_step(net, &[0, 1]));
    net.forget();
    net.say(1, 0, r#"{"type":"sync-request","fromVersion":0,"vector":{}}"#);
    net.pass(1_000);
    let told: Vec<_> = net.hosts[0]
        .said
        .iter()
        .map(|said| said.kind)
        .filter(|kind| matches!(*kind, "floor" | "sync-response"))
        .collect();
    assert_eq!(told, ["floor", "sync-response"]);
}

/// Found by the simulator (1779): what had just been forgotten came back as another's contents under our own dots.
#[test]
fn what_is_forgotten_while_everything_is_compared_does_not_come_back() {
    let mut net = Net::new(1);
    for host in 0..2 {
        let id = ReplicaId::new("copied").unwrap();
        net.add_with(Replica::open(Connection::open_in_memory().unwrap(), "room", &id).unwrap());
        remember(&mut net, host);
        net.exec(host, "CREATE TABLE n (id INTEGER PRIMARY KEY, v, w)");
        net.exec(host, "INSERT INTO n VALUES (1, 'one', 0)");
        net.exec(host, "DELETE FROM n");
        net.exec(host, &format!("INSERT INTO n VALUES ({host} + 10, 'its own', 0)"));
    }
    net.pass(20 * MINUTE_MS);
    (0..2).for_each(|host| net.connect(host));
    net.until("it asks for everything", |net| net.hosts[0].errors().contains(&ErrorCode::Diverged));
    // It looks back right before it takes the answer.
    net.hosts[0].node.node().remember_deleted_for(10 * MINUTE_MS);
    net.until("both have the same", |net| in_step(net, &[0, 1]));
    for host in 0..2 {
        assert_eq!((deletes(&mut net, host), rows(&mut net, host).len()), ("0".to_owned(), 2));
        let kept = net.exec(host, "SELECT count(*) FROM rtc_operations WHERE tbl <> 1").values;
        assert_eq!(format!("{:?}", kept[0][0]), "2", "nothing is told again");
    }
}

/// Of two peers one remembers more: what it knows is asked for first, and is all that was missed.
#[test]
fn one_who_remembers_is_asked_before_one_who_does_not() {
    for seed in 0..6 {
        let mut net = room(seed, 3);
        net.hosts[1].node.node().remember_deleted_for(10_000 * MINUTE_MS);
        net.disconnect(2);
        net.disconnect(1);
        net.pass(1000);
        net.exec(0, "DELETE FROM n WHERE id < 3");
        net.connect(1);
        net.until("it has heard of it", |net| in_step(net, &[0, 1]));
        net.disconnect(1);
        net.exec(2, "UPDATE n SET w = 'older' WHERE id = 1");
        net.pass(70 * MINUTE_MS);
        assert_eq!((deletes(&mut net, 0), deletes(&mut net, 1)), ("0".to_owned(), "2".to_owned()));
        net.exec(2, "UPDATE n SET w = 'newer' WHERE id = 2");
        [1, 2].into_iter().for_each(|host| net.connect(host));
        net.until("everybody has the same", |net| in_step(net, &[0, 1, 2]));
        for host in 0..3 {
            let rows = rows(&mut net, host);
            assert!(rows.contains(&r#"[2, "two", "newer"]"#.to_owned()), "seed {seed}: {rows:?}");
        }
    }
}

#[test]
fn a_large_database_is_caught_up_with_while_it_is_written_to() {
    let mut net = room(3, 3);
    net.disconnect(2);
    net.pass(1000);
    net.exec(
        0,
        "WITH RECURSIVE s (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM s WHERE i < 6000) INSERT INTO n SELECT i, hex(randomblob(20)), i FROM s",
    );
    net.exec(0, "DELETE FROM n WHERE id < 3 OR id % 2");
    net.exec(2, "UPDATE n SET w = 'mine' WHERE id = 2");
    net.pass(70 * MINUTE_MS);
    assert_eq!(deletes(&mut net, 1), "0");
    net.connect(2);
    net.until("the first part is here", |net| {
        net.hosts[2].told(&Event::PeerJoin { peer: net.peer(0) }) || !net.hosts[2].comings().is_empty()
    });
    for n in 0..20 {
        net.exec(1, &format!("UPDATE n SET w = 'live {n}' WHERE id = 100 + {n}"));
        net.exec(2, &format!("INSERT INTO n VALUES (10000 + {n}, 'live', 0)"));
        net.pass(20);
    }
    net.until("everybody has the same", |net| in_step(net, &[0, 1, 2]));
    assert_eq!(rows(&mut net, 2).len(), 2996 + 20 + 1);
    assert!(!has_diverged(&net));
}

/// It says that it has forgotten what nobody ever wrote.
#[test]
fn a_peer_that_lies_about_its_floor_wins_nothing() {
    let mut net = room(5, 2);
    let liar = net.add();
    let floor = r#"{"vector":{"nobody":[[1,9007199254740991]]},"clock":{"ts":281474976710655,"counter":0}}"#;
    net.connect(liar);
    net.until("all are there", |net| net.is_full_mesh());
    let links = net.links(0, liar);
    let text = format!(r#"{{"type":"floor","floor":{floor}}}"#);
    net.feed(0, rtc_battery_core::node::Input::ChannelText { link: links[0], text });
    net.exec(1, "INSERT INTO n VALUES (7, 'seven', 0)");
    net.until("the others are served", |net| in_step(net, &[0, 1]));
    net.exec(0, "DELETE FROM n WHERE id = 1");
    net.until("the others are served", |net| in_step(net, &[0, 1]));
    assert!(net.hosts[0].node.replica().floor().is_empty());
}

#[test]
fn a_newcomer_whose_clock_is_slow_has_the_floor_of_those_it_heard_everything_from() {
    let mut net = room(1, 2);
    net.exec(0, "DELETE FROM n WHERE id < 3");
    net.pass(34 * MINUTE_MS);
    net.until("all have one floor", |net| in_step(net, &[0, 1]));
    let late = net.add();
    net.hosts[late].clock.ahead_ms = -120 * 60_000;
    net.connect(late);
    let vectors = |net: &Net, host: usize| {
        let replica = net.hosts[host].node.replica();
        (replica.vector().clone(), replica.floor().vector.clone())
    };
    net.until("it has everything", |net| vectors(net, late).0 == vectors(net, 0).0);
    assert_eq!(vectors(&net, late), vectors(&net, 0), "whoever it tells lacks what they lack");
    assert!(!vectors(&net, late).1.is_empty());
}
