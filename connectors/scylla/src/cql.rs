//! The tables on ScyllaDB or Cassandra.
//!
//! Statements are prepared, token-aware (every partition key column is a bind marker) and idempotent, so that
//! the driver may retry them. No light-weight transactions, no secondary indexes, no nulls, nothing deleted.

mod session;
mod statements;
mod tables;

pub(crate) use session::connect_without_keyspace;
pub(crate) use tables::{CqlTables, read_rows};
