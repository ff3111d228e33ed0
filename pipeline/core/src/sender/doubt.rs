//! Settles attempts nobody knows the outcome of: evidence first, then what an operator says, then the policy.

use sluice_schemas::{ErrorClass, InDoubtPolicy, MessageStatus, Source, Status};
use uuid::Uuid;

use super::facts::{Fact, error};
use super::message::{Doubt, End, Evidence, Next, Stage};
use super::{Effect, Note, Planted, Sender};

/// Why an attempt in doubt is followed by another.
pub(super) const RESEND: &str = "in_doubt_resend";

impl Sender {
    /// The time to decide has come, or something that bears on it was read.
    pub(super) fn decide(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let now_ms = self.now.wall_ms();
        let Some(part) = self.partitions.get(&partition) else { return };
        let seen_ms = part.status_seen_ms;
        let Some(open) = part.open.get(&id) else { return };
        let Stage::InDoubt(doubt) = open.stage.clone() else { return };
        match open.evidence.clone() {
            Some(Evidence::Echo(echo)) => return self.settle_by_echo(partition, id, &doubt, *echo, out),
            Some(Evidence::Operator(word)) => return self.settle_by_word(partition, id, &doubt, &word, out),
            None => {}
        }
        let at_once = self.planted(Planted::ResendWithoutWait);
        if doubt.held || now_ms < doubt.decide_at_ms && !at_once {
            self.arm(partition, id);
            return;
        }
        if seen_ms < doubt.decide_at_ms && !at_once {
            // Webhooks up to the time of decision are not all read: `StatusCaughtUp` looks again.
            return;
        }
        let attempts_left = open.attempts < self.attempts_max(open);
        let canceled = open.canceled;
        match self.policy(partition, &id) {
            InDoubtPolicy::Resend if attempts_left && !canceled => {
                out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "resend" }));
                self.give_up_candidate(partition, &id);
                let fact = Fact {
                    status: Status::Retrying,
                    claim: Some((doubt.claim_epoch, doubt.claim_seq)),
                    next_attempt_at: Some(now_ms),
                    error: Some(error(
                        ErrorClass::Uncertain,
                        RESEND,
                        "no evidence that it was sent; the policy says to send it again",
                    )),
                    ..Fact::default()
                };
                let next = Next::Queue { not_before_us: self.now.wall_us, reason: RESEND.to_owned() };
                self.settle(partition, id, fact, next, out);
            }
            InDoubtPolicy::Hold if !canceled => {
                out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "hold" }));
                if let Some(open) = self.open_mut(partition, &id) {
                    open.stage = Stage::InDoubt(Doubt { held: true, ..doubt });
                }
            }
            _ => {
                out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "fail" }));
                self.give_up_candidate(partition, &id);
                let fact = Fact {
                    status: Status::Failed,
                    claim: Some((doubt.claim_epoch, doubt.claim_seq)),
                    error: Some(error(
                        ErrorClass::Uncertain,
                        "in_doubt",
                        "nobody knows whether it was sent; the policy says to send it no more",
                    )),
                    ..Fact::default()
                };
                self.settle(partition, id, fact, Next::Done(settled(Status::Failed, &doubt, None)), out);
            }
        }
    }

    fn policy(&self, partition: i32, id: &Uuid) -> InDoubtPolicy {
        let Some(open) = self.open(partition, id) else { return InDoubtPolicy::Hold };
        match open.command.in_doubt_policy {
            InDoubtPolicy::Unknown => match &self.sessions.get(open.session).config {
                Some(config) if config.in_doubt_policy != InDoubtPolicy::Unknown => config.in_doubt_policy,
                _ => InDoubtPolicy::Hold,
            },
            asked => asked,
        }
    }

    /// A fact of another writer: a former owner's outcome, or an echo.
    pub(super) fn status(&mut self, partition: i32, status: MessageStatus, out: &mut Vec<Effect>) {
        match status.source {
            Source::Sender => self.testimony(partition, &status, out),
            Source::Webhook if status.status == Status::Sent && status.message_id.is_none() => {
                self.echo(&status, out);
            }
            Source::Operator => self.operator_said(partition, status, out),
            _ => {}
        }
    }

    /// The doubt an open message is in, also while its statement is on its way.
    pub(super) fn doubt_of(&self, partition: i32, id: &Uuid) -> Option<Doubt> {
        match &self.open(partition, id)?.stage {
            Stage::InDoubt(doubt) | Stage::Settling(Next::Doubt(doubt)) => Some(doubt.clone()),
            _ => None,
        }
    }

    /// The owner of a former epoch, which may be this process, tells what came of its claim.
    pub(super) fn testimony(&mut self, partition: i32, status: &MessageStatus, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if !part.is_live() {
            part.early_testimony.push(status.clone());
            return;
        }
        let Some(id) = status.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) else { return };
        let Some(doubt) = self.doubt_of(partition, &id) else { return };
        let is_its =
            status.claim_epoch == Some(doubt.claim_epoch) && status.claim_seq == Some(doubt.claim_seq);
        if !is_its && !self.planted(Planted::EvidenceOfAnyClaim) {
            return;
        }
        let fact = Fact {
            status: status.status,
            claim: Some((doubt.claim_epoch, doubt.claim_seq)),
            provider_message_id: status.provider_message_id.clone(),
            whatsapp_message_id: status.whatsapp_message_id.clone(),
            evidence_event_id: Some(status.event_id.clone()),
            error: status.error.clone(),
            occurred_at: Some(status.occurred_at),
            ..Fact::default()
        };
        let next = match status.status {
            Status::Submitted => {
                Next::Done(settled(Status::Submitted, &doubt, status.provider_message_id.clone()))
            }
            Status::Failed => {
                // Its owner knew why; only a decision of the policy has no better reason than the doubt.
                let mut end = settled(Status::Failed, &doubt, None);
                end.reason = status.error.as_ref().map(|error| error.code.clone()).or(end.reason);
                Next::Done(end)
            }
            Status::Retrying | Status::Held => {
                Next::Queue { not_before_us: self.now.wall_us, reason: "not_sent".to_owned() }
            }
            _ => return,
        };
        out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "evidence" }));
        if let Some(open) = self.open_mut(partition, &id).filter(|_| status.status == Status::Held) {
            // Throttled, or the session was down: it used no attempt.
            open.attempts = open.attempts.saturating_sub(1);
        }
        self.settle_call(partition, id, fact, next, out);
    }

    pub(super) fn status_caught_up(&mut self, partition: i32, asked_ms: i64, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.status_seen_ms = part.status_seen_ms.max(asked_ms);
        let seen_ms = part.status_seen_ms;
        let mut due = Vec::new();
        let open = &part.open;
        part.in_doubt.retain(|id| match open.get(id).map(|open| &open.stage) {
            Some(Stage::InDoubt(doubt)) => {
                if !doubt.held && doubt.decide_at_ms <= seen_ms {
                    due.push(*id);
                }
                true
            }
            _ => false,
        });
        due.sort_unstable();
        for id in due {
            self.look_again(partition, id, out);
        }
    }
}

pub(super) fn settled(outcome: Status, doubt: &Doubt, provider_message_id: Option<String>) -> End {
    End {
        outcome,
        reason: (outcome == Status::Failed).then(|| "in_doubt".to_owned()),
        provider_message_id,
        claim_epoch: doubt.claim_epoch,
        claim_seq: doubt.claim_seq,
    }
}
