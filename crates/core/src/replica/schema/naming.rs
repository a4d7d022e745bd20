//! What tables and columns are called: by people, here and now, and by operations, everywhere and for ever.
//!
//! Operations, the digest and `rtc_schema` call a table or a column by the name that it was made by, its identity, and a RENAME changes only what people
//! call it here. A name that some column was made by already is given a number for the next one, `rtc_2 title`, so that what was written to one
//! never reaches the other: neither after DROP and ADD of a name, nor after a RENAME that freed it. A table's gets one where a RENAME freed it; what was
//! dropped is told apart by time.
//!
//! `rtc_renamed` and `rtc_columns` keep the identities of what is not called by its own. They are derived from `rtc_schema`, and local.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rtc_battery_proto::{Columns, Operation};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::table::Table;

/// The identity of the `n`th column that was made by a name, from 1.
pub(crate) fn numbered(name: &str, n: u32) -> String {
    if n < 2 { name.to_owned() } else { format!("rtc_{n} {name}") }
}

/// The name that a column of this identity was made by.
pub(crate) fn made_by(identity: &str) -> &str {
    number_and_name(identity).map_or(identity, |(_, name)| name)
}

/// Whether a name looks like an identity with a number: no column can be called so.
pub(crate) fn is_numbered(name: &str) -> bool {
    number_and_name(name).is_some()
}

fn number_and_name(identity: &str) -> Option<(u32, &str)> {
    let (prefix, rest) = (identity.get(..4)?, identity.get(4..)?);
    let (number, name) = rest.split_once(' ')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (prefix.eq_ignore_ascii_case("rtc_") && is_number).then(|| Some((number.parse().ok()?, name)))?
}

/// What a table is called here that was made by this name.
pub(crate) fn table_called(connection: &Connection, made_by: &str) -> rusqlite::Result<Option<String>> {
    let select = "SELECT t.name FROM rtc_renamed r JOIN rtc_tables t ON t.id = r.tbl WHERE r.made_by = ?1";
    connection.prepare_cached(select)?.query_row([made_by], |row| row.get(0)).optional()
}

/// Keeps what a table, by its number, is called now.
pub(crate) fn note_table(connection: &Connection, table: i64, made_by: &str, name: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE rtc_tables SET name = ?2 WHERE id = ?1")?.execute(params![table, name])?;
    connection.prepare_cached("DELETE FROM rtc_renamed WHERE tbl = ?1")?.execute([table])?;
    if !name.eq_ignore_ascii_case(made_by) {
        let insert = "INSERT INTO rtc_renamed (tbl, made_by) VALUES (?1, ?2)";
        connection.prepare_cached(insert)?.execute(params![table, made_by])?;
    }
    Ok(())
}

/// Gives the table and its columns their identities.
pub(crate) fn identify(connection: &Connection, table: &mut Table) -> rusqlite::Result<()> {
    let select = "SELECT made_by FROM rtc_renamed WHERE tbl = ?1";
    let made_by = connection.prepare_cached(select)?.query_row([table.id], |row| row.get(0)).optional()?;
    if let Some(made_by) = made_by {
        table.made_by = made_by;
    }
    let mut select = connection.prepare_cached("SELECT name, identity FROM rtc_columns WHERE tbl = ?1")?;
    let mut rows = select.query([table.id])?;
    while let Some(row) = rows.next()? {
        let (name, identity): (String, String) = (row.get(0)?, row.get(1)?);
        if let Some(column) = table.column(&name) {
            table.columns[column].identity = identity.into();
        }
    }
    Ok(())
}

/// Keeps what a column of a table, by its number, is called now.
pub(crate) fn note(connection: &Connection, table: i64, identity: &str, name: &str) -> rusqlite::Result<()> {
    forget(connection, table, identity)?;
    if !name.eq_ignore_ascii_case(identity) {
        let insert = "INSERT OR REPLACE INTO rtc_columns (tbl, name, identity) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(insert)?.execute(params![table, name, identity])?;
    }
    Ok(())
}

/// A column is gone.
pub(crate) fn forget(connection: &Connection, table: i64, identity: &str) -> rusqlite::Result<()> {
    let delete = "DELETE FROM rtc_columns WHERE tbl = ?1 AND identity = ?2";
    connection.prepare_cached(delete)?.execute(params![table, identity])?;
    Ok(())
}

/// A table is gone.
pub(crate) fn forget_table(connection: &Connection, table: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM rtc_renamed WHERE tbl = ?1")?.execute([table])?;
    connection.prepare_cached("DELETE FROM rtc_columns WHERE tbl = ?1")?.execute([table])?;
    Ok(())
}

