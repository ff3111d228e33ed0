//! A webhook in, addressed records or a dead letter out. No IO, no clock.

use std::collections::HashMap;

use sluice_schemas::{DeadLetterReason, InboundWebhook};
use sluice_whatsapp::connector::Registry;

use super::address::{Addressed, Output, Owner, Value, address};
use crate::dead_letters::Cause;

/// What a webhook came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Translated {
    /// To be written, in the order of the webhook.
    pub(crate) outputs: Vec<Output>,
    /// Kinds that are only counted.
    pub(crate) counted: Vec<String>,
    /// Connection changes older than what is known, dropped.
    pub(crate) stale: usize,
}

/// Translates `webhook` with its provider's connector.
///
/// # Errors
/// The cause of its death, if it cannot be read or nobody knows whose it is.
pub(crate) fn translate(
    webhook: &mut InboundWebhook,
    owner: Option<Owner>,
    connectors: &Registry,
    connections: &mut Connections,
) -> Result<Translated, Cause> {
    let Some(connector) = connectors.get(webhook.provider) else {
        return Err(Cause::new(
            DeadLetterReason::UnparseableWebhook,
            format!("provider: this build has no connector for {}", webhook.provider.as_str()),
        ));
    };
    let Some(owner) = owner else {
        return Err(Cause::new(
            DeadLetterReason::MissingField,
            "session_id: neither the path nor the account and body tell which session the webhook is about; \
             give the session in the webhook URL, or put the session",
        ));
    };
    webhook.session_id = Some(owner.session_id.clone());
    webhook.tenant_id = webhook.tenant_id.take().or_else(|| owner.tenant_id.clone());
    let events = connector
        .events(webhook)
        .map_err(|error| Cause::new(DeadLetterReason::UnparseableWebhook, error.to_string()))?;
    let mut translated = Translated::default();
    for event in events {
        match address(event, webhook, &owner) {
            Addressed::Counted { kind } => translated.counted.push(kind),
            Addressed::To(output) if connections.admits(&output) => translated.outputs.push(*output),
            Addressed::To(_) => translated.stale += 1,
        }
    }
    Ok(translated)
}

/// The latest connection change known of each session, so that a late webhook does not undo a newer one.
///
/// Holds one entry a session that changed; sessions are bounded by the directory.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    latest: HashMap<String, i64>,
}

impl Connections {
    /// Takes in what `sessions.status` says already.
    pub(crate) fn known(&mut self, session_id: &str, occurred_at: i64) {
        let latest = self.latest.entry(session_id.to_owned()).or_insert(occurred_at);
        *latest = occurred_at.max(*latest);
    }

    /// Whether `output` may be written. A repeat of the latest change may: replays must end where they began.
    fn admits(&mut self, output: &Output) -> bool {
        let Value::Connection(status) = &output.value else { return true };
        match self.latest.get_mut(&output.session_id) {
            Some(latest) if status.occurred_at < *latest => false,
            Some(latest) => {
                *latest = status.occurred_at;
                true
            }
            None => {
                self.latest.insert(output.session_id.clone(), status.occurred_at);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::topics::Topic;
    use sluice_schemas::{Connection, SessionStatus};

    fn connection(session: &str, occurred_at: i64) -> Output {
        let status = SessionStatus { connection: Connection::Connected, occurred_at, ..Default::default() };
        Output {
            topic: Topic::SessionsStatus,
            key: format!("{session}/connection"),
            session_id: session.into(),
            headers: Vec::new(),
            value: Value::Connection(Box::new(status)),
        }
    }

    #[test]
    fn a_late_connection_change_does_not_undo_a_newer_one() {
        let mut connections = Connections::default();
        assert!(connections.admits(&connection("s", 10)));
        assert!(!connections.admits(&connection("s", 9)));
        assert!(connections.admits(&connection("s", 10)), "a replay of the latest is admitted");
        assert!(connections.admits(&connection("other", 1)));
        connections.known("third", 50);
        assert!(!connections.admits(&connection("third", 49)));
        assert!(connections.admits(&connection("third", 51)));
    }

    #[test]
    fn a_webhook_of_a_provider_without_connector_is_dead_and_says_why() {
        let mut webhook = InboundWebhook::default();
        let owner = Some(Owner { session_id: "s".into(), tenant_id: None });
        let cause = translate(&mut webhook, owner, &Registry::new(Vec::new()), &mut Connections::default())
            .unwrap_err();
        assert_eq!(cause.reason, DeadLetterReason::UnparseableWebhook);
        assert!(cause.detail.contains("UNKNOWN"), "{}", cause.detail);
    }
}
