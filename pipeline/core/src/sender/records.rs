//! What the ledger is told of a message: that it waits, ends, is in doubt, is done.

use sluice_schemas::{EntryKind, LedgerEntry};
use uuid::Uuid;

use super::attempt::ceil_ms;
use super::doubt::RESEND;
use super::ledger::Key;
use super::message::{Doubt, End, Stage, Unsent};
use super::{Effect, Planted, Sender};

impl Sender {
    pub(super) fn append_state(
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

    /// Puts on record that the message waits for its next attempt.
    pub(super) fn queue_again(
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
        open.is_resent |= reason == RESEND;
        let reason = if open.is_resent { RESEND } else { reason };
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
            throttled_until: throttled_ms(state.throttled_until_us(), now.wall_us),
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
            reason: open.is_resent.then(|| RESEND.to_owned()),
            tats: state.tats(&open.recipient, now.wall_us),
            throttled_until: throttled_ms(state.throttled_until_us(), now.wall_us),
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
            throttled_until: throttled_ms(state.throttled_until_us(), now.wall_us),
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
}

pub(super) fn as_i32(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(super) fn throttled_ms(until_us: i64, now_us: i64) -> Option<i64> {
    (until_us > now_us).then(|| ceil_ms(until_us))
}
