//! Nodes: whole rooms of them on a virtual network, and one by itself with a peer that is played word by word.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod callers;
mod clones;
mod corrected;
mod digests;
mod floor;
mod flow;
mod lies;
mod limits;
mod links;
mod mesh;
mod messenger;
mod packed;
mod plain;
mod quarantine;
mod sealing;
mod status;
mod strangers;
mod sync;
