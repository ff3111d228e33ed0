//! Real Kafka, its topics, and records on them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sluice_kafka::producer::Producer;
use sluice_kafka::record::Outgoing;
use sluice_kafka::registry::Codecs;
use sluice_kafka::settings::{ProducerOptions, Settings};
use sluice_kafka::topics::Topics;
use sluice_schemas::placement::partition_for;
use sluice_schemas::topics::{Names, PARTITIONS_DEV, Topic};
use sluice_schemas::{Account, Command, ContentType, OutboundCommand, Provider, RateLimit, Secret, Session};

/// Name of the variable that holds the provider key.
pub(crate) const KEY_ENV: &str = "SLUICE_BENCH_API_KEY";
/// Webhook secret of every session.
pub(crate) const WEBHOOK_SECRET: &str = "bench-webhook-secret";
/// Account of sessions that need no other.
pub(crate) const ACCOUNT: &str = "bench";
const WEBHOOK_SECRET_ENV: &str = "SLUICE_BENCH_WEBHOOK_SECRET";

/// One set of topics on the shared broker.
pub(crate) struct World {
    pub(crate) kafka: Settings,
    pub(crate) names: Names,
    codecs: Codecs,
    producer: Producer<()>,
    directory: tempfile::TempDir,
}

impl World {
    /// Fresh topics under a prefix of their own.
    pub(crate) async fn open(what: &str) -> Result<Self> {
        let bootstrap = sluice_testkit::kafka().await.bootstrap().to_owned();
        let kafka = Settings {
            topic_prefix: format!("{}.", sluice_testkit::unique(what)),
            group_prefix: format!("{}-", sluice_testkit::unique(what)),
            ..Settings::single(&bootstrap)
        };
        for report in Topics::open(&kafka)?.apply().await? {
            ensure!(report.is_right(), "topic {report:?}");
        }
        let (producer, _) = Producer::open(&kafka, &ProducerOptions::default())?;
        let directory = tempfile::tempdir()?;
        Ok(Self { names: kafka.names(), codecs: Codecs::fixed(), producer, kafka, directory })
    }

    /// Where a `sluice` process may keep its local state.
    pub(crate) fn store_directory(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    /// Settings of a `sluice` process on these topics.
    pub(crate) fn sluice_env(&self) -> Vec<(String, String)> {
        let pairs = [
            (crate::BE_SLUICE, "1".to_owned()),
            ("SLUICE__KAFKA__BOOTSTRAP_SERVERS", self.kafka.bootstrap_servers.clone()),
            ("SLUICE__KAFKA__TOPIC_PREFIX", self.kafka.topic_prefix.clone()),
            ("SLUICE__KAFKA__GROUP_PREFIX", self.kafka.group_prefix.clone()),
            ("SLUICE__KAFKA__PARTITIONS", PARTITIONS_DEV.to_string()),
            ("SLUICE__KAFKA__REPLICATION_FACTOR", "1".to_owned()),
            ("SLUICE__KAFKA__MIN_INSYNC_REPLICAS", "1".to_owned()),
            ("SLUICE__DEPLOYMENT__CHECK_DURABILITY", "false".to_owned()),
            ("SLUICE__LOG__FILTER", "warn".to_owned()),
            (KEY_ENV, "bench-key".to_owned()),
            (WEBHOOK_SECRET_ENV, WEBHOOK_SECRET.to_owned()),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }

    /// One account at `base_url` and sessions with limits that never bind.
    pub(crate) async fn put_sessions(&self, base_url: &str, sessions: usize) -> Result<()> {
        self.put_account(ACCOUNT, base_url).await?;
        for n in 0..sessions {
            self.put_session(&session_id(n), RateLimit { count: 100_000, per_ms: 1_000, burst: 50_000 })?;
        }
        self.flush().await
    }

    /// An account at `base_url`.
    pub(crate) async fn put_account(&self, account_id: &str, base_url: &str) -> Result<()> {
        let account = Account {
            account_id: account_id.to_owned(),
            tenant_id: "bench".into(),
            provider: Provider::Wasender,
            base_url: base_url.to_owned(),
            updated_at: 1,
            ..Account::default()
        };
        let value = self.codecs.codec(Topic::Accounts).encode(&account);
        self.write(Topic::Accounts, account_id, &value).await
    }

    /// One session more, without waiting.
    pub(crate) fn put_session(&self, session_id: &str, limit: RateLimit) -> Result<()> {
        self.put_session_of(ACCOUNT, session_id, vec![limit])
    }

    /// One session more of an account, without waiting.
    pub(crate) fn put_session_of(
        &self,
        account_id: &str,
        session_id: &str,
        limits: Vec<RateLimit>,
    ) -> Result<()> {
        let secret = |name: &str, env: &str| Secret {
            name: name.to_owned(),
            reference: Some(format!("env:{env}")),
            ..Secret::default()
        };
        let session = Session {
            session_id: session_id.to_owned(),
            tenant_id: "bench".into(),
            account_id: account_id.to_owned(),
            provider: Provider::Wasender,
            secrets: vec![secret("api_key", KEY_ENV), secret("webhook_secret", WEBHOOK_SECRET_ENV)],
            limits,
            max_in_flight: Some(1),
            updated_at: 1,
            ..Session::default()
        };
        let value = self.codecs.codec(Topic::Sessions).encode(&session);
        self.send_later(Topic::Sessions, session_id, &value)
    }

    async fn write(&self, topic: Topic, key: &str, value: &[u8]) -> Result<()> {
        self.producer
            .send_and_wait(self.placed(topic, key, value), Duration::from_secs(10))
            .await
            .with_context(|| format!("write {topic:?}"))?;
        Ok(())
    }

    fn placed<'a>(&'a self, topic: Topic, key: &'a str, value: &'a [u8]) -> Outgoing<'a> {
        Outgoing {
            topic: self.names.get(topic),
            partition: Some(partition_for(key.as_bytes(), PARTITIONS_DEV)),
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: &[],
        }
    }

