//! Webhooks, read into events.

use sluice_schemas::{ContentType, Direction, InboundWebhook, MessageStatus, ReceivedMessage};
use sluice_whatsapp::Connector;
use sluice_whatsapp::connector::{Event, Unparseable};

use crate::Outcome;
use crate::expected::{Phrase, alternatives};
use crate::index::Row;

/// Id of the session that all samples are taken to belong to.
const SESSION: &str = "corpus";

/// When all samples are taken to have come, milliseconds.
const RECEIVED_AT: i64 = 1_900_000_000_000;

pub(crate) fn judge(connector: &dyn Connector, row: &Row, body: &[u8]) -> Outcome {
    let stripped = connector.strip_secrets(body);
    let webhook = InboundWebhook {
        webhook_id: row.file.clone(),
        provider: connector.provider(),
        session_id: Some(SESSION.to_owned()),
        body: stripped,
        received_at: RECEIVED_AT,
        ..InboundWebhook::default()
    };
    let events = connector.events(&webhook);
    let shown = match &events {
        Ok(events) if events.is_empty() => "no events".to_owned(),
        Ok(events) => events.iter().map(show).collect::<Vec<_>>().join(" + "),
        Err(Unparseable { detail }) => format!("dead letter: {detail}"),
    };
    let mut reasons = Vec::new();
    for phrase in alternatives(&row.expected) {
        match fits(&phrase, &events) {
            Ok(()) => return Outcome { shown, differs: None },
            Err(reason) => reasons.push(reason),
        }
    }
    // Without an index there is nothing to differ from.
    let differs = (!row.expected.is_empty()).then(|| reasons.join("; or "));
    Outcome { shown, differs }
}

fn show(event: &Event) -> String {
    match event {
        Event::Status(status) => format!(
            "messages.status {} id={} chat={} participant={} at={}",
            status.status.as_str(),
            or_dash(&status.whatsapp_message_id),
            or_dash(&status.chat_id),
            or_dash(&status.participant),
            status.occurred_at / 1_000,
        ),
        Event::Received(message) => format!(
            "messages.received {} {} id={} chat={} phone={} lid={} target={} at={} body={}",
            message.direction.as_str(),
            message.content_type.as_str(),
            or_dash(&message.whatsapp_message_id),
            message.chat_id,
            or_dash(&message.from_e164),
            or_dash(&message.from_lid),
            or_dash(&message.target_whatsapp_id),
            message.sent_at.map_or("-".to_owned(), |at| (at / 1_000).to_string()),
            or_dash(&message.text),
        ),
        Event::Connection(status) => format!("sessions.status {}", status.connection.as_str()),
        Event::Link(link) => format!("sessions.links {}", link.kind.as_str()),
        Event::Ignored { kind, why } => format!("ignored {kind} ({why})"),
    }
}

fn or_dash(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("-")
}

/// Whether the events are what the phrase says; else where they are not.
fn fits(phrase: &Phrase<'_>, events: &Result<Vec<Event>, Unparseable>) -> Result<(), String> {
    let text = phrase.text();
    let events = match events {
        Ok(events) => events.as_slice(),
        Err(_) if text.contains("dead letter") => return Ok(()),
        Err(_) => return Err("it is a dead letter".to_owned()),
    };
    let mut words = phrase.words();
    match words.next() {
        Some("messages.received") => received(phrase, events),
        Some("messages.status") => status(phrase, events),
        Some("sessions.status") => connection(words.next().unwrap_or_default(), events),
        Some("no") if text.starts_with("no events") => none(events),
        Some("edit") => edit(phrase, events),
        // "ignored kind X: counted", "unknown kind counted", "message without key.id: counted": whatever is
        // counted and comes to nothing else.
        _ if text.contains("ignored") || text.contains("counted") => ignored(phrase, events),
        _ => Err("the phrase is not understood".to_owned()),
    }
}

fn none(events: &[Event]) -> Result<(), String> {
    if events.is_empty() { Ok(()) } else { Err("there are events".to_owned()) }
}

fn ignored(phrase: &Phrase<'_>, events: &[Event]) -> Result<(), String> {
    let kind = phrase.words().skip_while(|word| *word != "kind").nth(1).filter(|word| word.contains('.'));
    if events.is_empty() {
        return Err("nothing is counted".to_owned());
    }
    for event in events {
        match event {
            Event::Ignored { kind: found, .. } if kind.is_none_or(|kind| kind == found) => {}
            Event::Ignored { kind: found, .. } => return Err(format!("the kind is {found}")),
            other => return Err(format!("it is {}", show(other))),
        }
    }
    Ok(())
}

