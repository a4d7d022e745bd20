//! Indexes, views and triggers as data: a row of `rtc_schema` each, and the schema made to show what the rows say.
//!
//! A row's id is the object's kind and name. Nothing is replayed: what two devices call by one name is the later one's text everywhere, and what
//! was dropped is gone where its text is still the one that was dropped. An object that cannot be made here (its table is not here yet, something of
//! this device has its name) is told, and tried again whenever the schema changes.
//!
//! A received text is hostile until SQLite has made just this object by it, in a database apart that has the synced tables. The body of a trigger is
//! not compiled before it runs, so a text that has `rtc_` in it is none of ours.

use std::collections::BTreeMap;

use rtc_battery_proto::{Operation, OperationKind, SqlValue};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::apart;
use super::tables::{self, Tables};
use crate::replica::error::StorageError;
use crate::replica::log::rows::Tally;
use crate::replica::log::store::Origins;
use crate::replica::sql::{quoted, run_or_undo, text_of};
use crate::replica::unique::admission;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Before triggers: one may stand on a view.
    View,
    Index,
    Trigger,
}

/// An object by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

/// The rows of `rtc_schema` that are objects, by id: what they are, and their texts.
pub(crate) type Rows = BTreeMap<String, (Object, String)>;

impl Kind {
    const ALL: [Self; 3] = [Self::View, Self::Index, Self::Trigger];

