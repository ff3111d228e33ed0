//! How far another role's group has come in a topic, without being a member of it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::repeats::Repeats;
use crate::served::Served;
use crate::settings::Settings;
use crate::tail::Error;

/// Things served (log lines, errors) after one question, at most.
const SERVED_MAX: usize = 1_000;

#[derive(Default)]
struct Context {
    served: Served,
    repeats: Repeats,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.served.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.repeats.warn(&error, reason, "kafka watcher of a group");
    }
}

impl ConsumerContext for Context {}

type Native = BaseConsumer<Context>;

/// Where a partition stood when it was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Partition.
    pub partition: i32,
    /// Oldest offset that is still there.
    pub low: i64,
    /// Offset after the newest record.
    pub end: i64,
}

/// Asks how far the group of a role has come in a topic. Cheap to clone.
#[derive(Clone)]
pub struct Progress {
    native: Arc<Native>,
    topic: Arc<str>,
    timeout: Duration,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Progress {
    /// A watcher of the group of `role` (with the settings' prefix) in `topic`. It never joins and never commits.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub fn open(settings: &Settings, role: &str, topic: &str) -> Result<Self, Error> {
        let config = settings.group_consumer(&settings.group_id(role), None);
        let native = config.create_with_context(Context::default()).map_err(Error::Open)?;
        Ok(Self { native: Arc::new(native), topic: topic.into(), timeout: settings.request_timeout() })
    }

    /// Where every partition of the topic stands now.
    ///
    /// # Errors
    /// If the brokers do not answer, or there is no such topic.
    pub async fn ends(&self) -> Result<Vec<End>, Error> {
        let topic = Arc::clone(&self.topic);
        let ends = self
            .ask(move |native, timeout| {
                let metadata = native.fetch_metadata(Some(&topic), timeout)?;
                let count = metadata.topics().iter().find(|found| *found.name() == *topic);
                let count = count.map_or(0, |found| found.partitions().len());
                (0..i32::try_from(count).unwrap_or(i32::MAX))
                    .map(|partition| {
                        let (low, end) = native.fetch_watermarks(&topic, partition, timeout)?;
                        Ok(End { partition, low, end })
                    })
                    .collect::<Result<Vec<_>, KafkaError>>()
            })
            .await?;
        if ends.is_empty() { Err(Error::NoTopic(self.topic.to_string())) } else { Ok(ends) }
    }

    /// How many records below `ends` the group has not committed, as its coordinator has it. A partition that was
    /// empty is nowhere behind, whatever is committed for it.
    ///
    /// # Errors
    /// If the brokers do not answer.
    pub async fn behind(&self, ends: &[End]) -> Result<u64, Error> {
        let wanted: Vec<End> = ends.iter().copied().filter(|end| end.low < end.end).collect();
        if wanted.is_empty() {
            return Ok(0);
        }
        let topic = Arc::clone(&self.topic);
        self.ask(move |native, timeout| {
            let mut list = TopicPartitionList::new();
            for end in &wanted {
                list.add_partition(&topic, end.partition);
            }
            let found = native.committed_offsets(list, timeout)?;
            let committed = |partition| -> Result<Option<i64>, KafkaError> {
                let Some(element) = found.find_partition(&topic, partition) else { return Ok(None) };
                element.error()?;
                Ok(match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                })
            };
            wanted.iter().try_fold(0_u64, |sum, end| {
                let from = committed(end.partition)?.unwrap_or(end.low).max(end.low);
                Ok(sum + u64::try_from(end.end - from).unwrap_or(0))
            })
        })
        .await
    }

    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&Native, Duration) -> Result<R, KafkaError> + Send + 'static,
    ) -> Result<R, Error> {
        let (native, timeout) = (Arc::clone(&self.native), self.timeout);
        let blocking = move || {
            let answer = question(&native, timeout).map_err(Error::Temporary);
            // Log lines and errors wait in its queue: nothing is fetched, so nothing else does.
            for _ in 0..SERVED_MAX {
                if native.poll(Duration::ZERO).is_none() && !native.context().served.take() {
                    break;
                }
            }
            answer
        };
        tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::Closed))
    }
}
