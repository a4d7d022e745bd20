//! A SQLite database that keeps a log of what was written to it and merges the logs of others.
//!
//! The rooms: [`exec`](self::exec) runs the user's SQL [`step`](self::step) by step under the eye of [`guard`](self::guard), [`capture`](self::capture) notes what it touched, [`state`](self::state) is what is known of it,
//! [`commit`](self::commit) makes a transaction of it and [`record`](self::record) writes it into the log, [`prepared`](self::prepared) remembers statements, [`automatic`](self::automatic) notices keys that devices would choose alike, [`merge`](self::merge) decides (pure, knows no SQLite), [`rows`](self::rows) and
//! [`store`](self::store) keep registers and log, [`apply`](self::apply) takes the deltas of others, [`merging`](self::merging) reads each operation of them and [`join`](self::join) joins it into its row, with the user's [`enforcement`](self::enforcement) out of the way, [`digest`](self::digest) sums the registers up, and [`show`](self::show) makes them
//! visible, [`admission`](self::admission) one of those that want one value ([`unique`](self::unique)) while the others are [`parked`](self::parked), [`temp_triggers`](self::temp_triggers) minds what a device does beside, [`file`](self::file) makes a plain file of the database and takes one in, [`quarantine`](self::quarantine) keeps what is from the future, [`identity`](self::identity) gives a copied database a name of its own, [`delta`](self::delta) reads the log for others, [`log_view`](self::log_view) for people, [`layer`](self::layer) is a replica by itself, in memory, [`schema`](self::schema) and [`table`](self::table) know the tables. None of them
//! knows peers or links.

mod admission;
mod alter;
mod answers;
mod apart;
mod apply;
mod automatic;
mod bounds;
mod capture;
mod clock;
mod columns;
mod commit;
mod delta;
mod digest;
mod dropped;
mod enforcement;
mod error;
mod exec;
mod file;
mod fresh;
mod functions;
mod guard;
mod identity;
mod join;
mod key;
mod layer;
mod limits;
mod log_view;
mod merge;
mod merging;
mod objects;
mod parked;
mod prepared;
mod quarantine;
mod query;
mod record;
#[allow(clippy::module_inception, reason = "the rooms of the replica, and the replica they make")]
mod replica;
mod rows;
mod runs;
mod schema;
mod show;
mod sql;
mod staging;
mod state;
mod step;
mod store;
mod table;
mod temp_triggers;
mod unique;

pub use answers::Answer;
pub use apply::Applied;
pub use delta::{DeltaChunk, DeltaEnd, DeltaReader};
pub(crate) use digest::of_vector as digest_of_vector;
pub use error::{OpenError, StorageError};
pub use file::ImportError;
pub(crate) use file::operations_of_file;
pub use layer::{ApplyError, ExecuteError, Executed, SqlLayer};
pub use limits::MAX_ROW_BYTES;
pub use parked::Conflict;
pub(crate) use quarantine::TOLERANCE_MS;
pub use query::{Params, QueryResult, Scope, SqlError};
pub use replica::{Committed, Replica};
pub(crate) use schema::SCHEMA;