/// What tables, or a table's columns, are called, `wished` being their identities and what they were renamed to, if they were. Two that want one name get it in an order that is
/// the same everywhere: who was made by it before who was renamed to it, then by identity. The other is called as it was made, or gets a number.
pub(crate) fn called<'a>(wished: &[(&'a str, Option<&'a str>)]) -> BTreeMap<&'a str, String> {
    let mut in_order: Vec<_> = wished
        .iter()
        .map(|(identity, name)| (name.is_some(), identity.to_ascii_lowercase(), *identity, *name))
        .collect();
    in_order.sort_unstable();
    let (mut taken, mut called) = (BTreeSet::new(), BTreeMap::new());
    for (_, _, identity, name) in in_order {
        let made_by = made_by(identity);
        let wish = name.unwrap_or(made_by);
        let others = (2u32..).map(|n| format!("{wish}_{n}"));
        let mut candidates = [wish.to_owned(), made_by.to_owned()].into_iter().chain(others);
        if let Some(name) = candidates.find(|name| taken.insert(name.to_ascii_lowercase())) {
            called.insert(identity, name);
        }
    }
    called
}

/// What something is called while its name is another's: nobody's name.
pub(crate) const MOVING: &str = "rtc_0 moving";

/// The next RENAME on the way from what things are called now to what they are to be called, as `(now, to be)` in any order: which of them, and to what. Where a
/// name is another's that is yet to be renamed, one is called [`MOVING`] meanwhile.
pub(crate) fn next_move<'a>(called: &[(&str, &'a str)]) -> Option<(usize, &'a str)> {
    let waits = |(_, (now, wish)): &(usize, &(&str, &str))| now != wish;
    let is_free = |(n, (_, wish)): &(usize, &(&str, &str))| {
        !called.iter().enumerate().any(|(other, (now, _))| other != *n && now.eq_ignore_ascii_case(wish))
    };
    let mut waiting = called.iter().enumerate().filter(waits);
    let next = waiting.clone().find(is_free).map(|(n, (_, wish))| (n, *wish));
    next.or_else(|| waiting.next().map(|(n, _)| (n, MOVING)))
}

/// An operation as others' names mean it: by what table and columns are called here.
pub(crate) fn by_identity(table: &Table, operation: Operation) -> Operation {
    let identity = |name: Arc<str>| match table.column(&name) {
        Some(column) => Arc::clone(&table.columns[column].identity),
        None => name,
    };
    let operation = Operation { table: table.made_by.clone(), ..operation };
    renamed(operation, |columns| columns.into_iter().map(|(name, value)| (identity(name), value)).collect())
}

/// An operation for who knows nothing but names. What was written to a column that was dropped is left out. One that says something else so has no place in
/// its transaction any more, but still its number, by which one of ours knows that it is not for it ([`is_for_names`]).
pub(crate) fn by_name(table: &Table, operation: Operation) -> Operation {
    let name = |identity: Arc<str>| match table.of_identity(&identity) {
        Some(column) => Some(table.columns[column].name.as_str().into()),
        None => (!table.is_dropped(&identity)).then_some(identity),
    };
    let written = operation.clone();
    let operation = renamed(Operation { table: table.name.clone(), ..operation }, |columns| {
        columns.into_iter().filter_map(|(identity, value)| Some((name(identity)?, value))).collect()
    });
    if operation == written { operation } else { Operation { tx: None, adopted: None, ..operation } }
}

/// Whether an operation of ours says tables and columns as they are called at its sender.
pub(crate) fn is_for_names(operation: &Operation) -> bool {
    operation.seq.is_some() && operation.tx.is_none()
}

fn renamed(operation: Operation, rename: impl Fn(Columns) -> Columns) -> Operation {
    let Operation { pk, values, prev, .. } = operation;
    Operation { pk: rename(pk), values: values.map(&rename), prev: prev.map(&rename), ..operation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_columns_of_one_name_apart() {
        assert_eq!(numbered("title", 1), "title");
        assert_eq!(made_by(&numbered("the title", 12)), "the title");
        assert!(is_numbered("RTC_2 title"));
        for name in ["title", "rtc_x title", "rtc_2", "rtc_ title", "rtc_99999999999999 title", "rt\u{e9}_2 title"] {
            assert!(!is_numbered(name), "{name}");
            assert_eq!(made_by(name), name);
        }
    }

    #[test]
    fn names_change_places_by_a_third() {
        let mut called = vec![("a", "b"), ("b", "c"), ("c", "a"), ("d", "D"), ("e", "e")];
        let mut moves = Vec::new();
        while let Some((n, to)) = next_move(&called) {
            called[n].0 = to;
            moves.push((n, to));
        }
        assert_eq!(moves, [(3, "D"), (0, MOVING), (2, "a"), (1, "c"), (0, "b")]);
    }

    #[test]
    fn two_that_want_one_name_get_it_in_one_order() {
        let wished = [("b", Some("z")), ("A", Some("Z")), ("c", None), ("rtc_2 c", None), ("z", Some("q"))];
        let forwards = called(&wished);
        let mut backwards = wished;
        backwards.reverse();
        assert_eq!(forwards, called(&backwards));
        let names: Vec<_> = forwards.into_iter().collect();
        let expected = [("A", "Z"), ("b", "b"), ("c", "c"), ("rtc_2 c", "c_2"), ("z", "q")];
        assert_eq!(names, expected.map(|(identity, name)| (identity, name.to_owned())));
        // A swap is no conflict.
        assert_eq!(called(&[("a", Some("b")), ("b", Some("a"))])["a"], "b");
        assert_eq!(called(&[("a", None), ("b", Some("a"))])["b"], "b");
    }
}
