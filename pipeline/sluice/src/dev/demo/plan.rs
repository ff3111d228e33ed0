//! What a demo sends, and what goes wrong with it: all decided beforehand from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sluice_whatsapp::wasender::simulator::{Fault, FaultRule, WebhookSettings};
use uuid::Uuid;

use crate::dev::{SESSIONS, seed};

/// Recipients per session: messages to one are a chat, and keep their order.
const RECIPIENTS: u32 = 5;
/// Longer than the sender waits for an answer in dev.
const HANG_MS: u64 = 6_000;
/// How long a session that was logged out stays so, milliseconds.
const LOGGED_OUT_MS: u64 = 4_000;

/// A message to send.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// Its id.
    pub(super) id: Uuid,
    /// Its session.
    pub(super) session: String,
    /// Its key.
    pub(super) key: String,
    /// Its recipient.
    pub(super) to: String,
    /// Its text, which no other message has.
    pub(super) text: String,
    /// When it may go.
    pub(super) timing: Timing,
    /// What to do in doubt, if the request says so.
    pub(super) in_doubt_policy: Option<&'static str>,
    /// Whether the request is made twice.
    pub(super) twice: bool,
    /// What goes wrong at the provider.
    pub(super) fault: Option<Fault>,
}

/// When a message may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// As soon as its session may.
    Now,
    /// So long after it is sent.
    After(Duration),
    /// So long after it is sent at the latest.
    Within(Duration),
    /// Scheduled, and canceled at once.
    Canceled(Duration),
}

/// How every text of a run ends.
pub(super) fn text_end(run: &str) -> String {
    format!(" of run {run}.")
}

/// The messages of a run, in the order in which they are sent.
pub(super) fn messages(count: u32, seed: u64, run: &str) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|number| message(number, run, &mut random)).collect()
}

fn message(number: u32, run: &str, random: &mut StdRng) -> Planned {
    let session = seed::session_id(number % SESSIONS + 1);
    let key = format!("demo-{run}-{number:06}");
    let timing = timing(random);
    // What is canceled or may expire has no fault, so that its end is plain.
    let fault = if matches!(timing, Timing::Now | Timing::After(_)) { fault(random) } else { None };
    Planned {
        id: sluice_schemas::ids::message_id(&session, &key),
        to: format!("+1555{:03}{:04}", number % SESSIONS + 100, random.random_range(0..RECIPIENTS)),
        text: format!("Demo message {number:06}{}", text_end(run)),
        in_doubt_policy: [None, None, Some("resend"), Some("fail")][random.random_range(0..4)],
        twice: random.random_bool(0.05),
        session,
        key,
        timing,
        fault,
    }
}

fn timing(random: &mut StdRng) -> Timing {
    let wait = Duration::from_millis(random.random_range(2_000..6_000));
    match random.random_range(0..100) {
        0..4 => Timing::After(wait),
        4..6 => Timing::Within(wait / 4),
        6..8 => Timing::Canceled(Duration::from_secs(60)),
        _ => Timing::Now,
    }
}

/// About one message in seven meets something.
fn fault(random: &mut StdRng) -> Option<Fault> {
    Some(match random.random_range(0..1_000) {
        0..25 => Fault::Throttle { retry_after_s: 1 },
        25..40 => Fault::Status { status: 500, body: None },
        40..52 => Fault::Html502,
        52..60 => Fault::HangThenSent { ms: HANG_MS },
        60..66 => Fault::HangThenNotSent { ms: HANG_MS },
        66..80 => Fault::ResetBeforeAccepting,
        80..92 => Fault::ResetAfterAccepting,
        92..98 => Fault::ResetMidAnswer,
        98..108 => Fault::NotConnected { status: 400, key: "message".to_owned() },
        108..112 => Fault::SessionLoggedOut { recover_after_ms: Some(LOGGED_OUT_MS) },
        112..122 => Fault::NotOnWhatsapp,
        122..126 => Fault::NoMsgId,
        126..132 => Fault::FailedLater,
        132..142 => Fault::Slow { ms: 400 },
        _ => return None,
    })
}

/// The rule that strikes the first attempt of a message.
pub(super) fn rule(planned: &Planned) -> Option<FaultRule> {
    let fault = planned.fault.clone()?;
    Some(FaultRule {
        session: Some(planned.session.clone()),
        text_prefix: Some(planned.text.clone()),
        ..FaultRule::next(1, fault)
    })
}

/// Webhooks late, doubled, out of order, and some never.
pub(super) fn webhooks() -> WebhookSettings {
    WebhookSettings {
        sent_after_ms: 100,
        delivered_after_ms: 300,
        read_after_ms: 700,
        jitter_ms: 1_500,
        read: 0.9,
        loss: 0.03,
        doubling: 0.1,
        disorder: 0.2,
        ..WebhookSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_messages_and_faults() {
        let text = |seed| format!("{:?}", messages(300, seed, "r"));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn texts_and_keys_are_unique_and_every_kind_of_trouble_comes_up() {
        let plan = messages(2_000, 1, "r");
        let texts: BTreeSet<_> = plan.iter().map(|planned| &planned.text).collect();
        let keys: BTreeSet<_> = plan.iter().map(|planned| &planned.key).collect();
        assert_eq!((texts.len(), keys.len()), (2_000, 2_000));
        let kinds: BTreeSet<_> = plan
            .iter()
            .filter_map(|planned| Some(std::mem::discriminant(planned.fault.as_ref()?)))
            .map(|kind| format!("{kind:?}"))
            .collect();
        assert_eq!(kinds.len(), 14);
    }
}
