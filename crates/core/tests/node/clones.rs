//! Databases that turn out to write under one id: the one that notices goes on under another, and what both wrote survives.

use std::fs;
use std::path::PathBuf;

use rtc_battery_core::node::ErrorCode;
use rtc_battery_core::replica::Replica;
use rtc_battery_proto::ReplicaId;
use rtc_battery_sim::net::Net;
use rusqlite::Connection;

/// A room of two, the first with a file; where its backup is, made before it wrote for the last time.
struct Restored {
    net: Net,
    folder: PathBuf,
    /// The host that has the backup open, offline.
    restored: usize,
}

impl Restored {
    fn new(test: &str, seed: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("rtc-battery-clones-{test}-{seed}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let mut net = Net::new(seed);
        let original = net.add_with(open(folder.join("original")));
        let other = net.add();
        net.exec(original, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w)");
        [original, other].into_iter().for_each(|host| net.connect(host));
        net.until("both have the table", |net| net.is_full_mesh() && net.is_converged());
        fs::copy(folder.join("original"), folder.join("backup")).unwrap();
        net.exec(original, "INSERT INTO t VALUES ('after the backup', 1, 0)");
        net.until("both have the row", |net| net.is_converged());
        net.kill(original);
        let restored = net.add_with(open(folder.join("backup")));
        Self { net, folder, restored }
    }

    fn id(&self, host: usize) -> String {
        self.net.hosts[host].node.replica().id().to_string()
    }

    fn meet(&mut self) {
        self.net.connect(self.restored);
        self.net.until("they have met, and have the same", |net| {
            let digests = [1, 2].map(|host| net.hosts[host].node.replica().digest().unwrap());
            net.is_converged() && net.hosts[2].node.peers().len() == 1 && digests[0] == digests[1]
        });
        self.net.settle();
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn open(file: PathBuf) -> Replica {
    Replica::open(Connection::open(file).unwrap(), "room", &ReplicaId::new("original").unwrap()).unwrap()
}

fn ids(net: &mut Net, host: usize) -> Vec<String> {
    let rows = net.exec(host, "SELECT id FROM t ORDER BY id").values;
    rows.iter().map(|row| row[0].as_text().unwrap().into_owned()).collect()
}

#[test]
fn one_that_peers_know_more_of_goes_on_under_another_id() {
    for seed in 0..5 {
        let mut room = Restored::new("behind", seed);
        room.meet();
        assert_ne!(room.id(room.restored), "original");
        assert!(room.net.hosts[room.restored].errors().contains(&ErrorCode::Cloned));
        room.net.exec(room.restored, "INSERT INTO t VALUES ('under the new id', 2, 0)");
        room.net.until("both have it", |net| net.is_converged());
        for host in [1, 2] {
            assert_eq!(ids(&mut room.net, host), ["after the backup", "under the new id"], "seed {seed}");
        }
        assert!(!room.net.hosts.iter().any(|host| host.errors().contains(&ErrorCode::Diverged)));
    }
}

#[test]
fn what_was_written_before_anybody_noticed_survives_on_both_sides() {
    for seed in 0..5 {
        // As many transactions as the others know, and more.
        for writes in 1..=3 {
            let mut room = Restored::new(&format!("hidden-{writes}"), seed);
            for n in 0..writes {
                room.net.exec(room.restored, &format!("INSERT INTO t VALUES ('offline {n}', 2, 0)"));
            }
            room.meet();
            let mut expected: Vec<String> = (0..writes).map(|n| format!("offline {n}")).collect();
            expected.insert(0, "after the backup".to_owned());
            for host in [1, 2] {
                assert_eq!(ids(&mut room.net, host), expected, "seed {seed}, {writes} writes, at {host}");
            }
            room.net.pass(60_000);
            assert_ne!(room.id(room.restored), "original", "seed {seed}, {writes} writes");
        }
    }
}

#[test]
fn two_that_meet_under_one_id_part() {
    let mut net = Net::new(1);
    for _ in 0..2 {
        let id = ReplicaId::new("copied").unwrap();
        net.add_with(Replica::open(Connection::open_in_memory().unwrap(), "room", &id).unwrap());
    }
    (0..2).for_each(|host| net.connect(host));
    net.until("they have met", |net| net.is_full_mesh() && net.hosts.iter().all(|host| host.is_saved()));
    net.pass(5_000);
    let id = |net: &Net, host: usize| net.hosts[host].node.replica().id().clone();
    assert_ne!(id(&net, 0), id(&net, 1));
    net.exec(0, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w); INSERT INTO t VALUES ('0', 0, 0)");
    net.exec(1, "CREATE TABLE t (id TEXT PRIMARY KEY, v, w); INSERT INTO t VALUES ('1', 0, 0)");
    net.until("both have both", |net| net.is_converged());
    net.settle();
    assert_eq!((ids(&mut net, 0), ids(&mut net, 1)), (vec!["0".into(), "1".into()], vec!["0".into(), "1".into()]));
    assert!(!net.hosts.iter().any(|host| host.errors().contains(&ErrorCode::Diverged)));
}

#[test]
fn a_member_that_forges_an_id_costs_one_an_hour() {
    let mut net = Net::room(1, 2);
    net.exec(0, "INSERT INTO t VALUES ('1', 0, 0)");
    net.settle();
    let id = |net: &Net| net.hosts[0].node.replica().id().to_string();
    let mut known = vec![id(&net)];
    for _ in 0..3 {
        for _ in 0..3 {
            let forged = format!(r#"{{"type":"vector","vector":{{"{}":[[1,1000]]}}}}"#, id(&net));
            net.say(1, 0, &forged);
            net.pass(60_000);
            if known.last() != Some(&id(&net)) {
                known.push(id(&net));
            }
        }
        net.pass(3_600_000);
    }
    assert_eq!(known.len(), 4, "{known:?}");
}

#[test]
fn an_open_transaction_is_waited_for() {
    let mut net = Net::room(2, 2);
    net.exec(0, "BEGIN; INSERT INTO t VALUES ('mine', 0, 0)");
    let before = net.hosts[0].node.replica().id().clone();
    net.say(1, 0, &format!(r#"{{"type":"vector","vector":{{"{before}":[[1,1000]]}}}}"#));
    assert_eq!(net.hosts[0].node.replica().id(), &before);
    net.exec(0, "COMMIT");
    assert_ne!(net.hosts[0].node.replica().id(), &before);
    assert_eq!(ids(&mut net, 0), ["mine"]);
}
