//! Librdkafka's cluster inside this process, for `sluice dev` and tests.
//!
//! Its limits (librdkafka 2.12): no compaction, no retention settings, no broker timestamps, no topic
//! administration; each partition silently keeps only its last 5 MiB or 100,000 batches; a fetch waits out
//! its whole `fetch.wait.max.ms` even when data arrives, so that is set to a few milliseconds.

use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use sluice_schemas::topics::Topic;

use crate::settings::{Membership, Settings};

/// What every fetch costs here, milliseconds.
const FETCH_WAIT_MAX_MS: u32 = 5;

/// How often a cluster that may have missed an operation is woken.
const WAKE: Duration = Duration::from_millis(5);

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
        let partitions = mock.settings.partitions;
        mock.awake(|| {
            Topic::all().try_for_each(|topic| mock.cluster.create_topic(names.get(topic), partitions, 1))
        })?;
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
        self.awake(|| self.cluster.create_topic(name, partitions, 1))
    }

    /// Runs operations of the cluster and keeps it awake meanwhile. Its thread misses an operation that comes
    /// just after it has served another, and sleeps for a second over it unless a connection wakes it.
    fn awake<T>(&self, operate: impl FnOnce() -> T) -> T {
        let address = self.settings.bootstrap_servers.as_str();
        std::thread::scope(|scope| {
            let (done, waiting) = mpsc::channel::<()>();
            scope.spawn(move || {
                while waiting.recv_timeout(WAKE) == Err(RecvTimeoutError::Timeout) {
                    // It is the coming that wakes, whatever becomes of it.
                    TcpStream::connect(address).ok();
                }
            });
            let result = operate();
            drop(done);
            result
        })
    }

    /// Settings that lead to it, for a process that is alone.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
