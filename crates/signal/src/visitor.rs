//! One connection's place among all and among those of its address, for as long as it is open: while it speaks HTTP, and in the session that
//! it becomes.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::addresses::Place;

/// Who holds this holds the place.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// Its place among those of its address. None: it came through a proxy, and HTTP will tell the address.
    pub(crate) place: Option<Arc<Place>>,
    /// Its place among all.
    pub(crate) _permit: Arc<OwnedSemaphorePermit>,
}
