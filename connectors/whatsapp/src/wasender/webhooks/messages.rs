//! Messages in, and echoes of the account's own.

use serde_json::Value;
use sluice_schemas::{ContentType, Direction, Provider, ReceivedMessage};

use super::Delivery;
use crate::baileys::{Key, read_content};
use crate::connector::Event;
use crate::json;

/// `messages.received` and its kin: `{key, message, messageBody, pushName, messageTimestamp}`.
///
/// An entry written by the account itself is an echo. Wasender does not tell one typed on the phone from one
/// sent by the API, so both are `PHONE_ECHO`; who must know compares with `message.sent` by WhatsApp id.
pub(super) fn received(delivery: &Delivery<'_>, entry: &Value) -> Vec<Event> {
    let key = Key::read(entry.get("key").unwrap_or(&Value::Null));
    let Some(id) = key.id else {
        return vec![delivery.ignored("a message without an id")];
    };
    let Some(chat) = key.chat.or_else(|| json::text(entry, &["remoteJid"])) else {
        return vec![delivery.ignored("a message without a chat")];
    };
    if chat.ends_with("@newsletter") {
        return vec![delivery.ignored("a channel post, not a chat")];
    }
    if chat == "status@broadcast" {
        return vec![delivery.ignored("a story, not a chat")];
    }
    let message = entry.get("message").unwrap_or(&Value::Null);
    let content = read_content(message);
    let body = json::text(entry, &["messageBody"]);
    let content_type = match content.content_type {
        ContentType::Unknown if !message.is_object() && body.is_some() => ContentType::Text,
        known => known,
    };
    let text = content.text.or_else(|| body.map(str::to_owned));
    let from_me = key.from_me == Some(true);
    let (target, choice_title) = match content_type {
        ContentType::ButtonReply | ContentType::ListReply => (content.target, text.clone()),
        // `editedMessage` around plain content: the message itself is the target.
        ContentType::Edit => (content.target.or_else(|| Some(id.to_owned())), None),
        _ => (content.target, None),
    };
    let base = base(delivery, &key, chat);
    vec![Event::Received(Box::new(ReceivedMessage {
        event_id: event_id(delivery, chat, id, from_me),
        whatsapp_message_id: Some(id.to_owned()),
        provider_message_id: json::id(entry, &["msgId"]),
        from_name: json::text(entry, &["pushName"]).filter(|_| !from_me).map(str::to_owned),
        content_type,
        text,
        media: content.media,
        location: content.location,
        contacts: content.contacts,
        choice_id: content.choice_id,
        choice_title,
        reply_to_whatsapp_id: content.reply_to,
        target_whatsapp_id: target,
        referral_json: content.referral_json,
        forwarded: content.forwarded,
        sent_at: json::millis_of(entry, &["messageTimestamp"]).or(delivery.at),
        ..base
    }))]
}

/// `messages.reaction`: `{key: <message reacted to>, reaction: {text, key: <the reaction>}}`. In the
/// documentation both keys are the same; then the reaction has no id of its own.
pub(super) fn reaction(delivery: &Delivery<'_>, entry: &Value) -> Vec<Event> {
    let about = Key::read(entry.get("key").unwrap_or(&Value::Null));
    let reaction = entry.get("reaction").unwrap_or(&Value::Null);
    let own = Key::read(reaction.get("key").unwrap_or(&Value::Null));
    let Some(target) = about.id else {
        return vec![delivery.ignored("a reaction without a target")];
    };
    let own_id = own.id.filter(|id| *id != target);
    let writer = if own_id.is_some() { &own } else { &about };
    let Some(chat) = about.chat.or(own.chat) else {
        return vec![delivery.ignored("a reaction without a chat")];
    };
    let text = json::text(reaction, &["text"]);
    let at = json::millis_of(reaction, &["senderTimestampMs"]);
    // Only a key of its own tells who reacted; the target's `fromMe` tells who wrote the target.
    let from_me = own_id.is_some() && own.from_me == Some(true);
    let event_id = match own_id {
        Some(id) => event_id(delivery, chat, id, from_me),
        None => delivery.event_id(&[
            "reaction",
            chat,
            target,
            writer.participant.unwrap_or_default(),
            text.unwrap_or_default(),
            &at.or(delivery.at).unwrap_or_default().to_string(),
        ]),
    };
    let base = base(delivery, writer, chat);
    let direction = if from_me { Direction::PhoneEcho } else { Direction::Inbound };
    vec![Event::Received(Box::new(ReceivedMessage {
        event_id,
        direction,
        whatsapp_message_id: own_id.map(str::to_owned),
        content_type: ContentType::Reaction,
        text: text.map(str::to_owned),
        target_whatsapp_id: Some(target.to_owned()),
        sent_at: at.or(delivery.at),
        ..base
    }))]
}

/// One message has one id, whichever of the overlapping events told it.
fn event_id(delivery: &Delivery<'_>, chat: &str, id: &str, from_me: bool) -> String {
    delivery.event_id(&["received", chat, id, if from_me { "me" } else { "them" }])
}

fn base(delivery: &Delivery<'_>, key: &Key<'_>, chat: &str) -> ReceivedMessage {
    let sender = key.sender();
    let is_group = chat.ends_with("@g.us");
    ReceivedMessage {
        session_id: delivery.session_id.to_owned(),
        tenant_id: delivery.webhook.tenant_id.clone(),
        direction: if key.from_me == Some(true) { Direction::PhoneEcho } else { Direction::Inbound },
        provider: Provider::Wasender,
        chat_id: chat.to_owned(),
        from_e164: sender.e164,
        from_lid: sender.lid,
        group_id: is_group.then(|| chat.to_owned()),
        participant: key.participant.filter(|_| is_group).map(str::to_owned),
        received_at: delivery.webhook.received_at,
        webhook_id: delivery.webhook.webhook_id.clone(),
        ..ReceivedMessage::default()
    }
}
