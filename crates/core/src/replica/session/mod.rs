//! The user's SQL: [`guard`] says what it may do, [`prepared`] remembers statements, [`exec`] runs them one after the other and puts our own
//! work where SQLite would commit, [`step`] takes one to its end, [`alteration`] looks at what one that changes
//! the schema has done. [`answers`] keeps what a call was answered until its tab has heard it;
//! [`automatic`] notices keys that devices would choose alike.

pub(crate) mod alteration;
pub(crate) mod answers;
pub(crate) mod automatic;
pub(crate) mod exec;
pub(crate) mod functions;
pub(crate) mod guard;
pub(crate) mod prepared;
pub(crate) mod query;
pub(crate) mod step;
