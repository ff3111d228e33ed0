//! What the outcome of a call says of its message, and what follows.

use sluice_schemas::{SendError, Status};

use super::attempt::ceil_ms;
use super::facts::Fact;
use super::message::{Doubt, End, Next, Open, Stage};
use super::{InFlight, Planted, Sender};
use crate::outcome::{CallResult, Outcome, ThrottleScope};

impl Sender {
    /// What a call's result says, and what follows.
    pub(super) fn judge(&mut self, inflight: &InFlight, open: &Open, result: CallResult) -> (Fact, Next) {
        let claim = (inflight.epoch, inflight.claim_seq);
        let mut fact = Fact {
            claim: Some(claim),
            attempt: Some(inflight.attempt),
            error: result.error,
            http_status: result.http_status,
            duration_ms: Some(result.duration_ms),
            ..Fact::default()
        };
        let next = match result.outcome {
            Outcome::Unknown if self.planted(Planted::UnknownTakenForUnsent) => {
                fact.status = Status::Retrying;
                Next::Queue { not_before_us: self.now.wall_us, reason: "retry".to_owned() }
            }
            Outcome::Submitted { provider_message_id, whatsapp_message_id } => {
                fact.status = Status::Submitted;
                fact.provider_message_id.clone_from(&provider_message_id);
                fact.whatsapp_message_id = whatsapp_message_id;
                Next::Done(end(Status::Submitted, None, provider_message_id, claim))
            }
            Outcome::Throttled { scope, retry_after_ms } => {
                let until_us = self.throttle(inflight, open, scope, retry_after_ms);
                fact.status = Status::Held;
                fact.wait = Some(("throttled", Some(ceil_ms(until_us))));
                Next::Queue { not_before_us: until_us, reason: "throttled".to_owned() }
            }
            Outcome::SessionDown { .. } => {
                fact.status = Status::Held;
                fact.wait = Some(("session_down", None));
                Next::Queue { not_before_us: self.now.wall_us, reason: "session_down".to_owned() }
            }
            Outcome::Retryable | Outcome::NotMade if inflight.attempt < self.attempts_max(open) => {
                let backoff_ms = self.backoff_ms(inflight.attempt);
                let not_before_us = self.after_us(backoff_ms);
                fact.status = Status::Retrying;
                fact.next_attempt_at = Some(ceil_ms(not_before_us));
                Next::Queue { not_before_us, reason: "retry".to_owned() }
            }
            Outcome::Retryable | Outcome::NotMade => {
                fact.status = Status::Failed;
                Next::Done(end(Status::Failed, Some("attempts_exhausted"), None, claim))
            }
            Outcome::Permanent => {
                fact.status = Status::Failed;
                let code = fact.error.as_ref().map_or("refused", |e: &SendError| e.code.as_str()).to_owned();
                Next::Done(end(Status::Failed, Some(&code), None, claim))
            }
            Outcome::Unknown => {
                let claim_at_ms = match open.stage {
                    Stage::Calling(_, claim) => claim.at.wall_ms(),
                    _ => self.now.wall_ms(),
                };
                let grace_ms = i64::try_from(self.settings.doubt_grace_ms).unwrap_or(i64::MAX / 2);
                let decide_at_ms = claim_at_ms
                    .saturating_add(self.settings.doubt_wait_ms())
                    .max(self.now.wall_ms() + grace_ms);
                fact.status = Status::InDoubt;
                fact.wait = Some(("evidence", Some(decide_at_ms)));
                Next::Doubt(Doubt {
                    claim_epoch: claim.0,
                    claim_seq: claim.1,
                    claim_at_ms,
                    decide_at_ms,
                    held: false,
                })
            }
        };
        (fact, next)
    }

    pub(super) fn attempts_max(&self, open: &Open) -> u32 {
        if self.planted(Planted::RetryForever) {
            return u32::MAX;
        }
        let asked = open.command.max_attempts.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
        asked.map_or(self.settings.attempts_max, |n| n.min(self.settings.attempts_max))
    }

    /// Exponential with full jitter.
    fn backoff_ms(&mut self, attempt: u32) -> u64 {
        let doubled = self.settings.backoff_first_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20));
        let cap_ms = doubled.min(self.settings.backoff_max_ms);
        self.rng.between(self.settings.backoff_first_ms.min(cap_ms) / 2, cap_ms)
    }

    /// Notes a throttling answer where it counts; when it ends, wall µs.
    fn throttle(
        &mut self,
        inflight: &InFlight,
        open: &Open,
        scope: ThrottleScope,
        hint_ms: Option<u64>,
    ) -> i64 {
        let wait_ms =
            hint_ms.unwrap_or(self.settings.throttle_default_ms).clamp(1, self.settings.throttle_max_ms);
        let until_us = self.after_us(wait_ms);
        match scope {
            ThrottleScope::Session => {
                let now_us = self.now.wall_us;
                let claimed_at_us = match open.stage {
                    Stage::Calling(_, claim) => claim.at.wall_us,
                    _ => now_us,
                };
                let mut recovery_us =
                    i64::try_from(self.settings.slowing_recovery_ms).unwrap_or(i64::MAX / 1000);
                if self.planted(Planted::SlowingForever) {
                    recovery_us = i64::MAX / 1000;
                }
                let state = self.sessions.work(inflight.session);
                state.throttled_until_us = state.throttled_until_us.max(until_us);
                let factor_max = self.settings.slowing_max;
                state.slowing.throttled(now_us, claimed_at_us, factor_max, recovery_us.saturating_mul(1000));
            }
            ThrottleScope::Account => {
                let bulkhead = self.bulkheads.get(inflight.bulkhead);
                bulkhead.throttled_until_us = bulkhead.throttled_until_us.max(until_us);
            }
            ThrottleScope::Pair => {
                let state = self.sessions.work(inflight.session);
                if let Some(chat) = state.chats.get_mut(&open.chat) {
                    chat.throttle(until_us);
                    state.note_held_chat(open.chat.clone());
                    self.wake_session(inflight.session, until_us);
                }
            }
        }
        until_us
    }
}

fn end(outcome: Status, reason: Option<&str>, provider_message_id: Option<String>, claim: (i64, i64)) -> End {
    End {
        outcome,
        reason: reason.map(str::to_owned),
        provider_message_id,
        claim_epoch: claim.0,
        claim_seq: claim.1,
    }
}