fn connection(wanted: &str, events: &[Event]) -> Result<(), String> {
    let found = events.iter().find_map(|event| match event {
        Event::Connection(status) => Some(status.connection.as_str()),
        _ => None,
    });
    match found {
        Some(found) if found.eq_ignore_ascii_case(wanted) => Ok(()),
        Some(found) => Err(format!("the connection is {found}")),
        None => Err("no connection is told".to_owned()),
    }
}

/// An edit by the account itself: an echo that names its target, or something counted, but nothing inbound.
fn edit(phrase: &Phrase<'_>, events: &[Event]) -> Result<(), String> {
    let target = phrase.words().nth(2);
    for event in events {
        match event {
            Event::Ignored { .. } => {}
            Event::Received(message)
                if message.content_type == ContentType::Edit
                    && message.direction != Direction::Inbound
                    && message.target_whatsapp_id.as_deref() == target => {}
            other => return Err(format!("it is {}", show(other))),
        }
    }
    if events.is_empty() { Err("nothing is counted".to_owned()) } else { Ok(()) }
}

fn received(phrase: &Phrase<'_>, events: &[Event]) -> Result<(), String> {
    let [Event::Received(message)] = events else {
        return Err("it is not one received message".to_owned());
    };
    let kind = phrase.words().nth(1).unwrap_or_default();
    let is_kind = match message.content_type {
        // The index calls every choice and form "interactive".
        ContentType::ButtonReply | ContentType::ListReply | ContentType::Interactive => kind == "interactive",
        other => other.as_str().eq_ignore_ascii_case(kind),
    };
    if !is_kind && kind != "from" {
        return Err(format!("the kind is {}", message.content_type.as_str()));
    }
    if phrase.text().contains("no phone") && message.from_e164.is_some() {
        return Err("there is a phone number".to_owned());
    }
    for (field, wanted) in phrase.fields() {
        let found = received_field(message, field, wanted);
        if found.as_deref() != Some(wanted) {
            return Err(format!("{field} is {}, not {wanted}", or_dash(&found)));
        }
    }
    // An index that names no time knows that there is none.
    if phrase.field("at").is_none() && phrase.field("body").is_some() && message.sent_at.is_some() {
        return Err("there is a time".to_owned());
    }
    Ok(())
}

fn received_field(message: &ReceivedMessage, field: &str, wanted: &str) -> Option<String> {
    match field {
        "id" => message.whatsapp_message_id.clone(),
        "chat" => Some(message.chat_id.clone()),
        "phone" => message.from_e164.as_ref().map(|number| number.trim_start_matches('+').to_owned()),
        // The index writes the sender in whichever form the sample has: number, JID or LID.
        "sender" => {
            let number = message.from_e164.as_ref().map(|number| number.trim_start_matches('+').to_owned());
            let jid = number.as_ref().map(|number| format!("{number}@s.whatsapp.net"));
            let forms = [number, jid, message.from_lid.clone(), message.participant.clone()];
            forms.into_iter().flatten().find(|form| form == wanted)
        }
        "at" => message.sent_at.map(|at| (at / 1_000).to_string()),
        "on" => message.target_whatsapp_id.clone(),
        "emoji" | "body" => message.text.clone(),
        "reply_to" => message.reply_to_whatsapp_id.clone(),
        _ => None,
    }
}

fn status(phrase: &Phrase<'_>, events: &[Event]) -> Result<(), String> {
    let [Event::Status(status)] = events else {
        return Err("it is not one status".to_owned());
    };
    // "SENT/PROVIDER_ID": the one fact serves as both.
    let wanted = phrase.words().nth(1).unwrap_or_default();
    if !wanted.split('/').any(|name| name == status.status.as_str()) {
        return Err(format!("the status is {}", status.status.as_str()));
    }
    for (field, wanted) in phrase.fields() {
        let found = status_field(status, field);
        let none = wanted == "None" && field == "error";
        if found.as_deref() != Some(wanted) && !none {
            return Err(format!("{field} is {}, not {wanted}", or_dash(&found)));
        }
    }
    Ok(())
}

fn status_field(status: &MessageStatus, field: &str) -> Option<String> {
    match field {
        "id" => status.whatsapp_message_id.clone(),
        "chat" => status.chat_id.clone(),
        "participant" => status.participant.clone(),
        "at" => Some((status.occurred_at / 1_000).to_string()),
        "error" => status.error.as_ref().and_then(|error| error.provider_code.clone()),
        _ => None,
    }
}