    /// Produces message `n` to its session, without waiting.
    pub(crate) fn request(&self, n: usize, sessions: usize, run: &str) -> Result<()> {
        self.request_to(&session_id(n % sessions), n, run)
    }

    /// Produces message `n` to one session, without waiting.
    pub(crate) fn request_to(&self, session: &str, n: usize, run: &str) -> Result<()> {
        let command = OutboundCommand {
            command: Command::Send,
            session_id: session.to_owned(),
            idempotency_key: format!("{run}-{n}"),
            to: Some(format!("+1555{:07}", n % 10_000_000)),
            content_type: ContentType::Text,
            text: Some(crate::sink::text(n)),
            labels: BTreeMap::from([("campaign".to_owned(), "bench".to_owned())]),
            ..OutboundCommand::default()
        };
        let value = self.codecs.codec(Topic::OutboundRequests).encode(&command);
        self.send_later(Topic::OutboundRequests, session, &value)
    }

    fn send_later(&self, topic: Topic, key: &str, value: &[u8]) -> Result<()> {
        loop {
            match self.producer.send_later(self.placed(topic, key, value)) {
                Ok(_) => return Ok(()),
                Err(sluice_kafka::producer::WriteError::QueueFull) => {
                    std::thread::sleep(Duration::from_millis(1))
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn flush(&self) -> Result<()> {
        self.producer
            .flush(Duration::from_secs(60))
            .await
            .map_err(|left| anyhow::anyhow!("{left} requests not acked"))
    }

    /// Counts records of a topic, with this event type if given, until there are `expected`.
    pub(crate) fn count(&self, topic: &str, event_type: Option<&str>, expected: usize) -> Result<usize> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka.bootstrap_servers)
            .set("group.id", "sluice-bench-count")
            .set("enable.auto.commit", "false")
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let mut count = 0;
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while count < expected && std::time::Instant::now() < end {
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
                let fits = event_type.is_none_or(|wanted| {
                    message.headers().is_some_and(|headers| {
                        headers.iter().any(|h| {
                            h.key == sluice_schemas::headers::EVENT_TYPE && h.value == Some(wanted.as_bytes())
                        })
                    })
                });
                count += usize::from(fits);
            }
        }
        Ok(count)
    }
}

/// Id of session `n`.
pub(crate) fn session_id(n: usize) -> String {
    format!("bench-{n:04}")
}
