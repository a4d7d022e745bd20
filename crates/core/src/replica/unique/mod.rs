//! UNIQUE beyond the key: [`indexes`] says what an index reads, [`admission`] which rows are shown, [`parked`] keeps the others.

pub(crate) mod admission;
pub(crate) mod indexes;
pub(crate) mod parked;
