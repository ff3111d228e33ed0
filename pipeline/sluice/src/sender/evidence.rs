//! Facts of others in `messages.status`: former owners' outcomes, echoes and operators' words. And how far that topic has been read,
//! for messages in doubt.

use std::collections::HashMap;

use sluice_kafka::record::Record;
use sluice_kafka::registry::{Codec, Codecs};
use sluice_schemas::topics::Topic;
use sluice_schemas::{MessageStatus, Source, Status, headers};

/// Reads the facts that bear on open messages.
pub(super) struct Evidence {
    statuses: Codec<MessageStatus>,
    /// Per partition: offset after the last record read.
    next: HashMap<i32, i64>,
    /// Per partition: when the end was asked for (ms), and where it was.
    asked: HashMap<i32, (i64, i64)>,
}

impl Evidence {
    pub(super) fn new(codecs: &Codecs) -> Self {
        Self { statuses: codecs.codec(Topic::MessagesStatus), next: HashMap::new(), asked: HashMap::new() }
    }

    pub(super) fn begin(&mut self, partition: i32) {
        self.next.remove(&partition);
        self.asked.remove(&partition);
    }

    /// The fact in a record, unless the headers tell that it is no evidence: our own, or not of a kind that is.
    pub(super) fn fact(&self, record: &Record, own_epoch: Option<i64>) -> Option<MessageStatus> {
        let source = record.header_str(headers::SOURCE)?;
        if source == Source::Sender.as_str() {
            let epoch = record.header_str(headers::EPOCH).and_then(|text| text.parse().ok());
            if epoch.is_some() && epoch == own_epoch {
                return None;
            }
        } else if source == Source::Webhook.as_str() {
            if record.header_str(headers::EVENT_TYPE) != Some(Status::Sent.as_str()) {
                return None;
            }
        } else if source != Source::Operator.as_str() {
            return None;
        }
        match self.statuses.decode(record) {
            Ok(status) => Some(status),
            Err(error) => {
                tracing::warn!(partition = record.partition.number, offset = record.offset, %error, "a status that cannot be read is no evidence");
                None
            }
        }
    }

    pub(super) fn read_to(&mut self, partition: i32, next: i64) -> Option<i64> {
        self.next.insert(partition, next);
        self.caught_up(partition)
    }

    /// The end of the partition was `end` when it was asked for at `asked_ms`.
    pub(super) fn end_was(&mut self, partition: i32, asked_ms: i64, end: i64) -> Option<i64> {
        self.asked.insert(partition, (asked_ms, end));
        self.caught_up(partition)
    }

    /// If everything up to the end last asked for is read: when that was, ms.
    fn caught_up(&mut self, partition: i32) -> Option<i64> {
        let (asked_ms, end) = *self.asked.get(&partition)?;
        if end > 0 && self.next.get(&partition).is_none_or(|next| *next < end) {
            return None;
        }
        self.asked.remove(&partition);
        Some(asked_ms)
    }
}
