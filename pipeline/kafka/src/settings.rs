//! What an operator sets about Kafka and the registry, and the librdkafka properties made of it.
//!
//! Every librdkafka property Sluice uses is in this file. Order of precedence: our defaults, then the
//! operator's `properties`, then the invariants, which nobody can override.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};
use sluice_schemas::topics::{ENVELOPE_BYTES, Names, PARTITIONS_DEFAULT, PARTITIONS_DEV, WEBHOOK_BYTES_MAX};

mod check;
mod registry;

pub use registry::RegistrySettings;

/// What secrets are replaced with when settings are shown.
const MASK: &str = "***";

/// Connection, naming and durability settings of Kafka.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Brokers to begin with: `host:port`, comma separated.
    pub bootstrap_servers: String,
    /// Name under which this process appears in the brokers' logs and quotas.
    pub client_id: String,
    /// librdkafka properties passed through as they are (TLS, SASL, socket settings).
    pub properties: BTreeMap<String, String>,
    /// Put before every topic's name.
    pub topic_prefix: String,
    /// Full names of single topics, by the name without prefix, for example `outbound.requests`.
    pub topic_names: BTreeMap<String, String>,
    /// Broker settings of single topics that replace the table's, by the name without prefix.
    pub topic_settings: BTreeMap<String, BTreeMap<String, String>>,
    /// Put before every consumer group's name.
    pub group_prefix: String,
    /// Partitions of every topic. Fixed for ever for session-placed topics.
    pub partitions: i32,
    /// Replicas every topic must have at least.
    pub replication_factor: i32,
    /// `min.insync.replicas` every topic must have at least.
    pub min_insync_replicas: i32,
    /// Whether consumer groups share partitions among processes.
    pub membership: Membership,
    /// How long a broker may hold a fetch of a group consumer open, milliseconds.
    pub fetch_wait_max_ms: u32,
    /// The same for tails, where every millisecond is latency of a message.
    pub tail_fetch_wait_max_ms: u32,
    /// Records fetched ahead, per consumer, kibibytes.
    pub prefetch_kbytes_max: u32,
    /// After how long without a heartbeat a group member is dead, milliseconds.
    pub session_timeout_ms: u32,
    /// How often a group member tells that it lives, and so learns that others come or go, milliseconds.
    pub heartbeat_interval_ms: u32,
    /// How long a member may take to give partitions back before it is thrown out, milliseconds.
    pub max_poll_interval_ms: u32,
    /// Time limit of look-ups (committed offsets, watermarks, metadata, topic administration), milliseconds.
    pub request_timeout_ms: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            client_id: "sluice".to_owned(),
            properties: BTreeMap::new(),
            topic_prefix: "wa.".to_owned(),
            topic_names: BTreeMap::new(),
            topic_settings: BTreeMap::new(),
            group_prefix: "sluice-".to_owned(),
            partitions: PARTITIONS_DEFAULT,
            replication_factor: 3,
            min_insync_replicas: 2,
            membership: Membership::Shared,
            fetch_wait_max_ms: 100,
            tail_fetch_wait_max_ms: 100,
            prefetch_kbytes_max: 4096,
            session_timeout_ms: 15_000,
            heartbeat_interval_ms: 300,
            max_poll_interval_ms: 120_000,
            request_timeout_ms: 10_000,
        }
    }
}

