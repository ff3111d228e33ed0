//! Trouble that repeats. While brokers are away librdkafka tells the same error of each connection and attempt, tens
//! of times a second and client; told once in a while it says as much, and the rest of the log can be read.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::mailbox::lock;

/// How long the same trouble is not told again.
const QUIET: Duration = Duration::from_secs(5);

/// When each kind of trouble was last told. There are as many kinds as error codes, and few that ever come.
#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<Vec<(Option<RDKafkaErrorCode>, Instant)>>);

impl Repeats {
    /// Logs what librdkafka told a client, if it is to be told now.
    pub(crate) fn warn(&self, error: &KafkaError, reason: &str, client: &str) {
        if self.is_news(error, Instant::now()) {
            tracing::warn!(%error, reason, "{client}");
        }
    }

    /// Whether it is to be told now: it is new, or was last told a while ago.
    pub(crate) fn is_news(&self, error: &KafkaError, now: Instant) -> bool {
        let mut told = lock(&self.0);
        let code = error.rdkafka_error_code();
        if told.iter().any(|(kind, at)| *kind == code && now.duration_since(*at) < QUIET) {
            return false;
        }
        told.retain(|(kind, _)| *kind != code);
        told.push((code, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_told_once_in_a_while_and_other_trouble_at_once() {
        let repeats = Repeats::default();
        let away = KafkaError::Global(RDKafkaErrorCode::AllBrokersDown);
        let slow = KafkaError::Global(RDKafkaErrorCode::OperationTimedOut);
        let start = Instant::now();
        assert!(repeats.is_news(&away, start));
        assert!(!repeats.is_news(&away, start + QUIET / 2));
        assert!(repeats.is_news(&slow, start + QUIET / 2));
        assert!(repeats.is_news(&away, start + QUIET));
        assert!(!repeats.is_news(&away, start + QUIET));
    }
}
