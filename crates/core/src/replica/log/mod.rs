//! The log is the registers: [`rows`] keeps the operations that still show ([`in_a_row`]: many at once), [`store`] the transactions they are of and who has which,
//! [`digest`] sums them up, [`narrow`] takes a dropped column out of them, [`whole`] reads rows with them, [`again`] makes a new transaction of some. [`delta`] reads
//! them for other replicas, [`view`] for people; deltas of others wait in [`staging`].

pub(crate) mod again;
pub(crate) mod bounds;
pub(crate) mod columns;
pub(crate) mod delta;
pub(crate) mod digest;
pub(crate) mod in_a_row;
pub(crate) mod narrow;
pub(crate) mod rows;
pub(crate) mod runs;
pub(crate) mod staging;
pub(crate) mod store;
pub(crate) mod view;
pub(crate) mod whole;