/// Shows everything but secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let masked = self.masked();
        f.debug_struct("Settings")
            .field("bootstrap_servers", &masked.bootstrap_servers)
            .field("client_id", &masked.client_id)
            .field("properties", &masked.properties)
            .field("topic_prefix", &masked.topic_prefix)
            .field("topic_names", &masked.topic_names)
            .field("group_prefix", &masked.group_prefix)
            .field("partitions", &masked.partitions)
            .field("replication_factor", &masked.replication_factor)
            .field("min_insync_replicas", &masked.min_insync_replicas)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Settings for one broker in this process or on this machine: one replica, few partitions, short waits.
    pub fn single(bootstrap_servers: &str) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.to_owned(),
            partitions: PARTITIONS_DEV,
            replication_factor: 1,
            min_insync_replicas: 1,
            fetch_wait_max_ms: 50,
            tail_fetch_wait_max_ms: 50,
            session_timeout_ms: 6_000,
            ..Self::default()
        }
    }

    /// The same with every secret replaced, for showing.
    pub fn masked(&self) -> Self {
        let mut masked = self.clone();
        for (name, value) in &mut masked.properties {
            if is_secret(name) {
                MASK.clone_into(value);
            }
        }
        masked
    }

    /// Physical names of the topics.
    pub fn names(&self) -> Names {
        Names::new(&self.topic_prefix, &self.topic_names)
    }

    /// Full name of a consumer group.
    pub fn group_id(&self, role: &str) -> String {
        format!("{}{role}", self.group_prefix)
    }

    /// Time limit of look-ups.
    pub fn request_timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::from(self.request_timeout_ms))
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // A broker that was restarted must be found again within a second or so, not within ten.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        config.set("socket.keepalive.enable", "true").set("socket.nagle.disable", "true");
        config.set("topic.metadata.refresh.interval.ms", "30000");
        config
    }

    fn finish(&self, mut config: ClientConfig, invariants: &[(&str, String)]) -> ClientConfig {
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", &self.client_id);
        for (name, value) in invariants {
            config.set(*name, value);
        }
        config
    }

    /// Properties of a producer.
    pub(crate) fn producer(&self, options: &ProducerOptions) -> ClientConfig {
        let mut config = self.base();
        config.set("compression.type", &options.compression);
        self.finish(
            config,
            &[
                ("enable.idempotence", "true".to_owned()),
                ("acks", "all".to_owned()),
                ("message.timeout.ms", options.message_timeout_ms.to_string()),
                ("linger.ms", options.linger_ms.to_string()),
                // Ours is the smaller limit: librdkafka counts a record until a little after its report.
                ("queue.buffering.max.messages", (options.queue_messages_max * 2 + 1_000).to_string()),
                ("queue.buffering.max.kbytes", (options.queue_bytes_max / 1024).max(1).to_string()),
                // The broker knows each topic's own limit; this is only the largest of them.
                ("message.max.bytes", (WEBHOOK_BYTES_MAX + 3 * ENVELOPE_BYTES).to_string()),
                // Placement of records without an explicit partition is Java's, as everywhere in Sluice.
                ("partitioner", "murmur2_random".to_owned()),
                ("delivery.report.only.error", "false".to_owned()),
            ],
        )
    }

    fn consumer(&self, group_id: &str, fetch: Fetch) -> (ClientConfig, Vec<(&'static str, String)>) {
        let mut config = self.base();
        config.set("fetch.error.backoff.ms", "100").set("fetch.queue.backoff.ms", "20");
        let invariants = vec![
            ("group.id", group_id.to_owned()),
            ("enable.auto.commit", "false".to_owned()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("isolation.level", "read_committed".to_owned()),
            ("auto.offset.reset", "earliest".to_owned()),
            ("fetch.wait.max.ms", fetch.wait_max_ms.to_string()),
            ("fetch.min.bytes", fetch.bytes_min.max(1).to_string()),
            ("queued.max.messages.kbytes", self.prefetch_kbytes_max.to_string()),
            ("queued.min.messages", "2000".to_owned()),
            ("fetch.message.max.bytes", "1048576".to_owned()),
            // Of one answer; a single record that is larger comes all the same.
            ("fetch.max.bytes", (8 * 1024 * 1024).to_string()),
        ];
        (config, invariants)
    }

    /// Properties of a member of a consumer group.
    pub(crate) fn group_consumer(&self, group_id: &str, fetch: Option<Fetch>) -> ClientConfig {
        let fetch = fetch.unwrap_or(Fetch::at_once(self.fetch_wait_max_ms));
        let (config, mut invariants) = self.consumer(group_id, fetch);
        invariants.extend([
            // The newer protocol goes on fetching while the coordinator is away: a partition cut off would go
            // on sending.
            ("group.protocol", "classic".to_owned()),
            ("partition.assignment.strategy", "cooperative-sticky".to_owned()),
            ("session.timeout.ms", self.session_timeout_ms.to_string()),
            ("heartbeat.interval.ms", self.heartbeat_interval_ms.to_string()),
            ("max.poll.interval.ms", self.max_poll_interval_ms.max(self.session_timeout_ms).to_string()),
            ("enable.partition.eof", "false".to_owned()),
        ]);
        self.finish(config, &invariants)
    }

    /// Properties of a consumer that takes its partitions itself. librdkafka wants a group name even so;
    /// nothing is ever committed under it.
    pub(crate) fn tail(&self, fetch: Option<Fetch>, prefetch: Prefetch) -> ClientConfig {
        let fetch = fetch.unwrap_or(Fetch::at_once(self.tail_fetch_wait_max_ms));
        let group = self.group_id("tail");
        let (config, mut invariants) = self.consumer(&group, fetch);
        invariants.push(("enable.partition.eof", "true".to_owned()));
        if prefetch == Prefetch::Little {
            invariants.retain(|(name, _)| !LITTLE.iter().any(|(little, _)| name == little));
            invariants.extend(LITTLE.map(|(name, value)| (name, value.to_owned())));
        }
        self.finish(config, &invariants)
    }

    /// Properties of an administration client.
    pub(crate) fn admin(&self) -> ClientConfig {
        self.finish(self.base(), &[])
    }
}

/// Whether a property's value must not be shown.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 6] = ["password", "secret", "key.pem", "oauthbearer.config", "token", "jaas"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

/// How a process comes by the partitions of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// The group shares them among its members.
    Shared,
    /// There is no other process: each group consumer takes all partitions of its topics at once, without
    /// the group protocol (a join takes seconds on the mock cluster). Offsets are committed as ever.
    Alone,
}

