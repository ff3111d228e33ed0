//! The JSON of a send, and the command it stands for. Pure: no IO, no clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sluice_schemas::{Command, InDoubtPolicy, Order, OutboundCommand, Priority};
use utoipa::ToSchema;

use super::content::{Content, put_text};
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
