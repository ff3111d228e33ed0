//! What Sluice needs to know of a provider, as pure functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sluice_core::outcome::CallResult;
use sluice_schemas::{
    Command, InDoubtPolicy, InboundWebhook, MessageStatus, OutboundCommand, Provider, RateLimit,
    ReceivedMessage, SessionLink, SessionStatus, Signature,
};

/// Which credential a call is made with; the value is put in by [`crate::client::Client`] and never seen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// The session's API key.
    SessionKey,
    /// The account's token.
    AccountToken,
}

/// One HTTP call to a provider, without its credential.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCall {
    /// HTTP method.
    pub method: Method,
    /// Path and query below the account's base URL, beginning with `/`.
    pub path: String,
    /// Which credential goes with it.
    pub credential: Credential,
    /// JSON body.
    pub body: Option<Bytes>,
}

/// HTTP methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// How a call ended, before it is classified.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The provider answered in full.
    Http {
        /// HTTP status.
        status: u16,
        /// Header names in lower case; only those connectors read.
        headers: BTreeMap<String, String>,
        /// Body, at most the client's limit.
        body: Bytes,
    },
    /// The connection was never made: surely not sent.
    NotConnected {
        /// What the client says.
        detail: String,
    },
    /// The call broke off after bytes may have been written (reset, time limit, body cut): unknown.
    Broken {
        /// What the client says.
        detail: String,
        /// HTTP status, if the head of an answer came.
        status: Option<u16>,
    },
}

/// What a request is sent with, beside the command itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendContext {
    /// Canonical recipient.
    pub recipient: String,
    /// Id of the session at the provider.
    pub provider_session_id: Option<String>,
    /// message_id as text, for providers that echo a client reference.
    pub message_id: String,
    /// Provider's id of the message replied to, when `reply_to` is one of ours.
    pub reply_to_provider_id: Option<String>,
    /// Provider's id of the target of EDIT, REVOKE, REACT, MARK_READ.
    pub target_provider_id: Option<String>,
    /// WhatsApp id of that target.
    pub target_whatsapp_id: Option<String>,
}

/// A request that this provider cannot send, whatever is tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unsupported {
    /// Stable code, for example `content_not_supported`.
    pub code: &'static str,
    /// Names the field and the remedy.
    pub detail: String,
}

/// What holds for a session of this provider unless it is set otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// Rate limits of a session; all hold.
    pub limits: Vec<RateLimit>,
    /// Calls at once per session.
    pub max_in_flight: u32,
    /// What to do in doubt.
    pub in_doubt_policy: InDoubtPolicy,
    /// Whether the answer's id is not the WhatsApp id, so that a bridge is needed (design §6).
    pub needs_bridge: bool,
}

/// A webhook as it arrived, for verification.
#[derive(Debug, Clone, Copy)]
pub struct RawWebhook<'a> {
    /// Header names in lower case.
    pub headers: &'a BTreeMap<String, String>,
    /// Raw body.
    pub body: &'a [u8],
    /// Secret segment of the path, if any.
    pub path_secret: Option<&'a str>,
}

/// Why a webhook is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The signature or secret is missing.
    #[error("the webhook is not signed: {0}")]
    Unsigned(&'static str),
    /// The signature or secret is wrong.
    #[error("the webhook's signature is wrong")]
    WrongSignature,
}

/// Something a webhook told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A receipt or a provider-id fact; `message_id` is not known here.
    Status(Box<MessageStatus>),
    /// A message in, or an echo.
    Received(Box<ReceivedMessage>),
    /// The session's connection changed.
    Connection(Box<SessionStatus>),
    /// A code to link the session.
    Link(Box<SessionLink>),
    /// A kind we do nothing with: counted and kept.
    Ignored {
        /// The provider's name of the kind.
        kind: String,
        /// Why, in a few words.
        why: &'static str,
    },
}

/// A body no events can be read from: a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unparseable {
    /// Where and why.
    pub detail: String,
}

/// What a look-up of a submitted message told.
#[derive(Debug, Clone, PartialEq)]
pub enum LookedUp {
    /// The WhatsApp id, and the statuses the provider holds.
    Found {
        /// Id in WhatsApp.
        whatsapp_message_id: String,
        /// Chat as the provider writes it.
        chat_id: Option<String>,
    },
    /// Not there (yet).
    NotYet,
    /// The call failed; try later.
    Failed {
        /// Why, for people.
        detail: String,
    },
}

/// One provider. Every function is pure: no IO, no clock, no logging.
pub trait Connector: Send + Sync {
    /// Which provider.
    fn provider(&self) -> Provider;
    /// What holds unless it is set otherwise.
    fn defaults(&self) -> Defaults;
    /// The call that carries out `command` (SEND, EDIT, REVOKE, REACT, MARK_READ, TYPING).
    fn build(&self, command: &OutboundCommand, context: &SendContext) -> Result<HttpCall, Unsupported>;
    /// What the answer means.
    fn classify(&self, answer: &Answer, duration_ms: u64) -> CallResult;
    /// What the answer to a call for `command` means. Like [`Connector::classify`], but knows that commands
    /// other than SEND need no id in the answer and may be repeated unnoticed.
    fn classify_command(&self, _command: Command, answer: &Answer, duration_ms: u64) -> CallResult {
        self.classify(answer, duration_ms)
    }
    /// How a credential is written into a call.
    fn auth_scheme(&self) -> crate::client::AuthScheme {
        crate::client::AuthScheme::Bearer
    }
    /// Checks that a webhook comes from where it says, against any of `secrets` (constant time).
    fn verify(&self, webhook: RawWebhook<'_>, secrets: &[&str]) -> Result<Signature, Refused>;
    /// The body without credentials of ours, safe to keep.
    fn strip_secrets(&self, body: &[u8]) -> Vec<u8>;
    /// Everything a webhook tells. `webhook.session_id` is set by the edge or the processor. One bad entry
    /// loses none of its neighbours.
    fn events(&self, webhook: &InboundWebhook) -> Result<Vec<Event>, Unparseable>;
    /// The call that asks for the WhatsApp id of a submitted message, if the provider has one.
    fn look_up(&self, provider_message_id: &str) -> Option<HttpCall>;
    /// What the answer of [`Connector::look_up`] means.
    fn read_look_up(&self, answer: &Answer) -> LookedUp;
}

/// The connectors of this build.
#[derive(Clone)]
pub struct Registry {
    connectors: Vec<Arc<dyn Connector>>,
}

impl Registry {
    /// A registry of these connectors.
    pub fn new(connectors: Vec<Arc<dyn Connector>>) -> Self {
        Self { connectors }
    }

    /// The connector of `provider`, if this build has it.
    pub fn get(&self, provider: Provider) -> Option<&Arc<dyn Connector>> {
        self.connectors.iter().find(|c| c.provider() == provider)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.connectors.iter().map(|c| c.provider())).finish()
    }
}
