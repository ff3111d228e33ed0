//! The JSON of a send, and the command it stands for. Pure: no IO, no clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sluice_schemas::{
    Command, Contact, ContentType, InDoubtPolicy, Location, Media, Order, OutboundCommand, Poll, Priority,
    Template,
};
use utoipa::ToSchema;

use crate::api::json;
use crate::api::problem::{FieldError, Kind, Problem};

/// Longest idempotency key, bytes.
pub(crate) const KEY_BYTES_MAX: usize = 255;
/// Most labels, and most provider options.
pub(crate) const MAP_ENTRIES_MAX: usize = 64;
/// Longest label name or value, bytes.
pub(crate) const LABEL_BYTES_MAX: usize = 1_024;

/// A message to send. Give `text`, or `content` for anything else.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SendRequest {
    /// Recipient: E.164, a group id (`…@g.us`), a channel, a LID or a `@username`.
    #[schema(required, example = "+15551234567")]
    pub(crate) to: String,
    /// Text of a text message.
    #[schema(example = "hi")]
    pub(crate) text: Option<String>,
    /// What to send, when it is not just text.
    pub(crate) content: Option<Content>,
    /// Ask for a link preview of the text.
    pub(crate) preview_url: bool,
    /// Not before this time (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) send_at: Option<DateTime<Utc>>,
    /// Not after this time (RFC 3339): then the message is EXPIRED. Default: the deployment's ttl.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// Lane inside the session.
    pub(crate) priority: Option<PriorityName>,
    /// `chat`: after earlier messages of the chat. `none`: as soon as possible.
    pub(crate) order: Option<OrderName>,
    /// The message replied to: our message_id, or the provider's id.
    pub(crate) reply_to: Option<String>,
    /// Recipients mentioned in the text (groups).
    pub(crate) mentions: Vec<String>,
    /// What to do when nobody knows whether an attempt was sent. Default: the session decides.
    pub(crate) in_doubt_policy: Option<InDoubtPolicyName>,
    /// At most this many attempts.
    #[schema(minimum = 1)]
    pub(crate) max_attempts: Option<i32>,
    /// Copied to every status.
    pub(crate) campaign_id: Option<String>,
    /// Copied to every status.
    pub(crate) labels: BTreeMap<String, String>,
    /// Options for one provider, for example `cloud.biz_opaque_callback_data`.
    pub(crate) provider_options: BTreeMap<String, String>,
}

/// A line of a batch: a send with its idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct BatchLine {
    /// Chosen by the caller; the same key and session is the same message.
    #[schema(example = "order-4711-shipped")]
    pub(crate) idempotency_key: String,
    /// The message.
    #[serde(flatten)]
    pub(crate) message: SendRequest,
}

impl BatchLine {
    /// Reads a line. Not derived, because serde cannot refuse unknown fields through `flatten`.
    ///
    /// # Errors
    /// A problem that names what is wrong.
    pub(crate) fn read(line: &[u8]) -> Result<Self, Problem> {
        let mut object: serde_json::Map<String, serde_json::Value> = json::read(line)?;
        let key = "/idempotency_key";
        let idempotency_key = match object.remove("idempotency_key") {
            Some(serde_json::Value::String(text)) => text,
            Some(_) => {
                return Err(Problem::new(Kind::InvalidRequest).error(
                    key,
                    "wrong_type",
                    "it must be a string",
                ));
            }
            None => {
                let detail = "every line needs its idempotency_key";
                return Err(Problem::new(Kind::InvalidIdempotencyKey).error(key, "missing", detail));
            }
        };
        check_key(&idempotency_key)
            .map_err(|detail| Problem::new(Kind::InvalidIdempotencyKey).error(key, "invalid", detail))?;
        Ok(Self { idempotency_key, message: json::from_value(serde_json::Value::Object(object))? })
    }
}

