//! Webhooks, in every shape seen: `data` an object or an array, entries under `data.messages`, `data.message` or
//! `data` itself, times in seconds or milliseconds, statuses as numbers or names (provider documentation, its
//! SDK's types and third-party captures differ).
//!
//! Each entry is read on its own: what cannot be used is `Ignored` with its kind and loses no neighbour.

mod entries;
mod messages;
mod sessions;
mod statuses;

use serde_json::Value;
use sluice_schemas::{InboundWebhook, MessageStatus, Provider, Source};

use crate::connector::{Event, Unparseable};
use crate::json;

/// Kind given to a body without an event name.
const NO_NAME: &str = "(no event name)";

/// One delivery of one event: what its entries share.
#[derive(Debug, Clone, Copy)]
struct Delivery<'a> {
    webhook: &'a InboundWebhook,
    session_id: &'a str,
    /// The provider's name of the event.
    kind: &'a str,
    /// Envelope time, milliseconds.
    at: Option<i64>,
}

impl Delivery<'_> {
    fn ignored(&self, why: &'static str) -> Event {
        Event::Ignored { kind: json::clipped(self.kind, 100), why }
    }

    /// When it happened: the entry's own time, the envelope's, else when the webhook came.
    fn occurred_at(&self, own: Option<i64>) -> i64 {
        own.or(self.at).unwrap_or(self.webhook.received_at)
    }

    /// A status fact with everything the delivery knows.
    fn fact(&self) -> MessageStatus {
        MessageStatus {
            session_id: self.session_id.to_owned(),
            tenant_id: self.webhook.tenant_id.clone(),
            observed_at: self.webhook.received_at,
            source: Source::Webhook,
            provider: Provider::Wasender,
            webhook_id: Some(self.webhook.webhook_id.clone()),
            ..MessageStatus::default()
        }
    }

    /// A deterministic event id from the parts that make the fact.
    fn event_id(&self, parts: &[&str]) -> String {
        let mut all = Vec::with_capacity(parts.len() + 2);
        all.extend_from_slice(&["wasender", self.session_id]);
        all.extend_from_slice(parts);
        sluice_schemas::ids::event_id(&all).to_string()
    }
}

pub(super) fn events(webhook: &InboundWebhook) -> Result<Vec<Event>, Unparseable> {
    let session_id = webhook
        .session_id
        .as_deref()
        .ok_or_else(|| Unparseable { detail: "the webhook belongs to no session".to_owned() })?;
    let body: Value = serde_json::from_slice(&webhook.body)
        .map_err(|error| Unparseable { detail: format!("the body is not JSON: {error}") })?;
    match &body {
        Value::Object(_) => Ok(of_envelope(webhook, session_id, &body)),
        // Not documented, but a batch costs nothing to read.
        Value::Array(envelopes) => {
            Ok(envelopes.iter().flat_map(|envelope| of_envelope(webhook, session_id, envelope)).collect())
        }
        _ => Err(Unparseable { detail: "the body is neither a JSON object nor an array".to_owned() }),
    }
}

fn of_envelope(webhook: &InboundWebhook, session_id: &str, envelope: &Value) -> Vec<Event> {
    let kind = json::text(envelope, &["event"]);
    let delivery = Delivery {
        webhook,
        session_id,
        kind: kind.unwrap_or(NO_NAME),
        at: json::millis_of(envelope, &["timestamp"]),
    };
    let Some(kind) = kind else {
        return vec![delivery.ignored("a body without an event name")];
    };
    let data = envelope.get("data").unwrap_or(&Value::Null);
    let each = |read: fn(&Delivery<'_>, &Value) -> Vec<Event>| -> Vec<Event> {
        entries::of(data).into_iter().flat_map(|entry| read(&delivery, entry)).collect()
    };
    match kind {
        "messages.received"
        | "messages-personal.received"
        | "messages-group.received"
        | "messages-newsletter.received"
        | "messages.upsert" => each(messages::received),
        "messages.reaction" => each(messages::reaction),
        "message.sent" => each(statuses::sent),
        "messages.update" => each(statuses::update),
        "message-receipt.update" => each(statuses::receipt),
        "session.status" => sessions::status(&delivery, data),
        "qrcode.updated" => sessions::qr_code(&delivery, data),
        "passkey.updated" => sessions::passkey(&delivery, data),
        _ => vec![delivery.ignored("a kind that is not used")],
    }
}

#[cfg(test)]
mod tests;
