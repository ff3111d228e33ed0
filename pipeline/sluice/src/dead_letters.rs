//! Dead letters: a record the pipeline could not process, kept with its bytes and the reason.
//!
//! Only the role decides that a record is dead; the letter is acked by the broker before the record's
//! offset may be committed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_schemas::codec;
use sluice_schemas::{DeadLetter, DeadLetterReason};

/// The record that died, as the consumer saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dead<'a> {
    /// Topic it was read from.
    pub(crate) topic: &'a str,
    /// Partition.
    pub(crate) partition: i32,
    /// Offset.
    pub(crate) offset: i64,
    /// Timestamp of the record, milliseconds since the epoch.
    pub(crate) timestamp_ms: i64,
    /// Key bytes.
    pub(crate) key: Option<&'a [u8]>,
    /// Value bytes.
    pub(crate) value: Option<&'a [u8]>,
    /// Headers, in their order.
    pub(crate) headers: &'a [(String, Vec<u8>)],
}

/// Why it died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The kind, for filters and metrics.
    pub(crate) reason: DeadLetterReason,
    /// Text for people; never a secret.
    pub(crate) detail: String,
}

impl Cause {
    /// A cause of this kind.
    pub(crate) fn new(reason: DeadLetterReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// The cause that a decoding error is.
    pub(crate) fn decoding(error: &codec::Error) -> Self {
        let reason = match error {
            codec::Error::Magic { .. } => DeadLetterReason::WrongMagic,
            codec::Error::UnknownSchema(_) => DeadLetterReason::UnknownSchema,
            codec::Error::Datum { .. } | codec::Error::Resolve { .. } => DeadLetterReason::Undecodable,
        };
        Self::new(reason, error.to_string())
    }
}

/// The letter for `dead`.
///
/// `ids` of the session and message are taken from the record's headers, where they stand as text.
pub(crate) fn letter(dead: Dead<'_>, role: &str, cause: Cause, now_ms: i64) -> DeadLetter {
    let headers: BTreeMap<String, String> =
        dead.headers.iter().map(|(name, value)| (name.clone(), header_text(value))).collect();
    let id = |name: &str| headers.get(name).cloned();
    DeadLetter {
        source_topic: dead.topic.to_owned(),
        source_partition: dead.partition,
        source_offset: dead.offset,
        source_timestamp: dead.timestamp_ms,
        key: dead.key.map(<[u8]>::to_vec),
        value: dead.value.map(<[u8]>::to_vec),
        role: role.to_owned(),
        reason: cause.reason,
        detail: cause.detail,
        session_id: id(sluice_schemas::headers::SESSION_ID),
        message_id: id(sluice_schemas::headers::MESSAGE_ID),
        idempotency_key: None,
        dead_at: now_ms,
        replay_of: None,
        replay_count: 0,
        headers,
    }
}

/// A header as text: UTF-8 as it is, anything else as `base64:` and its bytes, so that nothing is lost.
fn header_text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("base64:{}", STANDARD.encode(value)),
    }
}

/// Key of the letter: the record's own, so that letters of one session lie together.
pub(crate) fn key_of(letter: &DeadLetter) -> Vec<u8> {
    letter.key.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::codec::SchemaRef;

    #[test]
    fn a_letter_keeps_every_byte_and_says_where_it_came_from() {
        let headers = vec![
            ("sluice-session-id".to_owned(), b"s1".to_vec()),
            ("__value_schema_id".to_owned(), vec![1, 0xff, 0xfe]),
        ];
        let dead = Dead {
            topic: "wa.messages.status",
            partition: 3,
            offset: 41,
            timestamp_ms: 7,
            key: Some(b"s1"),
            value: Some(&[0, 0, 0]),
            headers: &headers,
        };
        let letter = letter(dead, "reducer", Cause::new(DeadLetterReason::WrongMagic, "why"), 9);
        assert_eq!(letter.value.as_deref(), Some(&[0_u8, 0, 0][..]));
        assert_eq!((letter.source_partition, letter.source_offset, letter.dead_at), (3, 41, 9));
        assert_eq!(letter.session_id.as_deref(), Some("s1"));
        assert_eq!(letter.headers["__value_schema_id"], "base64:Af/+");
        assert_eq!(key_of(&letter), b"s1");
    }

    #[test]
    fn each_decoding_error_has_its_reason() {
        let magic = codec::Error::Magic { what: "it is empty" };
        assert_eq!(Cause::decoding(&magic).reason, DeadLetterReason::WrongMagic);
        let schema = codec::Error::UnknownSchema(SchemaRef::Id(7));
        assert_eq!(Cause::decoding(&schema).reason, DeadLetterReason::UnknownSchema);
    }
}
