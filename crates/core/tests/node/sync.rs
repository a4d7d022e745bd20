//! Rooms of nodes: everyone ends with the same, and nothing is said that need not be.

use std::collections::BTreeSet;

use rtc_battery_core::node::{Event, Input, LinkState};
use rtc_battery_proto::SqlValue;
use rtc_battery_sim::net::Net;

fn insert(net: &mut Net, host: usize, id: &str) {
    net.exec(host, &format!("INSERT INTO t VALUES ('{id}', {host}, 1.5)"));
}

#[test]
fn edits_reach_everyone() {
    for seed in 0..20 {
        let mut net = Net::room(seed, 2 + seed as usize % 3);
        for round in 0..10 {
            for host in 0..net.hosts.len() {
                insert(&mut net, host, &format!("{host}-{round}"));
                net.exec(host, &format!("UPDATE t SET v = {seed} + {round} WHERE id LIKE '0-%'"));
            }
            let ms = net.between((0, 100));
            net.pass(ms);
        }
        net.settle();
        let rows = net.rows(0).len();
        assert_eq!(rows, 10 * net.hosts.len());
    }
}

#[test]
fn a_newcomer_gets_all() {
    let mut net = Net::room(1, 2);
    net.exec(
        0,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                 INSERT INTO t SELECT 'row ' || i, i, randomblob(20) FROM n",
    );
    net.exec(1, "DELETE FROM t WHERE v % 3 = 0");
    net.settle();
    let new = net.add();
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.settle();
    let rows = net.rows(new).len();
    assert_eq!(rows, net.rows(0).len());
    assert_eq!(net.hosts[new].count("sync-request"), 1, "one peer was asked");
    let synced: u32 = net.hosts[new]
        .events
        .iter()
        .map(|event| match event {
            Event::Sync { operations, .. } => *operations,
            _ => 0,
        })
        .sum();
    assert!(synced as usize >= rows, "{synced} operations told");
}

#[test]
fn a_delta_is_what_is_missing() {
    let mut net = Net::room(2, 2);
    for n in 0..50 {
        insert(&mut net, 0, &format!("old {n}"));
    }
    net.settle();
    net.disconnect(1);
    net.until("it left", |net| net.hosts[1].told(&Event::Closed));
    for n in 0..3 {
        insert(&mut net, 0, &format!("new {n}"));
    }
    insert(&mut net, 1, "offline");
    net.forget();
    net.connect(1);
    net.until("it is back", |net| net.is_full_mesh());
    net.settle();
    let [zero, one] = [0, 1].map(|host: usize| net.hosts[host].operations_said());
    assert_eq!((zero, one), (3, 1));
    for host in &net.hosts {
        let kinds: Vec<_> = host.data().iter().map(|said| said.kind).collect();
        assert_eq!(kinds.len(), 3, "{kinds:?}");
        assert_eq!((host.count("hello"), host.count("sync-request"), host.count("sync-response")), (1, 1, 1));
    }
}

#[test]
fn a_chain_is_enough() {
    for seed in 0..10 {
        let mut net = Net::room(seed, 3);
        net.cut(0, 2);
        net.until("the ends lost each other", |net| {
            net.hosts[0].node.peers().len() == 1 && net.hosts[2].node.peers().len() == 1
        });
        net.forget();
        for n in 0..5 {
            insert(&mut net, 0, &format!("a{n}"));
            insert(&mut net, 2, &format!("c{n}"));
        }
        net.settle();
        let rows = net.rows(0).len();
        assert_eq!(rows, 10);
        // Live, not by asking; and what came from one end does not go back there.
        assert_eq!(net.hosts[1].count("op"), 10, "{:?}", net.hosts[1].said);
    }
}

#[test]
fn edits_flow_while_the_server_is_down() {
    let mut net = Net::room(3, 3);
    net.stop_server();
    net.pass(1_000);
    for n in 0..10 {
        insert(&mut net, n % 3, &format!("down {n}"));
        net.pass(100);
    }
    net.settle();
    assert!(net.is_full_mesh());
    assert_eq!(net.rows(2).len(), 10);
}

#[test]
fn offline_edits_meet() {
    for seed in 0..10 {
        let mut net = Net::room(seed, 3);
        for host in 0..3 {
            net.disconnect(host);
        }
        net.until("all left", |net| net.hosts.iter().all(|host| host.told(&Event::Closed)));
        for host in 0..3 {
            insert(&mut net, host, "same");
            insert(&mut net, host, &format!("own {host}"));
            net.exec(host, &format!("UPDATE t SET w = 'by {host}' WHERE id = 'same'"));
            net.pass(10);
        }
        for host in 0..3 {
            net.connect(host);
        }
        net.until("all are back", |net| net.is_full_mesh());
        net.settle();
        assert_eq!(net.rows(0).len(), 4);
    }
}

