//! `DROP TABLE` as data: the table's row of `rtc_schema` is deleted, and a row beside it, made anew by each DROP, says when the newest one was.
//!
//! That time is the table's *floor*: operations on its rows at or below it are dead, whoever wrote them and whenever they come, also under a table
//! that was created anew since. Those above it, by who had not heard of the DROP, wait for a CREATE. So what a table shows is a function of the
//! operations, not of their order: a DROP that comes late makes the table anew from what is above it.
//!
//! Such a row counts the DROPs that its writer knows of, so that each of them is a write, and the newest operation on the row is the newest DROP.
//!
//! The number of a dropped table is not given again before the transaction ends: what the user had touched under it is still there after ROLLBACK TO.
//! Until then `temp.rtc_dropped` keeps what its registers were, which savepoints undo as they undo the DROP.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rtc_battery_proto::{Hlc, Operation, OperationKind, SqlValue};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::naming;
use super::objects::{Kind, Object};
use super::redefined;
use super::table::Table;
use super::tables::{self, SCHEMA, Tables};
use super::united;
use crate::planted::{Bug, planted};
use crate::replica::capture::hook::{Capture, Slot};
use crate::replica::error::StorageError;
use crate::replica::log::digest::Registers;
use crate::replica::log::narrow;
use crate::replica::log::rows::{self, Tally};
use crate::replica::log::store::{self, Origins, Place, Tx};
use crate::replica::log::whole;
use crate::replica::sql::{is_internal, quoted};
use crate::replica::state::{State, once};
use crate::replica::unique::parked;

/// The kind of a DROP's row in `rtc_schema`.
const KIND: &str = "dropped table";

/// How its id begins, before the table's identity: as no table's does.
const PREFIX: &str = "rtc_dropped ";

/// When each table that was ever dropped was dropped last, by its name in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Floors(BTreeMap<String, Hlc>);

/// A table that the user is about to drop.
#[derive(Debug)]
pub(crate) struct Dropping {
    table: Arc<Table>,
    registers: Registers,
    /// The indexes and triggers that go with it.
    objects: Vec<Object>,
}

/// What went with tables that a merge drops, or makes anew.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// The texts of what only this device had on them.
    pub(crate) local: Vec<String>,
    /// By what operations call the table: the columns that are told nowhere yet.
    pub(crate) untold: BTreeMap<String, Vec<united::Column>>,
}

/// Makes the table of those that the open transaction dropped.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TEMP TABLE rtc_dropped (id INTEGER PRIMARY KEY, name TEXT NOT NULL, registers INTEGER NOT NULL)",
    )
}

/// Whether an operation of a peer is one on a DROP's row, as a replica of ours writes it, or what is left of one.
pub(crate) fn is_sound(operation: &Operation) -> bool {
    let id = operation.pk.get("id").and_then(SqlValue::as_text);
    let Some(identity) = id.as_deref().and_then(|id| id.strip_prefix(PREFIX)) else { return false };
    let is_right = |(column, value): (&str, &SqlValue)| {
        let Some(text) = value.as_text() else { return false };
        match column {
            "id" => id.as_ref() == Some(&text),
            "kind" => text == KIND,
            "name" => {
                !is_internal(naming::made_by(&text)) && identity.starts_with(&format!("{}(", text.to_ascii_lowercase()))
            }
            "sql" => true,
            _ => false,
        }
    };
    match operation.kind {
        // It is told anew as a whole, so a transaction that drops needs no other.
        OperationKind::Delete => true,
        OperationKind::Insert => operation.values.iter().flatten().all(is_right),
        OperationKind::Update => false,
    }
}

impl Floors {
    pub(crate) fn load(connection: &Connection, origins: &Origins, tables: &Tables) -> Result<Self, StorageError> {
        let schema = tables.by_name(SCHEMA).ok_or(StorageError::Corrupt(SCHEMA))?;
        // From its first operation on, whatever was made of the row since.
        let rows = "SELECT DISTINCT row FROM rtc_operations WHERE tbl = ?1 AND row >= '[\"rtc_dropped ' AND row < '[\"rtc_dropped!'";
        let mut select = connection.prepare_cached(rows)?;
        let mut found = select.query([schema.id])?;
        let mut floors = BTreeMap::new();
        while let Some(row) = found.next()? {
            let key: String = row.get(0)?;
            let id = schema.key_values(&key).first().and_then(SqlValue::as_text).map(Cow::into_owned);
            let id = id.ok_or(StorageError::Corrupt("rtc_operations.row"))?;
            let mut name = connection.prepare_cached("SELECT name FROM rtc_schema WHERE id = ?1")?;
            let name: Option<String> = name.query_row([&id], |row| row.get(0)).optional()?;
            let name = name
                .as_deref()
                .filter(|name| !name.is_empty())
                .or_else(|| id.strip_prefix(PREFIX)?.split('(').next())
                .unwrap_or_default();
            let mut entries = Vec::new();
            rows::load(connection, origins, schema, &Slot::Key(key), &mut entries)?;
            let newest = entries.into_iter().map(|entry| entry.hlc).max();
            let floor = floors.entry(name.to_ascii_lowercase()).or_insert(None);
            *floor = newest.max(floor.take());
        }
        Ok(Self(floors.into_iter().filter_map(|(name, floor)| Some((name, floor?))).collect()))
    }

