//! WasenderAPI: an unofficial provider on WhatsApp Web.
//!
//! - One send route; the answer's `msgId` is a number of the provider, not the WhatsApp id, so a bridge is
//!   needed (`GET /messages/{msgId}/info`, or the `message.sent` webhook's fingerprint).
//! - No idempotency key and nothing of ours is echoed: an attempt in doubt can be settled by the fingerprint
//!   of its content only, or by a person.
//! - Webhooks carry a shared secret in a header, not a signature over the body, and come at most once.

mod classify;
mod look_up;
mod secrets;
pub mod simulator;
mod webhooks;
mod wire;

use sluice_core::outcome::CallResult;
use sluice_schemas::{
    Command, InDoubtPolicy, InboundWebhook, OutboundCommand, Provider, RateLimit, Signature,
};

use crate::connector::{
    Answer, Connector, Defaults, Event, HttpCall, LookedUp, RawWebhook, Refused, SendContext, Unparseable,
    Unsupported,
};

/// The public API's base URL.
pub const BASE_URL: &str = "https://www.wasenderapi.com/api";

/// The connector for WasenderAPI.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wasender;

impl Connector for Wasender {
    fn provider(&self) -> Provider {
        Provider::Wasender
    }

    /// One send in 5 s, which is what Wasender allows a session with account protection on, and the only pace
    /// that is right for every plan but the trial; 250 ms on top keep jitter on the way from making two sends
    /// arrive closer together than they left. A paid plan without protection sets 256 per 60 s, a trial
    /// 1 per 60 s and 50 per day.
    ///
    /// One call at a time: Wasender caps concurrent requests per session without telling the cap.
    ///
    /// In doubt: `HOLD`. Nothing idempotent exists and evidence may never come (webhooks come at most once),
    /// so both `RESEND` and `FAIL` would be a guess; the tenant may choose either.
    fn defaults(&self) -> Defaults {
        Defaults {
            limits: vec![RateLimit { count: 1, per_ms: 5_250, burst: 1 }],
            max_in_flight: 1,
            in_doubt_policy: InDoubtPolicy::Hold,
            needs_bridge: true,
        }
    }

    fn build(&self, command: &OutboundCommand, context: &SendContext) -> Result<HttpCall, Unsupported> {
        wire::build(command, context)
    }

    fn classify(&self, answer: &Answer, duration_ms: u64) -> CallResult {
        classify::classify(Command::Send, answer, duration_ms)
    }

    fn classify_command(&self, command: Command, answer: &Answer, duration_ms: u64) -> CallResult {
        classify::classify(command, answer, duration_ms)
    }

    fn verify(&self, webhook: RawWebhook<'_>, secrets: &[&str]) -> Result<Signature, Refused> {
        secrets::verify(webhook, secrets)
    }

    fn strip_secrets(&self, body: &[u8]) -> Vec<u8> {
        secrets::strip(body)
    }

    fn events(&self, webhook: &InboundWebhook) -> Result<Vec<Event>, Unparseable> {
        webhooks::events(webhook)
    }

    fn look_up(&self, provider_message_id: &str) -> Option<HttpCall> {
        look_up::call(provider_message_id)
    }

    fn read_look_up(&self, answer: &Answer) -> LookedUp {
        look_up::read(answer)
    }
}