#[test]
fn after_convergence_there_is_silence() {
    for nodes in [2, 3, 5] {
        let mut net = Net::room(4, nodes);
        for n in 0..20 {
            insert(&mut net, n % nodes, &format!("{n}"));
        }
        net.settle();
        net.pass(60_000);
        net.forget();
        net.pass(600_000);
        for host in &net.hosts {
            assert!(host.data().is_empty(), "{:?}", host.data());
            assert!(host.count("ping") > 50 && host.events.is_empty());
        }
    }
}

#[test]
fn nothing_is_told_before_it_is_saved() {
    let mut net = Net::room(5, 2);
    net.hosts[0].saves_held = true;
    insert(&mut net, 0, "not yet");
    net.break_links(0, 1);
    net.until("the link is lost", |net| !net.is_full_mesh());
    net.until("they are connected again", |net| net.is_full_mesh());
    net.pass(60_000);
    // Neither live, nor in the hello of the new link, nor announced.
    assert_eq!(net.hosts[1].count("sync-request"), 0);
    let kinds: Vec<_> = net.hosts[0].data().iter().map(|said| said.kind).collect();
    assert_eq!(kinds, ["hello"]);
    net.release_saves(0);
    net.settle();
    assert_eq!(net.rows(1).len(), 1);
}

#[test]
fn an_answer_ends_only_when_it_is_saved() {
    let mut net = Net::room(5, 1);
    net.hosts[0].saves_held = true;
    insert(&mut net, 0, "not yet");
    let new = net.add();
    net.connect(new);
    net.until("the newcomer asked", |net| net.hosts[new].count("sync-request") == 1);
    net.pass(60_000);
    assert!(net.hosts[0].data().iter().all(|said| said.kind == "hello" || !said.ends), "{:?}", net.hosts[0].data());
    assert_eq!(net.hosts[new].node.replica().version(), 0);
    net.release_saves(0);
    net.settle();
    assert_eq!(net.rows(new).len(), 1);
}

#[test]
fn a_transaction_arrives_whole() {
    let mut net = Net::room(6, 3);
    net.exec(0, "BEGIN");
    for n in 0..300 {
        net.exec(0, &format!("INSERT INTO t VALUES ('{n}', {n}, hex(randomblob(400)))"));
    }
    net.pass(5_000);
    assert_eq!(net.rows(1).len() + net.rows(2).len(), 0);
    net.exec(0, "COMMIT");
    let mut seen = Vec::new();
    net.until("it has arrived", |net| {
        let counts = [1, 2].map(|host: usize| net.rows(host).len());
        seen.extend(counts);
        counts == [300, 300]
    });
    assert!(seen.iter().all(|count| matches!(count, 0 | 300)), "{seen:?}");
    net.settle();
}

#[test]
fn an_open_transaction_lets_others_wait() {
    let mut net = Net::room(7, 2);
    net.exec(1, "BEGIN");
    net.exec(1, "INSERT INTO t VALUES ('mine', 1, 2)");
    for n in 0..10 {
        insert(&mut net, 0, &format!("theirs {n}"));
    }
    net.pass(60_000);
    assert_eq!(net.rows(1).len(), 1);
    net.exec(1, "ROLLBACK");
    net.settle();
    assert_eq!((net.rows(1).len(), net.hosts[1].count("sync-request")), (10, 0));

    // A whole newcomer's answer waits too, and the one that asks is not asked of others meanwhile.
    let new = net.add();
    net.exec(new, "BEGIN");
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.pass(60_000);
    net.exec(new, "COMMIT");
    net.settle();
    assert_eq!(net.hosts[new].count("sync-request"), 1);
}

