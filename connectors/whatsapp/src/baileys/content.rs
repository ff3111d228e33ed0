//! The content of a message, from WhatsApp's protobuf names to our flat fields.

use base64::Engine;
use serde_json::Value;
use sluice_schemas::{Contact, ContentType, Location, Media};

use crate::json;

/// Wrappers that hold the real message under `message`.
const WRAPPERS: [&str; 9] = [
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "groupMentionedMessage",
    "botInvokeMessage",
    "editedMessage",
];

/// Wrappers inside wrappers that are followed; WhatsApp uses two at most.
const DEPTH_MAX: usize = 4;

/// What a message says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// Its kind; `Unknown` for kinds we do not know.
    pub content_type: ContentType,
    /// Text, caption, emoji, question, or title of a choice.
    pub text: Option<String>,
    /// Media, still encrypted at WhatsApp: `media_key` opens it.
    pub media: Option<Media>,
    /// A place.
    pub location: Option<Location>,
    /// Cards.
    pub contacts: Vec<Contact>,
    /// Id of the button or row chosen.
    pub choice_id: Option<String>,
    /// WhatsApp id of the message replied to.
    pub reply_to: Option<String>,
    /// WhatsApp id of the message that a reaction, edit, revoke or vote is about.
    pub target: Option<String>,
    /// Whether it was forwarded.
    pub forwarded: bool,
    /// Ad the chat began with, as JSON.
    pub referral_json: Option<String>,
}

impl Content {
    fn of(content_type: ContentType, text: Option<&str>) -> Self {
        Self { content_type, text: text.map(str::to_owned), ..Self::default() }
    }

    fn targeting(content_type: ContentType, text: Option<&str>, key: Option<&Value>) -> Self {
        let target = key.and_then(|key| json::text(key, &["id"])).map(str::to_owned);
        Self { target, ..Self::of(content_type, text) }
    }
}

/// Reads `message`. Anything else than an object is `Unknown`.
pub fn read(message: &Value) -> Content {
    let (inner, view_once, edited) = unwrap(message);
    let mut content = kind(inner);
    if edited && content.content_type != ContentType::Edit && content.target.is_none() {
        // `editedMessage` around a plain message: the id of the target is the message's own.
        content.content_type = ContentType::Edit;
    }
    if let Some(media) = &mut content.media {
        media.view_once |= view_once;
    }
    context(inner, &mut content);
    content
}

fn unwrap(message: &Value) -> (&Value, bool, bool) {
    let (mut inner, mut view_once, mut edited) = (message, false, false);
    for _ in 0..DEPTH_MAX {
        let Some((name, next)) = WRAPPERS.iter().find_map(|name| {
            let next = inner.get(*name)?.get("message").filter(|next| next.is_object())?;
            Some((*name, next))
        }) else {
            break;
        };
        view_once |= name.starts_with("viewOnce");
        edited |= name == "editedMessage";
        inner = next;
    }
    (inner, view_once, edited)
}

