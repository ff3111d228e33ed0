//! Dead letters of the reading roles: a record the pipeline could not process, kept with its bytes and the
//! reason.
//!
//! Only the role decides that a record is dead; the letter is acked by the broker before the record's offset may
//! be committed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_kafka::clock;
use sluice_kafka::dead_letters::{Death, dead_letter};
use sluice_kafka::record::Record;
use sluice_kafka::registry::{Codec, Codecs, DecodeError};
use sluice_schemas::codec;
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{DeadLetter, DeadLetterReason, headers};
use tokio::time::Instant;

use crate::consume::writer::Encoded;
use crate::telemetry::metrics::Metrics;

/// How long an unknown schema is asked for while the registry does not answer. After that the record goes to the
/// dead letters, whole, so that those behind it do not wait longer.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(30);
const REGISTRY_RETRY: Duration = Duration::from_secs(1);

/// Why a record died.
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
}

/// How many records may die before the role ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Part of the window that may be dead, 0 to 1.
    pub(crate) ratio_max: f64,
    /// Records looked back on.
    pub(crate) window_records: usize,
}

impl Limits {
    /// Most dead records in a window.
    fn dead_max(self) -> usize {
        // Both are checked settings: the product is between 0 and the window.
        (self.ratio_max * self.window_records as f64) as usize
    }
}

/// So many of the last records died that something other than the records is wrong.
#[derive(Debug, thiserror::Error)]
#[error(
    "{dead} of the last {window} records became dead letters, more than dead_ratio_max allows; the last: {reason} \
     ({detail}). Nothing beyond them is committed. Look at `sluice dead-letters list`, at the registry and at what \
     was deployed last"
)]
pub(crate) struct TooManyDead {
    dead: usize,
    window: usize,
    reason: &'static str,
    detail: String,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Alive,
    Dead,
}

/// The last records of a role: which of them died. Of those that lived only the count is kept.
#[derive(Debug, Default)]
struct Window {
    /// Numbers of the dead ones, oldest first; the first record is 1.
    dead: VecDeque<u64>,
    /// Records so far.
    seen: u64,
}

impl Window {
    /// Notes a record; how many of the last `size` are dead.
    fn note(&mut self, fate: Fate, size: usize) -> usize {
        self.seen += 1;
        if fate == Fate::Dead {
            self.dead.push_back(self.seen);
        }
        let oldest = self.seen.saturating_sub(size as u64);
        while self.dead.front().is_some_and(|number| *number <= oldest) {
            self.dead.pop_front();
        }
        self.dead.len()
    }
}

/// Makes the dead letters of one role. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetters {
    role: &'static str,
    topic: String,
    codec: Codec<DeadLetter>,
    metrics: Arc<Metrics>,
    limits: Limits,
    window: Arc<Mutex<Window>>,
}

impl DeadLetters {
    /// The dead letters of `role`, which ends when more of its last records died than `limits` allow.
    pub(crate) fn new(
        role: &'static str,
        names: &Names,
        codecs: &Codecs,
        metrics: Arc<Metrics>,
        limits: Limits,
    ) -> Self {
        Self {
            role,
            topic: names.get(Topic::DeadLetters).to_owned(),
            codec: codecs.codec(Topic::DeadLetters),
            metrics,
            limits,
            window: Arc::default(),
        }
    }

    /// A record was processed.
    pub(crate) fn alive(&self) {
        self.window
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(Fate::Alive, self.limits.window_records);
    }

    /// The letter for `record`, ready to be written.
    ///
    /// # Errors
    /// If too many of the last records died.
    pub(crate) fn letter(&self, record: &Record, cause: Cause) -> Result<Encoded, TooManyDead> {
        let reason = cause.reason.as_str();
        let dead = self
            .window
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(Fate::Dead, self.limits.window_records);
        self.metrics.dead_letters.with_label_values(&[self.role, reason]).inc();
        tracing::warn!(
            role = self.role,
            topic = %record.partition.topic,
            partition = record.partition.number,
            offset = record.offset,
            session_id = record.header_str(headers::SESSION_ID),
            message_id = record.header_str(headers::MESSAGE_ID),
            reason,
            detail = cause.detail,
            "record is dead"
        );
        if dead > self.limits.dead_max() {
            return Err(TooManyDead {
                dead,
                window: self.limits.window_records,
                reason,
                detail: cause.detail,
            });
        }
        let death =
            Death { role: self.role, reason: cause.reason, detail: cause.detail, at_ms: clock::wall_ms() };
        let letter = dead_letter(record, death);
        let mut all = vec![(headers::EVENT_TYPE, reason.to_owned())];
        for name in [headers::TENANT_ID, headers::SESSION_ID, headers::MESSAGE_ID, headers::TRACEPARENT] {
            if let Some(value) = record.header_str(name) {
                all.push((name, value.to_owned()));
            }
        }
        Ok(Encoded {
            topic: self.topic.clone(),
            partition: None,
            key: letter.key.clone().unwrap_or_default(),
            value: self.codec.encode(&letter),
            headers: all,
        })
    }
}

