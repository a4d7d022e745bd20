//! What is forgotten of rows that were deleted, and who may have missed it.
//!
//! A deleted row keeps what was known of it: its newest DELETE beats older writes that still come, and a newer one brings the whole row back. Both end when nobody
//! can come any more who does not know of the DELETE. A replica notes over time what it has (`history`); what it had [a retention time](DEFAULT_RETENTION_MS) ago,
//! and every replica that it met since has too, is its *floor*, and rows that were deleted at or below it are forgotten (`collect`). Floors are told, and joined by
//! maximum: replicas of one floor that have the same transactions keep the same.
//!
//! Who lacks a transaction of a peer's floor has been away for too long to be told by operations what is gone, and takes what the peer has instead (`behind`).
//!
//! Invariant: the vector covers the floor.

pub(crate) mod behind;
pub(crate) mod collect;
pub(crate) mod history;

/// How long deleted rows are remembered, at least, in milliseconds: 30 days.
pub const DEFAULT_RETENTION_MS: u64 = 30 * 24 * 3_600_000;
