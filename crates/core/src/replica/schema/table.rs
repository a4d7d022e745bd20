//! What must be known of a synced table: its columns, its key, how its rows are addressed, and the statements that read and write it.
//!
//! Columns are positions in the list of stored columns (generated ones are derived by SQLite, so they are nobody's operation).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rtc_battery_proto::{OperationKind, SqlValue};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};

use super::key::Collation;
use crate::replica::log::columns::ColumnSet;
use crate::replica::log::digest::Names;
use crate::replica::sql::quoted;
use crate::replica::unique::indexes;

/// A synced table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Local number, in `rtc_tables`.
    pub(crate) id: i64,
    pub(crate) name: String,
    /// What operations call it, see [`naming`](super::naming).
    pub(crate) made_by: String,
    pub(crate) columns: Vec<Column>,
    /// Positions of the primary key's columns, in key order.
    pub(crate) key: Vec<usize>,
    pub(crate) addressing: Addressing,
    pub(crate) statements: Statements,
    /// The columns that UNIQUE indexes beyond the key read, where there are some: two devices can give two rows one value.
    pub(crate) unique: Option<ColumnSet>,
    /// For the digest.
    pub(crate) names: Names,
    /// Identities of columns that were dropped, in lower case: what is written to them is written to nothing.
    pub(crate) dropped: BTreeSet<String>,
    /// See [`may_have_dead`](Self::may_have_dead).
    dead: AtomicBool,
}

/// A stored column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// What operations call it, see [`naming`](super::naming): the name it was made by.
    pub(crate) identity: Arc<str>,
    /// Position in the table as SQLite counts, generated columns included: what the pre-update hook uses.
    pub(crate) index: i32,
    pub(crate) affinity: Affinity,
    /// Collation of the column in the primary key; BINARY outside of it.
    pub(crate) collation: Collation,
    pub(crate) not_null: bool,
    pub(crate) default: Default,
}

/// How one row is named in metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Addressing {
    /// By rowid, under the name by which SQL can say it.
    Rowid(&'static str),
    /// By primary key: WITHOUT ROWID, or all three names of the rowid are taken by columns.
    Key,
}

/// <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

/// What a column shows that nobody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Default {
    Constant(SqlValue),
    CurrentTime,
    CurrentDate,
    CurrentTimestamp,
}

/// SQL text, made once.
#[derive(Debug)]
pub(crate) struct Statements {
    /// Parameters: the rowid, or the key's values.
    pub(crate) select: String,
    /// Parameters: the key's values. Columns: rowid (NULL where there is none), then all stored ones.
    pub(crate) find: String,
    /// Columns as of `find`, of all rows.
    pub(crate) all: String,
    /// Parameters: all stored columns.
    pub(crate) insert: String,
    /// The same; what is in its way goes.
    pub(crate) replace: String,
    /// The same; does nothing where a row of this key, or another that is in its way, is there.
    pub(crate) insert_if_new: String,
    /// Parameters: the rowid, or the key's values.
    pub(crate) delete: String,
    /// `WHERE` with parameters from ?1: the rowid, or the key's values.
    pub(crate) r#where: String,
}

impl Affinity {
    /// The affinity of a declared type. In STRICT tables ANY has none; elsewhere it is a name like any other.
    pub(crate) fn of_declared(declared: &str, strict: bool) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        if strict && declared == "ANY" {
            Self::Blob
        } else if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || declared.is_empty() {
            Self::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Numeric
        }
    }

    /// Whether a column of this affinity is sure to store the value as it is.
    pub(crate) fn keeps(self, value: &SqlValue) -> bool {
        match value {
            SqlValue::Null | SqlValue::Blob(_) => true,
            SqlValue::Text(_) => matches!(self, Self::Text | Self::Blob),
            SqlValue::Integer(_) => matches!(self, Self::Integer | Self::Numeric | Self::Blob),
            // A whole one becomes an INTEGER in a numeric column, and -0.0 loses its sign in a REAL one.
            SqlValue::Real(real) => match self {
                Self::Blob => true,
                Self::Real => *real != 0.0 && !real.is_nan(),
                Self::Integer | Self::Numeric => real.is_finite() && real.fract() != 0.0,
                Self::Text => false,
            },
        }
    }

    /// What a column of this affinity stores of a value. SQLite itself says it, through a table that is there for nothing else.
    pub(crate) fn stored(self, connection: &Connection, value: &SqlValue) -> rusqlite::Result<SqlValue> {
        if self.keeps(value) {
            return Ok(value.clone());
        }
        let column = match self {
            Self::Integer | Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Blob => return Ok(value.clone()),
            Self::Real => "real",
        };
        let replace = format!("REPLACE INTO temp.rtc_affinity (one, {column}) VALUES (1, ?1) RETURNING {column}");
        let mut replace = connection.prepare_cached(&replace)?;
        replace.query_row([crate::replica::sql::Bind(value)], |row| Ok(crate::replica::sql::value(row.get_ref(0)?)))
    }

    /// The table that [`stored`](Self::stored) asks.
    pub(crate) fn create_oracle(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(
            "CREATE TEMP TABLE rtc_affinity (one INTEGER PRIMARY KEY, numeric NUMERIC, text TEXT, real REAL)",
        )
    }

    /// What a NOT NULL column takes where nobody gave it a value.
    pub(crate) fn zero(self) -> SqlValue {
        match self {
            Self::Text => SqlValue::text(""),
            Self::Blob => SqlValue::Blob(Vec::new()),
            Self::Integer | Self::Real | Self::Numeric => SqlValue::Integer(0),
        }
    }
}

