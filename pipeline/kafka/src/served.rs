//! Librdkafka's log lines come over the queue that records come over, and a poll that only served one says
//! "nothing" as an empty queue does. Whoever stops polling at the first "nothing" would be behind by as many
//! turns as there were log lines (hundreds after an outage), so what was served is noted.

use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::config::RDKafkaLogLevel as Level;

/// Whether a poll served something that is no record.
#[derive(Debug, Default)]
pub(crate) struct Served(AtomicBool);

impl Served {
    /// Whether something was served since the last time of asking.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// Something was served.
    pub(crate) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Serves a log line.
    pub(crate) fn log(&self, level: Level, facility: &str, text: &str) {
        self.note();
        match level {
            Level::Emerg | Level::Alert | Level::Critical | Level::Error => {
                tracing::error!(target: "librdkafka", facility, "{text}");
            }
            Level::Warning => tracing::warn!(target: "librdkafka", facility, "{text}"),
            Level::Notice | Level::Info => tracing::info!(target: "librdkafka", facility, "{text}"),
            Level::Debug => tracing::debug!(target: "librdkafka", facility, "{text}"),
        }
    }
}
