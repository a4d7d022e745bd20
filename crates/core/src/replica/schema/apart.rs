//! Received schema texts are hostile until SQLite itself, in a database apart and under an authorizer that knows nothing else, has said what they
//! are.

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Batch, Connection};

use super::table::{Column, Table};
use crate::replica::session::functions;
use crate::replica::sql::quoted;

/// A database apart, with the functions that a schema may call.
pub(crate) fn open() -> rusqlite::Result<Connection> {
    let apart = Connection::open_in_memory()?;
    functions::create(&apart)?;
    Ok(apart)
}

/// Whether a text is one CREATE TABLE and nothing else.
pub(crate) fn check_one_create_table(sql: &str) -> Result<(), String> {
    create_table(sql).map(|_| ())
}

/// Runs a text in a database apart, under an authorizer that knows nothing but CREATE TABLE.
pub(crate) fn create_table(sql: &str) -> Result<Connection, String> {
    let mut apart = open().map_err(|error| error.to_string())?;
    apart.authorizer(Some(only_create_table)).map_err(|error| error.to_string())?;
    run_one_statement(&apart, sql)?;
    apart.authorizer(None::<fn(AuthContext<'_>) -> Authorization>).map_err(|error| error.to_string())?;
    let objects = "SELECT count(*) FROM sqlite_schema WHERE type <> 'index' AND name NOT GLOB 'sqlite_*'";
    let objects: i64 = apart.query_row(objects, [], |row| row.get(0)).map_err(|error| error.to_string())?;
    if objects == 1 { Ok(apart) } else { Err("it is not one table".to_owned()) }
}

/// Runs a text, if it is one statement.
pub(crate) fn run_one_statement(connection: &Connection, sql: &str) -> Result<(), String> {
    let run = || -> rusqlite::Result<bool> {
        let mut batch = Batch::new(connection, sql);
        let Some(mut statement) = batch.next()? else { return Ok(false) };
        statement.raw_execute()?;
        Ok(batch.next()?.is_none())
    };
    match run() {
        Ok(true) => Ok(()),
        Ok(false) => Err("it is not one statement".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Does something with the first statement of a text: it ends at the first semicolon that leaves a whole one before it. Gives what was done, and the rest.
pub(crate) fn after_first_statement<T>(sql: &str, run: impl Fn(&str) -> Option<T>) -> Option<(T, &str)> {
    let ends = sql.match_indices(';').map(|(at, _)| at + 1).chain([sql.len()]);
    ends.map(|end| sql.split_at(end)).find_map(|(text, rest)| Some((run(text)?, rest)))
}

/// The columns of a table that is made of these definitions, after a text has run on it, if it is one statement.
pub(crate) fn columns_after(table: &str, definitions: &str, text: &str) -> Option<Vec<Column>> {
    let apart = open().ok()?;
    apart.execute_batch(&format!("CREATE TABLE {} ({definitions})", quoted(table))).ok()?;
    run_one_statement(&apart, text).ok()?;
    Some(Table::describe(&apart, 0, table).ok()??.columns)
}

fn only_create_table(context: AuthContext<'_>) -> Authorization {
    match context.action {
        // A column is read where CHECK or a generated column names it, and no other table exists there.
        AuthAction::CreateTable { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Read { .. }
        | AuthAction::Function { .. } => Authorization::Allow,
        ref action if writes_schema(action) => Authorization::Allow,
        _ => Authorization::Deny,
    }
}

/// Whether SQLite writes its own tables, as every definition makes it do.
pub(crate) fn writes_schema(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } => table_name.starts_with("sqlite_"),
        _ => false,
    }
}
