//! Answers to a send, classified.

use std::collections::BTreeMap;

use sluice_core::outcome::{CallResult, Outcome as Classified};
use sluice_whatsapp::Connector;
use sluice_whatsapp::connector::Answer;

use crate::Outcome;
use crate::expected::alternatives;
use crate::index::Row;

/// Statuses tried for a sample whose index does not tell its own.
const ANY_REFUSAL: [u16; 3] = [400, 403, 422];

pub(crate) fn judge(connector: &dyn Connector, row: &Row, body: &[u8]) -> Outcome {
    let statuses = statuses(&row.kind);
    let results: Vec<(u16, CallResult)> = statuses
        .into_iter()
        .map(|status| {
            let answer = Answer::Http { status, headers: BTreeMap::new(), body: body.to_vec().into() };
            (status, connector.classify(&answer, 1))
        })
        .collect();
    let shown: Vec<String> =
        results.iter().map(|(status, result)| format!("{status} → {}", show(result))).collect();
    let differs = results
        .iter()
        .find(|(_, result)| !fits(&row.expected, result))
        .map(|(status, result)| format!("with HTTP {status} it is {}", show(result)));
    Outcome { shown: shown.join("; "), differs }
}

/// The statuses in the index: `200`, `400|409|200`, or `?`.
fn statuses(kind: &str) -> Vec<u16> {
    let known: Vec<u16> = kind.split('|').filter_map(|status| status.trim().parse().ok()).collect();
    if known.is_empty() { ANY_REFUSAL.to_vec() } else { known }
}

fn name(outcome: &Classified) -> &'static str {
    match outcome {
        Classified::Submitted { .. } => "submitted",
        Classified::Throttled { .. } => "throttled",
        Classified::Retryable => "retryable",
        Classified::Permanent => "permanent",
        Classified::SessionDown { .. } => "session_down",
        Classified::Unknown => "unknown",
        Classified::NotMade => "not_made",
    }
}

fn show(result: &CallResult) -> String {
    let id = match &result.outcome {
        Classified::Submitted { provider_message_id: Some(id), .. } => format!(" id={id}"),
        _ => String::new(),
    };
    let code = result.error.as_ref().map_or(String::new(), |error| format!(" ({})", error.code));
    format!("{}{id}{code}", name(&result.outcome))
}

/// Whether the outcome is one of those in the phrase, and has the id it names.
fn fits(expected: &str, result: &CallResult) -> bool {
    if expected.is_empty() {
        return true;
    }
    alternatives(expected).iter().any(|phrase| {
        let named = phrase.words().next().is_some_and(|word| word == name(&result.outcome));
        let id_fits = match (&result.outcome, phrase.field("id")) {
            (Classified::Submitted { provider_message_id, whatsapp_message_id }, Some(id)) => {
                [provider_message_id, whatsapp_message_id]
                    .into_iter()
                    .any(|known| known.as_deref() == Some(id))
            }
            _ => true,
        };
        named && id_fits
    })
}
