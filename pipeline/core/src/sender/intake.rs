//! Takes requests in: decode, place, dedupe, check, and into the ledger.

use std::sync::Arc;

use sluice_schemas::ids::message_id;
use sluice_schemas::{
    Command, ContentType, DeadLetterReason, EntryKind, ErrorClass, LedgerEntry, OutboundCommand, SendError,
    Status,
};
use uuid::Uuid;

use super::done::Done;
use super::facts::{Fact, error};
use super::kept::Place;
use super::ledger::Key;
use super::local::Known;
use super::message::{End, Open};
use super::session::{CIRCUIT_OPEN, Holding};
use super::{Effect, Note, Phase, Planted, Request, Sender, Token, shared};
use crate::content::body_hash;
use crate::recipient;

/// Hops after which a misrouted request is a dead letter.
const HOPS_MAX: u32 = 2;

impl Sender {
    pub(super) fn request(&mut self, request: Request, out: &mut Vec<Effect>) {
        let (partition, offset) = (request.partition, request.offset);
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if part.phase != Phase::Owned || !part.intake.take(offset, request.raw.len()) {
            return;
        }
        let token = Token::Intake { partition, epoch: part.epoch, offset };
        match self.admit(&request) {
            Ok(command) => self.take_in(&request, &command, token, out),
            Err(Rejected::Dead(reason, detail)) => {
                out.push(Effect::DeadLetter { partition, offset, reason, detail, token });
            }
            Err(Rejected::Elsewhere(to_partition)) => {
                let hops = request.hops + 1;
                out.push(Effect::Reroute { partition, offset, to_partition, hops, token });
            }
        }
        self.turn_intake(partition, out);
    }

    pub(super) fn request_delayed(&mut self, partition: i32, offset: i64, bytes: usize) {
        if let Some(part) = self.partitions.get_mut(&partition)
            && part.phase == Phase::Owned
        {
            part.intake.delay(offset, bytes);
        }
    }

    /// Whether the record is a request of this partition at all.
    fn admit(&self, request: &Request) -> Result<Arc<OutboundCommand>, Rejected> {
        let command = match &request.command {
            Ok(command) => command.clone(),
            Err(bad) => return Err(Rejected::Dead(bad.reason, bad.detail.clone())),
        };
        let dead = |reason, detail: &str| Err(Rejected::Dead(reason, detail.to_owned()));
        if command.session_id.is_empty() {
            return dead(DeadLetterReason::MissingField, "session_id is empty; name the session that sends");
        }
        if command.idempotency_key.is_empty() {
            return dead(
                DeadLetterReason::MissingKey,
                "idempotency_key is empty; give each message a key of its own, the same on every retry",
            );
        }
        if command.command == Command::Unknown {
            return dead(DeadLetterReason::UnknownCommand, "command is not known to this version");
        }
        let right = self.partition_of(&command.session_id);
        if right != request.partition {
            if request.hops >= HOPS_MAX {
                return Err(Rejected::Dead(
                    DeadLetterReason::Misrouted,
                    format!(
                        "on partition {} after {} hops, session_id places it on {right}; do all session-placed \
                         topics have one partition count?",
                        request.partition, request.hops
                    ),
                ));
            }
            return Err(Rejected::Elsewhere(right));
        }
        Ok(command)
    }

    fn take_in(
        &mut self,
        request: &Request,
        command: &Arc<OutboundCommand>,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        if command.command == Command::Cancel {
            self.take_cancel(request, command, token, out);
            return;
        }
        let id = message_id(&command.session_id, &command.idempotency_key);
        let hash = body_hash(command);
        if self.is_duplicate(request.partition, id, &hash, command, token, out) {
            return;
        }
        let (recipient, refusal) = self.check(command, request.raw.len());
        let open = self.new_open(request, command.clone(), id, recipient, hash);
        match refusal {
            None => self.accept(request, id, open, out),
            Some(refusal) => self.refuse(request.partition, id, open, refusal, out),
        }
    }

    /// Answers a request whose key is known; false if it is not.
    fn is_duplicate(
        &mut self,
        partition: i32,
        id: Uuid,
        hash: &[u8; 32],
        command: &Arc<OutboundCommand>,
        token: Token,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(part) = self.partitions.get(&partition) else { return false };
        let known = part.local.known(&id);
        let known_hash = match (part.open.get(&id), &known) {
            (Some(open), _) => open.body_hash,
            (None, Some(Known::Open(spot))) => spot.body_hash,
            (None, Some(Known::Done(done))) => done.body_hash,
            (None, None) => return false,
        };
        let conflict = known_hash != *hash;
        out.push(Effect::Note(Note::Duplicate { message_id: id, conflict }));
        if conflict {
            let code = error(
                ErrorClass::Refused,
                "duplicate_conflict",
                "the idempotency key was used before with another body; use a new key for a new message",
            );
            let fact = Fact { status: Status::DuplicateConflict, error: Some(code), ..Fact::default() };
            self.publish_bare(partition, id, command, fact, token, out);
        } else if let Some(Known::Done(done)) = known {
            self.publish_bare(partition, id, command, fact_of(&done), token, out);
        } else if let Some(open) = self.open_mut(partition, &id).filter(|open| !open.accepted_read) {
            // Nothing stands in the log yet: it is told with the request that came first.
            if let Token::Intake { offset, .. } = token {
                open.repeats.push(offset);
            }
        } else if self.open(partition, &id).is_some() {
            self.publish_accepted(partition, id, token, out);
        } else if let Some(kept) = self.partitions.get(&partition).and_then(|part| part.local.kept(&id))
            && let Some(open) = self.open_of(partition, id, &kept)
        {
            self.publish(partition, id, &open, accepted(&open), token, out);
        }
        true
    }

