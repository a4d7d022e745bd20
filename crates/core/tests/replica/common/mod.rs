//! Replicas in memory, and what is asked of them in tests.

pub(crate) mod orders;
pub(crate) mod programs;

use rtc_battery_core::Now;
use rtc_battery_core::replica::{Applied, Params, QueryResult, Replica, Scope, SqlError};
use rtc_battery_proto::{Operation, ReplicaId, SqlValue, VersionVector};
use rusqlite::Connection;

/// A replica and its clock.
pub(crate) struct Peer {
    pub(crate) replica: Replica,
    pub(crate) wall_ms: u64,
}

pub(crate) fn peer(name: &str) -> Peer {
    let replica = Replica::open(Connection::open_in_memory().unwrap(), "room", &ReplicaId::new(name).unwrap()).unwrap();
    Peer { replica, wall_ms: 1000 }
}

impl Peer {
    pub(crate) fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms, mono_ms: self.wall_ms }
    }

    pub(crate) fn try_exec(&mut self, sql: &str) -> Result<QueryResult, SqlError> {
        let now = self.now();
        self.replica.exec(sql, &Params::None, Scope::Synced, now)
    }

    pub(crate) fn exec(&mut self, sql: &str) -> QueryResult {
        self.try_exec(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn at(&mut self, wall_ms: u64, sql: &str) -> QueryResult {
        self.wall_ms = wall_ms;
        self.exec(sql)
    }

    pub(crate) fn try_local(&mut self, sql: &str) -> Result<QueryResult, SqlError> {
        let now = self.now();
        self.replica.exec(sql, &Params::None, Scope::Local, now)
    }

    pub(crate) fn local(&mut self, sql: &str) -> QueryResult {
        self.try_local(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Rows as `typeof:quote` of each column.
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<String> {
        let row = |row: Vec<SqlValue>| row.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join("|");
        self.exec(sql).values.into_iter().map(row).collect()
    }

    /// The whole of a replica that has `since`, in one piece.
    pub(crate) fn delta(&self, since: &VersionVector) -> (Vec<Operation>, VersionVector) {
        let mut reader = self.replica.delta(since).unwrap();
        let mut operations = Vec::new();
        loop {
            let chunk = self.replica.read_delta(&mut reader, 500).unwrap();
            operations.extend(chunk.operations);
            if let Some(end) = chunk.end {
                return (operations, end.covers);
            }
        }
    }

    /// Takes in what `other` has and this one lacks.
    pub(crate) fn pull(&mut self, other: &Peer) -> Applied {
        let (operations, covers) = other.delta(self.replica.vector());
        let applied = self.replica.apply(operations, &covers, self.now()).unwrap();
        assert!(self.replica.vector().covers(other.replica.vector()));
        applied
    }

    /// Everything a reader can see of the user's tables, with types and bits; columns by name: those that were added at once stand in another order on
    /// each device.
    pub(crate) fn dump(&mut self) -> Vec<String> {
        let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'rtc_*'
                      AND name NOT GLOB 'sqlite_*' ORDER BY name";
        let mut dump = Vec::new();
        for table in self.exec(tables).values {
            let table = table[0].as_text().unwrap().into_owned();
            let columns = self
                .exec(&format!("SELECT name FROM pragma_table_xinfo('{}') ORDER BY name", table.replace('\'', "''")))
                .values;
            let quoted = |c: &Vec<SqlValue>| {
                let name = c[0].as_text().unwrap().replace('"', "\"\"");
                format!("typeof(\"{name}\") || ' ' || quote(\"{name}\")")
            };
            let list = columns.iter().map(quoted).collect::<Vec<_>>().join(" || ', ' || ");
            let rows = self.exec(&format!("SELECT {list} FROM \"{}\" ORDER BY 1", table.replace('"', "\"\""))).values;
            dump.extend(rows.iter().map(|row| format!("{table}: {}", row[0].as_text().unwrap())));
        }
        dump
    }

    /// The registers and log, as every replica with the same transactions must have them.
    pub(crate) fn log(&self) -> Vec<String> {
        let mut log: Vec<String> =
            self.delta(&VersionVector::default()).0.iter().map(|op| serde_json::to_string(op).unwrap()).collect();
        log.sort();
        log
    }
}

/// A table of notes.
pub(crate) const NOTES: &str = "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, content TEXT)";

/// Two replicas that have one note.
pub(crate) fn both() -> (Peer, Peer) {
    let (mut a, mut b) = (peer("a"), peer("b"));
    a.exec(NOTES);
    a.exec("INSERT INTO notes VALUES ('1', 'one')");
    sync(&mut a, &mut b);
    (a, b)
}

/// Both ways.
pub(crate) fn sync(a: &mut Peer, b: &mut Peer) {
    b.pull(a);
    a.pull(b);
}

/// Same rows, same registers, same vectors, same digests.
pub(crate) fn assert_equal(a: &mut Peer, b: &mut Peer) {
    assert_same_lines(&a.log(), &b.log());
    assert_alike(a, b);
}

/// The same, where tables were dropped by who had not heard of everything: what waits for a dropped table is not compacted while it waits, so of
/// such tables one log may have what is overwritten in another. What they show when there is one of their name again is the same.
pub(crate) fn assert_equal_but_for_what_drops_left(a: &mut Peer, b: &mut Peer) {
    let log_without_dropped = |peer: &mut Peer| {
        let dropped = peer.exec("SELECT name FROM rtc_schema WHERE kind = 'dropped table'").values;
        let dropped: Vec<String> = dropped.iter().map(|row| row[0].as_text().unwrap().into_owned()).collect();
        let operations = peer.delta(&VersionVector::default()).0.into_iter();
        let mut log: Vec<String> = operations
            .filter(|operation| !dropped.iter().any(|name| name.eq_ignore_ascii_case(&operation.table)))
            .map(|operation| serde_json::to_string(&operation).unwrap())
            .collect();
        log.sort();
        log
    };
    assert_same_lines(&log_without_dropped(a), &log_without_dropped(b));
    assert_alike(a, b);
}

/// Same vectors, same rows, same digests.
pub(crate) fn assert_alike(a: &mut Peer, b: &mut Peer) {
    assert_eq!(a.replica.vector(), b.replica.vector());
    assert_same_lines(&a.dump(), &b.dump());
    let (left, right) = (a.replica.digest().unwrap(), b.replica.digest().unwrap());
    assert_eq!(left, right, "equal rows, other digests");
}

/// Tells the lines that only one side has.
pub(crate) fn assert_same_lines(a: &[String], b: &[String]) {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    assert!(a == b, "left has\n{:#?}\nright has\n{:#?}", only(a, b), only(b, a));
}