fn kind(message: &Value) -> Content {
    let part = |name: &str| message.get(name).filter(|part| part.is_object());
    // First what is about another message: such messages may carry more beside it.
    if let Some(protocol) = part("protocolMessage") {
        return of_protocol(protocol);
    }
    if let Some(reaction) = part("reactionMessage") {
        return Content::targeting(
            ContentType::Reaction,
            json::text(reaction, &["text"]),
            reaction.get("key"),
        );
    }
    if let Some(vote) = part("pollUpdateMessage") {
        return Content::targeting(ContentType::PollVote, None, vote.get("pollCreationMessageKey"));
    }
    if let Some(content) = of_choice(message) {
        return content;
    }
    for (name, content_type) in [
        ("imageMessage", ContentType::Image),
        ("videoMessage", ContentType::Video),
        ("ptvMessage", ContentType::Video),
        ("audioMessage", ContentType::Audio),
        ("documentMessage", ContentType::Document),
        ("stickerMessage", ContentType::Sticker),
    ] {
        if let Some(file) = part(name) {
            let media = media(file);
            return Content {
                media: Some(media.clone()),
                ..Content::of(content_type, media.caption.as_deref())
            };
        }
    }
    if let Some(place) = part("locationMessage").or_else(|| part("liveLocationMessage")) {
        return of_location(place);
    }
    if let Some(content) = of_contacts(message) {
        return content;
    }
    for name in ["pollCreationMessage", "pollCreationMessageV2", "pollCreationMessageV3"] {
        if let Some(poll) = part(name) {
            return Content::of(ContentType::Poll, json::text(poll, &["name"]));
        }
    }
    if let Some(text) = json::text(message, &["conversation"]) {
        return Content::of(ContentType::Text, Some(text));
    }
    if let Some(extended) = part("extendedTextMessage") {
        return Content::of(ContentType::Text, json::text(extended, &["text"]));
    }
    for name in ["interactiveMessage", "buttonsMessage", "listMessage", "templateMessage"] {
        if let Some(part) = part(name) {
            return Content::of(
                ContentType::Interactive,
                json::text(part, &["contentText", "description", "title"]),
            );
        }
    }
    if part("pinInChatMessage").is_some() || part("senderKeyDistributionMessage").is_some() {
        return Content::of(ContentType::System, None);
    }
    Content::default()
}

/// `type` 0 is a revoke, 14 an edit; the rest are signals between devices.
fn of_protocol(protocol: &Value) -> Content {
    let key = protocol.get("key");
    let kind = protocol.get("type").unwrap_or(&Value::Null);
    let is = |number: i64, name: &str| json::count(kind) == Some(number) || kind.as_str() == Some(name);
    if is(14, "MESSAGE_EDIT") || protocol.get("editedMessage").is_some_and(Value::is_object) {
        let edited = protocol.get("editedMessage").map(self::kind_of_edit).unwrap_or_default();
        return Content { text: edited.text, ..Content::targeting(ContentType::Edit, None, key) };
    }
    if is(0, "REVOKE") {
        return Content::targeting(ContentType::Revoke, None, key);
    }
    Content::of(ContentType::System, None)
}

/// The new content of an edit. It is read without following another edit, so that the depth stays bounded.
fn kind_of_edit(edited: &Value) -> Content {
    let (inner, _, _) = unwrap(edited);
    let text = json::text(inner, &["conversation"])
        .or_else(|| inner.get("extendedTextMessage").and_then(|part| json::text(part, &["text"])))
        .or_else(|| {
            ["imageMessage", "videoMessage", "documentMessage"]
                .iter()
                .find_map(|name| json::text(inner.get(*name)?, &["caption"]))
        });
    Content::of(ContentType::Edit, text)
}

fn of_choice(message: &Value) -> Option<Content> {
    let choice = |content_type, id: Option<&str>, title: Option<&str>| {
        Some(Content { choice_id: id.map(str::to_owned), ..Content::of(content_type, title) })
    };
    if let Some(part) = message.get("buttonsResponseMessage") {
        let title = json::text(part, &["selectedDisplayText"]);
        return choice(ContentType::ButtonReply, json::text(part, &["selectedButtonId"]), title);
    }
    if let Some(part) = message.get("templateButtonReplyMessage") {
        let title = json::text(part, &["selectedDisplayText"]);
        return choice(ContentType::ButtonReply, json::text(part, &["selectedId"]), title);
    }
    if let Some(part) = message.get("listResponseMessage") {
        let row = part.get("singleSelectReply").and_then(|reply| json::text(reply, &["selectedRowId"]));
        return choice(ContentType::ListReply, row, json::text(part, &["title"]));
    }
    if let Some(part) = message.get("interactiveResponseMessage") {
        let title = part.get("body").and_then(|body| json::text(body, &["text"]));
        let flow = part.get("nativeFlowResponseMessage");
        let parameters: Option<Value> = flow
            .and_then(|flow| json::text(flow, &["paramsJson"]))
            .and_then(|text| serde_json::from_str(text).ok());
        let id = parameters.as_ref().and_then(|parameters| json::text(parameters, &["id"]));
        return choice(ContentType::ButtonReply, id, title);
    }
    let interactive = message.get("interactiveMessage")?;
    let (content_type, part) =
        match (interactive.get("buttonReplyMessage"), interactive.get("listReplyMessage")) {
            (Some(part), _) => (ContentType::ButtonReply, part),
            (None, Some(part)) => (ContentType::ListReply, part),
            (None, None) => return None,
        };
    choice(content_type, json::text(part, &["id"]), json::text(part, &["title"]))
}