/// What to send. `type` says which of the other fields must be given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Content {
    /// Kind of content.
    #[serde(rename = "type")]
    #[schema(required)]
    pub(crate) kind: Option<ContentKind>,
    /// Of `text`.
    pub(crate) text: Option<String>,
    /// Of `image`, `video`, `audio`, `document`, `sticker`.
    pub(crate) media: Option<MediaBody>,
    /// Of `location`.
    pub(crate) location: Option<LocationBody>,
    /// Of `contacts`.
    pub(crate) contacts: Option<Vec<ContactBody>>,
    /// Of `poll`.
    pub(crate) poll: Option<PollBody>,
    /// Of `template`.
    pub(crate) template: Option<TemplateBody>,
    /// Of `interactive`: the object of the Cloud API (buttons, lists).
    #[schema(value_type = Option<Object>)]
    pub(crate) interactive: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Kinds of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub(crate) enum ContentKind {
    Text,
    Image,
    Video,
    Audio,
    Document,
    Sticker,
    Location,
    Contacts,
    Poll,
    Template,
    Interactive,
}

/// A media file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MediaBody {
    /// Public URL of the file.
    #[schema(example = "https://example.com/a.jpg")]
    pub(crate) url: Option<String>,
    /// Id of the file at the provider, instead of a URL.
    pub(crate) provider_media_id: Option<String>,
    /// MIME type.
    #[schema(example = "image/jpeg")]
    pub(crate) mime_type: Option<String>,
    /// File name shown (documents).
    pub(crate) filename: Option<String>,
    /// Caption shown.
    pub(crate) caption: Option<String>,
    /// A voice note (audio).
    pub(crate) voice: bool,
    /// May be opened once only.
    pub(crate) view_once: bool,
}

/// A place.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocationBody {
    /// Degrees north.
    pub(crate) latitude: f64,
    /// Degrees east.
    pub(crate) longitude: f64,
    /// Name of the place.
    pub(crate) name: Option<String>,
    /// Address of the place.
    pub(crate) address: Option<String>,
}

/// A contact card.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContactBody {
    /// Name shown.
    pub(crate) name: String,
    /// Phone number, E.164.
    pub(crate) phone: Option<String>,
    /// WhatsApp id, when known.
    pub(crate) whatsapp_id: Option<String>,
    /// Organisation.
    pub(crate) organization: Option<String>,
    /// The whole vCard, when given.
    pub(crate) vcard: Option<String>,
}

/// A poll.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PollBody {
    /// The question.
    pub(crate) question: String,
    /// The answers to choose from, 2 or more.
    pub(crate) options: Vec<String>,
    /// Whether several may be chosen.
    #[serde(default)]
    pub(crate) multi_select: bool,
}

/// A Meta message template.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateBody {
    /// Template name.
    pub(crate) name: String,
    /// Language code.
    #[schema(example = "en_US")]
    pub(crate) language: String,
    /// Components as the Cloud API writes them.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) components: Option<Vec<serde_json::Value>>,
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident for $schema:ident { $($variant:ident),* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs, reason = "the names are those of the schema")]
        pub(crate) enum $name { $($variant),* }

        impl From<$name> for $schema {
            fn from(name: $name) -> Self {
                match name { $($name::$variant => Self::$variant),* }
            }
        }
    };
}

named!(
    /// Lane inside a session: a higher lane goes first.
    PriorityName for Priority { High, Normal, Low }
);
named!(
    /// Which order a message keeps.
    OrderName for Order { Chat, None }
);
named!(
    /// What to do when nobody knows whether an attempt was sent.
    InDoubtPolicyName for InDoubtPolicy { Resend, Fail, Hold }
);

/// Whom a command is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address<'a> {
    /// The session that sends.
    pub(crate) session_id: &'a str,
    /// Its tenant.
    pub(crate) tenant_id: &'a str,
    /// The caller's key.
    pub(crate) idempotency_key: &'a str,
}

/// Checks an idempotency key: 1 to 255 bytes of visible ASCII.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn check_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("the idempotency key must not be empty");
    }
    if key.len() > KEY_BYTES_MAX {
        return Err("the idempotency key must have at most 255 bytes");
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the idempotency key must be visible ASCII without spaces");
    }
    Ok(())
}

