//! How large a row may be, the user's and ours, and how long a pattern.
//!
//! The user's is a constant of the protocol, enforced where a row is written, here and by others, so that nobody writes what others refuse. Ours
//! hold a row of the user's as JSON text (a delta that is staged, the values of a deleted row), which is longer than the row; they must never
//! be what fails.

use rusqlite::Connection;
use rusqlite::limits::Limit;

/// Largest row of the user, and largest value on its way into one, in bytes.
pub const MAX_ROW_BYTES: i32 = 16_000_000;

/// Longest pattern of LIKE and GLOB, in bytes. Every `%` in one takes a level of recursion, and a browser's stack is small: of SQLite's own limit
/// it would overflow, which ends the module.
pub(super) const MAX_PATTERN_BYTES: i32 = 2_000;

/// Most memory that a result may take, in bytes. What is beyond it would not fit a browser's memory beside its copy in JavaScript, and running out
/// of memory ends the module.
pub(super) const MAX_RESULT_BYTES: usize = 512 * 1024 * 1024;

/// The same as JSON: a control character takes six bytes. And the operation around it, with what it overwrote.
pub(super) const OUR_ROW_BYTES: i32 = 2 * 6 * MAX_ROW_BYTES + 1_000_000;

/// Runs what writes the user's own rows under the user's limit.
pub(super) fn within_user_limit<T, E: From<rusqlite::Error>>(
    connection: &Connection,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)?;
    let result = run();
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, OUR_ROW_BYTES)?;
    result
}
