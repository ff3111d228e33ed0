//! Requests on the wire: which call carries out a command (provider documentation, "messages").

use bytes::Bytes;
use serde::Serialize;
use sluice_core::recipient::is_group;
use sluice_schemas::{Command, ContentType, OutboundCommand};

use crate::connector::{Credential, HttpCall, Method, SendContext, Unsupported};

/// Body of `POST /send-message`. The kind is told by which field is there.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Send<'a> {
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticker_url: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    view_once: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<Card<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Place<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    poll: Option<Poll<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Card<'a> {
    name: &'a str,
    phone: &'a str,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    latitude: f64,
    longitude: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Poll<'a> {
    question: &'a str,
    options: &'a [String],
    multi_select: bool,
}

#[derive(Debug, Serialize)]
struct Edit<'a> {
    text: &'a str,
}

#[derive(Debug, Serialize)]
struct Read<'a> {
    key: ReadKey<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadKey<'a> {
    id: &'a str,
    remote_jid: String,
    from_me: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Presence<'a> {
    jid: String,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u32>,
}

pub(super) fn build(command: &OutboundCommand, context: &SendContext) -> Result<HttpCall, Unsupported> {
    match command.command {
        Command::Send => send(command, context),
        Command::Edit => edit(command, context),
        Command::Revoke => {
            let id = target(context)?;
            Ok(HttpCall {
                method: Method::Delete,
                path: format!("/messages/{id}"),
                credential: Credential::SessionKey,
                body: None,
            })
        }
        Command::MarkRead => mark_read(command, context),
        Command::Typing => typing(command, context),
        Command::React => Err(unsupported(
            "command_not_supported",
            "command: Wasender documents no route for reactions; send a text, or use another provider",
        )),
        Command::Cancel | Command::Unknown => Err(unsupported(
            "command_not_supported",
            "command: only SEND, EDIT, REVOKE, MARK_READ and TYPING are calls to Wasender",
        )),
    }
}

fn send(command: &OutboundCommand, context: &SendContext) -> Result<HttpCall, Unsupported> {
    let mut body = Send { to: &context.recipient, ..Send::default() };
    content(command, &mut body)?;
    if !command.mentions.is_empty() {
        body.mentions = mentions(command, context)?;
    }
    if let Some(reply_to) = command.reply_to.as_deref() {
        body.reply_to = Some(reply_id(context, reply_to)?);
    }
    call(Method::Post, "/send-message", &body)
}

fn content<'a>(command: &'a OutboundCommand, body: &mut Send<'a>) -> Result<(), Unsupported> {
    match command.content_type {
        ContentType::Text => {
            body.text =
                Some(given(&command.text).ok_or_else(|| missing("text: is empty; give the text to send"))?);
        }
        ContentType::Image => {
            body.image_url = Some(media_url(command)?);
            body.text = caption(command);
            body.view_once = view_once(command);
        }
        ContentType::Video => {
            body.video_url = Some(media_url(command)?);
            body.text = caption(command);
            body.view_once = view_once(command);
        }
        ContentType::Document => {
            body.document_url = Some(media_url(command)?);
            body.file_name = command.media.as_ref().and_then(|media| media.filename.as_deref());
            body.text = caption(command);
        }
        ContentType::Audio => {
            no_caption(command, "audio")?;
            body.audio_url = Some(media_url(command)?);
        }
        ContentType::Sticker => {
            no_caption(command, "sticker")?;
            body.sticker_url = Some(media_url(command)?);
        }
        ContentType::Location => {
            let place = command.location.as_ref().ok_or_else(|| missing("location: is missing"))?;
            body.location = Some(Place {
                latitude: place.latitude,
                longitude: place.longitude,
                name: place.name.as_deref(),
                address: place.address.as_deref(),
            });
        }
        ContentType::Contacts => body.contact = Some(card(command)?),
        ContentType::Poll => body.poll = Some(poll(command)?),
        ContentType::Template => {
            return Err(unsupported(
                "content_not_supported",
                "content_type: TEMPLATE is not known to Wasender; send TEXT, or bind the session to the Cloud API",
            ));
        }
        ContentType::Interactive => {
            return Err(unsupported(
                "content_not_supported",
                "content_type: INTERACTIVE (buttons, lists) is not known to Wasender; send TEXT or POLL",
            ));
        }
        other => {
            return Err(Unsupported {
                code: "content_not_supported",
                detail: format!("content_type: {} is not a kind that can be sent", other.as_str()),
            });
        }
    }
    Ok(())
}

