//! Writing what follows from a batch, and waiting until the broker has it.

use std::time::Duration;

use sluice_kafka::producer::{Producer, Waiting, WriteError};
use sluice_kafka::record::Outgoing;

/// An acknowledgement is waited for this much longer than the producer's own time limit, which always ends
/// first; this only bounds the wait if it should not.
const ACK_GRACE: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A record ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Encoded {
    /// Physical name of the topic.
    pub(crate) topic: String,
    /// Partition; none places it by murmur2 of the key.
    pub(crate) partition: Option<i32>,
    /// Key.
    pub(crate) key: Vec<u8>,
    /// Value.
    pub(crate) value: Vec<u8>,
    /// Headers in order.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// The role cannot write and will not be able to: topics or rights are missing, or the producer is broken.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to {topic}: {reason}")]
pub(crate) struct CannotWrite {
    topic: String,
    reason: WriteError,
}

/// Writes records and retries for as long as it may help.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    producer: Producer<()>,
    ack_timeout: Duration,
}

impl Writer {
    /// A writer through `producer`, whose records time out after `message_timeout_ms`.
    pub(crate) fn new(producer: Producer<()>, message_timeout_ms: u32) -> Self {
        Self { producer, ack_timeout: Duration::from_millis(message_timeout_ms.into()) + ACK_GRACE }
    }

    /// Hands all of `records` to the producer, in order, now.
    pub(crate) fn begin(&self, records: Vec<Encoded>) -> Writing {
        let answers = records.iter().map(|record| self.send(record)).collect();
        Writing { writer: self.clone(), records, answers }
    }

    /// Begins and finishes.
    ///
    /// # Errors
    /// As [`Writing::finish`].
    pub(crate) async fn write(&self, records: Vec<Encoded>) -> Result<Vec<usize>, CannotWrite> {
        self.begin(records).finish().await
    }

    fn send(&self, record: &Encoded) -> Result<Waiting, WriteError> {
        // The headers of a record are few: their borrowed form lives on the stack of most calls.
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.producer.send_later(Outgoing {
            topic: &record.topic,
            partition: record.partition,
            key: Some(&record.key),
            value: Some(&record.value),
            headers: &headers,
        })
    }

    async fn again(&self, record: &Encoded, first: WriteError) -> Result<bool, CannotWrite> {
        let mut reason = first;
        let mut backoff = BACKOFF_FIRST;
        loop {
            match reason {
                WriteError::TooLarge => return Ok(false),
                WriteError::Refused(_) | WriteError::Fatal(_) => {
                    return Err(CannotWrite { topic: record.topic.clone(), reason });
                }
                WriteError::QueueFull => {}
                WriteError::Unknown(_) => {
                    tracing::warn!(topic = record.topic, %reason, "not acknowledged; writing again");
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
            let result = match self.send(record) {
                Ok(waiting) => waiting.wait(self.ack_timeout).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(_) => return Ok(true),
                Err(error) => reason = error,
            }
        }
    }
}

/// Records handed to the producer.
#[derive(Debug)]
#[must_use = "nothing is known to be written before it is finished"]
pub(crate) struct Writing {
    writer: Writer,
    records: Vec<Encoded>,
    answers: Vec<Result<Waiting, WriteError>>,
}

impl Writing {
    /// Waits until every record is acknowledged, writing again what is not. Gives the indices of those that are
    /// too large for their topic and so were not written.
    ///
    /// A record that is written again may stand in the log twice: every output has a deterministic id or is
    /// keyed state, so consumers do not see a difference.
    ///
    /// # Errors
    /// If writing again cannot help.
    pub(crate) async fn finish(self) -> Result<Vec<usize>, CannotWrite> {
        let mut too_large = Vec::new();
        for (index, (record, answer)) in self.records.iter().zip(self.answers).enumerate() {
            let result = match answer {
                Ok(waiting) => waiting.wait(self.writer.ack_timeout).await,
                Err(error) => Err(error),
            };
            if let Err(error) = result
                && !self.writer.again(record, error).await?
            {
                too_large.push(index);
            }
        }
        Ok(too_large)
    }
}
