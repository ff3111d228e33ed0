//! Claims, calls and their outcomes.

use sluice_schemas::{Command, Connection, EntryKind, Facet, LedgerEntry, SendError, SessionStatus, Status};
use uuid::Uuid;

use super::bridge::{Match, Stage as BridgeStage};
use super::bulkhead::BulkheadIndex;
use super::doubt::RESEND;
use super::facts::Fact;
use super::ledger::Key;
use super::message::{Claim, Doubt, End, Next, Open, Stage, Unsent};
use super::session::{Down, Holding, SessionIndex};
use super::{Call, CallId, Effect, InFlight, Note, Partition, Phase, Planted, Sender, Token};
use crate::outcome::{CallResult, Outcome, ThrottleScope};

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
        session.reserved += 1;
        session.in_flight += 1;
        let entry = LedgerEntry {
            kind: EntryKind::Claimed,
            epoch,
            at: now.wall_ms(),
            message_id: Some(id.to_string()),
            session_id: Some(open.command.session_id.clone()),
            claim_seq: Some(seq),
            attempt: Some(as_i32(open.attempts)),
            status_offset: Some(status_offset),
            tats: session.tats(&open.recipient, now.wall_us),
            throttled_until: throttled_ms(session.throttled_until_us, now.wall_us),
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

    fn append_state(
        &self,
        partition: i32,
        id: Uuid,
        epoch: i64,
        entry: LedgerEntry,
        urgent: bool,
        out: &mut Vec<Effect>,
    ) {
        let key = Key::State(id, if self.planted(Planted::SharedStateKey) { 0 } else { epoch });
        out.push(Effect::Append { partition, epoch, key, entry: Some(Box::new(entry)), urgent });
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
        let pair_ready_us = session.pairs.ready_at_us(&open.recipient, self.settings.session_pairs_max);
        let mut ready_us = session.ready_behind_us(0, now_us).max(pair_ready_us);
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
        let call = CallId(self.next_call);
        self.next_call += 1;
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let epoch = part.epoch;
        let Some(open) = part.open.get_mut(&id) else { return };
        let session = self.sessions.get_mut(open.session);
        let (Some(bulkhead), Some(config)) = (open.slot.take(), &session.config) else { return };
        let needs_bridge = config.needs_bridge && open.command.command == Command::Send;
        session.reserved = session.reserved.saturating_sub(1);
        session.buckets.take(now.wall_us);
        session.pairs.take(&open.recipient, now.wall_us);
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
        let state = self.sessions.get_mut(session);
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
        let session = self.sessions.get_mut(inflight.session);
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
            self.sessions.get_mut(session).count_queued(lane, -1);
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
            let state = self.sessions.get_mut(session);
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

    /// Puts on record that the message waits for its next attempt.
    fn queue_again(
        &mut self,
        partition: i32,
        id: Uuid,
        not_before_us: i64,
        reason: &str,
        out: &mut Vec<Effect>,
    ) {
        let now = self.now;
        let Some(epoch) = self.epoch(partition) else { return };
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.stage = Stage::Retrying { not_before_us };
        open.unread += 1;
        open.recorded.note(epoch);
        let (attempts, session, canceled) = (open.attempts, open.session, open.canceled);
        let recipient = open.recipient.clone();
        let state = self.sessions.get(session);
        let entry = LedgerEntry {
            kind: EntryKind::Queued,
            epoch,
            at: now.wall_ms(),
            message_id: Some(id.to_string()),
            session_id: Some(state.id.to_string()),
            attempt: Some(as_i32(attempts)),
            not_before: Some(ceil_ms(not_before_us)),
            reason: Some(reason.to_owned()),
            tats: state.tats(&recipient, now.wall_us),
            throttled_until: throttled_ms(state.throttled_until_us, now.wall_us),
            canceled,
            ..LedgerEntry::default()
        };
        self.wait_for_retry(partition, id);
        self.append_state(partition, id, epoch, entry, true, out);
    }

    /// Puts on record that the message ends unsent, and how. That is told once it is read back: an owner that was
    /// fenced off and does not know it yet must not say of a message that it was not sent.
    pub(super) fn append_ending(&mut self, partition: i32, id: Uuid, why: Unsent, out: &mut Vec<Effect>) {
        let now = self.now;
        let Some(epoch) = self.epoch(partition) else { return };
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.unread += 1;
        open.recorded.note(epoch);
        let entry = LedgerEntry {
            kind: EntryKind::Queued,
            epoch,
            at: now.wall_ms(),
            message_id: Some(id.to_string()),
            session_id: Some(open.command.session_id.clone()),
            attempt: Some(as_i32(open.attempts)),
            outcome: why.outcome,
            reason: Some(why.code.clone()),
            canceled: open.canceled,
            ..LedgerEntry::default()
        };
        open.stage = Stage::Ending(why);
        self.set_due(partition, id, None);
        self.append_state(partition, id, epoch, entry, true, out);
    }

    pub(super) fn append_doubt(&mut self, partition: i32, id: Uuid, doubt: Doubt, out: &mut Vec<Effect>) {
        let now = self.now;
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let (epoch, status_offset) = (part.epoch, part.status_offset);
        let Some(open) = part.open.get_mut(&id) else { return };
        open.stage = Stage::InDoubt(doubt.clone());
        part.in_doubt.insert(id);
        open.unread += 1;
        open.recorded.note(epoch);
        let state = self.sessions.get(open.session);
        let entry = LedgerEntry {
            kind: EntryKind::InDoubt,
            epoch,
            at: doubt.claim_at_ms,
            message_id: Some(id.to_string()),
            session_id: Some(state.id.to_string()),
            claim_seq: Some(doubt.claim_seq),
            claim_epoch: Some(doubt.claim_epoch),
            attempt: Some(as_i32(open.attempts)),
            status_offset: Some(status_offset),
            not_before: Some(doubt.decide_at_ms),
            tats: state.tats(&open.recipient, now.wall_us),
            throttled_until: throttled_ms(state.throttled_until_us, now.wall_us),
            canceled: open.canceled,
            ..LedgerEntry::default()
        };
        self.arm(partition, id);
        self.append_state(partition, id, epoch, entry, true, out);
    }

    /// Puts the end on record. What it makes superfluous is tombstoned once it is read back: a tombstone must
    /// not stand without it.
    pub(super) fn append_done(&mut self, partition: i32, id: Uuid, end: End, out: &mut Vec<Effect>) {
        let now = self.now;
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let epoch = part.epoch;
        let Some(open) = part.open.get_mut(&id) else { return };
        open.stage = Stage::Finishing;
        open.unread += 1;
        let state = self.sessions.get(open.session);
        let entry = LedgerEntry {
            kind: EntryKind::Done,
            epoch,
            at: now.wall_ms(),
            message_id: Some(id.to_string()),
            session_id: Some(state.id.to_string()),
            position: part.intake.frontier().or(part.position),
            request_offset: Some(open.request_offset),
            claim_seq: Some(end.claim_seq),
            claim_epoch: Some(end.claim_epoch),
            // A refusal has none: see `is_refusal`.
            attempt: open.refusal.is_none().then(|| as_i32(open.attempts)),
            tats: state.tats(&open.recipient, now.wall_us),
            throttled_until: throttled_ms(state.throttled_until_us, now.wall_us),
            reason: end.reason,
            outcome: end.outcome,
            body_sha256: Some(open.body_hash.to_vec()),
            content_sha256: open.print.as_ref().map(|print| print.1.to_vec()),
            recipient: Some(open.recipient.to_string()),
            provider_message_id: end.provider_message_id,
            idempotency_key: Some(open.command.idempotency_key.clone()),
            ..LedgerEntry::default()
        };
        if self.planted(Planted::TombstoneTooEarly) {
            let part = self.partitions.get(&partition);
            let keys = part.map(|part| part.keys_of(id, part.local.known(&id).as_ref()));
            for key in keys.unwrap_or_default() {
                self.tombstone(partition, key, out);
            }
        }
        let (key, entry) = (Key::Done(id), Some(Box::new(entry)));
        out.push(Effect::Append { partition, epoch, key, entry, urgent: true });
    }

    /// What a call's result says, and what follows.
    fn judge(&mut self, inflight: &InFlight, open: &Open, result: CallResult) -> (Fact, Next) {
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
                let recovery_us = i64::try_from(self.settings.slowing_recovery_ms).unwrap_or(i64::MAX / 1000);
                let state = self.sessions.get_mut(inflight.session);
                state.throttled_until_us = state.throttled_until_us.max(until_us);
                let factor_max = self.settings.slowing_max;
                state.slowing.throttled(now_us, claimed_at_us, factor_max, recovery_us.saturating_mul(1000));
            }
            ThrottleScope::Account => {
                let bulkhead = self.bulkheads.get(inflight.bulkhead);
                bulkhead.throttled_until_us = bulkhead.throttled_until_us.max(until_us);
            }
            ThrottleScope::Pair => {
                let state = self.sessions.get_mut(inflight.session);
                if let Some(chat) = state.chats.get_mut(&open.chat) {
                    chat.throttle(until_us);
                    state.note_held_chat(open.chat.clone());
                    self.wake_session(inflight.session, until_us);
                }
            }
        }
        until_us
    }

    /// A session that cannot send is held; one that does is not.
    fn note_session_health(&mut self, inflight: &InFlight, outcome: &Outcome, out: &mut Vec<Effect>) {
        let probe_at_us = self.after_us(self.settings.session_probe_ms);
        let since_ms = self.now.wall_ms();
        let state = self.sessions.get_mut(inflight.session);
        match outcome {
            Outcome::SessionDown { .. } => {
                let was_up = state.down.is_none();
                state.down = Some(Down { since_ms, probe_at_us });
                if was_up {
                    self.state_hold(inflight.session, out);
                }
                self.wake_session(inflight.session, probe_at_us);
            }
            Outcome::Submitted { .. } if state.down.is_some() => {
                state.down = None;
                self.state_hold(inflight.session, out);
            }
            _ => {}
        }
    }

    /// Writes the sender's facet of the session's status.
    pub(super) fn state_hold(&self, session: SessionIndex, out: &mut Vec<Effect>) {
        let state = self.sessions.get(session);
        if self.partitions.get(&state.partition).is_none_or(|part| !part.is_live()) {
            return;
        }
        let now_ms = self.now.wall_ms();
        let down = state.down.map(|down| Holding::Down(down.probe_at_us));
        let shut = state.circuit.shut_until_us(self.now.wall_us).map(Holding::CircuitOpen);
        let holding = down.or(shut);
        let status = SessionStatus {
            session_id: state.id.to_string(),
            tenant_id: state.config.as_ref().map(|config| config.tenant_id.clone()),
            facet: Facet::Hold,
            connection: if down.is_some() { Connection::Disconnected } else { Connection::Connected },
            held: holding.is_some(),
            reason: holding.map(|holding| holding.reason().to_owned()),
            until: holding.and_then(Holding::until_us).map(ceil_ms),
            occurred_at: now_ms,
            updated_at: now_ms,
            ..SessionStatus::default()
        };
        out.push(Effect::SessionStatus { partition: state.partition, status: Box::new(status) });
    }
}

/// Provider ids a call refers to.
struct References {
    reply_to: Option<String>,
    target: Option<String>,
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

fn as_i32(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// Microseconds to milliseconds, rounded up: a recorded "not before" must not come early.
pub(super) fn ceil_ms(us: i64) -> i64 {
    us.div_euclid(1000) + i64::from(us.rem_euclid(1000) > 0)
}

fn throttled_ms(until_us: i64, now_us: i64) -> Option<i64> {
    (until_us > now_us).then(|| ceil_ms(until_us))
}
