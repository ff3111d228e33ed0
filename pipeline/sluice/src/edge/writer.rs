//! Writes records and waits for the brokers' acknowledgement. Decides nothing about what is written.

use std::sync::Arc;
use std::time::Duration;

use sluice_kafka::producer::{OpenError, Producer, Waiting, WriteError};
use sluice_kafka::record::Outgoing;
use sluice_kafka::settings::ProducerOptions;
use sluice_schemas::placement::partition_for;
use sluice_schemas::topics::{Names, Topic};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::records::Write;
use crate::api::{Kind, Problem};
use crate::brokers::Brokers;
use crate::telemetry::metrics::Metrics;

/// What a writer is made of.
pub(super) struct Parts {
    pub(super) kafka: sluice_kafka::settings::Settings,
    pub(super) names: Arc<Names>,
    pub(super) brokers: Brokers,
    pub(super) metrics: Arc<Metrics>,
    /// How long the brokers may take.
    pub(super) ack_timeout: Duration,
    pub(super) linger_ms: u32,
    /// What `Retry-After` says when they take longer, seconds.
    pub(super) retry_after_s: u64,
}

/// Writes records. One per role; shared by its requests.
pub(super) struct Writer {
    producer: Producer<()>,
    parts: Parts,
    /// Cancelled when the producer has failed for good.
    broken: CancellationToken,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// A record that has been sent and is not acknowledged yet.
pub(super) struct Sent {
    waiting: Waiting,
    topic: Topic,
    since: Instant,
}

impl Writer {
    pub(super) fn open(parts: Parts) -> Result<Self, OpenError> {
        let options = ProducerOptions {
            // A record whose request has been answered 503 should not be written much later.
            message_timeout_ms: u32::try_from(parts.ack_timeout.as_millis()).unwrap_or(u32::MAX),
            linger_ms: parts.linger_ms,
            ..Default::default()
        };
        let (producer, _) = Producer::open(&parts.kafka, &options)?;
        Ok(Self { producer, parts, broken: CancellationToken::new() })
    }

    /// Resolves when nothing can be written any more, whatever is tried.
    pub(super) async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Hands a record over; those of one partition stand in the log in the order of these calls.
    pub(super) fn send(&self, write: &Write) -> Result<Sent, Problem> {
        let Some(partition) = self.partition(write) else {
            return Err(self.unavailable("Kafka cannot be reached"));
        };
        let headers: Vec<(&str, &[u8])> =
            write.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let record = Outgoing {
            topic: self.parts.names.get(write.topic),
            partition,
            key: Some(write.key.as_bytes()),
            value: write.value.as_deref(),
            headers: &headers,
        };
        let waiting = self.producer.send_later(record).map_err(|error| self.explain(write.topic, &error))?;
        Ok(Sent { waiting, topic: write.topic, since: Instant::now() })
    }

    /// Waits for the acknowledgement.
    pub(super) async fn acknowledged(&self, sent: Sent) -> Result<(), Problem> {
        let result = sent.waiting.wait(self.parts.ack_timeout).await;
        let kind = sent.topic.spec().suffix;
        let seconds = sent.since.elapsed().as_secs_f64();
        self.parts.metrics.edge_ack_seconds.with_label_values(&[kind]).observe(seconds);
        match result {
            Ok(_) => {
                self.count(sent.topic, "acked");
                Ok(())
            }
            Err(error) => Err(self.explain(sent.topic, &error)),
        }
    }

    /// Writes one record and waits for the acknowledgement.
    pub(super) async fn write(&self, write: &Write) -> Result<(), Problem> {
        self.acknowledged(self.send(write)?).await
    }

    /// Waits until everything sent is acknowledged or has failed.
    pub(super) async fn flush(&self) {
        if let Err(left) = self.producer.flush(self.parts.ack_timeout).await {
            tracing::warn!(left, "records were not acknowledged before stopping");
        }
    }

    /// The partition of a record, or none for "by the key"; none at all while it cannot be known.
    fn partition(&self, write: &Write) -> Option<Option<i32>> {
        if !self.parts.brokers.are_up() {
            return None;
        }
        if write.placed_by == write.key {
            // The producer places by murmur2 of the key, whatever the topic's partition count.
            return Some(None);
        }
        let partitions = self.parts.brokers.partitions()?;
        Some(Some(partition_for(write.placed_by.as_bytes(), partitions)))
    }

    fn explain(&self, topic: Topic, error: &WriteError) -> Problem {
        match error {
            WriteError::TooLarge => {
                self.count(topic, "too_large");
                return Problem::new(Kind::TooLarge).detail("the topic takes no record of this size");
            }
            WriteError::Fatal(why) => {
                tracing::error!(why, "the producer has failed for good");
                self.broken.cancel();
            }
            WriteError::Unknown(why) => {
                tracing::warn!(why, topic = self.parts.names.get(topic), "a write was not acknowledged");
                self.parts.brokers.doubt();
            }
            WriteError::Refused(why) => {
                tracing::error!(why, topic = self.parts.names.get(topic), "a write was refused");
            }
            WriteError::QueueFull => {}
        }
        self.count(topic, "failed");
        self.unavailable("the record is not known to be written; try again with the same idempotency key")
    }

    fn unavailable(&self, detail: &str) -> Problem {
        Problem::new(Kind::Unavailable).detail(detail).retry_after_s(self.parts.retry_after_s)
    }

    fn count(&self, topic: Topic, result: &str) {
        self.parts.metrics.edge_writes.with_label_values(&[topic.spec().suffix, result]).inc();
    }
}
