//! Sluice's public contract: Avro schemas, record types, codec, ids, placement and the topic table.
//!
//! Uses nothing else of Sluice. The schemas in `schemas/avro` are the source; [`generated`] is made from
//! them by `cargo xtask generate`.

pub mod codec;
#[rustfmt::skip]
mod generated;
pub mod headers;
pub mod ids;
pub mod placement;
pub mod topics;
pub mod wire;

pub use generated::*;