    /// What a status needs when no open message stands behind it.
    pub(super) fn publish_bare(
        &mut self,
        partition: i32,
        id: Uuid,
        command: &Arc<OutboundCommand>,
        fact: Fact,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let offset = if let Token::Intake { offset, .. } = token { offset } else { -1 };
        let recipient =
            shared(&recipient::canonical(command.to.as_deref().unwrap_or_default()).unwrap_or_default());
        let session = self.sessions.of(&command.session_id, partition);
        let open = Open { request_offset: offset, ..Open::new(session, command.clone(), recipient, id) };
        self.publish(partition, id, &open, fact, token, out);
    }

    /// The canonical recipient, and why the request cannot be accepted if it cannot.
    fn check(&self, command: &OutboundCommand, bytes: usize) -> (Arc<str>, Option<(Status, SendError)>) {
        let refused = |code, detail: &str| Some((Status::Failed, error(ErrorClass::Refused, code, detail)));
        let recipient = match recipient::canonical(command.to.as_deref().unwrap_or_default()) {
            Ok(recipient) => shared(&recipient),
            Err(bad) => return (shared(""), refused("bad_recipient", &bad.to_string())),
        };
        if command.command == Command::Send && command.content_type == ContentType::Unknown {
            return (
                recipient,
                refused("bad_content", "content_type is missing or not known to this version"),
            );
        }
        if command.expires_at.is_some_and(|at| at <= self.now.wall_ms()) {
            let late =
                error(ErrorClass::Refused, "expired", "expires_at had passed when the request was read");
            return (recipient, Some((Status::Expired, late)));
        }
        let Some(index) = self.sessions.find(&command.session_id) else { return (recipient, None) };
        let session = self.sessions.get(index);
        if let (Some(config), Some(tenant)) = (&session.config, &command.tenant_id)
            && *tenant != config.tenant_id
        {
            return (recipient, refused("tenant_mismatch", "the session belongs to another tenant"));
        }
        let full = self.why_full(index, bytes).and_then(|detail| refused("queue_full", &detail));
        (recipient, full)
    }

    fn new_open(
        &mut self,
        request: &Request,
        command: Arc<OutboundCommand>,
        id: Uuid,
        recipient: Arc<str>,
        hash: [u8; 32],
    ) -> Open {
        let canceled = self
            .partitions
            .get(&request.partition)
            .is_some_and(|part| part.is_canceled(&id, &command.session_id));
        let accepted_at_ms = self.now.wall_ms();
        let session = self.sessions.of(&command.session_id, request.partition);
        let binding_epoch = self.sessions.get(session).config.as_ref().map(|config| config.binding_epoch);
        let part = self.partitions.get_mut(&request.partition);
        Open {
            request_offset: request.offset,
            place: Place::of(command.send_at, self.now.wall_us),
            rank: part.map_or(request.offset, |part| part.next_rank(request.offset)),
            binding_epoch,
            traceparent: request.traceparent.clone(),
            body_hash: hash,
            accepted_at_ms,
            expires_at_us: self.expires_at_us(&command, accepted_at_ms),
            unread: 1,
            canceled,
            ..Open::new(session, command, recipient, id)
        }
    }

    pub(super) fn expires_at_us(&self, command: &OutboundCommand, accepted_at_ms: i64) -> i64 {
        let ttl_ms = i64::try_from(self.settings.ttl_ms).unwrap_or(i64::MAX / 2);
        let from_ms = command.send_at.map_or(accepted_at_ms, |at| at.max(accepted_at_ms));
        command.expires_at.unwrap_or_else(|| from_ms.saturating_add(ttl_ms)).saturating_mul(1000)
    }

