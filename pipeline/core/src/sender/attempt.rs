//! Claims, calls and their outcomes.

use sluice_schemas::{Command, EntryKind, LedgerEntry, SendError, Status};
use uuid::Uuid;

use super::bridge::{Match, Stage as BridgeStage};
use super::bulkhead::BulkheadIndex;
use super::doubt::RESEND;
use super::facts::Fact;
use super::message::{Claim, Next, Stage, Unsent};
use super::records::{as_i32, throttled_ms};
use super::session::SessionIndex;
use super::{Call, CallId, Effect, InFlight, Note, Partition, Phase, Planted, Sender, Token};
use crate::outcome::{CallResult, Outcome};

impl Sender {
    /// Appends the claim of a message whose turn it is.
    pub(super) fn claim(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let now = self.now;
        let reuses = self.planted(Planted::ReuseClaimSeq);
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let (epoch, status_offset) = (part.epoch, part.status_offset);
        let seq = part.claim_seq;
        let Some(open) = part.open.get_mut(&id) else { return };
        part.claim_seq += i64::from(!reuses);
        // A claim behind an Accepted record that is still on its way goes the same way, so that it cannot
        // overtake it.
        let urgent = open.accepted_read;
        open.stage = Stage::Claiming(Claim { seq, at: now });
        open.unread += 1;
        open.recorded.note(epoch);
        let session = self.sessions.get_mut(open.session);
        session.work().reserved += 1;
        session.work().in_flight += 1;
        let entry = LedgerEntry {
            kind: EntryKind::Claimed,
            epoch,
            at: now.wall_ms(),
            message_id: Some(id.to_string()),
            session_id: Some(open.command.session_id.clone()),
            claim_seq: Some(seq),
            attempt: Some(as_i32(open.attempts)),
            status_offset: Some(status_offset),
            reason: open.is_resent.then(|| RESEND.to_owned()),
            tats: session.tats(&open.recipient, now.wall_us),
            throttled_until: throttled_ms(session.throttled_until_us(), now.wall_us),
            ..LedgerEntry::default()
        };
        open.slot = session.bulkhead;
        if let Some(bulkhead) = open.slot {
            self.bulkheads.get(bulkhead).take_slot();
        }
        self.set_due(partition, id, None);
        if self.planted(Planted::CallBeforeClaim) {
            self.start(partition, id, Claim { seq, at: now }, out);
        }
        self.append_state(partition, id, epoch, entry, urgent, out);
        if self.planted(Planted::SkipReadBack) {
            self.start(partition, id, Claim { seq, at: now }, out);
        }
    }

    /// Starts the call if the claim is young and everything still allows it; else waits or gives it up.
    pub(super) fn try_start(&mut self, partition: i32, id: Uuid, claim: Claim, out: &mut Vec<Effect>) {
        let now_us = self.now.wall_us;
        let ttl_us = self.claim_ttl_us();
        let Some(part) = self.partitions.get(&partition) else { return };
        let owned = part.phase == Phase::Owned;
        let Some(open) = part.open.get(&id) else { return };
        let session = self.sessions.get(open.session);
        let age_us = self.now.age_us(claim.at);
        let shut = session.bulkhead.is_some_and(|url| self.bulkheads.is_shut(url, now_us));
        if open.canceled || !owned || shut || !session.may_start(now_us) || open.expires_at_us <= now_us {
            self.unclaim(partition, id, out);
            return;
        }
        let pair_ready_us = session.pair_ready_at_us(&open.recipient, self.settings.session_pairs_max);
        let mut ready_us = session.ready_first_us(now_us).max(pair_ready_us);
        if let Some(bulkhead) = session.bulkhead {
            ready_us = ready_us.max(self.bulkheads.get(bulkhead).throttled_until_us);
        }
        let wait_us = u64::try_from(ready_us.saturating_sub(now_us)).unwrap_or(0);
        if age_us.saturating_add(wait_us) >= ttl_us {
            out.push(Effect::Note(Note::ClaimExpired { message_id: id }));
            self.unclaim(partition, id, out);
        } else if wait_us > 0 {
            if let Some(open) = self.open_mut(partition, &id) {
                open.stage = Stage::Claimed(claim);
            }
            self.set_due(partition, id, Some(ready_us));
        } else {
            self.start(partition, id, claim, out);
        }
    }