#[test]
fn twenty_megabytes_pass_through_a_small_buffer() {
    let mut net = Net::room(9, 2);
    for n in 0..20 {
        net.exec(0, &format!("INSERT INTO t VALUES ('{n}', 1, randomblob(1000000))"));
    }
    net.settle();
    net.delays.bytes_per_ms = 1_000;
    let new = net.add();
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    // Live edits meanwhile are not lost, nor told twice.
    for n in 0..30 {
        insert(&mut net, n % 2, &format!("meanwhile {n}"));
        net.pass(1_000);
    }
    net.settle();
    assert_eq!(net.rows(new).len(), 50);
    for host in &net.hosts {
        let most = host.most_buffered;
        assert!(most <= 256 * 1024 + 16 * 1024, "{most} bytes in a channel");
    }
    assert_eq!(net.hosts[new].count("sync-request"), 1);
    let all: usize = net.hosts[..2]
        .iter()
        .map(|host| host.said.iter().filter(|said| said.to == net.peer(new)).map(|said| said.operations).sum::<usize>())
        .sum();
    // The table, 20 rows of the answer, and 30 that both may have told, the one that answers live and at the answer's end.
    assert!(all <= 1 + 20 + 3 * 30, "{all} operations for a table and 50 rows");
}

#[test]
fn a_slow_peer_is_told_later_not_remembered_without_bound() {
    let mut net = Net::room(10, 2);
    net.delays.bytes_per_ms = 2;
    for n in 0..100 {
        net.exec(0, &format!("INSERT INTO t VALUES ('{n}', 1, hex(randomblob(10000)))"));
    }
    net.pass(100);
    net.delays.bytes_per_ms = 20_000;
    net.settle();
    assert_eq!(net.rows(1).len(), 100);
    // It fell behind, was told so, and asked.
    assert!(net.hosts[0].count("vector") >= 1 && net.hosts[1].count("sync-request") >= 1);
}

/// At 20 kB/s the sender's channel holds more than it can send in the time after which the silent are gone.
#[test]
fn a_slow_link_is_no_dead_one() {
    let mut net = Net::room(15, 1);
    net.exec(
        0,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
         INSERT INTO t SELECT i, i, hex(randomblob(2500)) FROM n",
    );
    net.settle();
    net.delays.bytes_per_ms = 20;
    let new = net.add();
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.settle();
    let peer = net.peer(0);
    assert_eq!(net.hosts[new].comings(), [(true, peer)]);
}

#[test]
fn half_an_answer_is_nothing() {
    let mut net = Net::room(11, 2);
    net.exec(
        0,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                 INSERT INTO t SELECT 'row ' || i, i, hex(randomblob(500)) FROM n",
    );
    net.settle();
    net.delays.bytes_per_ms = 100;
    let new = net.add();
    net.connect(new);
    for _ in 0..3 {
        let staged = |net: &mut Net| net.exec(new, "SELECT count(*) FROM temp.rtc_staged").values;
        let none = [[SqlValue::Integer(0)]];
        net.until("half an answer is here", |net| staged(net) != none);
        assert_eq!(net.hosts[new].node.replica().version(), 0);
        for host in 0..2 {
            let link = net.hosts[new].links.iter().find(|(_, link)| link.peer == net.peer(host)).map(|(link, _)| *link);
            if let Some(link) = link {
                net.feed(new, Input::LinkState { link, state: LinkState::Closed });
            }
        }
        assert_eq!(staged(&mut net), none);
        net.forget();
    }
    net.delays.bytes_per_ms = 20_000;
    net.until("it is connected", |net| net.is_full_mesh());
    net.settle();
    assert_eq!(net.rows(new).len(), 2000);
}

#[test]
fn when_the_one_that_is_asked_goes_another_is_asked_at_once() {
    let mut net = Net::room(13, 3);
    for n in 0..20 {
        net.exec(0, &format!("INSERT INTO t VALUES ('{n}', 1, randomblob(100000))"));
    }
    net.settle();
    net.delays.bytes_per_ms = 100;
    let new = net.add();
    net.connect(new);
    net.until("it is connected", |net| net.is_full_mesh());
    net.until("one is asked", |net| net.hosts[new].count("sync-request") == 1);
    net.pass(1_000);
    let asked = net.hosts[new].said.iter().find(|said| said.kind == "sync-request").unwrap().to.clone();
    let link = net.hosts[new].links.iter().find(|(_, link)| link.peer == asked).map(|(link, _)| *link).unwrap();
    net.feed(new, Input::LinkState { link, state: LinkState::Closed });
    let asked_again = net.hosts[new].said.iter().filter(|said| said.kind == "sync-request").nth(1);
    assert_ne!(asked_again.unwrap().to, asked);
    net.settle();
}

