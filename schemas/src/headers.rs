//! Record headers: enough to filter without decoding.

/// Tenant of the record.
pub const TENANT_ID: &str = "sluice-tenant-id";
/// Session of the record.
pub const SESSION_ID: &str = "sluice-session-id";
/// Message of the record.
pub const MESSAGE_ID: &str = "sluice-message-id";
/// What the record says, for example `SUBMITTED`; on the ledger the kind of entry.
pub const EVENT_TYPE: &str = "sluice-event-type";
/// W3C trace context, carried from producer to provider call, status and logs.
pub const TRACEPARENT: &str = "traceparent";
/// How often a record was re-produced to its right partition; a dead letter at 2.
pub const HOPS: &str = "sluice-hops";
/// Ledger: epoch of the owner that wrote the record, also on tombstones (decimal).
pub const EPOCH: &str = "sluice-epoch";
/// Who wrote the status, for example `SENDER`: lets the sender skip its own without decoding.
pub const SOURCE: &str = "sluice-source";