    fn claim_ttl_us(&self) -> u64 {
        let forever = self.planted(Planted::ExpiredClaimUsed);
        if forever { u64::MAX } else { self.settings.claim_ttl_ms.saturating_mul(1000) }
    }

    fn start(&mut self, partition: i32, id: Uuid, claim: Claim, out: &mut Vec<Effect>) {
        let Some(references) = self.references(partition, &id) else {
            self.free_claim_of(partition, &id);
            self.end_unsent(partition, id, &Unsent::new(Status::Failed, "target_not_found"), out);
            return;
        };
        let now = self.now;
        let claim_ttl_us = self.claim_ttl_us();
        let call_end_us =
            self.after_us(self.settings.claim_ttl_ms.saturating_add(self.settings.call_timeout_ms));
        let call = CallId(self.next_call);
        self.next_call += 1;
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let epoch = part.epoch;
        let Some(open) = part.open.get_mut(&id) else { return };
        let session = self.sessions.get_mut(open.session);
        let (Some(bulkhead), Some(config)) = (open.slot.take(), session.config.clone()) else { return };
        let needs_bridge = config.needs_bridge && open.command.command == Command::Send;
        let work = session.work();
        work.reserved = work.reserved.saturating_sub(1);
        work.buckets.take(now.wall_us);
        work.pairs.take(&open.recipient, now.wall_us, call_end_us);
        open.stage = Stage::Calling(call, claim);
        let attempt = open.attempts + 1;
        out.push(Effect::Call(Box::new(Call {
            id: call,
            message_id: id,
            session_id: session.id.clone(),
            account_id: config.account_id.clone(),
            command: open.command.clone(),
            recipient: open.recipient.clone(),
            reply_to_provider_id: references.reply_to,
            target_provider_id: references.target,
            start_by_boot_us: claim.at.boot_us.saturating_add(claim_ttl_us),
            traceparent: open.traceparent.clone(),
            attempt,
        })));
        let inflight = InFlight {
            partition,
            epoch,
            message_id: id,
            session: open.session,
            bulkhead,
            claim_seq: claim.seq,
            attempt,
            orphan: Box::new(open.clone()),
        };
        self.calls.insert(call, inflight);
        self.set_due(partition, id, None);
        if needs_bridge {
            self.add_candidate(partition, id, now.wall_ms(), BridgeStage::Calling);
        }
    }

    /// Provider ids that a command refers to; `None` if it needs one that is not known.
    fn references(&self, partition: i32, id: &Uuid) -> Option<References> {
        let part = self.partitions.get(&partition)?;
        let command = &part.open.get(id)?.command;
        let provider_id = |message_id: &str| -> Option<String> {
            let id = Uuid::try_parse(message_id).ok()?;
            part.local.done(&id)?.provider_message_id
        };
        let reply_to =
            command.reply_to.as_deref().map(|reply| provider_id(reply).unwrap_or_else(|| reply.to_owned()));
        let target = match (&command.target_message_id, &command.target_idempotency_key) {
            (Some(target), _) => Some(provider_id(target)),
            (None, Some(key)) => {
                let target = sluice_schemas::ids::message_id(&command.session_id, key).to_string();
                Some(provider_id(&target))
            }
            (None, None) => None,
        };
        match (command.command, target) {
            (Command::Edit | Command::Revoke | Command::React, None | Some(None)) => None,
            (_, target) => Some(References { reply_to, target: target.flatten() }),
        }
    }

    /// Gives a claim up: what it holds is free, and the log learns that no call was made.
    fn unclaim(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        self.free_claim_of(partition, &id);
        self.queue_again(partition, id, self.now.wall_us, "claim_dropped", out);
    }

