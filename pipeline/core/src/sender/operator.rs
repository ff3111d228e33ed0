//! What operators say of attempts in doubt: `OPERATOR` facts in `messages.status` that name the claim.

use sluice_schemas::{ErrorClass, MessageStatus, Status};
use uuid::Uuid;

use super::doubt::{RESEND, settled};
use super::facts::{Fact, error};
use super::message::{Doubt, Evidence, Next};
use super::{Effect, Note, Sender};

impl Sender {
    /// An operator says what came of an attempt (`SUBMITTED`, `FAILED`), or to send again (`RETRYING`). The first
    /// word about the claim in doubt counts, held or not; about any other claim it is stale and changes nothing.
    pub(super) fn operator_said(&mut self, partition: i32, word: MessageStatus, out: &mut Vec<Effect>) {
        if !matches!(word.status, Status::Submitted | Status::Failed | Status::Retrying) {
            return;
        }
        let Some(id) = word.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) else { return };
        let Some(doubt) = self.doubt_of(partition, &id) else { return };
        if word.claim_epoch != Some(doubt.claim_epoch) || word.claim_seq != Some(doubt.claim_seq) {
            return;
        }
        // An echo that waits to be acted on knows better, and an earlier word came first in the log for every owner.
        if self.open(partition, &id).is_some_and(|open| open.evidence.is_none()) {
            self.note_evidence(partition, id, Evidence::Operator(Box::new(word)), out);
        }
    }

    /// Does as the operator said, now that a record of ours behind the word is read back.
    pub(super) fn settle_by_word(
        &mut self,
        partition: i32,
        id: Uuid,
        doubt: &Doubt,
        word: &MessageStatus,
        out: &mut Vec<Effect>,
    ) {
        let Some(open) = self.open(partition, &id) else { return };
        // A cancel forbids to send again, whoever asks; that it was not sent cannot be said either.
        let resend = word.status == Status::Retrying && !open.canceled;
        out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "operator" }));
        let mut fact = Fact {
            status: word.status,
            claim: Some((doubt.claim_epoch, doubt.claim_seq)),
            evidence_event_id: Some(word.event_id.clone()),
            ..Fact::default()
        };
        let next = if word.status == Status::Submitted {
            fact.provider_message_id.clone_from(&word.provider_message_id);
            fact.whatsapp_message_id.clone_from(&word.whatsapp_message_id);
            Next::Done(settled(Status::Submitted, doubt, word.provider_message_id.clone()))
        } else if resend {
            let why = "no evidence that it was sent; an operator says to send it again";
            fact.next_attempt_at = Some(self.now.wall_ms());
            fact.error = Some(error(ErrorClass::Uncertain, RESEND, why));
            Next::Queue { not_before_us: self.now.wall_us, reason: RESEND.to_owned() }
        } else {
            let why = "nobody knows whether it was sent; an operator says to send it no more";
            fact.status = Status::Failed;
            fact.error = Some(error(ErrorClass::Uncertain, "in_doubt", why));
            Next::Done(settled(Status::Failed, doubt, None))
        };
        self.settle_call(partition, id, fact, next, out);
    }
}
