//! What the user's statements did: the [`hook`] notes what they touched, [`commit`] makes a transaction of it, [`record`] writes that into
//! the registers.

pub(crate) mod commit;
pub(crate) mod hook;
pub(crate) mod record;
