//! The topic table: the one place that names each topic, its key, placement, size, retention and schema.
//!
//! `sluice topics`, the Helm chart, `k8s/` and the docs are made from it.

use crate::codec::Record;
use crate::{
    Account, DeadLetter, FollowUp, InboundWebhook, LedgerEntry, MessageState, MessageStatus, OutboundCommand,
    ReceivedMessage, Session, SessionCommand, SessionLink, SessionStatus,
};

/// One of Sluice's topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Requests of the platforms.
    OutboundRequests,
    /// What is known of each open message; internal to the sender.
    OutboundLedger,
    /// Facts about messages.
    MessagesStatus,
    /// Messages that came in.
    MessagesReceived,
    /// Folded state of each message.
    MessagesState,
    /// How expectations ended.
    MessagesFollowups,
    /// Provider webhooks as they came.
    WebhooksInbound,
    /// Accounts.
    Accounts,
    /// Sessions.
    Sessions,
    /// Condition of the sessions, by facet.
    SessionsStatus,
    /// QR and pairing codes.
    SessionsLinks,
    /// Things to do with sessions at their providers.
    SessionsCommands,
    /// Records the pipeline could not process.
    DeadLetters,
}

/// What decides the partition of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// murmur2 of the session id, whatever the key.
    Session,
    /// murmur2 of the key.
    Key,
}

/// How a topic sheds old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// By time.
    Time {
        /// Kept at least this long, milliseconds.
        ms: i64,
    },
    /// Compacted: the latest record of a key stays.
    Compacted,
    /// Compacted, and removed after a time.
    CompactedFor {
        /// Removed after this long, milliseconds.
        ms: i64,
    },
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Which topic.
    pub topic: Topic,
    /// Name without the prefix.
    pub suffix: &'static str,
    /// What the key holds, for people.
    pub key: &'static str,
    /// What decides the partition.
    pub placement: Placement,
    /// How old records go.
    pub retention: Retention,
    /// Largest record, bytes.
    pub max_record_bytes: i32,
    /// Whether the broker stamps records (look-ups and retention must not hang on producers' clocks).
    pub log_append_time: bool,
    /// Further broker settings.
    pub extra: &'static [(&'static str, &'static str)],
    /// Name of the record type.
    pub record: &'static str,
    /// Its schema.
    pub schema: &'static str,
    /// Who writes and who reads, for people.
    pub flow: &'static str,
}

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Largest request, bytes.
pub const REQUEST_BYTES_MAX: i32 = 256 * 1024;
/// What a topic that carries another topic's bytes allows on top, bytes.
pub const ENVELOPE_BYTES: i32 = 64 * 1024;
/// Largest webhook, bytes.
pub const WEBHOOK_BYTES_MAX: i32 = 8 * 1024 * 1024;
/// Partitions of session-placed topics outside dev.
pub const PARTITIONS_DEFAULT: i32 = 96;
/// Partitions in dev.
pub const PARTITIONS_DEV: i32 = 8;

