//! What the simulator is told.

use serde::{Deserialize, Serialize};

use super::window::Window;

/// Settings of the simulator. The default is a well-behaved Wasender with webhooks and without sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorSettings {
    /// Account tokens for the session routes.
    pub personal_tokens: Vec<String>,
    /// Accepts unknown session keys of a form; `None` refuses them.
    pub auto_sessions: Option<AutoSessions>,
    /// Limits of sessions that bring none of their own. Empty: unlimited.
    pub limits: Vec<Window>,
    /// Requests at once per session; more are refused with 429.
    pub concurrency_max: u32,
    /// How webhooks are sent; `None` sends none and costs nothing.
    pub webhooks: Option<WebhookSettings>,
    /// How long after a send `/messages/{id}/info` knows it, milliseconds.
    pub info_delay_ms: u64,
    /// Entries kept in the truth log; older ones are dropped, the counts stay exact.
    pub truth_max: usize,
    /// Messages kept for `/info`, edit, delete and logs. Zero keeps none.
    pub messages_kept_max: usize,
    /// Messages remembered to tell doubles; past it the count of doubles is no longer exact and says so.
    pub doubles_known_max: usize,
    /// Largest request, bytes.
    pub body_bytes_max: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for SimulatorSettings {
    fn default() -> Self {
        Self {
            personal_tokens: vec!["pat-simulator".to_owned()],
            auto_sessions: None,
            limits: Vec::new(),
            concurrency_max: 5,
            webhooks: Some(WebhookSettings::default()),
            info_delay_ms: 300,
            truth_max: 100_000,
            messages_kept_max: 100_000,
            doubles_known_max: 10_000_000,
            body_bytes_max: 1024 * 1024,
            seed: 1,
        }
    }
}

impl SimulatorSettings {
    /// A sink for benches: no webhooks, no limits, no look-ups, any key that begins with `key_prefix`.
    pub fn quiet(key_prefix: &str) -> Self {
        Self {
            auto_sessions: Some(AutoSessions {
                key_prefix: key_prefix.to_owned(),
                ..AutoSessions::default()
            }),
            concurrency_max: u32::MAX,
            webhooks: None,
            messages_kept_max: 0,
            truth_max: 1_000,
            ..Self::default()
        }
    }
}

/// Sessions that come into being when their key is first used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoSessions {
    /// Keys with this prefix are accepted; the rest of the key is the session's id.
    pub key_prefix: String,
    /// Webhook URL, in which `{session}` stands for the session's id.
    pub webhook_url: Option<String>,
    /// Webhook secret of each.
    pub webhook_secret: String,
    /// Limits of each; `None` means the simulator's.
    pub limits: Option<Vec<Window>>,
}

/// Wasender's plans, as limits of the send route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Account protection: one in 5 s, whatever the plan.
    Protected,
    /// One per minute and 50 per day.
    Trial,
    /// 256 per minute.
    Paid,
    /// None.
    Unlimited,
}

impl Plan {
    /// Its windows.
    pub fn windows(self) -> Vec<Window> {
        match self {
            Self::Protected => vec![Window { count: 1, per_ms: 5_000 }],
            Self::Trial => {
                vec![Window { count: 1, per_ms: 60_000 }, Window { count: 50, per_ms: 86_400_000 }]
            }
            Self::Paid => vec![Window { count: 256, per_ms: 60_000 }],
            Self::Unlimited => Vec::new(),
        }
    }
}

/// A session of the simulated provider.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionSettings {
    /// Its API key.
    pub api_key: String,
    /// Its id, also in the truth log.
    pub session_id: String,
    /// Where its webhooks go.
    pub webhook_url: Option<String>,
    /// Sent in `X-Webhook-Signature`.
    pub webhook_secret: String,
    /// Limits; before `plan`.
    pub limits: Option<Vec<Window>>,
    /// Limits by plan; `None` of both means the simulator's.
    pub plan: Option<Plan>,
    /// Requests at once; `None` means the simulator's.
    pub concurrency_max: Option<u32>,
    /// First status; `None` is `connected`.
    pub status: Option<String>,
}

impl std::fmt::Debug for SessionSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionSettings")
            .field("session_id", &self.session_id)
            .field("webhook_url", &self.webhook_url)
            .field("limits", &self.limits)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// How webhooks are sent. Probabilities are 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// From the send to `message.sent` and status 2, milliseconds.
    pub sent_after_ms: u64,
    /// From the send to status 3, milliseconds.
    pub delivered_after_ms: u64,
    /// From the send to status 4, milliseconds.
    pub read_after_ms: u64,
    /// Up to so much is added to each, milliseconds.
    pub jitter_ms: u64,
    /// Probability that a message is read.
    pub read: f64,
    /// Probability that a read message is played.
    pub played: f64,
    /// Probability that a webhook is lost.
    pub loss: f64,
    /// Probability that a webhook comes twice.
    pub doubling: f64,
    /// Probability that a webhook swaps its place with the next one.
    pub disorder: f64,
    /// Probability that `data` is a list rather than an object: bare, or under `messages`.
    pub array: f64,
    /// Probability that times are in milliseconds rather than seconds.
    pub milliseconds: f64,
    /// Tries per webhook. Wasender is not known to try again: 1.
    pub attempts_max: u32,
    /// Time for one try, milliseconds.
    pub timeout_ms: u64,
    /// Webhooks on their way at once.
    pub in_flight_max: usize,
    /// Messages whose webhooks may be due; past it webhooks are dropped and counted.
    pub pending_max: usize,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            sent_after_ms: 50,
            delivered_after_ms: 200,
            read_after_ms: 500,
            jitter_ms: 50,
            read: 1.0,
            played: 0.0,
            loss: 0.0,
            doubling: 0.0,
            disorder: 0.0,
            array: 0.3,
            milliseconds: 0.5,
            attempts_max: 1,
            timeout_ms: 10_000,
            in_flight_max: 64,
            pending_max: 200_000,
        }
    }
}