fn card(command: &OutboundCommand) -> Result<Card<'_>, Unsupported> {
    let [contact] = command.contacts.as_slice() else {
        return Err(unsupported(
            "contacts_not_supported",
            "contacts: Wasender takes exactly one card in a message; send one request for each",
        ));
    };
    let phone =
        given(&contact.phone).ok_or_else(|| missing("contacts[0].phone: is missing; Wasender needs it"))?;
    Ok(Card { name: &contact.name, phone })
}

fn poll(command: &OutboundCommand) -> Result<Poll<'_>, Unsupported> {
    let poll = command.poll.as_ref().ok_or_else(|| missing("poll: is missing"))?;
    if poll.options.len() < 2 {
        return Err(missing("poll.options: give two or more"));
    }
    Ok(Poll { question: &poll.question, options: &poll.options, multi_select: poll.multi_select })
}

fn mentions(command: &OutboundCommand, context: &SendContext) -> Result<Vec<String>, Unsupported> {
    if !is_group(&context.recipient) {
        return Err(unsupported(
            "mentions_not_supported",
            "mentions: Wasender allows them in groups only; leave them out, or send to a group (…@g.us)",
        ));
    }
    if command.content_type != ContentType::Text {
        return Err(unsupported("mentions_not_supported", "mentions: Wasender allows them with TEXT only"));
    }
    Ok(command.mentions.iter().map(|mention| jid(mention)).collect())
}

/// `replyTo` is Wasender's own integer id.
fn reply_id(context: &SendContext, reply_to: &str) -> Result<u64, Unsupported> {
    context.reply_to_provider_id.as_deref().unwrap_or(reply_to).parse().map_err(|_| {
        unsupported(
            "reply_target_unknown",
            "reply_to: Wasender replies to its own msgId only, and none is known for this message; \
             name a message that Sluice sent from this session, or leave it out",
        )
    })
}

fn edit(command: &OutboundCommand, context: &SendContext) -> Result<HttpCall, Unsupported> {
    let id = target(context)?;
    let text = given(&command.text).ok_or_else(|| missing("text: is empty; give the new text"))?;
    call(Method::Put, &format!("/messages/{id}"), &Edit { text })
}

/// What is marked as read is a received message: it has no message_id of ours, so `target_message_id` may
/// hold its WhatsApp id as `messages.received` tells it.
fn mark_read(command: &OutboundCommand, context: &SendContext) -> Result<HttpCall, Unsupported> {
    // WhatsApp's own ids may be 32 hex digits, which alone would pass for a UUID.
    let is_ours = |id: &str| id.contains('-') && uuid::Uuid::try_parse(id).is_ok();
    let named = command.target_message_id.as_deref().filter(|id| !is_ours(id));
    let id =
        context.target_whatsapp_id.as_deref().or(named).filter(|id| !id.is_empty()).ok_or_else(|| {
            unsupported("target_unknown", "target_message_id: give the WhatsApp id of the received message")
        })?;
    let key = ReadKey { id, remote_jid: jid(&context.recipient), from_me: false };
    call(Method::Post, "/messages/read", &Read { key })
}