struct Row(
    Topic,
    &'static str,
    &'static str,
    Placement,
    Retention,
    i32,
    bool,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const fn spec<T: Record>(row: Row) -> Spec {
    Spec {
        topic: row.0,
        suffix: row.1,
        key: row.2,
        placement: row.3,
        retention: row.4,
        max_record_bytes: row.5,
        log_append_time: row.6,
        extra: row.7,
        record: T::NAME,
        schema: T::SCHEMA,
        flow: row.8,
    }
}

/// The table, one row a topic.
pub const TABLE: [Spec; 13] = {
    use Placement::{Key, Session as BySession};
    use Retention::{Compacted, CompactedFor, Time};
    use Topic as T;
    const SMALL: i32 = 1024 * 1024;
    [
        spec::<OutboundCommand>(Row(
            T::OutboundRequests,
            "outbound.requests",
            "session_id",
            BySession,
            Time { ms: 7 * DAY_MS },
            REQUEST_BYTES_MAX,
            true,
            &[],
            "platforms, edge → sender",
        )),
        spec::<LedgerEntry>(Row(
            T::OutboundLedger,
            "outbound.ledger",
            "kind/message_id",
            BySession,
            Compacted,
            REQUEST_BYTES_MAX + ENVELOPE_BYTES,
            true,
            &[
                ("segment.bytes", "67108864"),
                ("segment.ms", "3600000"),
                ("min.cleanable.dirty.ratio", "0.1"),
                ("delete.retention.ms", "604800000"),
                ("min.compaction.lag.ms", "3600000"),
            ],
            "sender → sender",
        )),
        spec::<MessageStatus>(Row(
            T::MessagesStatus,
            "messages.status",
            "session_id",
            BySession,
            Time { ms: 30 * DAY_MS },
            SMALL,
            true,
            &[],
            "sender, processor → reducer, sender (evidence), data teams",
        )),
        spec::<ReceivedMessage>(Row(
            T::MessagesReceived,
            "messages.received",
            "session_id",
            BySession,
            Time { ms: 30 * DAY_MS },
            SMALL,
            false,
            &[],
            "processor → data teams, reducer, sender (replies)",
        )),
        spec::<MessageState>(Row(
            T::MessagesState,
            "messages.state",
            "message_id",
            Key,
            CompactedFor { ms: 120 * DAY_MS },
            SMALL,
            false,
            &[],
            "reducer → data teams",
        )),
        spec::<FollowUp>(Row(
            T::MessagesFollowups,
            "messages.followups",
            "session_id",
            BySession,
            Time { ms: 30 * DAY_MS },
            SMALL,
            false,
            &[],
            "sender → marketing",
        )),
        spec::<InboundWebhook>(Row(
            T::WebhooksInbound,
            "webhooks.inbound",
            "session_id, else account id",
            Key,
            Time { ms: 7 * DAY_MS },
            WEBHOOK_BYTES_MAX + ENVELOPE_BYTES,
            true,
            &[],
            "edge → processor",
        )),
        spec::<Account>(Row(
            T::Accounts,
            "accounts",
            "account_id",
            Key,
            Compacted,
            SMALL,
            false,
            &[],
            "edge, CLI → every role",
        )),
        spec::<Session>(Row(
            T::Sessions,
            "sessions",
            "session_id",
            BySession,
            Compacted,
            SMALL,
            false,
            &[],
            "edge, CLI → every role",
        )),
        spec::<SessionStatus>(Row(
            T::SessionsStatus,
            "sessions.status",
            "session_id/facet",
            BySession,
            Compacted,
            SMALL,
            false,
            &[],
            "one writer per facet: processor, sender, session-manager, edge → every role",
        )),
        spec::<SessionLink>(Row(
            T::SessionsLinks,
            "sessions.links",
            "session_id",
            BySession,
            Time { ms: HOUR_MS },
            SMALL,
            false,
            &[],
            "processor, session-manager → query",
        )),
        spec::<SessionCommand>(Row(
            T::SessionsCommands,
            "sessions.commands",
            "session_id",
            BySession,
            Time { ms: DAY_MS },
            SMALL,
            false,
            &[],
            "edge, CLI → session-manager",
        )),
        spec::<DeadLetter>(Row(
            T::DeadLetters,
            "dead-letters",
            "original key",
            Key,
            Time { ms: 30 * DAY_MS },
            WEBHOOK_BYTES_MAX + 2 * ENVELOPE_BYTES,
            false,
            &[],
            "all → CLI",
        )),
    ]
};

impl Topic {
    /// Every topic, in table order.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|spec| spec.topic)
    }

    /// Its row.
    pub fn spec(self) -> &'static Spec {
        &TABLE[self as usize]
    }
}

/// Physical names of the topics.
#[derive(Debug, Clone)]
pub struct Names {
    names: Vec<String>,
}

impl Names {
    /// Names made of `prefix` and the table's suffixes; `overrides` replaces single names (key: suffix).
    pub fn new(prefix: &str, overrides: &std::collections::BTreeMap<String, String>) -> Self {
        let names = TABLE
            .iter()
            .map(|spec| {
                overrides.get(spec.suffix).cloned().unwrap_or_else(|| format!("{prefix}{}", spec.suffix))
            })
            .collect();
        Self { names }
    }

    /// Physical name of `topic`.
    pub fn get(&self, topic: Topic) -> &str {
        &self.names[topic as usize]
    }

    /// Registry subject of `topic`'s values (TopicNameStrategy).
    pub fn subject(&self, topic: Topic) -> String {
        format!("{}-value", self.get(topic))
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new("wa.", &std::collections::BTreeMap::new())
    }
}

impl Spec {
    /// Broker settings of the topic, name and value.
    pub fn broker_settings(&self) -> Vec<(String, String)> {
        let mut settings = vec![("max.message.bytes".to_owned(), self.max_record_bytes.to_string())];
        match self.retention {
            Retention::Time { ms } => settings.push(("retention.ms".to_owned(), ms.to_string())),
            Retention::Compacted => settings.push(("cleanup.policy".to_owned(), "compact".to_owned())),
            Retention::CompactedFor { ms } => {
                settings.push(("cleanup.policy".to_owned(), "compact,delete".to_owned()));
                settings.push(("retention.ms".to_owned(), ms.to_string()));
            }
        }
        if self.log_append_time {
            settings.push(("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()));
        }
        settings.extend(self.extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_at_the_place_of_its_topic() {
        for (i, spec) in TABLE.iter().enumerate() {
            assert_eq!(spec.topic as usize, i, "{}", spec.suffix);
            assert_eq!(spec.topic.spec().suffix, spec.suffix);
        }
    }

    #[test]
    fn every_schema_parses() {
        for spec in TABLE {
            apache_avro::Schema::parse_str(spec.schema).unwrap_or_else(|e| panic!("{}: {e}", spec.suffix));
        }
    }
}
