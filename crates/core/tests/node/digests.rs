//! Databases that wrote under one id: the digests of their registers tell, and both contents are merged.

use std::collections::BTreeSet;

use rtc_battery_core::node::ErrorCode;
use rtc_battery_core::replica::Replica;
use rtc_battery_proto::ReplicaId;
use rtc_battery_sim::net::Net;
use rusqlite::Connection;

/// A database file was copied, and both copies wrote under one id before they met: their vectors are equal, and each has what the other lacks.
fn two_of_one_id(seed: u64) -> Net {
    let mut net = Net::new(seed);
    for _ in 0..2 {
        let id = ReplicaId::new("copied").unwrap();
        net.add_with(Replica::open(Connection::open_in_memory().unwrap(), "room", &id).unwrap());
    }
    net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    net.exec(1, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
    net.exec(0, "INSERT INTO t VALUES ('both', 1, 'x')");
    net.exec(1, "INSERT INTO t VALUES ('both', 2, 'x')");
    net.exec(0, "INSERT INTO t VALUES ('only 0', 0, 0)");
    net.exec(1, "DELETE FROM t WHERE id = 'both'");
    net
}

#[test]
fn two_that_wrote_under_one_id_are_told_and_both_contents_are_merged() {
    for seed in 0..10 {
        let mut net = two_of_one_id(seed);
        let third = net.add();
        (0..=third).for_each(|host| net.connect(host));
        net.until("everyone is connected", |net| net.is_full_mesh());
        let told = |net: &Net, host: usize| net.hosts[host].errors().contains(&ErrorCode::Diverged);
        net.until("somebody is told", |net| (0..3).any(|host| told(net, host)));
        net.until("the registers are equal", |net| {
            let digests = (0..3).map(|host| net.hosts[host].node.replica().digest().unwrap().map(|digest| digest.0));
            digests.collect::<BTreeSet<_>>().len() == 1
        });
        net.settle();
        for host in 0..3 {
            assert_eq!(net.rows(host), net.rows(0), "seed {seed}");
        }
        assert_eq!(net.rows(0).len(), 1, "seed {seed}");
        let digests: BTreeSet<_> =
            net.hosts.iter().map(|host| host.node.replica().digest().unwrap().unwrap().0).collect();
        assert_eq!(digests.len(), 1, "seed {seed}");
        // Nobody is told again, and nobody asks again.
        net.pass(60_000);
        net.forget();
        net.pass(120_000);
        for host in &net.hosts {
            assert!(host.data().is_empty(), "seed {seed}: {:?}", host.data());
        }
    }
}