    /// Into the ledger, and, if it can go at once, its claim right behind.
    fn accept(&mut self, request: &Request, id: Uuid, open: Open, out: &mut Vec<Effect>) {
        let partition = request.partition;
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let entry = LedgerEntry {
            kind: EntryKind::Accepted,
            epoch: part.epoch,
            at: open.accepted_at_ms,
            message_id: Some(id.to_string()),
            session_id: Some(open.command.session_id.clone()),
            position: part.intake.frontier().or(part.position),
            request: Some(request.raw.to_vec()),
            request_partition: Some(partition),
            request_offset: Some(request.offset),
            request_timestamp: Some(request.timestamp_ms),
            binding_epoch: open.binding_epoch,
            traceparent: open.traceparent.clone(),
            body_sha256: Some(open.body_hash.to_vec()),
            recipient: Some(open.recipient.to_string()),
            idempotency_key: Some(open.command.idempotency_key.clone()),
            ..LedgerEntry::default()
        };
        out.push(Effect::Append {
            partition,
            epoch: part.epoch,
            key: Key::Accepted(id),
            entry: Some(Box::new(entry)),
            urgent: false,
        });
        part.open.insert(id, open);
        if self.planted(Planted::CommitBeforeReadBack) {
            self.settle_slot(partition, request.offset, out);
        }
        self.enqueue(partition, id);
        self.state_the_wait(partition, id, out);
        self.pump(out);
        self.arm(partition, id);
    }

    /// Tells why a fresh message waits, if a condition with a name makes it.
    fn state_the_wait(&self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let Some(open) = self.open(partition, &id) else { return };
        let now_us = self.now.wall_us;
        let session = self.sessions.get(open.session);
        let is_shut = session.bulkhead.is_some_and(|url| self.bulkheads.is_shut(url, now_us));
        let holding = session.holding(now_us).map(Holding::reason).or(is_shut.then_some(CIRCUIT_OPEN));
        let fact = match (open.place, holding) {
            (Place::Calendar(at_us), _) => Fact {
                status: Status::Scheduled,
                wait: Some(("send_at", Some(at_us / 1000))),
                ..Fact::default()
            },
            (_, Some(reason)) => Fact { status: Status::Held, wait: Some((reason, None)), ..Fact::default() },
            _ => return,
        };
        self.publish(partition, id, open, fact, Token::None, out);
    }

    /// Remembers the refusal, so that the key means this message from now on; it is stated once it is read back.
    fn refuse(
        &mut self,
        partition: i32,
        id: Uuid,
        mut open: Open,
        (outcome, why): (Status, SendError),
        out: &mut Vec<Effect>,
    ) {
        let end = End {
            outcome,
            reason: Some(why.code.clone()),
            provider_message_id: None,
            claim_epoch: -1,
            claim_seq: 0,
        };
        if self.planted(Planted::RefusalToldEarly) {
            let fact = Fact { status: outcome, error: Some(why.clone()), ..Fact::default() };
            self.publish(partition, id, &open, fact, Token::None, out);
        }
        open.refusal = Some(Box::new((outcome, why)));
        open.unread = 0;
        if let Some(part) = self.partitions.get_mut(&partition) {
            part.open.insert(id, open);
        }
        self.append_done(partition, id, end, out);
    }

    pub(super) fn acked(&mut self, token: Token, offset: i64, out: &mut Vec<Effect>) {
        match token {
            Token::None => {}
            Token::Intake { partition, epoch, offset: request_offset } => {
                if self.partitions.get(&partition).is_some_and(|p| p.epoch == epoch && p.is_live()) {
                    self.settle_slot(partition, request_offset, out);
                }
            }
            Token::Outcome { partition, epoch, message_id, turn } => {
                if let Some(part) = self.partitions.get_mut(&partition)
                    && part.epoch == epoch
                    && part.is_live()
                {
                    part.status_offset = part.status_offset.max(offset);
                    self.outcome_stated(partition, message_id, turn, out);
                }
            }
        }
    }

    pub(super) fn settle_slot(&mut self, partition: i32, offset: i64, out: &mut Vec<Effect>) {
        if let Some(part) = self.partitions.get_mut(&partition) {
            if let Some(frontier) = part.intake.settle(offset) {
                out.push(Effect::Commit { partition, offset: frontier });
            }
            self.turn_intake(partition, out);
        }
    }

    fn turn_intake(&mut self, partition: i32, out: &mut Vec<Effect>) {
        if self.planted(Planted::IntakeUnbounded) {
            return;
        }
        let (records_max, bytes_max) = (self.settings.intake_records_max, self.settings.intake_bytes_max);
        if let Some(part) = self.partitions.get_mut(&partition)
            && let Some(hold) = part.intake.turn(records_max, bytes_max)
        {
            out.push(Effect::HoldIntake { partition, hold });
        }
    }
}

/// That a message is accepted.
pub(super) fn accepted(open: &Open) -> Fact {
    Fact { status: Status::Accepted, occurred_at: Some(open.accepted_at_ms), ..Fact::default() }
}

/// What is told again of a finished message.
pub(super) fn fact_of(done: &Done) -> Fact {
    Fact {
        status: done.outcome,
        claim: (done.claim_epoch >= 0).then_some((done.claim_epoch, done.claim_seq)),
        attempt: Some(done.attempts),
        provider_message_id: done.provider_message_id.as_deref().map(str::to_owned),
        error: done.reason.as_deref().map(|code| error(ErrorClass::Refused, code, "as told before")),
        occurred_at: Some(done.at_ms),
        ..Fact::default()
    }
}

enum Rejected {
    Dead(DeadLetterReason, String),
    Elsewhere(i32),
}
