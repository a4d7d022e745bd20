//! One change of one row, in the specification's shape, and the transaction it belongs to.
//!
//! `seq`, `tx` and `adopted` are additive: a peer that speaks only the specification neither sends nor minds them. With them an operation knows
//! its transaction's dot (`hlc.nodeId`, `seq`) and its place in it. An operation that came without them, from such a peer or from a file, is
//! **adopted** by who took it in: it keeps its clock value and travels in a transaction of the adopter.

use serde::{Deserialize, Serialize};

use crate::{Columns, Hlc, ReplicaId, Tick};

/// What an operation did to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OperationKind {
    /// A new row; `values` holds all its columns.
    Insert,
    /// Changed columns of a row.
    Update,
    /// The row is gone.
    Delete,
}

/// One change of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// When, and by whom.
    pub hlc: Hlc,
    /// What it did.
    #[serde(rename = "type")]
    pub kind: OperationKind,
    /// Which table.
    pub table: String,
    /// Primary key of the row.
    pub pk: Columns,
    /// Written columns; absent for a DELETE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Columns>,
    /// What an UPDATE overwrote; explains conflicts, decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Columns>,
    /// Sequence number of the transaction at its writer, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The whole transaction's extent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<TransactionExtent>,
    /// Whose transaction carries the operation, where that is not who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Adopted>,
}

/// The place of an operation in the transaction of who adopted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The adopter: origin of the transaction's dot.
    pub by: ReplicaId,
    /// The operation's index in the transaction; its clock value does not tell it.
    pub index: u32,
}

/// Where a transaction's operations stand on its writer's clock: `n` contiguous ticks from `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionExtent {
    /// Tick of the first operation.
    pub first: Tick,
    /// How many operations the transaction had when it was written.
    pub n: u32,
}

/// A transaction's name: dense sequence numbers from 1 for each replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote it.
    pub origin: ReplicaId,
    /// Which of its transactions.
    pub seq: u64,
}

/// Largest sequence number: what JSON keeps.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

impl Operation {
    /// The operation with the specification's fields and no others.
    #[must_use]
    pub fn into_plain(self) -> Self {
        Self { seq: None, tx: None, adopted: None, ..self }
    }

    /// The dot of the operation's transaction and the operation's index in it, if it carries them and they are consistent.
    #[must_use]
    pub fn place(&self) -> Option<(Dot, TransactionExtent, u32)> {
        let extent = self.tx?;
        let seq = self.seq.filter(|seq| (1..=MAX_SEQ).contains(seq))?;
        let (origin, index) = match &self.adopted {
            Some(adopted) => (&adopted.by, u64::from(adopted.index)),
            None => (&self.hlc.node, self.hlc.tick.steps_since(extent.first)?),
        };
        let index = u32::try_from(index).ok().filter(|index| *index < extent.n)?;
        Some((Dot { origin: origin.clone(), seq }, extent, index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update() -> Operation {
        serde_json::from_str(
            r#"{"hlc":{"ts":9,"counter":3,"nodeId":"n"},"type":"UPDATE","table":"t","pk":{"id":1},
                "values":{"a":null},"seq":4,"tx":{"first":{"ts":9,"counter":1},"n":5}}"#,
        )
        .unwrap()
    }

    #[test]
    fn place_is_derived_from_the_clock() {
        let (dot, _, index) = update().place().unwrap();
        assert_eq!((dot.origin.as_str(), dot.seq, index), ("n", 4, 2));
    }

    #[test]
    fn an_inconsistent_place_is_none() {
        let wrong: [fn(&mut Operation); 5] = [
            |op| op.seq = None,
            |op| op.seq = Some(0),
            |op| op.seq = Some(MAX_SEQ + 1),
            |op| op.hlc.tick.counter = 0,
            |op| op.hlc.tick.counter = 6,
        ];
        for break_it in wrong {
            let mut op = update();
            break_it(&mut op);
            assert_eq!(op.place(), None, "{op:?}");
        }
    }

    #[test]
    fn an_adopted_operation_is_placed_by_its_adopter() {
        let mut op = update();
        op.adopted = Some(Adopted { by: ReplicaId::new("m").unwrap(), index: 4 });
        let again: Operation = serde_json::from_str(&serde_json::to_string(&op).unwrap()).unwrap();
        let (dot, _, index) = again.place().unwrap();
        assert_eq!((dot.origin.as_str(), dot.seq, index), ("m", 4, 4));
        op.adopted = Some(Adopted { by: ReplicaId::new("m").unwrap(), index: 5 });
        assert_eq!(op.place(), None);
    }

    #[test]
    fn plain_operations_have_the_specifications_fields_only() {
        let adopted = Some(Adopted { by: ReplicaId::new("m").unwrap(), index: 4 });
        let json = serde_json::to_value(Operation { adopted, ..update() }.into_plain()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["hlc", "pk", "table", "type", "values"]);
    }
}