impl Table {
    /// Describes a table of the main schema. `None` if there is no table of this name or it has no primary key.
    pub(crate) fn describe(connection: &Connection, id: i64, name: &str) -> rusqlite::Result<Option<Self>> {
        let (mut columns, mut key, mut names) = (Vec::new(), Vec::new(), Vec::new());
        // Asked of every schema, as pragma_table_list() does, SQLite compiles each view of TEMP, `rtc_log` among them, to count its columns.
        let kind = format!("PRAGMA main.table_list({})", quoted(name));
        let read = |row: &rusqlite::Row<'_>| Ok((row.get("wr")?, row.get("strict")?, row.get("name")?));
        let kind = connection.query_row(&kind, [], read).optional()?;
        let Some((without_rowid, strict, name)) = kind else { return Ok(None) };
        // As SQLite spells it, and so the pre-update hook.
        let (name, without_rowid, strict): (String, bool, bool) = (name, without_rowid, strict);
        let name = name.as_str();
        let mut info = connection.prepare(
            "SELECT name, cid, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1, 'main') ORDER BY cid",
        )?;
        let mut rows = info.query([name])?;
        while let Some(row) = rows.next()? {
            let column_name: String = row.get(0)?;
            names.push(column_name.to_ascii_lowercase());
            if row.get::<_, i64>(6)? != 0 {
                continue;
            }
            let place: i64 = row.get(5)?;
            if place > 0 {
                key.push((place, columns.len()));
            }
            columns.push(Column {
                identity: column_name.as_str().into(),
                name: column_name,
                index: row.get(1)?,
                affinity: Affinity::of_declared(&row.get::<_, String>(2)?, strict),
                collation: Collation::Binary,
                not_null: row.get(3)?,
                default: Default::parse(connection, row.get::<_, Option<String>>(4)?.as_deref())?,
            });
        }
        if key.is_empty() {
            return Ok(None);
        }
        key.sort_unstable();
        let key: Vec<usize> = key.into_iter().map(|(_, column)| column).collect();
        read_collations(connection, name, &mut columns)?;
        let addressing = if without_rowid { Addressing::Key } else { addressing(&names) };
        let statements = Statements::new(name, &columns, &key, &addressing);
        let digested = Names::new(name, columns.iter().map(|column| &*column.identity));
        let unique = indexes::columns_read(connection, name, &columns)?;
        let dead = AtomicBool::new(true);
        let name = name.to_owned();
        let dropped = BTreeSet::new();
        let made_by = name.clone();
        Ok(Some(Self {
            id,
            name,
            made_by,
            columns,
            key,
            addressing,
            statements,
            unique,
            names: digested,
            dropped,
            dead,
        }))
    }

    /// Whether rows of it may have died, or be parked, and left operations under their keys. Errs on this side; described anew (after a
    /// rollback) it is not known.
    pub(crate) fn may_have_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(crate) fn note_dead(&self, may: bool) {
        self.dead.store(may, Ordering::Relaxed);
    }

    /// Whether a write to the row may change what its UNIQUE indexes say of it, `wrote` being whether it wrote a column.
    pub(crate) fn ranks(&self, kind: OperationKind, wrote: impl Fn(usize) -> bool) -> bool {
        self.unique.as_ref().is_some_and(|read| kind != OperationKind::Update || read.iter().any(wrote))
    }

