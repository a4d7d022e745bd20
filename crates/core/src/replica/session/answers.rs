//! Answers that callers may not have heard: what a call wrote and what it was answered are saved together, so that a call which is asked
//! again, of whoever opens the database next, is not carried out a second time.
//!
//! A caller is one tab; it numbers its calls from 1 and says up to which it was answered. What is kept is local to this device.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::query::{QueryResult, SqlError};
use crate::replica::error::StorageError;

/// What a call was answered.
pub type Answer = Result<QueryResult, SqlError>;

/// A larger result is not kept: its call is known to be done, and that is all.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// At most so many answers are kept. Callers that went away without a word leave some.
const MAX_ANSWERS: u32 = 1000;

/// Keeps answers to calls of one caller, and forgets those below `heard`.
pub(crate) fn keep(
    connection: &Connection,
    caller: &str,
    answers: &[(u64, Answer)],
    heard: u64,
) -> Result<(), StorageError> {
    let unsent = connection.unchecked_transaction()?;
    unsent
        .prepare_cached("DELETE FROM main.rtc_answers WHERE caller = ?1 AND call < ?2")?
        .execute(params![caller, heard])?;
    let mut insert =
        unsent.prepare_cached("INSERT OR REPLACE INTO main.rtc_answers (caller, call, answer) VALUES (?1, ?2, ?3)")?;
    for (call, answer) in answers {
        insert.execute(params![caller, call, text(answer)?])?;
    }
    drop(insert);
    unsent
        .prepare_cached("DELETE FROM main.rtc_answers WHERE n <= (SELECT max(n) FROM main.rtc_answers) - ?1")?
        .execute([MAX_ANSWERS])?;
    unsent.commit()?;
    Ok(())
}

fn text(answer: &Answer) -> Result<String, StorageError> {
    let encode = |answer: &Answer| serde_json::to_string(answer).map_err(|_| StorageError::Corrupt("an answer"));
    let text = encode(answer)?;
    if text.len() <= MAX_ANSWER_BYTES {
        return Ok(text);
    }
    let message = "what the SQL wrote is saved, but its result was lost with the tab that held the database, and is too large to be kept";
    encode(&Err(SqlError { message: message.to_owned(), code: rusqlite::ffi::SQLITE_TOOBIG }))
}

/// What the call was answered, if it wrote something.
pub(crate) fn find(connection: &Connection, caller: &str, call: u64) -> Result<Option<Answer>, StorageError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT answer FROM main.rtc_answers WHERE caller = ?1 AND call = ?2")?
        .query_row(params![caller, call], |row| row.get(0))
        .optional()?;
    text.map(|text| serde_json::from_str(&text).map_err(|_| StorageError::Corrupt("rtc_answers.answer"))).transpose()
}

/// The caller is gone for good.
pub(crate) fn forget(connection: &Connection, caller: &str) -> Result<(), StorageError> {
    connection.prepare_cached("DELETE FROM main.rtc_answers WHERE caller = ?1")?.execute([caller])?;
    Ok(())
}
