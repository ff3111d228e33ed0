//! What an attempt came to. Connectors classify an answer into an [`Outcome`]; the sender decides what follows.

use sluice_schemas::{Connection, SendError};

/// The outcome of an attempt (design §2).
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The provider took the message.
    Submitted {
        /// Id in the provider's answer.
        provider_message_id: Option<String>,
        /// Id of the message in WhatsApp, when the answer tells it.
        whatsapp_message_id: Option<String>,
    },
    /// Surely not sent: the provider asks to wait. Uses no attempt.
    Throttled {
        /// Who has to wait.
        scope: ThrottleScope,
        /// How long, if the provider says so, milliseconds. The sender clamps it.
        retry_after_ms: Option<u64>,
    },
    /// Surely not sent; a later attempt may succeed.
    Retryable,
    /// Refused for good.
    Permanent,
    /// The session cannot send: not connected, logged out, credential refused. Uses no attempt; the session
    /// is held.
    SessionDown {
        /// What the answer says of the session; `Unknown` if only that it cannot send.
        connection: Connection,
    },
    /// Nobody knows whether it was sent.
    Unknown,
    /// The call was never begun: its claim had grown too old when the connection stood. Claimed anew; uses no
    /// attempt and is no fact about the message.
    NotMade,
}

/// Who has to wait after a throttling answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleScope {
    /// The session.
    Session,
    /// The chat: this session and this recipient.
    Pair,
    /// Every session of the account.
    Account,
}

/// An attempt's outcome with what is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult {
    /// What it came to.
    pub outcome: Outcome,
    /// Why, for everything but `Submitted`.
    pub error: Option<SendError>,
    /// HTTP status, if there was an answer.
    pub http_status: Option<u16>,
    /// Duration of the call, milliseconds.
    pub duration_ms: u64,
}
