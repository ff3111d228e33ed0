//! Settings of the store.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How many replicas must agree on a read or a write.
///
/// Joining early receipts needs a reader to see what an acknowledged writer wrote: only the quorum levels
/// promise that when a node is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Consistency {
    /// Most replicas of this datacenter.
    #[default]
    LocalQuorum,
    /// Most replicas of all datacenters.
    Quorum,
    /// One replica of this datacenter. For a single node only.
    LocalOne,
}

impl From<Consistency> for scylla::statement::Consistency {
    fn from(level: Consistency) -> Self {
        match level {
            Consistency::LocalQuorum => Self::LocalQuorum,
            Consistency::Quorum => Self::Quorum,
            Consistency::LocalOne => Self::LocalOne,
        }
    }
}

/// How to reach and use a ScyllaDB or Cassandra cluster.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Nodes to ask first, `host:port`.
    pub contact_points: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// User name; empty for none.
    pub user: String,
    /// Password of the user. Never shown.
    pub password: String,
    /// Datacenter to prefer and, on migration, to replicate in; empty: that of the first node.
    pub datacenter: String,
    /// Copies of each row in the datacenter; used when `migrate` creates the keyspace.
    pub replication_factor: u32,
    /// Replicas that must agree.
    pub consistency: Consistency,
    /// Whether to speak TLS.
    pub tls: bool,
    /// Certificate authorities to trust (PEM), and no others. Empty: the system's.
    pub tls_ca_file: PathBuf,
    /// Longest wait to open a connection, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for one answer, retries included, milliseconds.
    pub request_timeout_ms: u64,
    /// Most statements that one batch of facts or one listing keeps in flight.
    pub concurrency_max: usize,
    /// How long a fact is kept after it happened, days.
    pub ttl_days: u32,
    /// How long a receipt that matches no message is kept after it happened, days.
    pub unmatched_ttl_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            contact_points: vec!["127.0.0.1:9042".to_owned()],
            keyspace: "sluice".to_owned(),
            user: String::new(),
            password: String::new(),
            datacenter: String::new(),
            replication_factor: 3,
            consistency: Consistency::LocalQuorum,
            tls: false,
            tls_ca_file: PathBuf::new(),
            connect_timeout_ms: 5_000,
            request_timeout_ms: 5_000,
            concurrency_max: 64,
            ttl_days: 120,
            unmatched_ttl_days: 9,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .field("user", &self.user)
            .field("password", if self.password.is_empty() { &"" } else { &"***" })
            .field("datacenter", &self.datacenter)
            .field("replication_factor", &self.replication_factor)
            .field("consistency", &self.consistency)
            .field("tls", &self.tls)
            .field("tls_ca_file", &self.tls_ca_file)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("request_timeout_ms", &self.request_timeout_ms)
            .field("concurrency_max", &self.concurrency_max)
            .field("ttl_days", &self.ttl_days)
            .field("unmatched_ttl_days", &self.unmatched_ttl_days)
            .finish()
    }
}

/// Facts may be dated 8 days back, so they must be kept longer than that; a TTL above 10 years would pass the
/// latest expiry that older Cassandra can store (2038).
const TTL_DAYS: std::ops::RangeInclusive<u32> = 9..=3_650;

impl Settings {
    /// Checks what can be checked without a cluster.
    pub fn validate(&self) -> Result<(), Error> {
        if self.contact_points.is_empty() || self.contact_points.iter().any(String::is_empty) {
            return Err(Error::settings("contact_points", "name at least one node as host:port"));
        }
        if !is_keyspace_name(&self.keyspace) {
            return Err(Error::settings(
                "keyspace",
                "1 to 48 of a-z, 0-9 and _, the first a letter, is allowed",
            ));
        }
        if self.user.is_empty() != self.password.is_empty() {
            return Err(Error::settings("user", "give user and password both, or neither"));
        }
        if self.replication_factor == 0 {
            return Err(Error::settings("replication_factor", "at least 1"));
        }
        if !self.tls && !self.tls_ca_file.as_os_str().is_empty() {
            return Err(Error::settings("tls_ca_file", "is given, but store.tls is off"));
        }
        if self.connect_timeout_ms == 0 || self.request_timeout_ms == 0 {
            return Err(Error::settings("request_timeout_ms", "timeouts must be at least 1"));
        }
        if self.concurrency_max == 0 {
            return Err(Error::settings("concurrency_max", "at least 1"));
        }
        validate_ttl("ttl_days", self.ttl_days)?;
        validate_ttl("unmatched_ttl_days", self.unmatched_ttl_days)
    }
}

fn validate_ttl(setting: &'static str, days: u32) -> Result<(), Error> {
    if TTL_DAYS.contains(&days) {
        return Ok(());
    }
    Err(Error::settings(setting, format!("{} to {} is allowed", TTL_DAYS.start(), TTL_DAYS.end())))
}

fn is_keyspace_name(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Settings of the in-memory twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySettings {
    /// Most messages kept, and most received messages, and most unmatched receipts; the oldest go first.
    pub messages_max: usize,
    /// How long a fact is kept after it happened, days.
    pub ttl_days: u32,
    /// How long a receipt that matches no message is kept after it happened, days.
    pub unmatched_ttl_days: u32,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { messages_max: 200_000, ttl_days: 120, unmatched_ttl_days: 9 }
    }
}

impl MemorySettings {
    /// Checks the limits.
    pub fn validate(&self) -> Result<(), Error> {
        if self.messages_max == 0 {
            return Err(Error::settings("messages_max", "at least 1"));
        }
        validate_ttl("ttl_days", self.ttl_days)?;
        validate_ttl("unmatched_ttl_days", self.unmatched_ttl_days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let settings = Settings {
            user: "sluice".to_owned(),
            password: "hunter2-hunter2".to_owned(),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = Settings::default();
        assert!(good.validate().is_ok());
        let bad = [
            Settings { contact_points: vec![], ..good.clone() },
            Settings { keyspace: "a; DROP KEYSPACE b".to_owned(), ..good.clone() },
            Settings { keyspace: String::new(), ..good.clone() },
            Settings { user: "u".to_owned(), ..good.clone() },
            Settings { replication_factor: 0, ..good.clone() },
            Settings { tls_ca_file: "ca.pem".into(), ..good.clone() },
            Settings { request_timeout_ms: 0, ..good.clone() },
            Settings { concurrency_max: 0, ..good.clone() },
            Settings { ttl_days: 8, ..good.clone() },
            Settings { unmatched_ttl_days: 0, ..good },
        ];
        for settings in bad {
            assert!(settings.validate().is_err(), "{settings:?}");
        }
    }
}
