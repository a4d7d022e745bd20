//! A replica in a file: what a commit waits for, who may have the file, and a process that is killed while it writes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rtc_battery_core::Now;
use rtc_battery_core::replica::{Durability, OpenError, Params, Replica, Scope};
use rtc_battery_proto::{ReplicaId, SqlValue};
use rusqlite::Connection;

const NOW: Now = Now { wall_ms: 1000, mono_ms: 1000 };

/// Names the file to a process that is to be killed.
const FILE: &str = "RTC_BATTERY_TEST_FILE";

/// A file in a folder of its own, which goes with it.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("rtc-battery-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder.join("battery.db"))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
    }
}

fn try_open(path: &Path, durability: Durability, room: &str) -> Result<Replica, OpenError> {
    Replica::open_file(path, durability, room, &ReplicaId::new("a").unwrap())
}

fn open(path: &Path, durability: Durability) -> Replica {
    try_open(path, durability, "room").unwrap()
}

fn exec(replica: &mut Replica, sql: &str) -> Vec<Vec<SqlValue>> {
    replica.exec(sql, &Params::None, Scope::Synced, NOW).unwrap().values
}

fn text(replica: &mut Replica, sql: &str) -> String {
    exec(replica, sql)[0][0].as_text().unwrap().into_owned()
}

#[test]
fn a_file_is_in_wal_and_a_commit_waits_for_the_disk_where_it_is_strict() {
    let file = File::new("pragmas");
    // SQLite's numbers: 1 is NORMAL, 2 is FULL.
    for (durability, synchronous) in [(Durability::Strict, 2), (Durability::Relaxed, 1)] {
        let mut replica = open(&file.0, durability);
        assert_eq!(text(&mut replica, "PRAGMA journal_mode"), "wal");
        assert_eq!(exec(&mut replica, "PRAGMA synchronous"), [[SqlValue::Integer(synchronous)]]);
        exec(&mut replica, "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (NULL)");
    }
    // The header says so too: both versions are 2.
    assert_eq!(std::fs::read(&file.0).unwrap()[18..20], [2, 2]);
    let mut again = open(&file.0, Durability::Strict);
    assert_eq!(exec(&mut again, "SELECT id FROM t"), [[SqlValue::Integer(1)], [SqlValue::Integer(2)]]);
}

#[test]
fn a_file_has_one_replica_at_a_time() {
    let file = File::new("busy");
    let mut first = open(&file.0, Durability::Strict);
    assert!(matches!(try_open(&file.0, Durability::Strict, "room"), Err(OpenError::Busy)));
    exec(&mut first, "CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)");
    assert!(matches!(try_open(&file.0, Durability::Strict, "room"), Err(OpenError::Busy)));
    drop(first);
    // Of a file that was in WAL before, the one that only reads keeps the others out as well.
    let reader = open(&file.0, Durability::Strict);
    assert!(matches!(try_open(&file.0, Durability::Strict, "room"), Err(OpenError::Busy)));
    drop(reader);
    assert_eq!(exec(&mut open(&file.0, Durability::Strict), "SELECT id FROM t"), [[SqlValue::Integer(1)]]);
}

#[test]
fn what_is_refused_is_left_as_it_is() {
    let file = File::new("refused");
    drop(Replica::open(Connection::open(&file.0).unwrap(), "room", &ReplicaId::new("a").unwrap()).unwrap());
    let unchanged = |refused: fn(&OpenError) -> bool, room| {
        let before = std::fs::read(&file.0).unwrap();
        let error = try_open(&file.0, Durability::Strict, room).unwrap_err();
        assert!(refused(&error), "{error}");
        assert_eq!(std::fs::read(&file.0).unwrap(), before);
        assert_eq!(std::fs::read_dir(file.0.parent().unwrap()).unwrap().count(), 1, "files beside it");
    };
    unchanged(|error| matches!(error, OpenError::OtherRoom), "other");
    Connection::open(&file.0).unwrap().execute_batch("UPDATE rtc_replica SET format = 99").unwrap();
    unchanged(|error| matches!(error, OpenError::NewerFormat(99)), "room");
    assert!(matches!(try_open(Path::new(":memory:"), Durability::Strict, "room"), Err(OpenError::NoWal(_))));
}

/// What is killed: writes transactions of two rows, and says of each that it is committed once that is so.
#[test]
#[ignore = "a process that the next test starts, and kills"]
fn a_process_that_writes_until_it_is_killed() {
    let mut replica = open(Path::new(&std::env::var(FILE).unwrap()), Durability::Strict);
    exec(
        &mut replica,
        "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, body); CREATE TABLE IF NOT EXISTS c (id INTEGER PRIMARY KEY, n); INSERT OR IGNORE INTO c VALUES (1, 0)",
    );
    let mut out = std::io::stdout();
    for n in 0_u32.. {
        let size = n.wrapping_mul(7919) % 20_000;
        let written = exec(
            &mut replica,
            &format!(
                "BEGIN; INSERT INTO t VALUES (NULL, randomblob({size})) RETURNING id; UPDATE c SET n = n + 1; COMMIT; SELECT max(id) FROM t"
            ),
        );
        writeln!(out, "committed {:?}", written[0][0]).unwrap();
        out.flush().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_process_that_is_killed_while_it_writes_loses_nothing_that_it_acknowledged() {
    let file = File::new("killed");
    let mut acknowledged = BTreeSet::new();
    for kill in 0..6 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "on_disk::a_process_that_writes_until_it_is_killed", "--ignored", "--nocapture"]);
        let mut child = command.env(FILE, &file.0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let committed =
            lines.map_while(Result::ok).filter_map(|line| line.split("committed ").nth(1).map(str::to_owned));
        // Not always at the same place in what it does. What it said until it died counts too.
        let enough = 20 + kill * 17;
        let mut heard = 0;
        for id in committed {
            acknowledged.insert(id);
            heard += 1;
            if heard == enough {
                child.kill().unwrap();
            }
        }
        assert!(heard >= enough, "it ended by itself");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));

        let mut replica = open(&file.0, Durability::Strict);
        let rows: Vec<SqlValue> = exec(&mut replica, "SELECT id FROM t").into_iter().flatten().collect();
        let there: BTreeSet<String> = rows.iter().map(|id| format!("{id:?}")).collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert_eq!(lost, Vec::<&String>::new(), "lost by kill {kill}");
        assert_eq!(
            exec(&mut replica, "SELECT n FROM c"),
            [[SqlValue::Integer(rows.len() as i64)]],
            "one is there in part"
        );
        assert_eq!(text(&mut replica, "PRAGMA integrity_check"), "ok");
        assert_eq!(replica.vector().origin(replica.id()).and_then(|own| own.last()), Some(replica.version()));
    }
}
