//! The message store: ScyllaDB or Cassandra, and an in-memory twin under the same laws.
//!
//! What is kept is *facts*, one row each, written blind: a row's value and timestamp are a pure function of the
//! fact, so replays, disorder and several writers come to the same rows. Reading a message reads its facts and
//! folds them ([`sluice_core::fold`]). Everything that is more than a read or a write of one table (joining
//! receipts, paging) is written once, over `Tables`, for both stores.

mod cql;
mod error;
mod join;
mod listing;
mod memory;
mod migrations;
mod page;
mod settings;
mod store;
mod tables;
mod timeline;

pub use error::Error;
pub use join::{Arrived, Ignored, ProviderId, Recorded};
pub use migrations::{Migration, check, migrate};
pub use page::{LIMIT_MAX, Page, PageRequest};
pub use settings::{Consistency, MemorySettings, Settings};
pub use store::MessageStore;