    /// A column by name, as SQLite compares names.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// A column by identity.
    pub(crate) fn of_identity(&self, identity: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.identity.eq_ignore_ascii_case(identity))
    }

    /// Whether the column of an identity was dropped.
    pub(crate) fn is_dropped(&self, identity: &str) -> bool {
        !self.dropped.is_empty() && self.dropped.contains(&identity.to_ascii_lowercase())
    }

    /// Digests by the columns' identities.
    pub(crate) fn name_registers(&mut self) {
        self.names = Names::new(&self.made_by, self.columns.iter().map(|column| &*column.identity));
    }

    /// Whether the table is sure to store a row as it is.
    pub(crate) fn keeps(&self, row: &[SqlValue]) -> bool {
        self.columns.iter().zip(row).all(|(column, value)| column.affinity.keeps(value))
    }

    /// The key definition: two tables of one name and one key definition are the same table.
    pub(crate) fn identity(&self) -> String {
        let key: Vec<String> = self
            .key
            .iter()
            .map(|column| {
                let Column { identity, affinity, collation, .. } = &self.columns[*column];
                format!("{identity} {affinity:?} {collation:?}")
            })
            .collect();
        format!("{}({})", self.made_by, key.join(", ")).to_ascii_lowercase()
    }
}

impl Addressing {
    /// Whether rows are named by rowid.
    pub(crate) fn is_by_rowid(&self) -> bool {
        self.rowid().is_some()
    }

    /// The name by which SQL can say the rowid.
    pub(crate) fn rowid(&self) -> Option<&'static str> {
        match self {
            Self::Rowid(name) => Some(name),
            Self::Key => None,
        }
    }
}

impl Column {
    /// SQL that compares the column with a value as the key does: its collation may be another there than the column's.
    pub(crate) fn equals(&self, value: &str) -> String {
        let collate = if self.affinity == Affinity::Integer { "" } else { self.collation.sql() };
        format!("{}{collate} = {value}", quoted(&self.name))
    }
}

fn read_collations(connection: &Connection, name: &str, columns: &mut [Column]) -> rusqlite::Result<()> {
    let mut collations = connection.prepare(
        "SELECT x.name, x.coll FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x
         WHERE l.origin = 'pk' AND x.key",
    )?;
    let mut rows = collations.query([name])?;
    while let Some(row) = rows.next()? {
        let (column, collation): (Option<String>, String) = (row.get(0)?, row.get(1)?);
        let column = column.and_then(|name| columns.iter_mut().find(|c| c.name.eq_ignore_ascii_case(&name)));
        if let Some(column) = column {
            column.collation = Collation::of_name(&collation);
        }
    }
    Ok(())
}

/// By the name of the rowid that no column has taken.
fn addressing(columns: &[String]) -> Addressing {
    let free = ["rowid", "_rowid_", "oid"].into_iter().find(|rowid| !columns.iter().any(|column| column == rowid));
    free.map_or(Addressing::Key, Addressing::Rowid)
}

impl Statements {
    fn new(name: &str, columns: &[Column], key: &[usize], addressing: &Addressing) -> Self {
        let table = format!("main.{}", quoted(name));
        let list = columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ");
        let parameters = (1..=columns.len()).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        let equals = |(n, column): (usize, &usize)| columns[*column].equals(&format!("?{}", n + 1));
        let by_key = key.iter().enumerate().map(equals).collect::<Vec<_>>().join(" AND ");
        let (rowid, by_row) = match addressing {
            Addressing::Rowid(rowid) => (*rowid, format!("{rowid} = ?1")),
            Addressing::Key => ("NULL", by_key.clone()),
        };
        Self {
            select: format!("SELECT {list} FROM {table} WHERE {by_row}"),
            find: format!("SELECT {rowid}, {list} FROM {table} WHERE {by_key}"),
            all: format!("SELECT {rowid}, {list} FROM {table}"),
            // OR ABORT: an ON CONFLICT clause of the table's would replace or ignore rows behind our back.
            insert: format!("INSERT OR ABORT INTO {table} ({list}) VALUES ({parameters})"),
            replace: format!("REPLACE INTO {table} ({list}) VALUES ({parameters})"),
            insert_if_new: format!("INSERT INTO {table} ({list}) VALUES ({parameters}) ON CONFLICT DO NOTHING"),
            delete: format!("DELETE FROM {table} WHERE {by_row}"),
            r#where: by_row,
        }
    }
}

