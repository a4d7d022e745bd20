//! What is known of statements that the user ran before, so that a program that says the same thing a thousand times has it compiled and
//! judged once. The compiled statement itself is in rusqlite's cache.
//!
//! Invariant: what a statement does is known under the schema that is, so whatever may change the schema forgets everything.

use std::collections::HashMap;
use std::sync::Arc;

use super::guard::Facts;
use super::query::Scope;

/// Most statements that are known at a time. A program that makes a new text for each statement must not fill the memory.
const MAX_STATEMENTS: usize = 64;

/// A longer text is likely to have its values in it, and not to come again.
const MAX_SQL_BYTES: usize = 4096;

/// Facts by scope and SQL text.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    synced: HashMap<String, Arc<Facts>>,
    local: HashMap<String, Arc<Facts>>,
}

impl Prepared {
    /// What the text, a single statement, does.
    pub(crate) fn facts(&self, sql: &str, scope: Scope) -> Option<Arc<Facts>> {
        match scope {
            Scope::Synced => self.synced.get(sql).cloned(),
            Scope::Local => self.local.get(sql).cloned(),
        }
    }

    /// Remembers a single statement that reads or writes rows.
    pub(crate) fn note(&mut self, sql: &str, scope: Scope, facts: &Facts) {
        if sql.len() > MAX_SQL_BYTES {
            return;
        }
        if self.synced.len() + self.local.len() >= MAX_STATEMENTS {
            self.forget();
        }
        let known = match scope {
            Scope::Synced => &mut self.synced,
            Scope::Local => &mut self.local,
        };
        known.insert(sql.to_owned(), Arc::new(facts.clone()));
    }

    /// The schema may have changed.
    pub(crate) fn forget(&mut self) {
        self.synced.clear();
        self.local.clear();
    }
}
