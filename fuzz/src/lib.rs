//! What the fuzz targets share: replicas that are made fast, a host for a node, a script that plays its peers, changes and comparisons of JSON, and a count of memory.
//!
//! Every target is a property of one decoder, or of the node behind all of them; what is generic about feeding it stands here.

pub mod chance;
pub mod json;
pub mod memory;
pub mod mutate;
pub mod replicas;
pub mod script;
pub mod world;
