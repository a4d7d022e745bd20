//! Replicas: SQL on them, and the operations of one given to another by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod adopt;
mod alter;
mod automatic;
mod bounded;
mod capture;
mod clock;
mod columns;
mod common;
mod create;
mod differential;
mod docs_merging;
mod drop;
mod exec;
mod file;
mod floor;
mod functions;
mod guard;
mod hostile;
mod identity;
mod layer;
mod limits;
mod local;
mod log;
mod objects;
mod on_disk;
mod prepared;
mod quarantine;
mod rebuild;
mod redefined;
mod rename_table;
mod reopen;
mod salvage;
mod sqlite_options;
mod sync;
mod temp_triggers;
mod unique;
mod withdrawn;
