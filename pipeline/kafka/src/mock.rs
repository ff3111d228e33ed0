//! Librdkafka's cluster inside this process, for `sluice dev` and tests.
//!
//! Its limits (librdkafka 2.12): no compaction, no retention settings, no broker timestamps, no topic
//! administration; each partition silently keeps only its last 5 MiB or 100,000 batches; a fetch waits out
//! its whole `fetch.wait.max.ms` even when data arrives, so that is set to a few milliseconds.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use sluice_schemas::topics::Topic;

use crate::settings::{Membership, Settings};

/// What every fetch costs here, milliseconds.
const FETCH_WAIT_MAX_MS: u32 = 5;

/// A cluster of one broker that lives as long as this does.
pub struct MockKafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    settings: Settings,
}

impl std::fmt::Debug for MockKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MockKafka").field("bootstrap_servers", &self.settings.bootstrap_servers).finish()
    }
}

impl MockKafka {
    /// Starts a cluster with every topic of the table.
    pub fn start() -> Result<Self, KafkaError> {
        let mock = Self::empty()?;
        let names = mock.settings.names();
        for topic in Topic::all() {
            mock.create_topic(names.get(topic), mock.settings.partitions)?;
        }
        Ok(mock)
    }

    /// Starts a cluster without topics.
    pub fn empty() -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1)?;
        // A first join waits for 3 s here; nobody else can join this cluster unless told its port.
        let settings = Settings {
            membership: Membership::Alone,
            fetch_wait_max_ms: FETCH_WAIT_MAX_MS,
            tail_fetch_wait_max_ms: FETCH_WAIT_MAX_MS,
            ..Settings::single(&cluster.bootstrap_servers())
        };
        Ok(Self { cluster, settings })
    }

    /// Creates a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), KafkaError> {
        self.cluster.create_topic(name, partitions, 1)
    }

    /// Settings that lead to it, for a process that is alone.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
