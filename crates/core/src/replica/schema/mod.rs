//! Schema as data: [`tables`], [`alter`] and [`columns`] are rows of `rtc_schema` for tables and columns, called as [`naming`] says, [`objects`] for indexes, views and
//! triggers, [`dropped`] for tables that went, [`united`] for the columns of those that two devices made differently and [`redefined`] for what else differs, [`fresh`] for those that a transaction
//! makes. [`table`] and [`key`] know one table;
//! [`apart`] judges received texts; [`temp_triggers`] minds what a device does beside.

pub(crate) mod alter;
pub(crate) mod apart;
pub(crate) mod columns;
pub(crate) mod dropped;
pub(crate) mod fresh;
pub(crate) mod key;
pub(crate) mod naming;
pub(crate) mod objects;
pub(crate) mod redefined;
pub(crate) mod refill;
pub(crate) mod renames;
pub(crate) mod table;
pub(crate) mod tables;
pub(crate) mod temp_triggers;
pub(crate) mod united;