impl SendRequest {
    /// The command this request stands for.
    ///
    /// # Errors
    /// A problem that names everything that is wrong with it.
    pub(crate) fn into_command(self, address: Address<'_>) -> Result<OutboundCommand, Problem> {
        let mut errors = Vec::new();
        self.check(&mut errors);
        let mut command = OutboundCommand {
            command: Command::Send,
            session_id: address.session_id.to_owned(),
            tenant_id: Some(address.tenant_id.to_owned()),
            idempotency_key: address.idempotency_key.to_owned(),
            to: Some(self.to),
            preview_url: self.preview_url,
            mentions: self.mentions,
            reply_to: self.reply_to,
            priority: self.priority.map_or(Priority::Unknown, Priority::from),
            order: self.order.map_or(Order::Unknown, Order::from),
            send_at: self.send_at.map(|at| at.timestamp_millis()),
            expires_at: self.expires_at.map(|at| at.timestamp_millis()),
            in_doubt_policy: self.in_doubt_policy.map_or(InDoubtPolicy::Unknown, InDoubtPolicy::from),
            max_attempts: self.max_attempts,
            campaign_id: self.campaign_id,
            labels: self.labels,
            provider_options: self.provider_options,
            ..Default::default()
        };
        match (self.text, self.content) {
            (Some(text), None) => put_text(&mut command, Some(text), "/text", &mut errors),
            (None, Some(content)) => content.put(&mut command, &mut errors),
            (Some(_), Some(_)) => {
                errors.push(FieldError::new("/text", "not_allowed", "give text or content, not both"));
            }
            (None, None) => errors.push(FieldError::new("/text", "missing", "give text or content")),
        }
        if errors.is_empty() {
            return Ok(command);
        }
        Err(Problem { errors, ..Problem::new(Kind::InvalidRequest) })
    }

    fn check(&self, errors: &mut Vec<FieldError>) {
        if self.to.is_empty() {
            errors.push(FieldError::new("/to", "missing", "the field \"to\" must be given"));
        } else if let Err(error) = sluice_core::recipient::canonical(&self.to) {
            errors.push(FieldError::new("/to", "invalid", error.to_string()));
        }
        if let (Some(send_at), Some(expires_at)) = (self.send_at, self.expires_at)
            && expires_at <= send_at
        {
            errors.push(FieldError::new("/expires_at", "invalid", "expires_at must be after send_at"));
        }
        if self.max_attempts.is_some_and(|max| max < 1) {
            errors.push(FieldError::new("/max_attempts", "invalid", "max_attempts must be 1 or more"));
        }
        for (name, map) in [("labels", &self.labels), ("provider_options", &self.provider_options)] {
            if map.len() > MAP_ENTRIES_MAX {
                let detail = format!("{name} may have at most {MAP_ENTRIES_MAX} entries");
                errors.push(FieldError::new(format!("/{name}"), "too_long", detail));
            }
            if map.iter().any(|(key, value)| key.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX) {
                let detail = format!("names and values in {name} may have at most {LABEL_BYTES_MAX} bytes");
                errors.push(FieldError::new(format!("/{name}"), "too_long", detail));
            }
        }
    }
}

fn put_text(
    command: &mut OutboundCommand,
    text: Option<String>,
    pointer: &str,
    errors: &mut Vec<FieldError>,
) {
    command.content_type = ContentType::Text;
    command.text = text.filter(|text| !text.is_empty());
    if command.text.is_none() {
        errors.push(FieldError::new(pointer, "missing", "the text must not be empty"));
    }
}

impl Content {
    fn put(self, command: &mut OutboundCommand, errors: &mut Vec<FieldError>) {
        let Some(kind) = self.kind else {
            errors.push(FieldError::new("/content/type", "missing", "the field \"type\" must be given"));
            return;
        };
        self.refuse_others(kind, errors);
        let missing = |errors: &mut Vec<FieldError>, field: &str| {
            let detail = format!("the field {field:?} must be given for this type");
            errors.push(FieldError::new(format!("/content/{field}"), "missing", detail));
        };
        match kind {
            ContentKind::Text => put_text(command, self.text, "/content/text", errors),
            ContentKind::Image => put_media(command, ContentType::Image, self.media, errors),
            ContentKind::Video => put_media(command, ContentType::Video, self.media, errors),
            ContentKind::Audio => put_media(command, ContentType::Audio, self.media, errors),
            ContentKind::Document => put_media(command, ContentType::Document, self.media, errors),
            ContentKind::Sticker => put_media(command, ContentType::Sticker, self.media, errors),
            ContentKind::Location => {
                command.content_type = ContentType::Location;
                match self.location {
                    Some(location) => command.location = Some(location.checked(errors)),
                    None => missing(errors, "location"),
                }
            }
            ContentKind::Contacts => {
                command.content_type = ContentType::Contacts;
                command.contacts = self.contacts.unwrap_or_default().into_iter().map(Contact::from).collect();
                if command.contacts.is_empty() {
                    missing(errors, "contacts");
                }
            }
            ContentKind::Poll => {
                command.content_type = ContentType::Poll;
                match self.poll {
                    Some(poll) => command.poll = Some(poll.checked(errors)),
                    None => missing(errors, "poll"),
                }
            }
            ContentKind::Template => {
                command.content_type = ContentType::Template;
                command.template = self.template.map(Template::from);
                if command.template.is_none() {
                    missing(errors, "template");
                }
            }
            ContentKind::Interactive => {
                command.content_type = ContentType::Interactive;
                command.interactive_json =
                    self.interactive.map(|object| serde_json::Value::Object(object).to_string());
                if command.interactive_json.is_none() {
                    missing(errors, "interactive");
                }
            }
        }
    }