/// `provider_options`: `wasender.presence` (default `composing`) and `wasender.delay_ms`.
fn typing(command: &OutboundCommand, context: &SendContext) -> Result<HttpCall, Unsupported> {
    let option = |name: &str| command.provider_options.get(name).map(String::as_str);
    let kind = option("wasender.presence").unwrap_or("composing");
    if !matches!(kind, "composing" | "recording" | "paused" | "available" | "unavailable") {
        return Err(unsupported(
            "option_not_supported",
            "provider_options.wasender.presence: is one of composing, recording, paused, available, unavailable",
        ));
    }
    let delay_ms = match option("wasender.delay_ms").map(str::parse) {
        None => None,
        Some(Ok(delay_ms)) => Some(delay_ms),
        Some(Err(_)) => {
            return Err(unsupported(
                "option_not_supported",
                "provider_options.wasender.delay_ms: is a whole number of milliseconds",
            ));
        }
    };
    call(
        Method::Post,
        "/send-presence-update",
        &Presence { jid: jid(&context.recipient), r#type: kind, delay_ms },
    )
}

/// The `msgId` of the target; digits only, since it becomes a part of the path.
fn target(context: &SendContext) -> Result<u64, Unsupported> {
    context.target_provider_id.as_deref().and_then(|id| id.parse().ok()).ok_or_else(|| {
        unsupported(
            "target_unknown",
            "target_message_id: Wasender's msgId of that message is not known; only messages that Sluice \
             sent can be edited or revoked, and only once they are SUBMITTED",
        )
    })
}

/// A canonical recipient as WhatsApp writes it.
fn jid(canonical: &str) -> String {
    match canonical.strip_prefix('+') {
        Some(digits) => format!("{digits}@s.whatsapp.net"),
        None if !canonical.is_empty() && canonical.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{canonical}@s.whatsapp.net")
        }
        None => canonical.to_owned(),
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn caption(command: &OutboundCommand) -> Option<&str> {
    given(&command.text).or_else(|| command.media.as_ref().and_then(|media| given(&media.caption)))
}

fn no_caption(command: &OutboundCommand, kind: &str) -> Result<(), Unsupported> {
    if caption(command).is_none() {
        return Ok(());
    }
    Err(Unsupported {
        code: "caption_not_supported",
        detail: format!("text: an {kind} takes no caption; send the text as a message of its own"),
    })
}

fn view_once(command: &OutboundCommand) -> bool {
    command.media.as_ref().is_some_and(|media| media.view_once)
}

fn media_url(command: &OutboundCommand) -> Result<&str, Unsupported> {
    command.media.as_ref().and_then(|media| given(&media.url)).ok_or_else(|| {
        unsupported("media_url_required", "media.url: Wasender fetches media from a public URL; give one")
    })
}

fn call(method: Method, path: &str, body: &impl Serialize) -> Result<HttpCall, Unsupported> {
    // Serialising plain structs of text and numbers cannot fail; a number that is no number becomes null.
    let body = serde_json::to_vec(body).map_err(|error| Unsupported {
        code: "content_not_supported",
        detail: format!("the content is not JSON: {error}"),
    })?;
    Ok(HttpCall {
        method,
        path: path.to_owned(),
        credential: Credential::SessionKey,
        body: Some(Bytes::from(body)),
    })
}

fn unsupported(code: &'static str, detail: &str) -> Unsupported {
    Unsupported { code, detail: detail.to_owned() }
}

fn missing(detail: &str) -> Unsupported {
    unsupported("content_missing", detail)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sluice_schemas::{Contact, Location, Media, Poll as PollContent};

    use super::*;

    fn request(content_type: ContentType) -> OutboundCommand {
        OutboundCommand {
            command: Command::Send,
            session_id: "s".into(),
            idempotency_key: "k".into(),
            to: Some("+15551230001".into()),
            content_type,
            ..Default::default()
        }
    }

    fn context() -> SendContext {
        SendContext { recipient: "+15551230001".into(), ..Default::default() }
    }

    fn body(call: &HttpCall) -> Value {
        serde_json::from_slice(call.body.as_ref().unwrap()).unwrap()
    }

    fn media(filename: Option<&str>, caption: Option<&str>) -> Option<Media> {
        Some(Media {
            url: Some("https://files.example/a".into()),
            filename: filename.map(str::to_owned),
            caption: caption.map(str::to_owned),
            ..Default::default()
        })
    }

    #[test]
    fn every_kind_is_told_by_its_field() {
        let url = "https://files.example/a";
        let to = "+15551230001";
        let cases = [
            (
                OutboundCommand { text: Some("hi".into()), ..request(ContentType::Text) },
                json!({"to": to, "text": "hi"}),
            ),
            (
                OutboundCommand { media: media(None, Some("cap")), ..request(ContentType::Image) },
                json!({"to": to, "imageUrl": url, "text": "cap"}),
            ),
            (
                OutboundCommand { media: media(None, None), ..request(ContentType::Video) },
                json!({"to": to, "videoUrl": url}),
            ),
            (
                OutboundCommand { media: media(Some("a.pdf"), None), ..request(ContentType::Document) },
                json!({"to": to, "documentUrl": url, "fileName": "a.pdf"}),
            ),
            (
                OutboundCommand { media: media(None, None), ..request(ContentType::Audio) },
                json!({"to": to, "audioUrl": url}),
            ),
            (
                OutboundCommand { media: media(None, None), ..request(ContentType::Sticker) },
                json!({"to": to, "stickerUrl": url}),
            ),
            (
                OutboundCommand {
                    contacts: vec![Contact {
                        name: "Ada".into(),
                        phone: Some("+4412".into()),
                        ..Default::default()
                    }],
                    ..request(ContentType::Contacts)
                },
                json!({"to": to, "contact": {"name": "Ada", "phone": "+4412"}}),
            ),
            (
                OutboundCommand {
                    location: Some(Location {
                        latitude: 1.5,
                        longitude: -2.0,
                        name: Some("x".into()),
                        address: None,
                    }),
                    ..request(ContentType::Location)
                },
                json!({"to": to, "location": {"latitude": 1.5, "longitude": -2.0, "name": "x"}}),
            ),
            (
                OutboundCommand {
                    poll: Some(PollContent {
                        question: "q".into(),
                        options: vec!["a".into(), "b".into()],
                        multi_select: false,
                    }),
                    ..request(ContentType::Poll)
                },
                json!({"to": to, "poll": {"question": "q", "options": ["a", "b"], "multiSelect": false}}),
            ),
        ];
        for (command, expected) in cases {
            let call = build(&command, &context()).unwrap();
            assert_eq!((call.method, call.path.as_str()), (Method::Post, "/send-message"));
            assert_eq!(body(&call), expected);
        }
    }

    #[test]
    fn replies_mentions_and_other_commands_reach_their_routes() {
        let text = OutboundCommand { text: Some("hi".into()), ..request(ContentType::Text) };
        let reply = OutboundCommand { reply_to: Some("9d59d6c6".into()), ..text.clone() };
        let known = SendContext { reply_to_provider_id: Some("77".into()), ..context() };
        assert_eq!(body(&build(&reply, &known).unwrap())["replyTo"], 77);
        assert_eq!(build(&reply, &context()).unwrap_err().code, "reply_target_unknown");

        let mention = OutboundCommand { mentions: vec!["+15550002222".into()], ..text.clone() };
        let group = SendContext { recipient: "1203-4@g.us".into(), ..Default::default() };
        assert_eq!(
            body(&build(&mention, &group).unwrap())["mentions"],
            json!(["15550002222@s.whatsapp.net"])
        );
        assert_eq!(build(&mention, &context()).unwrap_err().code, "mentions_not_supported");

        let target = SendContext {
            target_provider_id: Some("42".into()),
            target_whatsapp_id: Some("3EB0A".into()),
            ..context()
        };
        let of = |command| OutboundCommand { command, ..text.clone() };
        let edit = build(&of(Command::Edit), &target).unwrap();
        assert_eq!((edit.method, edit.path.as_str()), (Method::Put, "/messages/42"));
        let revoke = build(&of(Command::Revoke), &target).unwrap();
        assert_eq!(
            (revoke.method, revoke.path.as_str(), revoke.body),
            (Method::Delete, "/messages/42", None)
        );
        let read = body(&build(&of(Command::MarkRead), &target).unwrap());
        assert_eq!(
            read,
            json!({"key": {"id": "3EB0A", "remoteJid": "15551230001@s.whatsapp.net", "fromMe": false}})
        );
        let received = "0123456789ABCDEF0123456789ABCDEF";
        let by_id = OutboundCommand { target_message_id: Some(received.into()), ..of(Command::MarkRead) };
        assert_eq!(body(&build(&by_id, &context()).unwrap())["key"]["id"], received);
        let ours = "9d59d6c6-fdc0-5ae7-a88d-4054d84997f2";
        let unknown = OutboundCommand { target_message_id: Some(ours.into()), ..of(Command::MarkRead) };
        assert_eq!(build(&unknown, &context()).unwrap_err().code, "target_unknown");
        let typing = body(&build(&of(Command::Typing), &target).unwrap());
        assert_eq!(typing, json!({"jid": "15551230001@s.whatsapp.net", "type": "composing"}));
        let escape = SendContext { target_provider_id: Some("../user".into()), ..context() };
        assert_eq!(build(&of(Command::Edit), &escape).unwrap_err().code, "target_unknown");
    }

    #[test]
    fn what_cannot_be_sent_names_the_field() {
        for (command, field) in [
            (request(ContentType::Template), "content_type"),
            (request(ContentType::Interactive), "content_type"),
            (request(ContentType::Text), "text"),
            (request(ContentType::Image), "media.url"),
            (request(ContentType::Contacts), "contacts"),
            (request(ContentType::Poll), "poll"),
            (OutboundCommand { command: Command::React, ..request(ContentType::Text) }, "command"),
            (
                OutboundCommand {
                    text: Some("t".into()),
                    media: media(None, None),
                    ..request(ContentType::Audio)
                },
                "text",
            ),
        ] {
            let refused = build(&command, &context()).unwrap_err();
            assert!(refused.detail.starts_with(&format!("{field}:")), "{refused:?}");
        }
    }
}
