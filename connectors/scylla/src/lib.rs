//! The message store: ScyllaDB or Cassandra, and an in-memory twin under the same laws.