/// Decodes `record`, asking the registry for a schema that is not known yet.
///
/// # Errors
/// The cause of its death.
pub(crate) async fn decode<T: codec::Record>(codec: &Codec<T>, record: &Record) -> Result<T, Cause> {
    let deadline = Instant::now() + REGISTRY_PATIENCE;
    loop {
        let error = match codec.decode_or_fetch(record).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match cause_of(&error) {
            Some(cause) => return Err(cause),
            None if Instant::now() >= deadline => {
                return Err(Cause::new(DeadLetterReason::UnknownSchema, error.to_string()));
            }
            None => {
                tracing::warn!(%error, "waiting for the schema registry");
                tokio::time::sleep(REGISTRY_RETRY).await;
            }
        }
    }
}

/// The cause of death that a decoding error is; none if trying again may help.
pub(crate) fn cause_of(error: &DecodeError) -> Option<Cause> {
    error.dead_letter_reason().map(|reason| Cause::new(reason, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_kafka::record::{Headers, Partition};

    fn letters(ratio_max: f64, window_records: usize) -> DeadLetters {
        let metrics = Arc::new(Metrics::new().unwrap());
        let limits = Limits { ratio_max, window_records };
        DeadLetters::new("reducer", &Names::default(), &Codecs::fixed(), metrics, limits)
    }

    fn record() -> Record {
        Record {
            partition: Partition::new("wa.messages.status", 3),
            offset: 41,
            timestamp_ms: 7,
            key: Some("s1".into()),
            value: Some(bytes::Bytes::from_static(&[9, 9])),
            headers: Headers::pack([(headers::SESSION_ID, Some(&b"s1"[..]))]),
        }
    }

    #[test]
    fn a_letter_keeps_the_key_the_bytes_and_the_headers_to_filter_by() {
        let encoded =
            letters(1.0, 10).letter(&record(), Cause::new(DeadLetterReason::WrongMagic, "why")).unwrap();
        assert_eq!((encoded.topic.as_str(), encoded.key.as_slice()), ("wa.dead-letters", &b"s1"[..]));
        assert!(encoded.headers.contains(&(headers::EVENT_TYPE, "WRONG_MAGIC".to_owned())));
        assert!(encoded.headers.contains(&(headers::SESSION_ID, "s1".to_owned())));
        let codec: Codec<DeadLetter> = Codecs::fixed().codec(Topic::DeadLetters);
        let letter = codec.decode_bytes(&encoded.value, None).unwrap();
        assert_eq!(letter.value.as_deref(), Some(&[9_u8, 9][..]));
        assert_eq!((letter.source_partition, letter.source_offset), (3, 41));
    }

    #[test]
    fn more_dead_among_the_last_than_the_ratio_allows_end_the_role() {
        let letters = letters(0.5, 4);
        let die = || letters.letter(&record(), Cause::new(DeadLetterReason::Undecodable, "x"));
        for _ in 0..10 {
            assert!(die().is_ok(), "every second one may die for ever");
            letters.alive();
        }
        assert!(die().is_ok());
        let error = die().unwrap_err().to_string();
        assert!(error.contains("3 of the last 4") && error.contains("dead_ratio_max"), "{error}");
    }

    #[test]
    fn dead_ones_beyond_the_window_are_forgotten() {
        let letters = letters(0.5, 4);
        let die = || letters.letter(&record(), Cause::new(DeadLetterReason::Undecodable, "x"));
        for _ in 0..3 {
            assert!(die().is_ok() && die().is_ok());
            (0..4).for_each(|_| letters.alive());
        }
    }

    #[tokio::test]
    async fn each_way_to_be_undecodable_has_its_reason() {
        let codec: Codec<DeadLetter> = Codecs::fixed().codec(Topic::DeadLetters);
        let whole = codec.encode(&DeadLetter::default());
        let cases: [(Option<Vec<u8>>, DeadLetterReason); 5] = [
            (Some(whole[..whole.len() - 1].to_vec()), DeadLetterReason::Undecodable),
            (Some([&[0, 0, 0, 0xff, 0xff], &whole[5..]].concat()), DeadLetterReason::UnknownSchema),
            (Some([&[1], &whole[1..]].concat()), DeadLetterReason::WrongMagic),
            (Some(Vec::new()), DeadLetterReason::WrongMagic),
            (None, DeadLetterReason::MissingField),
        ];
        for (value, reason) in cases {
            let record = Record { value: value.map(bytes::Bytes::from), ..record() };
            assert_eq!(decode(&codec, &record).await.unwrap_err().reason, reason);
        }
    }
}
