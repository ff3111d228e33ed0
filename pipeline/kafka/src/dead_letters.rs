//! Making a dead letter of a record that could not be processed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_schemas::{DeadLetter, DeadLetterReason};

use crate::record::{Headers, Record};

/// Header of a replayed record: the dead letter (topic/partition/offset) it comes from.
pub const REPLAY_OF: &str = "sluice-replay-of";
/// Header of a replayed record: how often it was replayed, decimal.
pub const REPLAY_COUNT: &str = "sluice-replay-count";
/// Put before a header's value that is not text.
const BASE64: &str = "base64:";

/// Who gave up on a record, and why.
#[derive(Debug, Clone)]
pub struct Death<'a> {
    /// Role that gave up.
    pub role: &'a str,
    /// Why.
    pub reason: DeadLetterReason,
    /// For people: the field and the remedy. Never a secret or a body.
    pub detail: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
}

/// The dead letter of `record`, whole: it can be replayed from it.
pub fn dead_letter(record: &Record, death: Death<'_>) -> DeadLetter {
    let text = |name| record.header_str(name).map(str::to_owned);
    DeadLetter {
        source_topic: record.partition.topic.to_string(),
        source_partition: record.partition.number,
        source_offset: record.offset,
        source_timestamp: record.timestamp_ms,
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.as_ref().map(|value| value.to_vec()),
        headers: headers(&record.headers),
        role: death.role.to_owned(),
        reason: death.reason,
        detail: death.detail,
        session_id: text(sluice_schemas::headers::SESSION_ID),
        message_id: text(sluice_schemas::headers::MESSAGE_ID),
        idempotency_key: None,
        dead_at: death.at_ms,
        replay_of: text(REPLAY_OF),
        replay_count: text(REPLAY_COUNT).and_then(|count| count.parse().ok()).unwrap_or(0),
    }
}

/// Headers as text; of a name that comes twice the last stays.
fn headers(headers: &Headers) -> BTreeMap<String, String> {
    headers.iter().map(|(name, value)| (name.to_owned(), text(value.unwrap_or_default()))).collect()
}

fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        // A text that looks encoded is encoded, so that reading back is never ambiguous.
        Ok(text) if !text.starts_with(BASE64) => text.to_owned(),
        _ => format!("{BASE64}{}", STANDARD.encode(value)),
    }
}

/// A header's value as it was, from its form in a dead letter.
pub fn header_bytes(text: &str) -> Vec<u8> {
    let decoded = text.strip_prefix(BASE64).and_then(|encoded| STANDARD.decode(encoded).ok());
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Partition;

    #[test]
    fn a_dead_letter_holds_all_that_is_needed_to_replay_it() {
        let binary = [1, 0xff, 0];
        let headers = Headers::pack([
            ("sluice-session-id", Some(&b"s-1"[..])),
            ("__value_schema_id", Some(&binary)),
            ("odd", Some(b"base64:AAAA")),
            (REPLAY_COUNT, Some(b"2")),
        ]);
        let record = Record {
            partition: Partition::new("wa.outbound.requests", 3),
            offset: 17,
            timestamp_ms: 5,
            key: Some("k".into()),
            value: None,
            headers,
        };
        let death =
            Death { role: "sender", reason: DeadLetterReason::Undecodable, detail: "x".to_owned(), at_ms: 9 };
        let letter = dead_letter(&record, death);
        assert_eq!(letter.session_id.as_deref(), Some("s-1"));
        assert_eq!((letter.source_partition, letter.source_offset, letter.replay_count), (3, 17, 2));
        assert_eq!(letter.headers["sluice-session-id"], "s-1");
        assert_eq!(header_bytes(&letter.headers["__value_schema_id"]), binary);
        assert_eq!(header_bytes(&letter.headers["odd"]), b"base64:AAAA");
        assert_eq!(letter.value, None);
    }
}
