//! What the state machine wants counted and told.

use sluice_core::sender::{CircuitOf, Note};

use crate::telemetry::metrics::Metrics;

/// Counts and logs a note.
pub(super) fn take(metrics: &Metrics, note: &Note) {
    match note {
        Note::StrangeLedgerRecord { partition, offset } => {
            tracing::error!(partition, offset, "a ledger record holds no request; the message is not open");
        }
        Note::FencedOff { partition, epoch, by } => {
            tracing::warn!(partition, epoch, by, "another owner has taken the partition");
        }
        Note::Restored { partition, resumed_at, open, in_doubt } => {
            let from = if resumed_at.is_some() { "state" } else { "ledger" };
            metrics.restores.with_label_values(&[from]).inc();
            tracing::info!(partition, open, in_doubt, resumed_at, "partition taken over");
        }
        Note::ClaimExpired { message_id } => {
            tracing::debug!(%message_id, "claim was too old to use; claimed anew");
        }
        Note::CircuitOpened { of, until_ms } => {
            metrics.circuits_opened.with_label_values(&[name_of(of)]).inc();
            match of {
                CircuitOf::Session(session_id) => {
                    tracing::warn!(%session_id, until_ms, "calls of the session fail; it waits");
                }
                CircuitOf::BaseUrl(base_url) => {
                    tracing::warn!(%base_url, until_ms, "calls of several sessions to the base URL fail; they wait");
                }
            }
        }
        Note::CircuitClosed { of: CircuitOf::Session(session_id) } => {
            tracing::info!(%session_id, "calls of the session are answered again");
        }
        Note::CircuitClosed { of: CircuitOf::BaseUrl(base_url) } => {
            tracing::info!(%base_url, "calls to the base URL are answered again");
        }
        Note::Duplicate { message_id, conflict } => {
            let kind = if *conflict { "conflict" } else { "same" };
            metrics.duplicates.with_label_values(&[kind]).inc();
            tracing::debug!(%message_id, kind, "request with a known key");
        }
        Note::DoubtSettled { message_id, how } => {
            metrics.in_doubt_resolved.with_label_values(&[how]).inc();
            tracing::info!(%message_id, how, "attempt in doubt settled");
        }
    }
}

const fn name_of(of: &CircuitOf) -> &'static str {
    match of {
        CircuitOf::Session(_) => "session",
        CircuitOf::BaseUrl(_) => "base_url",
    }
}
