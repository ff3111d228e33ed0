//! Logs: one JSON object an entry, on stderr, so that a command's output stays clean.

use sha2::{Digest, Sha256};
use tracing_subscriber::EnvFilter;

use crate::settings::{Log, LogFormat, LogRecipients};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("log.filter {filter:?} is not valid: {detail}")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        detail: String,
    },
    /// Logging is set up already.
    #[error("logging is set up already")]
    Twice,
}

/// Sets up logging for the process.
///
/// # Errors
/// If the filter is not valid, or it was called before.
pub fn init(settings: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|error| Error::Filter { filter: settings.filter.clone(), detail: error.to_string() })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).try_init(),
        LogFormat::Text => builder.with_target(false).try_init(),
    };
    done.map_err(|_| Error::Twice)
}

/// A recipient as it may appear in logs.
pub fn recipient(to: &str, how: LogRecipients) -> String {
    match how {
        LogRecipients::Plain => to.to_owned(),
        LogRecipients::Hashed => hex::encode(&Sha256::digest(to.as_bytes())[..16]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_not_in_a_hashed_log_but_can_be_followed() {
        let hashed = recipient("+15551234567", LogRecipients::Hashed);
        assert!(!hashed.contains("555123"));
        assert_eq!(hashed, recipient("+15551234567", LogRecipients::Hashed));
    }
}