    /// As SQLite says it.
    fn word(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Index => "index",
            Self::Trigger => "trigger",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl Object {
    /// The id of its row.
    pub(crate) fn id(&self) -> String {
        format!("{} {}", self.kind.word(), self.name.to_ascii_lowercase())
    }

    /// Its text in the main schema, if there is one.
    pub(crate) fn text(&self, connection: &Connection) -> rusqlite::Result<Option<String>> {
        text_of(connection, self.kind.word(), &self.name)
    }

    fn drop(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(&format!("DROP {} main.{}", self.kind.word(), quoted(&self.name)))
    }
}

/// Whether an operation of a peer is about an object, as a replica of ours writes it: a new row, all text, whose id is its kind and name, what is left
/// of one, or its end.
pub(crate) fn is_sound(operation: &Operation) -> bool {
    let Some(id) = operation.pk.get("id").and_then(SqlValue::as_text) else { return false };
    if id.split_once(' ').is_none_or(|(word, _)| Kind::of_word(word).is_none()) {
        return false;
    }
    let text = |name: &str| operation.values.as_ref()?.get(name)?.as_text();
    match operation.kind {
        OperationKind::Delete => true,
        OperationKind::Insert if tables::is_overwritten(operation) => true,
        OperationKind::Insert => match (text("kind").as_deref().and_then(Kind::of_word), text("name"), text("sql")) {
            (Some(kind), Some(name), Some(_)) => Object { kind, name: name.into_owned() }.id() == id,
            _ => false,
        },
        OperationKind::Update => false,
    }
}

/// After the user's statement ran: what it made or dropped becomes, or ends, a row. Gives the reason if others would not make it.
pub(crate) fn register(connection: &Connection, object: &Object) -> Result<Result<(), String>, StorageError> {
    let text = object.text(connection)?;
    // What is there already is not made again.
    let delete = "DELETE FROM rtc_schema WHERE id = ?1 AND sql IS NOT ?2";
    connection.prepare_cached(delete)?.execute(params![object.id(), text])?;
    if let Some(text) = text {
        if names_internals(&text) {
            let Object { kind, name } = object;
            return Ok(Err(format!(
                "the {} {name} names something of RTC Battery's (rtc_*), so others would not take it; make it on each device with execLocal",
                kind.word()
            )));
        }
        let insert = "INSERT OR IGNORE INTO rtc_schema (id, kind, name, sql) VALUES (?1, ?2, ?3, ?4)";
        let row = params![object.id(), object.kind.word(), object.name, text];
        connection.prepare_cached(insert)?.execute(row)?;
    }
    Ok(Ok(()))
}

/// The objects of `rtc_schema` that stand as it says, and their texts: SQLite rewrites them where they name what is renamed. What this device calls
/// otherwise is not everybody's.
pub(crate) fn standing(connection: &Connection) -> Result<Vec<(Object, String)>, StorageError> {
    let mut standing = Vec::new();
    for (object, text) in rows(connection)?.into_values() {
        if object.text(connection)?.as_ref() == Some(&text) {
            standing.push((object, text));
        }
    }
    Ok(standing)
}

/// Those of them that have another text now are everybody's by that. Gives the reason if others would not make one.
pub(crate) fn register_rewritten(
    connection: &Connection,
    standing: &[(Object, String)],
) -> Result<Result<(), String>, StorageError> {
    for (object, text) in standing {
        if object.text(connection)?.as_ref() != Some(text)
            && let Err(why) = register(connection, object)?
        {
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}

/// Takes away what may name a table's columns and stands as it is, or was before, said to: [`show`] makes it again.
pub(crate) fn lift(connection: &Connection, before: &Rows, table: &str) -> Result<(), StorageError> {
    let now = rows(connection)?;
    // Triggers before the views that they stand on.
    let mut said: Vec<_> = before.values().chain(now.values()).collect();
    said.sort_by_key(|(object, _)| std::cmp::Reverse(object.kind));
    for (object, text) in said {
        let is_elsewhere = object.kind == Kind::Index
            && table_of_index(connection, &object.name)?.is_none_or(|on| !on.eq_ignore_ascii_case(table));
        if !is_elsewhere && object.text(connection)?.as_ref() == Some(text) {
            object.drop(connection)?;
        }
    }
    Ok(())
}

/// Takes away what else stands on a table and would go with it, TEMP triggers too.
pub(crate) fn clear(connection: &Connection, table: &str) -> Result<(), StorageError> {
    let mut select = connection.prepare(
        "SELECT 'main', type, name FROM main.sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL
         UNION ALL SELECT 'temp', type, name FROM temp.sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type = 'trigger'",
    )?;
    let found = select.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    for (schema, kind, name) in found.collect::<rusqlite::Result<Vec<(String, String, String)>>>()? {
        connection.execute_batch(&format!("DROP {kind} {schema}.{}", quoted(&name)))?;
    }
    Ok(())
}

/// Runs an ALTER TABLE. SQLite refuses it while anything in the schema does not compile, be it about another table; of this device's own (what is
/// everybody's is [lifted](lift)) such a thing is taken away meanwhile.
pub(crate) fn alter(connection: &Connection, text: &str) -> Result<Result<(), String>, StorageError> {
    let mut broken = Vec::new();
    let outcome = loop {
        match run_or_undo(connection, text)? {
            Ok(()) => break Ok(()),
            Err(why) => match take_away(connection, &why)? {
                Some(text) => broken.push(text),
                None => break Err(why),
            },
        }
    };
    for text in broken {
        // It compiled no better before.
        let _ = run_or_undo(connection, &text)?;
    }
    Ok(outcome)
}

/// Takes away the trigger or view that SQLite says is in an ALTER TABLE's way. Gives the text that makes it again.
fn take_away(connection: &Connection, why: &str) -> Result<Option<String>, StorageError> {
    let select = "SELECT * FROM (SELECT 'main', type, name, sql FROM main.sqlite_schema UNION ALL
                  SELECT 'temp', type, name, 'CREATE TEMP' || substr(sql, 7) FROM temp.sqlite_schema)
                  WHERE type IN ('trigger', 'view') ORDER BY length(name) DESC";
    let mut select = connection.prepare(select)?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let (schema, kind, name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let rest = why.strip_prefix(&format!("error in {kind} {name}"));
        if rest.is_some_and(|rest| rest.starts_with([':', ' '])) {
            let text = row.get(3)?;
            drop(found);
            connection.execute_batch(&format!("DROP {kind} {schema}.{}", quoted(&name)))?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn names_internals(text: &str) -> bool {
    text.to_ascii_lowercase().contains("rtc_")
}

/// The objects that `rtc_schema` has.
pub(crate) fn rows(connection: &Connection) -> Result<Rows, StorageError> {
    let mut select =
        connection.prepare("SELECT id, kind, name, sql FROM rtc_schema WHERE kind NOT IN ('table', 'column')")?;
    let mut found = select.query([])?;
    let mut rows = Rows::new();
    while let Some(row) = found.next()? {
        let (id, kind, name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Some(kind) = Kind::of_word(&kind) {
            rows.insert(id, (Object { kind, name }, row.get(3)?));
        }
    }
    Ok(rows)
}

/// Makes the schema show what the rows say now, `before` being what they said. Gives what could not be made, and why.
pub(crate) fn show(
    connection: &Connection,
    known: (&Tables, &Origins),
    before: &Rows,
    tally: &mut Tally,
) -> Result<Vec<String>, StorageError> {
    let now = rows(connection)?;
    for (id, (object, text)) in before {
        // What the user of this device has made of the name since is not ours to drop.
        let changed = now.get(id).is_none_or(|(_, other)| other != text);
        if changed && object.text(connection)?.as_ref() == Some(text) {
            object.drop(connection)?;
        }
    }
    let mut refused = Vec::new();
    let mut in_order: Vec<_> = now.values().collect();
    in_order.sort_by_key(|(object, _)| object.kind);
    for (object, text) in in_order {
        let Object { kind, name } = object;
        let there = object.text(connection)?;
        if there.as_ref() == Some(text) {
            continue;
        }
        let made = match there {
            Some(_) => Err("something of this device has its name".to_owned()),
            None => make(connection, known, object, text, tally)?,
        };
        if let Err(why) = made {
            refused.push(format!("the {} {name} cannot be made here: {why}", kind.word()));
        }
    }
    Ok(refused)
}

fn make(
    connection: &Connection,
    (tables, origins): (&Tables, &Origins),
    object: &Object,
    text: &str,
    tally: &mut Tally,
) -> Result<Result<(), String>, StorageError> {
    let indexed = match check_apart(connection, tables, object, text)? {
        Ok(indexed) => indexed,
        Err(why) => return Ok(Err(why)),
    };
    let run = run_or_undo(connection, text)?;
    match indexed.and_then(|table| tables.by_name(&table)) {
        Some(table) if run.is_err() => {
            // Rows do not fit it, each by itself or two together: it stands, and they are parked, as if they had come after it.
            admission::make_room(connection, origins, table, tally)?;
            Ok(run_or_undo(connection, text)?)
        }
        _ => Ok(run),
    }
}

/// Lets SQLite say whether a text makes this object and nothing else. Gives the table that an index is on.
fn check_apart(
    connection: &Connection,
    tables: &Tables,
    object: &Object,
    text: &str,
) -> Result<Result<Option<String>, String>, StorageError> {
    if names_internals(text) {
        return Ok(Err("it names something of RTC Battery's".to_owned()));
    }
    let mut apart = apart::open()?;
    for table in tables.of_user() {
        if let Some(text) = text_of(connection, "table", &table.name)? {
            apart.execute_batch(&text)?;
        }
    }
    for (view, text) in rows(connection)?.into_values().filter(|(other, _)| other.kind == Kind::View && other != object)
    {
        if view.text(connection)?.as_ref() == Some(&text) {
            apart.execute_batch(&text)?;
        }
    }
    apart.authorizer(Some(only_create_object))?;
    let run = apart::run_one_statement(&apart, text);
    apart.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    if let Err(why) = run {
        return Ok(Err(why));
    }
    Ok(match object.text(&apart)? {
        None => Err("it makes something else".to_owned()),
        Some(made) if made != text => Err("it is not as SQLite writes it".to_owned()),
        Some(_) if object.kind == Kind::Index => Ok(table_of_index(&apart, &object.name)?),
        Some(_) => Ok(None),
    })
}

/// The table that an index is on.
fn table_of_index(connection: &Connection, index: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT tbl_name FROM main.sqlite_schema WHERE type = 'index' AND name = ?1 COLLATE NOCASE";
    connection.query_row(select, [index], |row| row.get(0)).optional()
}

fn only_create_object(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::CreateIndex { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Read { .. }
        | AuthAction::Select
        | AuthAction::Function { .. } => Authorization::Allow,
        ref action if apart::writes_schema(action) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}
