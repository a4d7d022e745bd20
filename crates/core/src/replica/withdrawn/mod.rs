//! What a device wrote while its clock was far ahead, once the clock has been set right: it is withdrawn, and told again at the time that it is, under a new
//! id.
//!
//! Others have set it aside until its time comes ([`quarantine`](super::quarantine)); to show it then would undo what everybody has written meanwhile. So the
//! transaction that tells it again begins with a row of `rtc_schema` that says what is void: what one replica stamped after one tick and up to another.
//! Wherever that row is known such operations are dropped as they come, by whatever way, and taken out where they had come before. The new ones
//! say the same in the same order, so nothing is missing when the transaction is in.
//!
//! Invariant: nobody writes under an id that was withdrawn from, so nothing that is written later is void.

mod late;
mod step_back;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rtc_battery_proto::{Dot, Hlc, Operation, OperationKind, ReplicaId, SqlValue, Tick, TransactionExtent};
use rusqlite::{Connection, params};

use super::error::StorageError;
use super::log::store::Tx;
use super::merge::apply::is_schema;
use super::merge::merging::Merge;
use super::schema::tables::SCHEMA;
use super::state::{State, once};

/// The kind of such a row in `rtc_schema`.
const KIND: &str = "withdrawn";

/// How its id begins, before the replica's: as no table's does.
const PREFIX: &str = "rtc_withdrawn ";

/// How long a tick is in an [`Hlc`]'s text.
const TICK_LENGTH: usize = 21;

/// All that is void.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Withdrawn(BTreeMap<ReplicaId, Span>);

/// What one replica stamped after one tick and up to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    after: Tick,
    last: Tick,
}

impl Span {
    fn contains(self, tick: Tick) -> bool {
        self.after < tick && tick <= self.last
    }

    /// As the row says it.
    fn text(self, node: &ReplicaId) -> String {
        let text = |tick| Hlc { tick, node: node.clone() }.to_string().chars().take(TICK_LENGTH).collect::<String>();
        format!("{} {}", text(self.after), text(self.last))
    }

    fn parse(text: &str, node: &ReplicaId) -> Option<Self> {
        let tick = |text: &str| Some(format!("{text}-{node}").parse::<Hlc>().ok()?.tick);
        let (after, last) = text.split_once(' ')?;
        Some(Self { after: tick(after)?, last: tick(last)? })
    }
}

/// Whether an operation of a peer makes such a row, as a replica of ours does.
pub(crate) fn is_sound(operation: &Operation) -> bool {
    let text = |column: &str| operation.values.as_ref()?.get(column)?.as_text();
    let said = || {
        let name = text("name")?;
        let (id, node) = (text("id")?, ReplicaId::new(&name).ok()?);
        Span::parse(&text("sql")?, &node)?;
        Some(id == format!("{PREFIX}{node}") && operation.pk.get("id")?.as_text()? == id && text("kind")? == KIND)
    };
    operation.kind == OperationKind::Insert && is_schema(operation) && said() == Some(true)
}

impl Withdrawn {
    fn load(connection: &Connection) -> Result<Self, StorageError> {
        let mut select = connection.prepare_cached("SELECT name, sql FROM rtc_schema WHERE kind = ?1")?;
        let rows = select.query_map([KIND], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        let spans = rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().filter_map(|(node, span)| {
            let node = ReplicaId::new(&node).ok()?;
            Some((node.clone(), Span::parse(&span, &node)?))
        });
        Ok(Self(spans.collect()))
    }

    /// Whether what was stamped so is void.
    pub(crate) fn has(&self, hlc: &Hlc) -> bool {
        !self.0.is_empty() && self.0.get(&hlc.node).is_some_and(|span| span.contains(hlc.tick))
    }
}

impl State {
    /// What is void, read once.
    pub(crate) fn withdrawn(&mut self, connection: &Connection) -> Result<Arc<Withdrawn>, StorageError> {
        once(&mut self.withdrawn, || Withdrawn::load(connection))
    }

    /// Whether somebody has withdrawn what was written under this replica's id, and so writes under another.
    pub(super) fn is_withdrawn(&mut self, connection: &Connection) -> Result<bool, StorageError> {
        Ok(self.withdrawn(connection)?.0.contains_key(&self.node))
    }
}

/// The operation that says what is void, the first of the transaction that tells it again.
fn row(node: &ReplicaId, span: Span, dot: &Dot, extent: TransactionExtent) -> Operation {
    let id = SqlValue::text(&format!("{PREFIX}{node}"));
    let values = [
        ("id", id.clone()),
        ("kind", SqlValue::text(KIND)),
        ("name", SqlValue::text(node.as_str())),
        ("sql", SqlValue::text(&span.text(node))),
    ];
    Operation {
        hlc: Hlc { tick: extent.first, node: dot.origin.clone() },
        kind: OperationKind::Insert,
        table: SCHEMA.to_owned(),
        pk: [("id", id)].into_iter().collect(),
        values: Some(values.into_iter().collect()),
        prev: None,
        seq: Some(dot.seq),
        tx: Some(extent),
        adopted: None,
    }
}

impl Merge<'_> {
    /// Takes what came since the last look, and is void, out of the log and out of the tables.
    pub(crate) fn withdraw(&mut self) -> Result<(), StorageError> {
        let before = Arc::clone(&self.withdrawn);
        self.state.withdrawn = None;
        self.withdrawn = self.state.withdrawn(self.connection)?;
        let withdrawn = Arc::clone(&self.withdrawn);
        for (node, span) in withdrawn.0.iter().filter(|(node, span)| before.0.get(*node) != Some(*span)) {
            let bound = |tick| Hlc { tick, node: node.clone() }.to_string();
            for table in ["rtc_waiting", "rtc_quarantine"] {
                let delete = format!(
                    "DELETE FROM {table} WHERE hlc > ?1 AND hlc <= ?2 AND substr(hlc, {}) = ?3 RETURNING origin, seq",
                    TICK_LENGTH + 2
                );
                let mut delete = self.connection.prepare(&delete)?;
                let bounds = params![bound(span.after), bound(span.last), node.as_str()];
                let gone = delete.query_map(bounds, |row| Ok(Tx { origin: row.get(0)?, seq: row.get(1)? }))?;
                self.tally.thinned.extend(gone.collect::<rusqlite::Result<BTreeSet<Tx>>>()?);
            }
            self.state.quarantine.recount(self.connection)?;
            let late = self.state.stamped_since(self.connection, span.after.ts)?;
            let void = late.iter().filter(|late| late.hlc.node == *node && span.contains(late.hlc.tick));
            self.take_out(void)?;
        }
        Ok(())
    }
}