fn of_location(place: &Value) -> Content {
    let name = json::text(place, &["name"]);
    let degrees = |field: &str| place.get(field).and_then(json::number).unwrap_or_default();
    let location = Location {
        latitude: degrees("degreesLatitude"),
        longitude: degrees("degreesLongitude"),
        name: name.map(str::to_owned),
        address: json::text(place, &["address"]).map(str::to_owned),
    };
    Content { location: Some(location), ..Content::of(ContentType::Location, name) }
}

fn of_contacts(message: &Value) -> Option<Content> {
    let cards: Vec<&Value> = match message.get("contactsArrayMessage") {
        Some(array) => array.get("contacts")?.as_array()?.iter().collect(),
        None => vec![message.get("contactMessage")?],
    };
    let contacts: Vec<Contact> = cards.into_iter().map(contact).collect();
    let name = contacts.first().map(|contact| contact.name.clone());
    Some(Content { contacts, ..Content::of(ContentType::Contacts, name.as_deref()) })
}

fn contact(card: &Value) -> Contact {
    let vcard = json::text(card, &["vcard"]);
    let line = |name: &str| {
        vcard?.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            // "TEL;type=CELL;waid=1555" and "item1.TEL:…" are both telephone lines.
            let field_name = field.split(';').next()?.rsplit('.').next()?;
            field_name.eq_ignore_ascii_case(name).then_some((field, value.trim()))
        })
    };
    let telephone = line("TEL");
    Contact {
        name: json::text(card, &["displayName"])
            .or_else(|| line("FN").map(|(_, value)| value))
            .unwrap_or_default()
            .to_owned(),
        phone: telephone.map(|(_, value)| value.to_owned()),
        whatsapp_id: telephone
            .and_then(|(field, _)| field.split(';').find_map(|part| part.strip_prefix("waid=")))
            .map(str::to_owned),
        organization: line("ORG").map(|(_, value)| value.trim_end_matches(';').to_owned()),
        vcard: vcard.map(str::to_owned),
    }
}

fn media(file: &Value) -> Media {
    let owned = |names: &[&str]| json::text(file, names).map(str::to_owned);
    Media {
        url: owned(&["url"]),
        mime_type: owned(&["mimetype"]),
        filename: owned(&["fileName", "title"]),
        caption: owned(&["caption"]),
        voice: json::flag(file, "ptt"),
        view_once: json::flag(file, "viewOnce"),
        // WhatsApp gives the hash in base64.
        sha256: json::text(file, &["fileSha256"])
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .filter(|hash| hash.len() == 32)
            .map(hex::encode),
        size_bytes: file.get("fileLength").and_then(json::count),
        media_key: owned(&["mediaKey"]),
        ..Media::default()
    }
}

