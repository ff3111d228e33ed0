//! What can be seen of a process: logs, metrics, and the admin listener that shows metrics and health.

pub mod admin;
pub mod logs;
pub mod metrics;
