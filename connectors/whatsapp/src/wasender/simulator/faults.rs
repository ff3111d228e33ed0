//! Faults, scripted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::world::lock;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fault {
    /// 429 with `retry_after`; not sent.
    Throttle {
        /// Seconds.
        #[serde(default = "five")]
        retry_after_s: u64,
    },
    /// This status, not sent.
    Status {
        /// HTTP status.
        status: u16,
        /// Body; by default Wasender's JSON of an error.
        #[serde(default)]
        body: Option<String>,
    },
    /// A gateway's HTML page, not sent.
    #[serde(rename = "html_502")]
    Html502,
    /// Sent at once, answered after so long.
    HangThenSent {
        /// Milliseconds.
        ms: u64,
    },
    /// Not sent, answered with 504 after so long.
    HangThenNotSent {
        /// Milliseconds.
        ms: u64,
    },
    /// The connection ends without an answer; not sent.
    ResetBeforeAccepting,
    /// The connection ends without an answer; sent.
    ResetAfterAccepting,
    /// The connection ends in the middle of the answer; sent.
    ResetMidAnswer,
    /// The session is logged out, this request fails and so do those after it.
    SessionLoggedOut {
        /// When it connects again, milliseconds; never by default.
        #[serde(default)]
        recover_after_ms: Option<u64>,
    },
    /// Answers that the session is not connected, though it is; not sent.
    NotConnected {
        /// HTTP status: 400 and 409 were seen, and 200 behind a relay.
        #[serde(default = "four_hundred")]
        status: u16,
        /// JSON name of the text: `message` or `error`.
        #[serde(default = "message")]
        key: String,
    },
    /// Sent, but slowly.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// 422: the number is not on WhatsApp.
    NotOnWhatsapp,
    /// Sent, answered without `msgId`.
    NoMsgId,
    /// Taken, then `message.sent` tells that it failed.
    FailedLater,
    /// Sent, and no webhook ever tells.
    NoWebhooks,
}

fn five() -> u64 {
    5
}

fn four_hundred() -> u16 {
    400
}

fn message() -> String {
    "message".to_owned()
}

/// Which requests meet a fault. Every given condition must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Session id.
    #[serde(default)]
    pub session: Option<String>,
    /// Recipient, as the request writes it.
    #[serde(default)]
    pub recipient: Option<String>,
    /// Beginning of the text.
    #[serde(default)]
    pub text_prefix: Option<String>,
    /// Fitting requests that are let pass first.
    #[serde(default)]
    pub skip: u64,
    /// How often it strikes; for ever by default.
    #[serde(default)]
    pub times: Option<u64>,
    /// Probability that it strikes, 0 to 1; always by default.
    #[serde(default)]
    pub probability: Option<f64>,
    /// Seed of the probability.
    #[serde(default)]
    pub seed: u64,
    /// What goes wrong.
    #[serde(flatten)]
    pub fault: Fault,
}

impl FaultRule {
    /// Every request meets `fault`.
    pub fn always(fault: Fault) -> Self {
        Self {
            session: None,
            recipient: None,
            text_prefix: None,
            skip: 0,
            times: None,
            probability: None,
            seed: 0,
            fault,
        }
    }

    /// The next `times` requests meet `fault`.
    pub fn next(times: u64, fault: Fault) -> Self {
        Self { times: Some(times), ..Self::always(fault) }
    }
}

/// A rule at work.
#[derive(Debug, Serialize)]
pub(super) struct ActiveRule {
    #[serde(flatten)]
    rule: FaultRule,
    met: u64,
    hits: u64,
    #[serde(skip)]
    random: StdRng,
}

/// The rules, in order.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// How many rules there are, to cost nothing when there are none.
    count: AtomicUsize,
    rules: Mutex<Vec<ActiveRule>>,
}

impl Faults {
    pub(super) fn add(&self, rule: FaultRule) {
        let mut rules = lock(&self.rules);
        let random = StdRng::seed_from_u64(rule.seed);
        rules.push(ActiveRule { rule, met: 0, hits: 0, random });
        self.count.store(rules.len(), Ordering::Release);
    }

    pub(super) fn clear(&self) {
        let mut rules = lock(&self.rules);
        rules.clear();
        self.count.store(0, Ordering::Release);
    }

    pub(super) fn shown(&self) -> serde_json::Value {
        serde_json::to_value(&*lock(&self.rules)).unwrap_or_default()
    }

    /// The fault that this request meets, if any.
    pub(super) fn strike(&self, session: &str, recipient: &str, text: &str) -> Option<Fault> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        lock(&self.rules).iter_mut().find_map(|active| active.strike(session, recipient, text))
    }
}

impl ActiveRule {
    fn strike(&mut self, session: &str, recipient: &str, text: &str) -> Option<Fault> {
        let rule = &self.rule;
        let fits = rule.session.as_deref().is_none_or(|wanted| wanted == session)
            && rule.recipient.as_deref().is_none_or(|wanted| wanted == recipient)
            && rule.text_prefix.as_deref().is_none_or(|wanted| text.starts_with(wanted));
        if !fits {
            return None;
        }
        self.met += 1;
        if self.met <= rule.skip || rule.times.is_some_and(|times| self.hits >= times) {
            return None;
        }
        if rule.probability.is_some_and(|chance| !self.random.random_bool(chance.clamp(0.0, 1.0))) {
            return None;
        }
        self.hits += 1;
        Some(rule.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_whom_and_as_often_as_it_says() {
        let faults = Faults::default();
        let rule = r#"{"kind":"slow","ms":5,"session":"a","text_prefix":"x","skip":1,"times":2}"#;
        faults.add(serde_json::from_str(rule).unwrap());
        assert_eq!(faults.strike("b", "+1", "xy"), None);
        assert_eq!(faults.strike("a", "+1", "y"), None);
        let struck: Vec<bool> = (0..5).map(|_| faults.strike("a", "+1", "xy").is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let run = || {
            let faults = Faults::default();
            faults.add(FaultRule { probability: Some(0.5), seed: 7, ..FaultRule::always(Fault::Html502) });
            (0..64).map(|_| faults.strike("a", "b", "c").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().contains(&true) && run().contains(&false));
    }
}