/// `contextInfo` sits inside whichever kind the message is.
fn context(message: &Value, content: &mut Content) {
    let Some(info) = message
        .as_object()
        .into_iter()
        .flat_map(|parts| parts.values())
        .find_map(|part| part.get("contextInfo").filter(|info| info.is_object()))
    else {
        return;
    };
    content.reply_to = json::text(info, &["stanzaId"]).map(str::to_owned);
    content.forwarded = json::flag(info, "isForwarded");
    content.referral_json = info
        .get("externalAdReply")
        // A link preview is written in the same place; only an ad has these.
        .filter(|ad| json::any(ad, &["ctwaClid", "sourceId"]).is_some())
        .map(Value::to_string);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_is_told_with_its_text() {
        use ContentType as T;
        for (message, kind, text) in [
            (json!({"conversation": "a"}), T::Text, Some("a")),
            (json!({"extendedTextMessage": {"text": "b"}}), T::Text, Some("b")),
            (json!({"ephemeralMessage": {"message": {"conversation": "c"}}}), T::Text, Some("c")),
            (json!({"imageMessage": {"caption": "d"}}), T::Image, Some("d")),
            (json!({"videoMessage": {}}), T::Video, None),
            (json!({"audioMessage": {"ptt": true}}), T::Audio, None),
            (
                json!({"documentWithCaptionMessage": {"message": {"documentMessage": {"caption": "e", "fileName": "x"}}}}),
                T::Document,
                Some("e"),
            ),
            (json!({"stickerMessage": {}}), T::Sticker, None),
            (json!({"locationMessage": {"degreesLatitude": 1.5, "name": "f"}}), T::Location, Some("f")),
            (json!({"contactMessage": {"displayName": "g"}}), T::Contacts, Some("g")),
            (json!({"pollCreationMessageV3": {"name": "h"}}), T::Poll, Some("h")),
            (json!({"reactionMessage": {"text": "👍", "key": {"id": "1"}}}), T::Reaction, Some("👍")),
            (json!({"listResponseMessage": {"title": "i"}}), T::ListReply, Some("i")),
            (json!({"buttonsResponseMessage": {"selectedDisplayText": "j"}}), T::ButtonReply, Some("j")),
            (json!({"protocolMessage": {"type": 0, "key": {"id": "1"}}}), T::Revoke, None),
            (json!({"protocolMessage": {"type": "REVOKE", "key": {"id": "1"}}}), T::Revoke, None),
            (json!({"protocolMessage": {"type": 5}}), T::System, None),
            (json!({"somethingNew": {}}), T::Unknown, None),
            (json!(null), T::Unknown, None),
        ] {
            let content = read(&message);
            assert_eq!((content.content_type, content.text.as_deref()), (kind, text), "{message}");
        }
    }

    #[test]
    fn an_edit_names_its_target_and_new_text() {
        let edit = json!({"protocolMessage": {"type": 14, "key": {"id": "old"},
            "editedMessage": {"extendedTextMessage": {"text": "new"}}}});
        let content = read(&edit);
        assert_eq!(content.content_type, ContentType::Edit);
        assert_eq!((content.target.as_deref(), content.text.as_deref()), (Some("old"), Some("new")));
        let wrapped = read(&json!({"editedMessage": {"message": edit}}));
        assert_eq!((wrapped.content_type, wrapped.target.as_deref()), (ContentType::Edit, Some("old")));
    }

    #[test]
    fn media_cards_replies_and_ads_keep_their_facts() {
        let hash = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        let image =
            read(&json!({"viewOnceMessageV2": {"message": {"imageMessage": {"url": "u", "mediaKey": "k",
            "mimetype": "image/jpeg", "fileLength": "1024", "fileSha256": hash,
            "contextInfo": {"stanzaId": "R", "isForwarded": true}}}}}));
        let media = image.media.unwrap();
        assert_eq!(media.size_bytes, Some(1024));
        assert_eq!(media.sha256.as_deref(), Some("07".repeat(32).as_str()));
        assert!(media.view_once && image.forwarded);
        assert_eq!(image.reply_to.as_deref(), Some("R"));

        let card = read(&json!({"contactMessage": {"displayName": "Ada",
            "vcard": "BEGIN:VCARD\nFN:Ada\nORG:Acme;\nitem1.TEL;waid=15550001:+1 555 0001\nEND:VCARD"}}));
        let contact = &card.contacts[0];
        assert_eq!(contact.whatsapp_id.as_deref(), Some("15550001"));
        assert_eq!(contact.organization.as_deref(), Some("Acme"));

        let ad = read(&json!({"extendedTextMessage": {"text": "t",
            "contextInfo": {"externalAdReply": {"sourceId": "9"}}}}));
        assert!(ad.referral_json.is_some());
    }
}
