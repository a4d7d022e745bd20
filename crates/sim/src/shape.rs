//! The table whose columns come and go, and that is renamed as they are: which it has and what everything is called, said as naively as the rest of the
//! [oracle](crate::oracle).
//!
//! A column is known by the name it was made by, with a number where a column of that name was made before. One that was dropped is gone for good. It is called by
//! its latest RENAME, or as it was made; where two want one name, who was not renamed has it, then who is first by the name it was made by, and the other is
//! called as it was made, or by its wish with a number.
//!
//! The table has two names, of which it is called by that of its latest RENAME.
//!
//! A row is pictured as its key, then the name and the value of each other column, in order of names, and what the table is called.

use std::collections::{BTreeMap, BTreeSet};

use rtc_battery_core::Now;
use rtc_battery_core::node::Node;
use rtc_battery_core::replica::{Params, Scope};

use crate::oracle::{Default, Op, RowKey, Value};

/// The table, as it was made.
pub const SHIFTING: &str = "m";

/// What it is called.
pub const CALLED: [&str; 2] = [SHIFTING, "moved"];

/// Where a picture says that, in place of a column.
const TABLE: &str = "the table";

/// How its ids in `rtc_schema` begin.
const ID: &str = "m(id text binary)";

/// The columns of its CREATE TABLE beside the key.
const MADE: [&str; 2] = ["x", "y"];

/// What a column shows that nobody wrote, by the name it was made by.
const DEFAULTS: [(&str, Default); 3] = [("x", Default::Null), ("y", Default::Integer(5)), ("z", Default::Text("z"))];

/// How it is made.
pub const CREATE: &str = "CREATE TABLE IF NOT EXISTS m (id TEXT PRIMARY KEY, x, y DEFAULT 5)";

/// Whether this database has heard that the table was renamed.
pub(crate) fn is_renamed(node: &mut Node, now: Now) -> bool {
    let select = format!("SELECT 1 FROM rtc_schema WHERE id = 'rtc_renamed {ID}'");
    node.exec(&select, &Params::None, Scope::Synced, now).is_ok_and(|result| !result.values.is_empty())
}

/// How a column of a name is added.
#[must_use]
pub fn definition(name: &str) -> String {
    match name {
        "x" => "x".to_owned(),
        "y" => "y DEFAULT 5".to_owned(),
        _ => format!("{name} DEFAULT '{name}'"),
    }
}

/// What the table is called, and the columns beside the key, by the names they were made by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shape {
    table: Option<String>,
    called: BTreeMap<String, String>,
    dropped: BTreeSet<String>,
}

impl Shape {
    /// What operations, in order, make of it.
    #[must_use]
    pub fn of(ops: &[&Op]) -> Self {
        let mut rows: BTreeMap<String, Option<String>> = BTreeMap::new();
        for op in ops.iter().filter(|op| op.table == "rtc_schema") {
            let (Some(Value::Text(id)), name) = (op.pk.get("id"), op.values.get("name")) else { continue };
            let name = match name {
                Some(Value::Text(name)) => Some(String::from_utf8_lossy(name).into_owned()),
                _ => None,
            };
            rows.insert(String::from_utf8_lossy(id).into_owned(), name);
        }
        Self::of_rows(rows.iter().filter_map(|(id, name)| Some((id.as_str(), name.as_deref()?))))
    }

    /// What the rows of `rtc_schema` say, ids and names.
    pub fn of_rows<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut made, mut renamed) = (BTreeSet::from(MADE.map(str::to_owned)), BTreeMap::new());
        let (mut dropped, mut table) = (BTreeSet::new(), None);
        for (id, name) in rows {
            if id.strip_prefix("rtc_renamed ") == Some(ID) {
                table = Some(name.to_owned());
            }
            let column = |prefix: &str| id.strip_prefix(prefix)?.strip_prefix(ID)?.strip_prefix('.').map(str::to_owned);
            if let Some(column) = column("rtc_gone ") {
                dropped.insert(column);
            } else if let Some(column) = column("rtc_renamed ") {
                renamed.insert(column, name.to_owned());
            } else if let Some(column) = column("") {
                made.insert(column);
            }
        }
        let mut wishes: Vec<_> =
            made.difference(&dropped).map(|column| (renamed.get(column), column.clone())).collect();
        wishes.sort_by_key(|(name, column)| (name.is_some(), column.clone()));
        // The key has its name.
        let (mut taken, mut called) = (BTreeSet::from(["id".to_owned()]), BTreeMap::new());
        for (name, column) in wishes {
            let wish = name.map_or(made_by(&column), String::as_str).to_owned();
            let mut name = wish.clone();
            for n in 1.. {
                if taken.insert(name.clone()) {
                    break;
                }
                name = if n == 1 { made_by(&column).to_owned() } else { format!("{wish}_{n}") };
            }
            called.insert(column, name);
        }
        Self { table, called, dropped }
    }

    /// Whether the operation writes to nothing but columns that somebody has made.
    #[must_use]
    pub fn knows(&self, op: &Op) -> bool {
        op.values
            .keys()
            .all(|column| column == "id" || self.called.contains_key(column) || self.dropped.contains(column))
    }

    /// The row's picture.
    pub fn show<'a>(&self, key: &RowKey, value: impl Fn(&str) -> Option<&'a Value>) -> Vec<Value> {
        let cell = |(column, name): (&String, &String)| {
            let default =
                || DEFAULTS.iter().find(|(made, _)| *made == made_by(column)).map(|(_, default)| (*default).into());
            (name.clone(), value(column).cloned().or_else(default).unwrap_or(Value::Null))
        };
        picture(self.table.as_deref().unwrap_or(SHIFTING), key.1[0].clone(), self.called.iter().map(cell).collect())
    }

    /// What a picture's row has in its columns, by the names they were made by.
    #[must_use]
    pub fn columns(&self, row: &[Value]) -> BTreeMap<String, Value> {
        let value = |(column, name): (&String, &String)| {
            let place = row[1..].chunks(2).find(|pair| pair[0] == Value::Text(name.clone().into_bytes()))?;
            Some((column.clone(), place[1].clone()))
        };
        let mut columns: BTreeMap<String, Value> = self.called.iter().filter_map(value).collect();
        columns.insert("id".to_owned(), row[0].clone());
        columns
    }
}

/// A row by its columns' names, of the table that is called so.
#[must_use]
pub fn picture(table: &str, key: Value, columns: BTreeMap<String, Value>) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.as_bytes().to_vec());
    let columns = columns.into_iter().flat_map(|(name, value)| [text(&name), value]);
    std::iter::once(key).chain(columns).chain([text(TABLE), text(table)]).collect()
}

fn made_by(column: &str) -> &str {
    column.strip_prefix("rtc_").and_then(|rest| rest.split_once(' ')).map_or(column, |(_, name)| name)
}
