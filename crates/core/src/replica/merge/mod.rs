//! What others did: [`apply`] takes their deltas in, [`merging`] reads each operation of one, [`reshape`] makes tables as they are said to be, [`join`]
//! joins an operation into its row by the [`rules`] (pure: they know no SQLite), and [`show`] makes the row visible, with the user's own [`enforcement`] out of the way.

pub(crate) mod apply;
pub(crate) mod enforcement;
pub(crate) mod join;
pub(crate) mod merging;
pub(crate) mod reshape;
pub(crate) mod rules;
pub(crate) mod show;

#[cfg(test)]
mod schedules;
