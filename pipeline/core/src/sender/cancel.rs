//! Cancels: facts in the ledger, so that they hold across owners, also before their message.

use std::sync::Arc;

use sluice_schemas::ids::message_id;
use sluice_schemas::{DeadLetterReason, EntryKind, LedgerEntry, OutboundCommand, Status};
use uuid::Uuid;

use super::done::Done;
use super::facts::Fact;
use super::ledger::Key;
use super::message::Stage;
use super::{Effect, Request, Sender, Token};

/// Cancels of messages that never came removed per step.
const EXPIRED_PER_STEP: usize = 16;

/// A cancel that stands in the log. It is its session's: a message of another session is none of its business.
#[derive(Debug)]
pub(super) struct Canceled {
    pub(super) at_ms: i64,
    pub(super) session_id: Box<str>,
}

impl Sender {
    pub(super) fn take_cancel(
        &mut self,
        request: &Request,
        command: &Arc<OutboundCommand>,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let partition = request.partition;
        let target = match (&command.target_message_id, &command.target_idempotency_key) {
            (Some(id), _) => Uuid::try_parse(id).ok(),
            (None, Some(key)) => Some(message_id(&command.session_id, key)),
            (None, None) => None,
        };
        let Some(target) = target else {
            out.push(Effect::DeadLetter {
                partition,
                offset: request.offset,
                reason: DeadLetterReason::MissingField,
                detail: "CANCEL needs target_message_id (a message_id) or target_idempotency_key".to_owned(),
                token,
            });
            return;
        };
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if let Some(done) = part.local.done(&target) {
            self.answer_cancel(&done, target, command, token, out);
            return;
        }
        // The cancel is a fact in the ledger first: it holds across owners, also when it came before its message.
        part.cancel_requests.entry(target).or_default().push((request.offset, command.clone()));
        let entry = LedgerEntry {
            kind: EntryKind::Cancel,
            epoch: part.epoch,
            at: self.now.wall_ms(),
            message_id: Some(target.to_string()),
            session_id: Some(command.session_id.clone()),
            ..LedgerEntry::default()
        };
        out.push(Effect::Append {
            partition,
            epoch: part.epoch,
            key: Key::Cancel(target),
            entry: Some(Box::new(entry)),
            urgent: false,
        });
    }

    /// A cancel of a message that is done: too late, or not needed.
    fn answer_cancel(
        &mut self,
        done: &Done,
        target: Uuid,
        command: &Arc<OutboundCommand>,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let Token::Intake { partition, offset, .. } = token else { return };
        if done.outcome == Status::Submitted {
            let fact = Fact { status: Status::CancelTooLate, ..Fact::default() };
            self.publish_bare(partition, target, command, fact, token, out);
        } else {
            self.settle_slot(partition, offset, out);
        }
    }

    /// A cancel stands in the log.
    pub(super) fn read_cancel(
        &mut self,
        partition: i32,
        id: Uuid,
        canceled: Canceled,
        out: &mut Vec<Effect>,
    ) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let (epoch, done) = (part.epoch, part.local.done(&id));
        let requests = part.cancel_requests.remove(&id).unwrap_or_default();
        let Some(done) = done else {
            part.cancel_order.push_back((canceled.at_ms, id));
            part.local.put_cancel(&id, canceled.at_ms, &canceled.session_id);
            part.cancels.insert(id, canceled);
            for (offset, _) in requests {
                self.settle_slot(partition, offset, out);
            }
            self.cancel_open(partition, id, out);
            return;
        };
        // Its message was done by the time the cancel reached the log.
        for (offset, command) in requests {
            self.answer_cancel(&done, id, &command, Token::Intake { partition, epoch, offset }, out);
        }
        self.tombstone(partition, Key::Cancel(id), out);
    }

    /// A cancel that stands in the log reaches its message, if that is open.
    fn cancel_open(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get(&partition).filter(|part| part.is_live()) else { return };
        let is_reached = match part.open.get(&id) {
            Some(open) => part.is_canceled(&id, &open.command.session_id),
            None => part.local.spot(&id).is_some_and(|spot| part.is_canceled(&id, &spot.session_id)),
        };
        if !is_reached {
            return;
        }
        self.load(partition, id);
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.canceled = true;
        match open.stage {
            Stage::Waiting | Stage::Retrying { .. } => self.look_again(partition, id, out),
            // The claim is dropped when it is read back or its turn comes.
            Stage::Claiming(_) | Stage::Claimed(_) => {}
            // Forbids a resend; the attempt itself may have been made.
            Stage::InDoubt(_) => {}
            // It ends unsent already.
            Stage::Ending(_) => {}
            Stage::Calling(..) | Stage::Settling(_) | Stage::Finishing => {
                let fact = Fact { status: Status::CancelTooLate, ..Fact::default() };
                self.publish_by_id(partition, id, fact, Token::None, out);
            }
        }
    }

    /// Forgets cancels whose message did not come inside the dedupe window.
    pub(super) fn forget_cancels(&mut self, before_ms: i64, out: &mut Vec<Effect>) {
        for (n, part) in &mut self.partitions {
            for _ in 0..EXPIRED_PER_STEP {
                if !part.is_live() || part.cancel_order.front().is_none_or(|(at, _)| *at >= before_ms) {
                    break;
                }
                let Some((at_ms, id)) = part.cancel_order.pop_front() else { break };
                let is_same = part.cancels.get(&id).is_some_and(|canceled| canceled.at_ms == at_ms);
                if is_same && !part.open.contains_key(&id) && part.local.spot(&id).is_none() {
                    let (key, epoch) = (Key::Cancel(id), part.epoch);
                    out.push(Effect::Append { partition: *n, epoch, key, entry: None, urgent: false });
                }
            }
        }
    }
}
