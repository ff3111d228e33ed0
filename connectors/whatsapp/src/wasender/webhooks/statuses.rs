//! Receipts and the confirmations of our own sends.

use serde_json::Value;
use sluice_core::content::fingerprint;
use sluice_core::recipient::canonical;
use sluice_schemas::{ContentType, ErrorClass, MessageStatus, SendError, Status};

use super::Delivery;
use crate::baileys::{Key, read_content, status_of};
use crate::connector::Event;
use crate::json;

/// `messages.update`: `{key, update: {status}}`.
pub(super) fn update(delivery: &Delivery<'_>, entry: &Value) -> Vec<Event> {
    let key = Key::read(entry.get("key").unwrap_or(entry));
    let update = entry.get("update").unwrap_or(entry);
    let Some(status) = update.get("status").and_then(status_of) else {
        return vec![delivery.ignored("an update without a known status")];
    };
    vec![match usable(&key, status) {
        Err(why) => delivery.ignored(why),
        Ok(id) => receipt_of(delivery, &key, id, status, None, json::millis_of(update, &["timestamp", "t"])),
    }]
}

/// `message-receipt.update`: one member's receipt, `{key, receipt: {userJid, receiptTimestamp, readTimestamp}}`
/// or `{status, t}`. Each time in it is a fact of its own.
pub(super) fn receipt(delivery: &Delivery<'_>, entry: &Value) -> Vec<Event> {
    let key = Key::read(entry.get("key").unwrap_or(entry));
    let receipt = entry.get("receipt").unwrap_or(&Value::Null);
    let participant = json::text(receipt, &["userJid"]).or(key.participant);
    let mut facts: Vec<(Status, Option<i64>)> = [
        ("receiptTimestamp", Status::Delivered),
        ("readTimestamp", Status::Read),
        ("playedTimestamp", Status::Played),
    ]
    .into_iter()
    .filter_map(|(name, status)| Some((status, Some(json::millis(receipt.get(name)?)?))))
    .collect();
    if let Some(status) = json::any(receipt, &["status", "type"]).and_then(status_of)
        && !facts.iter().any(|(known, _)| *known == status)
    {
        facts.push((status, json::millis_of(receipt, &["t", "timestamp"])));
    }
    if facts.is_empty() {
        return vec![delivery.ignored("a receipt without a known status or time")];
    }
    facts
        .into_iter()
        .map(|(status, at)| match usable(&key, status) {
            Err(why) => delivery.ignored(why),
            Ok(id) => receipt_of(delivery, &key, id, status, participant, at),
        })
        .collect()
}

/// The id of the message if this is a receipt of one of ours.
fn usable<'a>(key: &Key<'a>, status: Status) -> Result<&'a str, &'static str> {
    if key.from_me == Some(false) {
        return Err("a receipt of a received message");
    }
    if status == Status::Accepted {
        return Err("a status below SENT");
    }
    key.id.ok_or("a receipt without a message id")
}

fn receipt_of(
    delivery: &Delivery<'_>,
    key: &Key<'_>,
    id: &str,
    status: Status,
    participant: Option<&str>,
    at: Option<i64>,
) -> Event {
    let error = (status == Status::Failed).then(|| failure("provider_reported_failure", "status ERROR"));
    Event::Status(Box::new(MessageStatus {
        event_id: delivery.event_id(&["status", id, status.as_str(), participant.unwrap_or_default()]),
        status,
        occurred_at: delivery.occurred_at(at),
        whatsapp_message_id: Some(id.to_owned()),
        recipient: key.chat_by_phone().and_then(|chat| canonical(chat).ok()),
        chat_id: key.chat.map(str::to_owned),
        participant: participant.map(str::to_owned),
        error,
        ..delivery.fact()
    }))
}

