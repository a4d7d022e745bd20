//! A database whose file was copied, or put back to an older state, is another replica before it writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Peer, assert_equal, peer, sync};
use rtc_battery_core::Replica;
use rtc_battery_core::replica::{ImportError, StorageError};
use rtc_battery_proto::{Hlc, ReplicaId, VersionVector};
use rusqlite::Connection;

struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("rtc-battery-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn id(name: &str) -> ReplicaId {
    ReplicaId::new(name).unwrap()
}

fn open(file: &Path) -> Peer {
    Peer { replica: Replica::open(Connection::open(file).unwrap(), "room", &id("first")).unwrap(), wall_ms: 1000 }
}

fn hlcs(peer: &Peer) -> Vec<Hlc> {
    peer.delta(&VersionVector::default()).0.into_iter().map(|operation| operation.hlc).collect()
}

#[test]
fn two_copies_write_as_two_and_both_edits_survive() {
    let files = Files::new("copies");
    let mut one = open(&files.path("one"));
    one.exec("CREATE TABLE t (id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('before', 0), ('both', 0)");
    let version = one.replica.version();
    drop(one);
    fs::copy(files.path("one"), files.path("other")).unwrap();
    let (mut one, mut other) = (open(&files.path("one")), open(&files.path("other")));
    other.replica.take_new_id(&id("other")).unwrap();
    assert!(other.replica.version() > version);
    assert_eq!(other.replica.vector(), one.replica.vector());
    // In the same millisecond.
    one.exec("INSERT INTO t VALUES ('only one', 1); UPDATE t SET v = 1 WHERE id = 'both'");
    other.exec("INSERT INTO t VALUES ('only other', 2); UPDATE t SET v = 2 WHERE id = 'before'");
    sync(&mut one, &mut other);
    assert_equal(&mut one, &mut other);
    assert_eq!(one.rows("SELECT v FROM t ORDER BY id"), ["2", "1", "1", "2"]);
    let hlcs = hlcs(&one);
    assert_eq!(hlcs.iter().collect::<BTreeSet<_>>().len(), hlcs.len(), "a clock value was given twice");
    let own = |peer: &Peer, name: &str| peer.replica.vector().origin(&id(name)).and_then(|own| own.last());
    assert_eq!((own(&other, "first"), own(&other, "other")), (Some(4), Some(2)));
}

#[test]
fn the_new_id_stays_and_the_old_one_is_an_origin_like_any_other() {
    let files = Files::new("stays");
    let mut one = open(&files.path("one"));
    one.exec("CREATE TABLE t (id TEXT PRIMARY KEY, v); INSERT INTO t VALUES ('1', 0)");
    one.replica.take_new_id(&id("second")).unwrap();
    let (vector, version, digest) =
        (one.replica.vector().clone(), one.replica.version(), one.replica.digest().unwrap());
    drop(one);
    let mut one = open(&files.path("one"));
    assert_eq!(one.replica.id(), &id("second"));
    assert_eq!((one.replica.vector(), one.replica.version()), (&vector, version));
    assert_eq!(one.replica.digest().unwrap(), digest);
    one.exec("INSERT INTO t VALUES ('2', 0)");
    let told = one.replica.take_committed(u64::MAX).pop().unwrap();
    assert_eq!(serde_json::to_string(&told.covers).unwrap(), r#"{"second":[[1,1]]}"#);
    drop(one);
    let mut one = open(&files.path("one"));
    assert_eq!(one.replica.version(), version + 1);
    // Nothing that is written later goes under the old one, also once others have told of it.
    let mut peer = peer("p");
    sync(&mut one, &mut peer);
    one.exec("UPDATE t SET v = 1");
    peer.pull(&one);
    assert_equal(&mut one, &mut peer);
    assert_eq!(serde_json::to_string(one.replica.vector()).unwrap(), r#"{"first":[[1,2]],"second":[[1,2]]}"#);
}

#[test]
fn one_that_wrote_nothing_leaves_nothing_of_its_old_id() {
    let files = Files::new("nothing");
    open(&files.path("one")).replica.take_new_id(&id("second")).unwrap();
    let one = open(&files.path("one"));
    assert_eq!((one.replica.id(), one.replica.vector()), (&id("second"), &VersionVector::default()));
}

#[test]
fn an_id_is_not_changed_under_an_open_transaction() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY); BEGIN; INSERT INTO t VALUES ('1')");
    assert!(matches!(a.replica.take_new_id(&id("b")), Err(StorageError::InTransaction)));
    a.exec("COMMIT");
    a.replica.take_new_id(&id("b")).unwrap();
    assert_eq!(a.replica.id(), &id("b"));
}

#[test]
fn who_knows_more_of_us_than_we_do_is_noticed() {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY)");
    for (theirs, behind) in
        [(r#"{"a":[[1,1]]}"#, false), (r#"{"a":[[1,2]],"b":[[1,1]]}"#, true), (r#"{"b":[[1,9]]}"#, false)]
    {
        assert_eq!(a.replica.is_behind_itself(&serde_json::from_str(theirs).unwrap()), behind, "{theirs}");
    }
}

#[test]
fn an_imported_file_brings_no_id() -> Result<(), ImportError> {
    let mut a = peer("a");
    a.exec("CREATE TABLE t (id TEXT PRIMARY KEY); INSERT INTO t VALUES ('1')");
    let file = a.replica.export().unwrap();
    let mut b = peer("b");
    let now = b.now();
    b.replica.import(&file, now)?;
    assert_eq!(b.replica.id(), &id("b"));
    assert!(b.replica.vector().origin(&id("a")).is_none());
    Ok(())
}