impl Default {
    /// Merges never evaluate an expression: a default is a constant, a clock that the row's own history answers, or NULL.
    fn parse(connection: &Connection, text: Option<&str>) -> rusqlite::Result<Self> {
        let text = text.unwrap_or("NULL").trim();
        Ok(match text.to_ascii_uppercase().as_str() {
            "CURRENT_TIME" => Self::CurrentTime,
            "CURRENT_DATE" => Self::CurrentDate,
            "CURRENT_TIMESTAMP" => Self::CurrentTimestamp,
            upper if is_literal(upper) => {
                let select = format!("SELECT {text}");
                Self::Constant(
                    connection.query_row(&select, [], |row| Ok(crate::replica::sql::value(row.get_ref(0)?)))?,
                )
            }
            // SQLite takes a bare word as a string here.
            upper if !text.is_empty() && upper.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                Self::Constant(SqlValue::text(text))
            }
            _ => match unquoted(text) {
                Some(text) => Self::Constant(SqlValue::text(&text)),
                None => Self::Constant(SqlValue::Null),
            },
        })
    }

    /// Whether it says when a row was first inserted.
    pub(crate) fn is_time(&self) -> bool {
        !matches!(self, Self::Constant(_))
    }

    /// The value for a row that was first inserted at `born_ms`.
    pub(crate) fn value(&self, connection: &Connection, born_ms: u64) -> rusqlite::Result<SqlValue> {
        let format = match self {
            Self::Constant(value) => return Ok(value.clone()),
            Self::CurrentTime => "%H:%M:%S",
            Self::CurrentDate => "%Y-%m-%d",
            Self::CurrentTimestamp => "%Y-%m-%d %H:%M:%S",
        };
        let mut select = connection.prepare_cached("SELECT strftime(?1, ?2, 'unixepoch')")?;
        select.query_row((format, (born_ms / 1000).cast_signed()), |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Null => SqlValue::Null,
                other => crate::replica::sql::value(other),
            })
        })
    }
}

/// Numbers, strings, blobs, NULL, TRUE and FALSE, upper-cased; nothing that can call or read.
fn is_literal(upper: &str) -> bool {
    let body = upper.strip_prefix(['+', '-']).unwrap_or(upper).trim_start();
    let number = body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'_'));
    let string = |text: &str| {
        let inner = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        inner.is_some_and(|inner| !inner.replace("''", "").contains('\''))
    };
    number || matches!(body, "NULL" | "TRUE" | "FALSE") || string(upper) || upper.strip_prefix('X').is_some_and(string)
}

/// The text of a double-quoted default, which SQLite takes as a string.
fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(inner.replace("\"\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sql: &str) -> Table {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        Table::describe(&connection, 1, "t").unwrap().unwrap()
    }

    #[test]
    fn a_table_is_described() {
        let t = table(
            "CREATE TABLE t (a INT, g AS (a + 1), \"b\"\"c\" TEXT DEFAULT 'it''s' COLLATE NOCASE, d REAL NOT NULL DEFAULT -1.5,
             PRIMARY KEY (\"b\"\"c\", a)) WITHOUT ROWID",
        );
        let names: Vec<_> = t.columns.iter().map(|c| (c.name.as_str(), c.index)).collect();
        assert_eq!(names, [("a", 0), ("b\"c", 2), ("d", 3)]);
        assert_eq!((t.key.as_slice(), &t.addressing), ([1, 0].as_slice(), &Addressing::Key));
        assert_eq!(t.columns[1].collation, Collation::NoCase);
        assert_eq!(t.columns[1].default, Default::Constant(SqlValue::text("it's")));
        assert_eq!(t.columns[2].default, Default::Constant(SqlValue::Real(-1.5)));
        assert_eq!(t.identity(), "t(b\"c text nocase, a integer binary)");
    }

    #[test]
    fn defaults_are_constants_or_history() {
        let cases = [
            ("5", Default::Constant(SqlValue::Integer(5))),
            ("x'00ff'", Default::Constant(SqlValue::Blob(vec![0, 255]))),
            ("true", Default::Constant(SqlValue::Integer(1))),
            ("\"word\"", Default::Constant(SqlValue::text("word"))),
            ("CURRENT_TIMESTAMP", Default::CurrentTimestamp),
            ("(random())", Default::Constant(SqlValue::Null)),
            ("(1 + 1)", Default::Constant(SqlValue::Null)),
        ];
        for (text, expected) in cases {
            let t = table(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, a DEFAULT {text})"));
            assert_eq!(t.columns[1].default, expected, "{text}");
        }
    }

    #[test]
    fn the_rowid_is_said_by_a_name_that_no_column_has() {
        assert_eq!(table("CREATE TABLE t (rowid TEXT PRIMARY KEY, OID INT)").addressing, Addressing::Rowid("_rowid_"));
        let taken = table("CREATE TABLE t (rowid TEXT PRIMARY KEY, oid, _rowid_)");
        assert_eq!(taken.addressing, Addressing::Key);
    }
}