    fn free_claim_of(&mut self, partition: i32, id: &Uuid) {
        if let Some(open) = self.open_mut(partition, id) {
            let (session, slot) = (open.session, open.slot.take());
            self.free_claim(session, slot);
        }
    }

    /// Frees what a claim without a call holds.
    pub(super) fn free_claim(&mut self, session: SessionIndex, slot: Option<BulkheadIndex>) {
        let state = self.sessions.work(session);
        state.reserved = state.reserved.saturating_sub(1);
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(bulkhead) = slot {
            self.bulkheads.get(bulkhead).free_slot();
        }
    }

    pub(super) fn called(&mut self, call: CallId, result: CallResult, out: &mut Vec<Effect>) {
        let Some(inflight) = self.calls.remove(&call) else { return };
        if !(self.planted(Planted::SlotLeaked) && matches!(result.outcome, Outcome::Throttled { .. })) {
            self.bulkheads.get(inflight.bulkhead).free_slot();
        }
        let (partition, id) = (inflight.partition, inflight.message_id);
        let tenure = |part: &Partition| part.epoch == inflight.epoch && part.is_live();
        let ours = self.partitions.get(&partition).is_some_and(|part| {
            tenure(part)
                && part
                    .open
                    .get(&id)
                    .is_some_and(|open| matches!(open.stage, Stage::Calling(c, _) if c == call))
        });
        let session = self.sessions.work(inflight.session);
        session.buckets.arrived_by(self.now.wall_us);
        session.pairs.arrived_by(&inflight.orphan.recipient, self.now.wall_us);
        if self.partitions.get(&partition).is_some_and(tenure) {
            session.in_flight = session.in_flight.saturating_sub(1);
        }
        self.note_circuits(&inflight, &result.outcome, out);
        if !ours {
            self.testify(inflight, result, out);
            return;
        }
        if result.outcome == Outcome::NotMade {
            out.push(Effect::Note(Note::ClaimExpired { message_id: id }));
            self.drop_candidate(partition, &id, out);
            self.queue_again(partition, id, self.now.wall_us, "claim_dropped", out);
            self.offer(inflight.session);
            self.pump(out);
            return;
        }
        self.note_session_health(&inflight, &result.outcome, out);
        let Some(open) = self.open_mut(partition, &id) else { return };
        if !matches!(result.outcome, Outcome::Throttled { .. } | Outcome::SessionDown { .. }) {
            open.attempts += 1;
        }
        let open = open.clone();
        let (fact, next) = self.judge(&inflight, &open, result);
        self.settle_call(partition, id, fact, next, out);
        self.offer(inflight.session);
        self.pump(out);
    }

    /// The partition, or the message, has gone meanwhile: the truth is told all the same, as evidence for whoever
    /// decides about the claim now. That may be this process, in a later epoch.
    fn testify(&mut self, inflight: InFlight, result: CallResult, out: &mut Vec<Effect>) {
        let (partition, id) = (inflight.partition, inflight.message_id);
        let not_made = result.outcome == Outcome::NotMade;
        let (mut fact, _) = self.judge(&inflight, &inflight.orphan, result);
        if not_made {
            // It used no attempt, so it cannot have been the last one.
            fact.status = Status::Retrying;
        }
        let status = Box::new(self.status_of(partition, id, &inflight.orphan, fact));
        let traceparent = inflight.orphan.traceparent.clone();
        out.push(Effect::Publish { status: status.clone(), partition, traceparent, token: Token::None });
        self.testimony(partition, &status, out);
        self.offer(inflight.session);
        self.pump(out);
    }