/// How much a consumer fetches ahead of its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefetch {
    /// Enough to keep a fast reader busy.
    Much,
    /// Little, for memory's sake: librdkafka keeps what it once needed.
    Little,
}

/// What [`Prefetch::Little`] changes.
const LITTLE: [(&str, &str); 3] = [
    ("queued.min.messages", "200"),
    ("fetch.message.max.bytes", "65536"),
    // Of one answer; a single record that is larger comes all the same.
    ("fetch.max.bytes", "1048576"),
];

/// How a consumer trades CPU and delay: a broker answers a fetch when it has this much, or after this long.
///
/// Waiting for more spends far less CPU per record, here and at the broker, when records come singly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Bytes a broker waits for.
    pub bytes_min: u32,
    /// How long it waits for them, milliseconds.
    pub wait_max_ms: u32,
}

impl Fetch {
    /// Answered as soon as there is anything.
    pub(crate) const fn at_once(wait_max_ms: u32) -> Self {
        Self { bytes_min: 1, wait_max_ms }
    }
}

/// How a producer trades memory and delay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProducerOptions {
    /// A record not acknowledged after this long is reported as failed, milliseconds.
    pub message_timeout_ms: u32,
    /// How long a record may wait for company, milliseconds.
    pub linger_ms: u32,
    /// Records sent whose report is not collected yet, at most.
    pub queue_messages_max: usize,
    /// Bytes of records not acknowledged yet, at most.
    pub queue_bytes_max: usize,
    /// Compression: none, gzip, snappy, lz4 or zstd.
    pub compression: String,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            message_timeout_ms: 30_000,
            linger_ms: 1,
            queue_messages_max: 100_000,
            queue_bytes_max: 64 * 1024 * 1024,
            compression: "lz4".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Settings {
        let mut settings = Settings::default();
        settings.properties.insert(name.to_owned(), value.to_owned());
        settings
    }

    #[test]
    fn an_operator_cannot_override_an_invariant() {
        let config = with("acks", "1").producer(&ProducerOptions::default());
        assert_eq!(config.get("acks"), Some("all"));
        let config = with("enable.auto.commit", "true").group_consumer("g", None);
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        let config = with("isolation.level", "read_uncommitted").tail(None, Prefetch::Much);
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
    }

    #[test]
    fn an_operator_can_override_a_default() {
        let config = with("reconnect.backoff.max.ms", "9000").tail(None, Prefetch::Much);
        assert_eq!(config.get("reconnect.backoff.max.ms"), Some("9000"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = with("sasl.password", "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(settings.masked().properties["sasl.password"], MASK);
        let registry = RegistrySettings { password: Some("hunter2".to_owned()), ..Default::default() };
        assert!(!format!("{registry:?}{:?}", registry.masked()).contains("hunter2"));
    }
}
