//! A damaged database: what can be read of it goes on in a new replica, and nothing that cannot be does any harm.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{Peer, assert_alike, assert_equal, peer, sync};
use proptest::prelude::*;
use rtc_battery_core::replica::{Replica, Salvaged};
use rtc_battery_proto::{Operation, ReplicaId, VersionVector};
use rusqlite::Connection;

const OK: [&str; 1] = ["\"ok\""];

/// Small, so that a small database has many.
const PAGE: usize = 512;

static FILES: AtomicU32 = AtomicU32::new(0);

/// A peer in a file, which is deleted with this.
struct Stored {
    peer: Peer,
    path: PathBuf,
}

impl Stored {
    fn new(name: &str) -> Self {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rtc-battery-{}-{number}.db", std::process::id()));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA page_size = 512; PRAGMA synchronous = OFF").unwrap();
        let replica = Replica::open(connection, "room", &ReplicaId::new(name).unwrap()).unwrap();
        Self { peer: Peer { replica, wall_ms: 1000 }, path }
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn hear(&mut self, (operations, covers): &(Vec<Operation>, VersionVector)) {
        let now = self.now();
        self.replica.apply(operations.clone(), covers, now).unwrap();
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

impl Deref for Stored {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for Stored {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

/// A device that has written some without anybody having heard of it, and its peer.
fn unsynced() -> (Stored, Peer) {
    let (mut a, mut b) = (Stored::new("a"), peer("b"));
    b.exec("CREATE TABLE notes (id INTEGER PRIMARY KEY, body); INSERT INTO notes VALUES (1, 'of b'), (2, 'of b')");
    sync(&mut a, &mut b);
    a.exec("CREATE TABLE mine (id TEXT PRIMARY KEY, x); CREATE INDEX mine_x ON mine (x)");
    for n in 10..120 {
        a.exec(&format!(
            "INSERT INTO notes VALUES ({n}, 'the body of note {n}'); INSERT INTO mine VALUES ('k{n}', {n})"
        ));
    }
    a.exec("UPDATE notes SET body = 'changed' WHERE id IN (1, 10, 20); DELETE FROM notes WHERE id IN (2, 30)");
    (a, b)
}

/// A file, what the device in it tells of itself, and what its peer has.
struct Made {
    bytes: Vec<u8>,
    truth: BTreeSet<String>,
    of_b: (Vec<Operation>, VersionVector),
}

/// The same, for tests that change nothing of it.
fn unsynced_once() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let (a, b) = unsynced();
        Made { bytes: a.bytes(), truth: told(&a), of_b: b.delta(&VersionVector::default()) }
    })
}

fn open(bytes: &[u8]) -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.deserialize_read_exact("main", Cursor::new(bytes), bytes.len(), false).unwrap();
    connection
}

fn salvage(bytes: &[u8]) -> (Stored, Salvaged) {
    let mut new = Stored::new("new");
    new.wall_ms = 2000;
    let now = new.now();
    let salvaged = new.replica.salvage(open(bytes), now).unwrap();
    (new, salvaged)
}

#[test]
fn what_nobody_heard_of_goes_on_in_a_new_replica_and_what_peers_have_comes_from_them() {
    let (mut a, mut b) = unsynced();
    let (mut new, salvaged) = salvage(&a.bytes());
    assert!(salvaged.complete);
    assert!(salvaged.operations > 100, "{salvaged:?}");
    let written = |peer: &mut Peer| peer.rows("SELECT * FROM notes WHERE id > 2 ORDER BY id");
    assert_eq!(written(&mut new), written(&mut a));
    assert_eq!(new.rows("SELECT * FROM mine ORDER BY id"), a.rows("SELECT * FROM mine ORDER BY id"));
    assert_eq!(new.rows("SELECT count(*) FROM sqlite_schema WHERE name = 'mine_x'"), a.rows("SELECT 1"));
    sync(&mut new, &mut b);
    assert_eq!(new.dump(), a.dump());
    assert_alike(&mut new, &mut b);
}

#[test]
fn what_a_peer_has_already_changes_nothing_there() {
    let (mut a, mut b) = unsynced();
    sync(&mut a, &mut b);
    let (mut new, _) = salvage(&a.bytes());
    let (before, dump) = (b.replica.digest().unwrap(), b.dump());
    b.pull(&new);
    assert_eq!((b.replica.digest().unwrap(), b.dump()), (before, dump));
    new.pull(&b);
    assert_eq!(new.dump(), a.dump());
    assert_eq!(new.replica.digest().unwrap(), before);
}

#[test]
fn what_was_salvaged_is_salvaged_again() {
    let (a, mut b) = unsynced();
    let (mut new, first) = salvage(&a.bytes());
    let (mut newer, second) = salvage(&new.bytes());
    assert_eq!(first, second);
    sync(&mut newer, &mut b);
    new.pull(&b);
    assert_eq!(newer.dump(), new.dump());
}

/// What a replica tells of itself, as plain operations.
fn told(peer: &Peer) -> BTreeSet<String> {
    let plain = |operation: Operation| serde_json::to_string(&operation.into_plain()).unwrap();
    peer.delta(&VersionVector::default()).0.into_iter().map(plain).collect()
}

#[test]
fn a_page_that_is_gone_takes_what_was_on_it_and_no_more() {
    let Made { bytes, truth, of_b } = unsynced_once();
    let pages = bytes.len() / PAGE;
    assert!(pages > 70, "{pages}");
    let mut nothing = 0;
    for page in 0..pages {
        let mut damaged = bytes.clone();
        damaged[page * PAGE..(page + 1) * PAGE].fill(0);
        let (mut new, salvaged) = salvage(&damaged);
        assert!(told(&new).is_subset(truth), "page {page}: {:?}", told(&new).difference(truth));
        new.hear(of_b);
        assert_eq!(new.rows("PRAGMA integrity_check"), OK);
        if salvaged.operations == 0 {
            assert!(!salvaged.complete, "page {page}");
            nothing += 1;
        } else {
            // What lies behind it is found; a root takes a half with it.
            assert!(salvaged.operations > 110, "page {page}: {salvaged:?}");
        }
    }
    // Those that everything hangs on: the schema, and who the replica is.
    assert!(nothing * 3 < pages, "nothing at all without {nothing} of {pages} pages");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn bytes_that_are_not_what_was_saved_do_no_harm(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..40),
        moved in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
    ) {
        let Made { bytes, of_b, .. } = unsynced_once();
        let mut bytes = bytes.clone();
        if let Some((one, other)) = moved {
            let (one, other) = (one.index(bytes.len() / PAGE) * PAGE, other.index(bytes.len() / PAGE) * PAGE);
            bytes.copy_within(one..one + PAGE, other);
        }
        for (at, flip) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        let (mut new, _) = salvage(&bytes);
        prop_assert_eq!(new.rows("PRAGMA integrity_check"), OK);
        let (operations, covers) = new.delta(&VersionVector::default());
        let mut c = peer("c");
        let now = c.now();
        c.replica.apply(operations, &covers, now).unwrap();
        new.hear(of_b);
        c.pull(&new);
        assert_equal(&mut new, &mut c);
    }
}
