//! What a message carries, as JSON and as fields of the command. Pure.

use serde::{Deserialize, Serialize};
use sluice_schemas::{Contact, ContentType, Location, Media, OutboundCommand, Poll, Template};
use utoipa::ToSchema;

use crate::api::problem::FieldError;

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

pub(super) fn put_text(
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
    pub(super) fn put(self, command: &mut OutboundCommand, errors: &mut Vec<FieldError>) {
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
