//! Several callers on one database: the tabs of a browser, of which one holds the database and works for all.
//!
//! A transaction belongs to the caller that began it. While it is open the others wait; it is rolled back when its caller is gone, or has
//! left it idle for 30 s, since merges wait as well. The next thing that its caller asks for then fails, so that nobody goes on in a transaction that is
//! not there.
//!
//! A call that is asked again, because whoever held the database went away without an answer, is carried out once: see
//! [`answers`](crate::replica::Answer).

use rusqlite::ffi;

use super::node::Node;
use crate::Now;
use crate::replica::{Answer, Params, QueryResult, Scope, SqlError, StorageError};

/// A transaction in which nothing was done for so long is rolled back, in milliseconds.
const IDLE_MS: u64 = 30_000;

/// A call as its caller numbers it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who calls: a name that nobody else on this device has.
    pub caller: &'a str,
    /// Its number, from 1 on. `None` where nobody would ask again.
    pub number: Option<u64>,
    /// The caller has heard the answers to all calls before this one.
    pub heard: u64,
    /// It was first asked of somebody who is gone, in a transaction that is gone with them.
    pub stranded: bool,
}

/// The open transaction, and whose it is.
#[derive(Debug)]
struct Open {
    caller: String,
    idle_at_ms: u64,
    /// What was answered in it. Kept with it, if it is committed.
    answers: Vec<(u64, Answer)>,
}

impl Open {
    fn answer(&self, caller: &str, number: u64) -> Option<Answer> {
        let answers = if self.caller == caller { &self.answers[..] } else { &[] };
        answers.iter().find(|(answered, _)| *answered == number).map(|(_, answer)| answer.clone())
    }
}

/// Who has the floor.
#[derive(Debug, Default)]
pub(super) struct Callers {
    open: Option<Open>,
    /// Whose transaction was rolled back and who was not told yet.
    expired: Vec<String>,
}

impl Callers {
    /// When an idle transaction ends.
    pub(super) fn wake_at_ms(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.idle_at_ms)
    }
}

impl Node {
    /// Whether the caller need not wait: no transaction is open, or it is the caller's own.
    #[must_use]
    pub fn may_call(&self, caller: &str) -> bool {
        self.callers.open.as_ref().is_none_or(|open| open.caller == caller)
    }

    /// Runs SQL for one of several callers, who [`may_call`](Self::may_call); a call that was carried out already is answered as it was then.
    ///
    /// # Errors
    /// [`SqlError`] of the first statement that fails; `SQLITE_ABORT_ROLLBACK` where the caller's transaction is gone, and nothing was done.
    pub fn call(
        &mut self,
        call: Call<'_>,
        sql: &str,
        params: &Params,
        scope: Scope,
        now: Now,
    ) -> Result<QueryResult, SqlError> {
        if let Some(number) = call.number {
            let in_transaction = self.callers.open.as_ref().and_then(|open| open.answer(call.caller, number));
            let answer = match in_transaction {
                Some(answer) => Some(answer),
                None => self.replica.answer(call.caller, number)?,
            };
            if let Some(answer) = answer {
                return answer;
            }
        }
        if call.stranded {
            return Err(gone("it was open in a tab that held the database and was closed"));
        }
        if let Some(place) = self.callers.expired.iter().position(|caller| caller == call.caller) {
            self.callers.expired.swap_remove(place);
            return Err(gone("nothing was done in it for 30 s, and everybody else had to wait"));
        }
        if !self.may_call(call.caller) {
            let message = "a transaction of another caller is open".to_owned();
            return Err(SqlError { message, code: ffi::SQLITE_BUSY });
        }
        let commits = self.replica.commits();
        let answer = self.replica.exec(sql, params, scope, now);
        self.note_answer(call, &answer, self.replica.commits() != commits, now)?;
        answer
    }

    /// The transaction that the call left open is the caller's; what it wrote and committed is kept with its answer.
    fn note_answer(&mut self, call: Call<'_>, answer: &Answer, committed: bool, now: Now) -> Result<(), StorageError> {
        let Call { caller, number, heard, .. } = call;
        let before = self.callers.open.take();
        let mut answers = before.map(|open| open.answers).unwrap_or_default();
        answers.extend(number.map(|number| (number, answer.clone())));
        if self.replica.in_transaction() {
            let idle_at_ms = now.mono_ms.saturating_add(IDLE_MS);
            self.callers.open = Some(Open { caller: caller.to_owned(), idle_at_ms, answers });
        } else if committed && !answers.is_empty() {
            self.replica.keep_answers(caller, &answers, heard)?;
        }
        Ok(())
    }

    /// A caller is gone: what it left open is undone, and its answers are nobody's.
    ///
    /// # Errors
    /// [`StorageError`]: our own storage failed.
    pub fn caller_gone(&mut self, caller: &str) -> Result<(), StorageError> {
        if self.callers.open.as_ref().is_some_and(|open| open.caller == caller) {
            self.roll_back()?;
        }
        self.callers.expired.retain(|expired| expired != caller);
        // Another's transaction is open: what is left of this caller goes with the oldest answers.
        if self.replica.in_transaction() { Ok(()) } else { self.replica.forget_caller(caller) }
    }

    /// Ends a transaction that was left idle.
    pub(super) fn end_idle_transaction(&mut self, now: Now) -> Result<(), StorageError> {
        if self.callers.wake_at_ms().is_some_and(|at_ms| at_ms <= now.mono_ms)
            && let Some(caller) = self.roll_back()?
        {
            self.callers.expired.push(caller);
        }
        Ok(())
    }

    /// Whose transaction it was.
    fn roll_back(&mut self) -> Result<Option<String>, StorageError> {
        let Some(Open { caller, .. }) = self.callers.open.take() else { return Ok(None) };
        if self.replica.in_transaction() {
            self.replica.roll_back()?;
        }
        Ok(Some(caller))
    }
}

fn gone(why: &str) -> SqlError {
    let message = format!("the transaction was rolled back: {why}. Begin it again");
    SqlError { message, code: ffi::SQLITE_ABORT_ROLLBACK }
}
