//! What the state machine wants counted and told.

use sluice_core::sender::Note;

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