    fn of(&self, table: &str) -> Option<&Hlc> {
        if self.0.is_empty() { None } else { self.0.get(&table.to_ascii_lowercase()) }
    }

    /// Whether the operation is of a row that a DROP has taken.
    pub(crate) fn kill(&self, operation: &Operation) -> bool {
        self.of(&operation.table).is_some_and(|floor| operation.hlc <= *floor) && !planted(Bug::OldTablesRows)
    }

    fn raised_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'a str, &'a Hlc)> {
        let raised = |(name, floor): &(&String, &Hlc)| before.0.get(*name).is_none_or(|before| before < *floor);
        self.0.iter().filter(raised).map(|(name, floor)| (name.as_str(), floor))
    }
}

/// Before the user's DROP TABLE runs: what will be gone with it.
pub(crate) fn look(
    connection: &Connection,
    origins: &Origins,
    capture: &Capture,
    table: &Arc<Table>,
) -> Result<Dropping, StorageError> {
    let registers = whole::registers(connection, origins, table, &capture.first_images(table))?;
    let mut select = connection.prepare_cached(
        "SELECT type, name FROM main.sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger')",
    )?;
    let objects = select.query_map([&table.name], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let objects = objects.collect::<rusqlite::Result<Vec<(String, String)>>>()?.into_iter();
    let objects = objects.filter_map(|(kind, name)| Some(Object { kind: Kind::of_word(&kind)?, name })).collect();
    Ok(Dropping { table: Arc::clone(table), registers, objects })
}

/// After it ran: what was a row of `rtc_schema` ends, and that it was dropped becomes one.
pub(crate) fn register(connection: &Connection, tables: &mut Tables, dropping: Dropping) -> Result<(), StorageError> {
    let Dropping { table, registers, objects } = dropping;
    tables::forget(connection, &table)?;
    for object in objects {
        connection.prepare_cached("DELETE FROM rtc_schema WHERE id = ?1")?.execute([object.id()])?;
    }
    let id = format!("{PREFIX}{}", table.identity());
    let delete = "DELETE FROM rtc_schema WHERE id = ?1 RETURNING CAST(sql AS INTEGER)";
    let drops: Option<i64> = connection.prepare_cached(delete)?.query_row([&id], |row| row.get(0)).optional()?;
    let count = "INSERT INTO rtc_schema (id, kind, name, sql) VALUES (?1, ?2, ?3, ?4)";
    let drops = drops.unwrap_or_default().saturating_add(1);
    connection.prepare_cached(count)?.execute(params![id, KIND, table.made_by, drops])?;
    parked::forget_table(connection, table.id)?;
    // A name that no table has.
    let retire = "UPDATE rtc_tables SET name = 'rtc_dropped ' || id WHERE id = ?1";
    connection.prepare_cached(retire)?.execute([table.id])?;
    let keep = "INSERT INTO temp.rtc_dropped VALUES (?1, ?2, ?3)";
    connection.prepare_cached(keep)?.execute(params![table.id, table.made_by, registers.to_stored()])?;
    tables.remove(&table);
    Ok(())
}

/// At the end of the transaction: the log forgets the tables that it dropped. Everything that is here is older than the DROP.
pub(crate) fn bury(connection: &Connection, tally: &mut Tally) -> Result<(), StorageError> {
    let mut select = connection.prepare_cached("SELECT id, name, registers FROM temp.rtc_dropped")?;
    let tables = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let tables = tables.collect::<rusqlite::Result<Vec<(i64, String, i64)>>>()?;
    for (id, name, registers) in &tables {
        tally.registers -= Registers::from_stored(*registers);
        forget_operations(connection, *id, tally)?;
        forget_waiting(connection, name, None, tally)?;
    }
    if !tables.is_empty() {
        connection.execute_batch("DELETE FROM temp.rtc_dropped")?;
    }
    narrow::take_kept(connection, tally)
}

/// The texts of indexes and triggers that stand on a table and are no rows of `rtc_schema`.
pub(crate) fn local_objects(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut select = connection.prepare_cached(
        "SELECT sql FROM main.sqlite_schema s WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM rtc_schema r WHERE r.kind = s.type AND r.name = s.name COLLATE NOCASE)
         UNION ALL SELECT 'CREATE TEMP' || substr(sql, 7) FROM temp.sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type = 'trigger'",
    )?;
    let texts = select.query_map([table], |row| row.get(0))?;
    texts.collect()
}

fn forget_operations(connection: &Connection, id: i64, tally: &mut Tally) -> Result<(), StorageError> {
    let mut select = connection.prepare_cached("SELECT DISTINCT origin, seq FROM rtc_operations WHERE tbl = ?1")?;
    let transactions = select.query_map([id], |row| Ok(Tx { origin: row.get(0)?, seq: row.get(1)? }))?;
    tally.thinned.extend(transactions.collect::<rusqlite::Result<BTreeSet<Tx>>>()?);
    connection.prepare_cached("DELETE FROM rtc_operations WHERE tbl = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM rtc_tables WHERE id = ?1")?.execute([id])?;
    naming::forget_table(connection, id)?;
    parked::forget_table(connection, id)?;
    Ok(())
}

/// Forgets what waits for a table, up to its floor or all of it.
fn forget_waiting(
    connection: &Connection,
    name: &str,
    floor: Option<&Hlc>,
    tally: &mut Tally,
) -> Result<(), StorageError> {
    let delete = "DELETE FROM rtc_waiting WHERE tbl = ?1 AND (?2 IS NULL OR hlc <= ?2) RETURNING origin, seq";
    let mut delete = connection.prepare_cached(delete)?;
    let floor = floor.map(Hlc::to_string);
    let dead = delete.query_map(params![name, floor], |row| Ok(Tx { origin: row.get(0)?, seq: row.get(1)? }))?;
    tally.thinned.extend(dead.collect::<rusqlite::Result<BTreeSet<Tx>>>()?);
    Ok(())
}

impl State {
    /// The floors, read once.
    pub(crate) fn floors(&mut self, connection: &Connection) -> Result<Arc<Floors>, StorageError> {
        once(&mut self.floors, || Floors::load(connection, &self.origins, &self.tables))
    }

    /// After a merge has written to `rtc_schema`, where the floors were `before`: drops the tables that have no row any more, those whose floor
    /// has risen, which are made anew if they have one, and those that are [defined otherwise](redefined) now, which are made anew. What is above the floor
    /// waits. `came`: the ids of the definitions that came.
    pub(crate) fn drop_received(
        &mut self,
        connection: &Connection,
        before: &Floors,
        came: &[String],
        tally: &mut Tally,
    ) -> Result<Gone, StorageError> {
        self.floors = None;
        let floors = self.floors(connection)?;
        let raised: BTreeMap<&str, &Hlc> = floors.raised_since(before).collect();
        let mut is_defined = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM rtc_schema WHERE id = ?1)")?;
        let (mut dropped, mut gone) = (Vec::new(), Gone::default());
        for table in self.tables.iter().filter(|table| table.id != store::SCHEMA_TABLE) {
            let is_raised = raised.contains_key(table.made_by.to_ascii_lowercase().as_str());
            let identity = table.identity();
            let is_of_it =
                |id: &String| id.strip_prefix(&identity).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            if is_raised || !is_defined.query_row([&identity], |row| row.get::<_, bool>(0))? {
                dropped.push(Arc::clone(table));
            } else if came.iter().any(is_of_it) && redefined::is_redefined(connection, table)? {
                gone.untold.insert(table.made_by.clone(), united::untold(connection, table)?);
                dropped.push(Arc::clone(table));
            }
        }
        for table in dropped {
            gone.local.append(&mut local_objects(connection, &table.name)?);
            self.move_to_waiting(connection, &table, floors.of(&table.made_by))?;
            tally.registers -= whole::registers(connection, &self.origins, &table, &BTreeMap::new())?;
            forget_operations(connection, table.id, tally)?;
            connection.execute_batch(&format!("DROP TABLE main.{}", quoted(&table.name)))?;
            self.tables.remove(&table);
        }
        raised.into_iter().try_for_each(|(name, floor)| forget_waiting(connection, name, Some(floor), tally))?;
        Ok(gone)
    }

    fn move_to_waiting(&self, connection: &Connection, table: &Table, floor: Option<&Hlc>) -> Result<(), StorageError> {
        let mut select =
            connection.prepare_cached("SELECT origin, seq, idx, row FROM rtc_operations WHERE tbl = ?1")?;
        let mut found = select.query([table.id])?;
        while let Some(row) = found.next()? {
            let (place, slot): (Place, Slot) = (rows::place(row)?, row.get(3)?);
            let operation = self.read_stored(connection, (table.id, &slot), place)?;
            if floor.is_none_or(|floor| operation.hlc > *floor) {
                store::wait(connection, place, &operation)?;
            }
        }
        Ok(())
    }
}