/// `message.sent`: WhatsApp took (or refused) a message sent through the API. It carries the WhatsApp id and
/// the content, not the `msgId`: the fingerprint lets the sender bridge the two.
///
/// Forms: `{key, message, success}`; `{key, message, status: "sent"}`; flat `{id, to, status, type, content}`;
/// a failure may have neither key nor recipient except inside its text.
pub(super) fn sent(delivery: &Delivery<'_>, entry: &Value) -> Vec<Event> {
    let key = Key::read(entry.get("key").unwrap_or(&Value::Null));
    let failed = entry.get("success") == Some(&Value::Bool(false))
        || json::any(entry, &["status"]).and_then(status_of) == Some(Status::Failed);
    // A whole number is Wasender's own id, anything else the WhatsApp id.
    let flat_id = json::id(entry, &["id"]);
    let (flat_provider, flat_whatsapp) = match flat_id {
        Some(id) if id.bytes().all(|byte| byte.is_ascii_digit()) => (Some(id), None),
        other => (None, other),
    };
    let whatsapp_id = key.id.map(str::to_owned).or(flat_whatsapp);
    let provider_id = json::id(entry, &["msgId"]).or(flat_provider);
    let said = json::text(entry, &["error", "message"]);
    let chat = key.chat.or_else(|| json::text(entry, &["to", "remoteJid"]));
    let recipient = key
        .chat_by_phone()
        .or(chat)
        .and_then(|chat| canonical(chat).ok())
        .or_else(|| said.filter(|_| failed).and_then(number_in));
    if whatsapp_id.is_none() && provider_id.is_none() && recipient.is_none() {
        return vec![delivery.ignored("a sent message without id or recipient")];
    }
    let (status, error) = if failed {
        (Status::Failed, Some(failure("provider_reported_failure", said.unwrap_or("no reason given"))))
    } else {
        (Status::Sent, None)
    };
    let (content_type, content_sha256) = content(entry);
    let identity = whatsapp_id.as_deref().or(provider_id.as_deref()).unwrap_or_default();
    let unnamed = identity.is_empty();
    let event_id = delivery.event_id(&[
        // Not the id of the plain receipt: this fact also holds the fingerprint.
        "message.sent",
        identity,
        status.as_str(),
        if unnamed { recipient.as_deref().unwrap_or_default() } else { "" },
        &if unnamed { delivery.at.unwrap_or_default().to_string() } else { String::new() },
    ]);
    vec![Event::Status(Box::new(MessageStatus {
        event_id,
        status,
        occurred_at: delivery.occurred_at(json::millis_of(entry, &["messageTimestamp", "timestamp"])),
        whatsapp_message_id: whatsapp_id,
        provider_message_id: provider_id,
        recipient,
        chat_id: chat.map(str::to_owned),
        content_type,
        content_sha256,
        error,
        ..delivery.fact()
    }))]
}

/// Kind and fingerprint of the content shown, if it is shown. Must equal `command_fingerprint` of the request.
fn content(entry: &Value) -> (ContentType, Option<String>) {
    let (kind, text) = match entry.get("message") {
        Some(message) if message.is_object() => {
            let content = read_content(message);
            let shown = content.text.or_else(|| json::text(entry, &["messageBody"]).map(str::to_owned));
            (content.content_type, shown)
        }
        _ => match json::text(entry, &["content", "text"]) {
            // The flat form names its kind in lower case.
            Some(text) => (flat_kind(json::text(entry, &["type"])), Some(text.to_owned())),
            None => (ContentType::Unknown, None),
        },
    };
    if kind == ContentType::Unknown {
        return (kind, None);
    }
    (kind, Some(hex::encode(fingerprint(kind, text.as_deref()))))
}

fn flat_kind(name: Option<&str>) -> ContentType {
    match name.map(str::to_ascii_lowercase).as_deref() {
        None | Some("text") => ContentType::Text,
        Some("image") => ContentType::Image,
        Some("video") => ContentType::Video,
        Some("document") => ContentType::Document,
        Some("audio") => ContentType::Audio,
        Some("sticker") => ContentType::Sticker,
        Some(_) => ContentType::Unknown,
    }
}

/// The last `+digits` in an error text such as "… Invalid number JID: +15551234567".
fn number_in(text: &str) -> Option<String> {
    let (_, after) = text.rsplit_once('+')?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    canonical(&format!("+{digits}")).ok()
}

fn failure(code: &str, detail: &str) -> SendError {
    SendError {
        class: ErrorClass::Permanent,
        code: code.to_owned(),
        provider_code: None,
        detail: Some(json::clipped(detail, 400)),
        retryable: false,
    }
}
