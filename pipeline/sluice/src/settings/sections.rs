//! The typed settings. `defaults.toml` says what each means to an operator; here is what it means to the
//! code.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::sealing::Secret;

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Roles that `sluice run` runs when its command line names none.
    pub roles: Vec<Role>,
    /// What is one for the whole deployment.
    pub deployment: Deployment,
    /// Brokers, topics and durability.
    pub kafka: sluice_kafka::settings::Settings,
    /// The schema registry.
    pub registry: sluice_kafka::settings::RegistrySettings,
    /// Who may call the API.
    pub auth: Auth,
    /// Keys that seal credentials.
    pub credentials: Credentials,
    /// The edge role.
    pub edge: Edge,
    /// The admin listener.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
    /// The message store.
    pub store: sluice_scylla::Settings,
    /// The sender role.
    pub sender: crate::sender::Settings,
    /// The processor role.
    pub processor: crate::processor::Settings,
    /// The reducer role.
    pub reducer: crate::reducer::Settings,
    /// The query role.
    pub query: Query,
}

/// A part of the pipeline that can run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// HTTP API and webhook listener: writes topics.
    Edge,
    /// Sends messages.
    Sender,
    /// Reads webhooks.
    Processor,
    /// Folds facts into the store and `messages.state`.
    Reducer,
    /// HTTP reads from the store.
    Query,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Edge, Self::Sender, Self::Processor, Self::Reducer, Self::Query];

    /// The role's name, as in settings and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Sender => "sender",
            Self::Processor => "processor",
            Self::Reducer => "reducer",
            Self::Query => "query",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no role's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role; roles are edge, sender, processor, reducer and query")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// What is one for the whole deployment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Life of a message without `expires_at`, milliseconds.
    pub ttl_ms: i64,
    /// How long a second request with the same id is recognised, milliseconds.
    pub dedupe_window_ms: i64,
    /// Time all components together have to stop, milliseconds.
    pub stop_timeout_ms: u64,
    /// How often the brokers are asked whether they are there, milliseconds.
    pub broker_probe_interval_ms: u64,
    /// How long they may take to answer, milliseconds.
    pub broker_probe_timeout_ms: u64,
    /// How long topics may be missing at start before the process ends, milliseconds.
    pub topics_grace_ms: u64,
    /// Whether replicas and the settings that keep records safe are checked at start; off only in dev.
    pub check_durability: bool,
    /// Whether schemas that are missing in the registry are registered at start.
    pub register_schemas: bool,
}

/// Who may call the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Bearer tokens, known by their hash only.
    pub tokens: Vec<Token>,
}

/// One bearer token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Names the caller in logs.
    pub name: String,
    /// SHA-256 of the token's text, hex.
    pub sha256: String,
    /// The tenant it acts for; `*` for all.
    pub tenant_id: String,
    /// What it may do; empty means what is usual: `send`, `control` and `read`, and for `*` also `manage`.
    #[serde(default)]
    pub scopes: Vec<Scope>,
}

/// Something a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send and cancel messages.
    Send,
    /// Pause, resume, connect, disconnect sessions.
    Control,
    /// Read messages and session status.
    Read,
    /// Put and delete sessions and accounts.
    Manage,
}

impl Scope {
    /// The scope's name, as in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Control => "control",
            Self::Read => "read",
            Self::Manage => "manage",
        }
    }
}

/// Keys that seal credentials in `accounts` and `sessions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Id of the key that seals; empty: nothing can be sealed here.
    pub active_key: String,
    /// Keys by id: 32 bytes in base64, or `env:NAME`, or `file:/path`.
    pub keys: BTreeMap<String, Secret>,
}

/// The edge role.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of the webhook listener.
    pub webhook_listen: SocketAddr,
    /// Largest body of a request, bytes.
    pub body_bytes_max: usize,
    /// Largest body of a batch, bytes.
    pub batch_bytes_max: usize,
    /// Most lines of a batch.
    pub batch_lines_max: usize,
    /// Largest sum of header names and values, bytes.
    pub header_bytes_max: usize,
    /// Largest webhook body, bytes.
    pub webhook_bytes_max: usize,
    /// A request is answered within this time, milliseconds.
    pub request_timeout_ms: u64,
    /// How long a record waits for company before it is sent, milliseconds: part of every answer's time.
    pub linger_ms: u32,
    /// How long the broker may take to acknowledge before the answer is 503, milliseconds.
    pub ack_timeout_ms: u64,
    /// Requests at once on each listener; more are answered 503.
    pub in_flight_max: usize,
    /// What `Retry-After` says in a 503, seconds.
    pub retry_after_s: u64,
    /// For this long after the directory is loaded a webhook of an unknown session is answered 503 and not
    /// 404, milliseconds.
    pub unknown_session_grace_ms: u64,
    /// Time to finish requests in flight when stopping, milliseconds.
    pub drain_timeout_ms: u64,
}

/// The admin listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address of `/metrics`, `/livez` and `/readyz`.
    pub listen: SocketAddr,
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Which entries, as `tracing` directives, for example `info,sluice::edge=debug`.
    pub filter: String,
    /// JSON for machines, text for people.
    pub format: LogFormat,
    /// How recipients appear.
    pub recipients: LogRecipients,
}

/// Form of log entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How recipients appear in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogRecipients {
    /// As the first half of a SHA-256: the same person can be followed and not called.
    Hashed,
    /// In the clear.
    Plain,
}

/// The query role.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Address of the reads.
    pub listen: SocketAddr,
    /// A read is answered within this time, milliseconds.
    pub request_timeout_ms: u64,
    /// Reads at once; more are answered 503.
    pub in_flight_max: usize,
    /// For this long after it was first asked for, a message that is not there is `not-yet-visible` and not
    /// `unknown-message`, milliseconds.
    pub visible_within_ms: u64,
}