/// Both are staged by the receiver until their end: a large transaction that is committed while an answer is on its way must wait.
#[test]
fn a_series_does_not_fall_into_an_answer() {
    for seed in 0..5 {
        let mut net = Net::room(seed, 1);
        let large = |name: char, rows: usize| {
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 INSERT INTO t SELECT '{name}' || i, i, hex(randomblob(2500)) FROM n"
            )
        };
        net.exec(0, &large('a', 200));
        net.settle();
        net.delays.bytes_per_ms = 20;
        let new = net.add();
        net.connect(new);
        net.until("an answer is on its way", |net| net.hosts[0].said.iter().any(|said| !said.ends));
        net.exec(0, &large('b', 40));
        let mut seen = BTreeSet::new();
        net.until("all has arrived", |net| {
            let tables = net.exec(new, "SELECT count(*) FROM sqlite_schema WHERE name = 't'").values;
            let count = if tables == [[SqlValue::Integer(1)]] { net.rows(new).len() } else { 0 };
            seen.insert(count);
            count == 240
        });
        assert!(seen.iter().all(|count| matches!(count, 0 | 200 | 240)), "seed {seed}: {seen:?}");
        net.settle();
    }
}

#[test]
fn an_open_transaction_is_told_to_nobody() {
    let mut net = Net::room(14, 1);
    insert(&mut net, 0, "before");
    net.settle();
    net.exec(0, "BEGIN");
    net.exec(0, "UPDATE t SET v = 'uncommitted'");
    let new = net.add();
    net.connect(new);
    net.until("the newcomer asked", |net| net.hosts[new].count("sync-request") == 1);
    net.pass(60_000);
    assert_eq!(net.hosts[0].operations_said(), 0);
    net.exec(0, "ROLLBACK");
    net.settle();
    assert_eq!(net.rows(new).len(), 1);
}

/// Too late for our hello, too early to be told live.
#[test]
fn what_is_saved_between_two_hellos_is_told() {
    for seed in 0..10 {
        let mut net = Net::room(seed, 2);
        net.break_links(0, 1);
        net.until("the link is lost", |net| !net.is_full_mesh());
        net.forget();
        net.delays.channel_ms = (400, 500);
        net.until("one has greeted", |net| net.hosts.iter().any(|host| host.count("hello") == 1));
        let greeted_ms = net.now_ms;
        let first = usize::from(net.hosts[1].count("hello") == 1);
        insert(&mut net, first, "between");
        net.until("both have it", |net| net.is_converged());
        // Not by anti-entropy, which comes after ten seconds.
        assert!(net.now_ms - greeted_ms < 10_000, "seed {seed}");
    }
}

/// The same course of events, effect for effect.
#[test]
fn a_seed_replays() {
    let run = || {
        let mut net = Net::room(12, 3);
        for n in 0..20 {
            insert(&mut net, n % 3, &format!("{n}"));
            net.pass(30);
        }
        net.break_links(0, 2);
        net.settle();
        net.until("everyone is connected", |net| net.is_full_mesh());
        let said: Vec<_> = net.hosts.iter().map(|host| (host.said.clone(), host.events.clone())).collect();
        (net.now_ms, said)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_table_that_numbers_its_rows_is_told() {
    let mut net = Net::new(1);
    let host = net.add();
    net.exec(host, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
    net.exec(host, "INSERT INTO t (v) VALUES (1)");
    net.exec(host, "INSERT INTO t (v) VALUES (2)");
    assert_eq!(net.hosts[host].events, [Event::AutomaticKeys { table: "t".into() }]);
}

#[test]
fn a_table_that_two_created_differently_is_one_table_on_all() {
    for seed in 0..5 {
        let mut net = Net::new(seed);
        (0..3).for_each(|_| assert!(net.add() < 3));
        net.exec(0, "CREATE TABLE n (id INTEGER PRIMARY KEY, x, only_0)");
        net.exec(0, "INSERT INTO n VALUES (0, 'x', 'zero')");
        net.exec(1, "CREATE TABLE n (id INTEGER PRIMARY KEY, x, only_1 DEFAULT 7)");
        net.exec(1, "INSERT INTO n VALUES (1, 'x', 'one')");
        (0..3).for_each(|host| net.connect(host));
        net.until("everyone has the same", |net| net.is_full_mesh() && net.is_converged());
        for host in 0..3 {
            let rows = net.exec(host, "SELECT id, only_0, only_1 FROM n ORDER BY id").values;
            assert_eq!(format!("{rows:?}"), r#"[[0, "zero", 7], [1, NULL, "one"]]"#, "seed {seed}, host {host}");
        }
    }
}
