//! Replicas, copied from a template instead of being made, and what must be true of one whatever came.

use std::io::Cursor;
use std::sync::OnceLock;

use rtc_battery_core::replica::{Params, Scope};
use rtc_battery_core::{Node, Now, Replica};
use rtc_battery_proto::{ReplicaId, SqlValue, VersionVector};
use rusqlite::Connection;

use crate::chance;

/// Tables that operations meet: rowid and key, strict and generated, quoted.
const TABLES: &str = r#"
    CREATE TABLE t (id INTEGER PRIMARY KEY, x);
    CREATE TABLE s (id TEXT COLLATE NOCASE PRIMARY KEY, x INTEGER NOT NULL, g INT AS (x + 1)) STRICT;
    CREATE TABLE w (id, x, PRIMARY KEY (x, id)) WITHOUT ROWID;
    CREATE TABLE notes (id TEXT PRIMARY KEY, content);
    INSERT INTO t VALUES (9, 9);
    INSERT INTO s (id, x) VALUES ('a', 1);
"#;

/// A replica with tables and a few rows.
///
/// # Panics
/// Where SQLite does not do what it always does.
#[must_use]
pub fn with_tables() -> Replica {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    copy(TEMPLATE.get_or_init(|| {
        template("with-tables", |replica| {
            replica.rows(TABLES, Now { wall_ms: 1, mono_ms: 1 });
        })
    }))
}

/// Another one that has what [`with_tables`] has.
fn other() -> Replica {
    static TEMPLATE: OnceLock<Vec<u8>> = OnceLock::new();
    copy(
        TEMPLATE
            .get_or_init(|| template("other", |replica| tell(&with_tables(), replica, Now { wall_ms: 1, mono_ms: 1 }))),
    )
}

/// The bytes of a replica's database.
fn template(name: &str, fill: impl FnOnce(&mut Replica)) -> Vec<u8> {
    // One that another connection sees, in memory.
    let connect = || Connection::open(format!("file:/{name}?vfs=memdb")).expect("a database");
    let mut reader = connect();
    fill(&mut open(connect(), name));
    reader.serialize("main").expect("a database").to_vec()
}

fn copy(template: &[u8]) -> Replica {
    let mut connection = Connection::open_in_memory().expect("a database");
    connection.deserialize_read_exact("main", Cursor::new(template), template.len(), false).expect("the template");
    open(connection, "unused")
}

fn open(connection: Connection, id: &str) -> Replica {
    chance::begin_anew();
    Replica::open(connection, "room", &ReplicaId::new(id).expect("an id")).expect("a replica")
}

/// A replica and whoever has one.
pub trait Sql {
    /// Runs SQL as the user would.
    ///
    /// # Errors
    /// The statement's own.
    fn try_sql(&mut self, sql: &str, now: Now) -> Result<Vec<Vec<SqlValue>>, String>;

    /// Rows, values separated by `|`.
    ///
    /// # Panics
    /// Where the statement fails.
    fn rows(&mut self, sql: &str, now: Now) -> Vec<String> {
        let rows = self.try_sql(sql, now).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let row = |row: &Vec<SqlValue>| row.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join("|");
        rows.iter().map(row).collect()
    }
}

impl Sql for Replica {
    fn try_sql(&mut self, sql: &str, now: Now) -> Result<Vec<Vec<SqlValue>>, String> {
        self.exec(sql, &Params::None, Scope::Synced, now).map(|result| result.values).map_err(|error| error.to_string())
    }
}

impl Sql for Node {
    fn try_sql(&mut self, sql: &str, now: Now) -> Result<Vec<Vec<SqlValue>>, String> {
        self.exec(sql, &Params::None, Scope::Synced, now).map(|result| result.values).map_err(|error| error.to_string())
    }
}

/// The database is sound, still ours and still writable, no larger than `max_pages`, and holds tables and nothing else that others made.
///
/// # Panics
/// Where it is not.
pub fn check(database: &mut impl Sql, now: Now, max_pages: i64) {
    assert_eq!(database.rows("PRAGMA integrity_check", now), ["\"ok\""]);
    // A peer that claims to know more of us than we do makes it take another name, which is random.
    let named = "SELECT count(*) FROM rtc_replica WHERE node = 'with-tables' OR node GLOB replace(hex(zeroblob(16)), '0', '[0-9a-f]')";
    assert_eq!(database.rows(named, now), ["1"]);
    let pages = database.try_sql("SELECT page_count FROM pragma_page_count", now).expect("a count");
    assert!(pages[0][0] <= SqlValue::Integer(max_pages), "{pages:?} pages; {max_pages} at most");
    // What is from the future is set aside, and does not take the clock along.
    let written = database.try_sql("INSERT OR REPLACE INTO notes VALUES ('mine', 'still writable')", now);
    written.expect("a local write is never held up");
    let foreign =
        "SELECT type || ' ' || name FROM (SELECT * FROM sqlite_schema UNION ALL SELECT * FROM sqlite_temp_schema)
                   WHERE name NOT GLOB 'rtc_*' AND name NOT GLOB 'sqlite_*' AND type <> 'table'";
    assert_eq!(database.rows(foreign, now), [""; 0], "only tables are made by others");
}

/// Another replica that is told what this one has ends with the same `rows` and the same digest.
///
/// # Panics
/// Where it does not.
pub fn check_passes_on(from: &Replica, rows: &[String], now: Now) {
    let mut other = other();
    tell(from, &mut other, now);
    assert_eq!(dump(&mut other, now), rows, "what another makes of what we have");
    assert_eq!(other.digest().expect("storage"), from.digest().expect("storage"), "equal rows, other digests");
}

/// Tells a replica all that it lacks, and what is forgotten.
fn tell(from: &Replica, to: &mut Replica, now: Now) {
    let is_behind = to.is_behind(from.floor());
    let since = if is_behind { VersionVector::default() } else { to.vector().clone() };
    let mut reader = from.delta(&since).expect("storage");
    let mut operations = Vec::new();
    let covers = loop {
        let chunk = from.read_delta(&mut reader, 4096).expect("storage");
        operations.extend(chunk.operations);
        if let Some(end) = chunk.end {
            break end.covers;
        }
    };
    let applied = if is_behind {
        to.stage(1, &operations).expect("storage");
        to.catch_up_staged(1, &covers, from.floor(), now).expect("storage")
    } else {
        to.apply(operations, &covers, now).expect("storage")
    };
    assert!(to.vector().covers(from.vector()), "{applied:?}");
    to.join_floor(from.floor()).expect("storage");
}

/// The rows of every table of the user's, with types and bits.
///
/// # Panics
/// Where a table cannot be read.
pub fn dump(database: &mut impl Sql, now: Now) -> Vec<String> {
    let tables =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'rtc_*' AND name NOT GLOB 'sqlite_*'
                  ORDER BY name";
    let mut dump = Vec::new();
    for table in database.try_sql(tables, now).expect("the tables") {
        let name = table[0].as_text().expect("a name").replace('"', "\"\"");
        let rows = database.rows(&format!("SELECT * FROM \"{name}\""), now);
        dump.extend(rows.iter().map(|row| format!("{name}: {row}")));
    }
    dump.sort();
    dump
}