    /// A field of another type would be lost without a word.
    fn refuse_others(&self, kind: ContentKind, errors: &mut Vec<FieldError>) {
        use ContentKind as K;
        let is_media = matches!(kind, K::Image | K::Video | K::Audio | K::Document | K::Sticker);
        let given = [
            ("text", self.text.is_some(), kind == K::Text),
            ("media", self.media.is_some(), is_media),
            ("location", self.location.is_some(), kind == K::Location),
            ("contacts", self.contacts.is_some(), kind == K::Contacts),
            ("poll", self.poll.is_some(), kind == K::Poll),
            ("template", self.template.is_some(), kind == K::Template),
            ("interactive", self.interactive.is_some(), kind == K::Interactive),
        ];
        for (field, is_given, belongs) in given {
            if is_given && !belongs {
                let detail = format!("the field {field:?} does not go with this type");
                errors.push(FieldError::new(format!("/content/{field}"), "not_allowed", detail));
            }
        }
    }
}

fn put_media(
    command: &mut OutboundCommand,
    content_type: ContentType,
    media: Option<MediaBody>,
    errors: &mut Vec<FieldError>,
) {
    command.content_type = content_type;
    let Some(media) = media else {
        let detail = "the field \"media\" must be given for this type";
        errors.push(FieldError::new("/content/media", "missing", detail));
        return;
    };
    match (&media.url, &media.provider_media_id) {
        (Some(url), None) if !(url.starts_with("https://") || url.starts_with("http://")) => {
            errors.push(FieldError::new(
                "/content/media/url",
                "invalid",
                "the url must begin with https:// or http://",
            ));
        }
        (Some(_), None) | (None, Some(_)) => {}
        _ => errors.push(FieldError::new(
            "/content/media/url",
            "missing",
            "give either url or provider_media_id",
        )),
    }
    command.media = Some(Media {
        url: media.url,
        provider_media_id: media.provider_media_id,
        mime_type: media.mime_type,
        filename: media.filename,
        caption: media.caption,
        voice: media.voice,
        view_once: media.view_once,
        ..Default::default()
    });
}

impl LocationBody {
    fn checked(self, errors: &mut Vec<FieldError>) -> Location {
        let in_range = [("latitude", self.latitude, 90.0), ("longitude", self.longitude, 180.0)];
        for (field, value, limit) in in_range {
            if !(-limit..=limit).contains(&value) {
                let detail = format!("{field} must be between -{limit} and {limit}");
                errors.push(FieldError::new(format!("/content/location/{field}"), "invalid", detail));
            }
        }
        Location {
            latitude: self.latitude,
            longitude: self.longitude,
            name: self.name,
            address: self.address,
        }
    }
}

impl PollBody {
    fn checked(self, errors: &mut Vec<FieldError>) -> Poll {
        if self.options.len() < 2 {
            errors.push(FieldError::new(
                "/content/poll/options",
                "invalid",
                "a poll needs 2 options or more",
            ));
        }
        Poll { question: self.question, options: self.options, multi_select: self.multi_select }
    }
}

impl From<ContactBody> for Contact {
    fn from(body: ContactBody) -> Self {
        Self {
            name: body.name,
            phone: body.phone,
            whatsapp_id: body.whatsapp_id,
            organization: body.organization,
            vcard: body.vcard,
        }
    }
}

impl From<TemplateBody> for Template {
    fn from(body: TemplateBody) -> Self {
        Self {
            name: body.name,
            language: body.language,
            components_json: body.components.map(|list| serde_json::Value::Array(list).to_string()),
        }
    }
}
