//! A SQLite database that keeps a log of what was written to it and merges the logs of others. It knows no peers and no links.
//!
//! | room | what happens there |
//! |---|---|
//! | `session` | the user's SQL is judged, compiled and stepped; calls of tabs are answered once |
//! | `capture` | what it touched becomes a transaction, which is recorded |
//! | `merge` | the rules (pure), and what others did, taken in by them and made visible |
//! | `log` | registers and log in their tables, read for others and for people |
//! | `schema` | tables, their columns and keys, and every other object, as data |
//! | `unique` | which rows are shown where several want one value |
//!
//! `Replica` puts them together over what it knows of its database (`state`). Beside them stand `clock`, `quarantine` for what is
//! from the future, `withdrawn` for what a device wrote there itself, `identity` for files that were copied, `floor` for what is forgotten of deleted rows and who missed it, `salvage` for those that are damaged, `on_disk` for native hosts, `file` for plain files, and
//! `layer`, a replica by itself.

mod capture;
mod clock;
mod error;
mod file;
mod floor;
mod identity;
mod layer;
mod limits;
mod log;
mod merge;
#[cfg(not(target_family = "wasm"))]
mod on_disk;
mod quarantine;
#[allow(clippy::module_inception, reason = "the rooms of the replica, and the replica they make")]
mod replica;
mod salvage;
mod schema;
mod session;
mod sql;
mod state;
mod unique;
mod upgrade;
mod withdrawn;

pub use error::{OpenError, StorageError};
pub use file::ImportError;
pub(crate) use file::operations_of_file;
pub use floor::DEFAULT_RETENTION_MS;
pub use layer::{ApplyError, ExecuteError, Executed, SqlLayer};
pub use limits::MAX_ROW_BYTES;
pub use log::delta::{DeltaChunk, DeltaEnd, DeltaReader};
pub(crate) use log::digest::{of_floor as digest_of_floor, of_vector as digest_of_vector};
pub use merge::apply::Applied;
#[cfg(not(target_family = "wasm"))]
pub use on_disk::Durability;
pub(crate) use quarantine::TOLERANCE_MS;
pub use replica::{Committed, Replica};
pub use salvage::Salvaged;
pub(crate) use schema::naming::is_for_names;
pub(crate) use schema::tables::SCHEMA;
pub use session::answers::Answer;
pub use session::query::{Params, QueryResult, Scope, SqlError};
pub use unique::parked::Conflict;
