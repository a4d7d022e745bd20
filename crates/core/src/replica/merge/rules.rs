//! The merge rules, pure: what a row is, given a set of operations.
//!
//! A row's state is a join-semilattice: every register keeps its largest write, so applying operations is commutative,
//! associative and idempotent, and two replicas with the same operations show the same row. No SQLite, no storage, no clock here.
//! The rules are those of the specification, section 2, as `design.md` makes them precise.

use rtc_battery_proto::{Hlc, OperationKind, SqlValue, Tick};

use crate::planted::{Bug, planted};

/// A column's newest write. Ordered by clock, then by content: under one clock value with two contents the larger one stands everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) hlc: Hlc,
    pub(crate) value: SqlValue,
}

/// The registers of one row. Columns are positions in the table's column list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RowState {
    cells: Vec<Option<Cell>>,
    /// Newest INSERT or UPDATE.
    live: Option<Hlc>,
    /// Newest DELETE.
    deleted: Option<Hlc>,
    /// Oldest INSERT: what CURRENT_TIMESTAMP defaults of unwritten columns derive from.
    born: Option<Hlc>,
}

impl RowState {
    /// Joins one operation into the row.
    pub(crate) fn apply(
        &mut self,
        hlc: &Hlc,
        kind: OperationKind,
        written: impl IntoIterator<Item = (usize, SqlValue)>,
    ) {
        let newest = |register: &mut Option<Hlc>| {
            if register.as_ref().is_none_or(|old| old < hlc) {
                *register = Some(hlc.clone());
            }
        };
        match kind {
            OperationKind::Delete => {
                if planted(Bug::ColumnsDroppedOnDelete) {
                    self.cells.clear();
                }
                return newest(&mut self.deleted);
            }
            OperationKind::Insert if self.is_born_by(hlc) => self.born = Some(hlc.clone()),
            OperationKind::Insert | OperationKind::Update => {}
        }
        if kind == OperationKind::Insert || !planted(Bug::NoLiveness) {
            newest(&mut self.live);
        }
        for (column, value) in written {
            if self.cells.len() <= column {
                self.cells.resize(column + 1, None);
            }
            let cell = Some(Cell { hlc: hlc.clone(), value });
            let is_tie = |old: &Cell| old.hlc.tick == hlc.tick;
            if planted(Bug::SelfPreferringTie) && self.cells[column].as_ref().is_some_and(is_tie) {
                continue;
            }
            if self.cells[column] < cell {
                self.cells[column] = cell;
            }
        }
    }

    fn is_born_by(&self, hlc: &Hlc) -> bool {
        Self::can_be_born_by(hlc) && self.born.as_ref().is_none_or(|old| hlc < old)
    }

    /// Rows of imported files enter at time 0: nobody knows when they were born.
    pub(crate) fn can_be_born_by(hlc: &Hlc) -> bool {
        hlc.tick != Tick::default()
    }

    /// Whether the row is there: a later operation wins over a DELETE, an equal or earlier one does not.
    pub(crate) fn exists(&self) -> bool {
        self.live > self.deleted
    }

    /// A column's newest write, also one older than a DELETE that a later operation beat: the whole row comes back.
    pub(crate) fn cell(&self, column: usize) -> Option<&Cell> {
        self.cells.get(column)?.as_ref()
    }

    /// All columns' newest writes.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (usize, &Cell)> {
        self.cells.iter().enumerate().filter_map(|(column, cell)| Some((column, cell.as_ref()?)))
    }

    /// The newest INSERT or UPDATE, where it keeps the row alive.
    pub(crate) fn live(&self) -> Option<&Hlc> {
        self.live.as_ref().filter(|_| self.exists())
    }

    /// The newest DELETE, where the row is gone.
    pub(crate) fn deleted(&self) -> Option<&Hlc> {
        self.deleted.as_ref().filter(|_| !self.exists())
    }

    /// Whether the two decide alike, now and whatever comes: a beaten DELETE, and what kept a row alive that is gone, decide nothing any more.
    pub(crate) fn decides_as(&self, other: &Self) -> bool {
        self.cells().eq(other.cells())
            && self.born == other.born
            && self.live() == other.live()
            && self.deleted() == other.deleted()
    }

    /// When the row was first inserted.
    pub(crate) fn born(&self) -> Option<&Hlc> {
        self.born.as_ref()
    }

    /// The columns that the operation at `hlc` still shows.
    pub(crate) fn columns_won_by<'a>(&'a self, hlc: &'a Hlc) -> impl Iterator<Item = usize> + 'a {
        let won = |cell: &Option<Cell>| cell.as_ref().is_some_and(|cell| cell.hlc == *hlc);
        self.cells.iter().enumerate().filter(move |(_, cell)| won(cell)).map(|(column, _)| column)
    }

    /// Whether the operation at `hlc` still decides something besides its columns. One that decides nothing and shows no column can be forgotten:
    /// no operation that may still come would make it matter again. The newest DELETE stays also where it is beaten, until its time is over (`floor`): whoever has
    /// forgotten the row when they hear that it is back has to be told what is older.
    pub(crate) fn needs(&self, hlc: &Hlc, kind: OperationKind) -> bool {
        let is = |register: &Option<Hlc>| register.as_ref() == Some(hlc);
        match kind {
            OperationKind::Delete => is(&self.deleted),
            OperationKind::Insert => is(&self.born) || (self.exists() && is(&self.live)),
            OperationKind::Update => self.exists() && is(&self.live),
        }
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