    /// Settles the outcome of an attempt, after the bridge has had its say.
    pub(super) fn settle_call(
        &mut self,
        partition: i32,
        id: Uuid,
        fact: Fact,
        next: Next,
        out: &mut Vec<Effect>,
    ) {
        let session = self.open(partition, &id).map(|open| open.session);
        let found = self.advance_by(partition, id, &fact, out);
        self.settle(partition, id, fact, next, out);
        if let (Some(found), Some(session)) = (found, session) {
            self.matched(session, found, out);
        }
    }

    /// What an outcome says of the echo that may come; a match if one is there already.
    fn advance_by(&mut self, partition: i32, id: Uuid, fact: &Fact, out: &mut Vec<Effect>) -> Option<Match> {
        // Decided by policy, ours or a former owner's: it may have been sent all the same.
        let is_guess = |error: &SendError| matches!(error.code.as_str(), "in_doubt" | RESEND);
        let guessed = fact.error.as_ref().is_some_and(is_guess);
        match (fact.status, &fact.provider_message_id, &fact.whatsapp_message_id) {
            (Status::Submitted, _, Some(whatsapp_id)) => {
                self.candidate_told(partition, &id, whatsapp_id, out)
            }
            (Status::Submitted, Some(provider_message_id), None) => {
                let stage = BridgeStage::Submitted { provider_message_id: provider_message_id.clone() };
                return self.advance_candidate(partition, &id, stage);
            }
            (Status::InDoubt, _, _) => return self.advance_candidate(partition, &id, BridgeStage::InDoubt),
            (Status::Submitted, None, None) => self.give_up_candidate(partition, &id),
            (Status::Failed | Status::Retrying, _, _) if guessed => self.give_up_candidate(partition, &id),
            _ => self.drop_candidate(partition, &id, out),
        }
        None
    }

    /// States a fact; what follows it is written once the status is acked.
    pub(super) fn settle(&mut self, partition: i32, id: Uuid, fact: Fact, next: Next, out: &mut Vec<Effect>) {
        let Some(epoch) = self.epoch(partition) else { return };
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.turn += 1;
        open.evidence = None;
        let turn = open.turn;
        let ends = matches!(next, Next::Done(_));
        let queued = std::mem::replace(&mut open.queued, false);
        open.stage = Stage::Settling(next);
        let (session, chat_key, lane) = (open.session, open.chat.clone(), open.lane);
        if queued {
            self.sessions.work(session).count_queued(lane, -1);
        }
        self.publish_by_id(
            partition,
            id,
            fact,
            Token::Outcome { partition, epoch, message_id: id, turn },
            out,
        );
        self.set_due(partition, id, None);
        if ends {
            let now_us = self.now.wall_us;
            let state = self.sessions.work(session);
            if let Some(chat) = state.chats.get_mut(&chat_key) {
                if queued { chat.forget(id) } else { chat.finish(id) }
            }
            state.ready_chat(&chat_key, now_us);
            self.offer(session);
        } else {
            self.hold_chat(partition, id);
        }
        if self.planted(Planted::DoneBeforeAck) {
            self.outcome_stated(partition, id, turn, out);
        }
    }

    /// The status of an outcome is acked: the ledger follows.
    pub(super) fn outcome_stated(&mut self, partition: i32, id: Uuid, turn: u32, out: &mut Vec<Effect>) {
        let Some(open) = self.open(partition, &id) else { return };
        if open.turn != turn {
            return;
        }
        let Stage::Settling(next) = open.stage.clone() else { return };
        match next {
            Next::Done(end) => self.append_done(partition, id, end, out),
            Next::Queue { not_before_us, reason } => {
                self.queue_again(partition, id, not_before_us, &reason, out);
            }
            Next::Doubt(doubt) => self.append_doubt(partition, id, doubt, out),
        }
        self.pump(out);
    }
}

/// Provider ids a call refers to.
struct References {
    reply_to: Option<String>,
    target: Option<String>,
}

/// Microseconds to milliseconds, rounded up: a recorded "not before" must not come early.
pub(super) fn ceil_ms(us: i64) -> i64 {
    us.div_euclid(1000) + i64::from(us.rem_euclid(1000) > 0)
}
