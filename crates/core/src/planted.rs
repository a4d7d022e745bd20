//! Bugs that are put in on purpose, to see that the simulator finds them. They exist only with the feature `planted-bugs`, and one at a time
//! only in the thread that asked for it; without the feature [`planted`] is `false` before the compiler looks at it.
//!
//! Each is a mistake that somebody has made (`field-notes.md`), of a few characters, at the place where the decision is made.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Of two writes under one `ts` and counter each replica prefers its own: whatever comes later loses.
    SelfPreferringTie,
    /// A DELETE forgets the row's columns.
    ColumnsDroppedOnDelete,
    /// Only an INSERT keeps a row alive.
    NoLiveness,
    /// What was merged is told as if the user had written it.
    Echo,
    /// A transaction moves the clock before SQLite has committed it.
    ClockMovedByFailure,
    /// What a savepoint undid is told all the same.
    RolledBackSavepoint,
    /// To have a replica's newest transaction is taken for having all of it, whoever told us.
    ScalarVersion,
    /// Storage is said to be complete when it has begun.
    AcknowledgedBeforeDurable,
    /// A merged transaction is committed in two halves.
    TwoCommits,
    /// A browser's word about a link is taken for one about its successor.
    OldCloseHandler,
    /// What is here already is merged again.
    AppliedTwice,
    /// The first message on a channel comes before anybody listens.
    LostFirstMessage,
    /// After a restart the version is what it was at the last merge.
    VersionGoesBack,
    /// What was written to a dropped table is taken into the next one of its name.
    OldTablesRows,
    /// What was written to a dropped column is taken into the next one of its name.
    OldColumnsValues,
    /// What was set aside until its time has come is forgotten by a restart.
    QuarantineLost,
    /// A copied database goes on under the id of its original.
    CloneUnnoticed,
    /// Of two rows that want one value the one that came first is shown.
    ArrivalWins,
    /// Which rows are parked is not known any more after a restart.
    ParkedForgotten,
    /// A deleted row is forgotten as soon as it was noted.
    ForgottenEarly,
}

impl Bug {
    /// All of them, in order.
    pub const ALL: [Self; 20] = [
        Self::SelfPreferringTie,
        Self::ColumnsDroppedOnDelete,
        Self::NoLiveness,
        Self::Echo,
        Self::ClockMovedByFailure,
        Self::RolledBackSavepoint,
        Self::ScalarVersion,
        Self::AcknowledgedBeforeDurable,
        Self::TwoCommits,
        Self::OldCloseHandler,
        Self::AppliedTwice,
        Self::LostFirstMessage,
        Self::VersionGoesBack,
        Self::OldTablesRows,
        Self::OldColumnsValues,
        Self::QuarantineLost,
        Self::CloneUnnoticed,
        Self::ArrivalWins,
        Self::ParkedForgotten,
        Self::ForgottenEarly,
    ];
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Puts a bug into this thread, or takes it out again.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether the bug is in this thread.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::{plant, planted};

/// Whether the bug is there: without the feature it is not.
#[cfg(not(feature = "planted-bugs"))]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}
