//! Applies ledger records as they are read back: ours, a former owner's, or, in a restore, everybody's.

use std::sync::Arc;

use sluice_schemas::{LedgerEntry, OutboundCommand, Status};
use uuid::Uuid;

use super::cancel::Canceled;
use super::done::Done;
use super::facts::Fact;
use super::intake::fact_of;
use super::ledger::{Key, Read};
use super::message::{Open, Stage};
use super::{Effect, Note, Phase, Sender, Token};

/// Who wrote a record, and where it stands.
struct Origin {
    writer: i64,
    offset: i64,
}

impl super::Partition {
    /// Keys about a message, but for Done, that stand in the log, or may.
    fn keys_of(&self, id: Uuid) -> Vec<Key> {
        let open = self.open.get(&id);
        let accepted = open.filter(|open| open.accepted_read).map(|_| Key::Accepted(id));
        let states = open.into_iter().flat_map(|open| &open.recorded.epochs);
        let canceled = self.cancels.contains_key(&id).then_some(Key::Cancel(id));
        accepted.into_iter().chain(states.map(|epoch| Key::State(id, *epoch))).chain(canceled).collect()
    }

    /// A tombstone of a state was met.
    fn forget_state(&mut self, id: Uuid, epoch: i64) {
        if let Some(open) = self.open.get_mut(&id) {
            open.recorded.forget(epoch);
        }
        if let Some(stray) = self.strays.get_mut(&id) {
            stray.forget(epoch);
        }
    }

    /// Keys of which nothing more is to come once the ledger is restored: what Done left behind, and states
    /// without a message, whose claims nobody can have used.
    pub(super) fn take_leftovers(&mut self) -> Vec<Key> {
        let done = std::mem::take(&mut self.leftovers).into_iter();
        let strays = std::mem::take(&mut self.strays)
            .into_iter()
            .map(|(id, stray)| (id, stray.epochs.iter().map(|epoch| Key::State(id, *epoch)).collect()));
        let mut keys: Vec<(Uuid, Vec<Key>)> = done.chain(strays).collect();
        keys.sort_unstable_by_key(|(id, _)| *id);
        keys.into_iter().flat_map(|(_, keys)| keys).collect()
    }

    /// A tombstone of `key` was met.
    fn drop_leftover(&mut self, id: Uuid, key: Key) {
        if let Some(keys) = self.leftovers.get_mut(&id) {
            keys.retain(|known| *known != key);
            if keys.is_empty() {
                self.leftovers.remove(&id);
            }
        }
    }
}

impl Sender {
    pub(super) fn ledger(&mut self, partition: i32, read: Read, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if part.phase == Phase::Fencing {
            return;
        }
        let offset = read.offset;
        let epoch = part.epoch;
        match (read.key, read.entry) {
            (Key::Fence, Some(_)) => {
                if offset > epoch {
                    out.push(Effect::Note(Note::FencedOff { partition, epoch, by: offset }));
                    self.step_down(partition, out);
                    return;
                }
            }
            (Key::Released, Some(entry)) => part.position = part.position.max(entry.position),
            (Key::Fence | Key::Released, None) => {}
            (Key::Accepted(id), Some(entry)) => {
                self.read_accepted(
                    partition,
                    id,
                    Origin { writer: read.epoch, offset },
                    (*entry, read.command),
                    out,
                );
            }
            (Key::Accepted(id), None) => {
                part.drop_leftover(id, read.key);
                self.read_accepted_gone(partition, id, read.epoch);
            }
            (Key::Done(id), Some(entry)) => self.read_done(partition, id, *entry, out),
            (Key::Done(id), None) => part.done.remove(&id),
            (Key::Cancel(id), Some(entry)) => {
                let session_id = entry.session_id.unwrap_or_default().into_boxed_str();
                self.read_cancel(partition, id, Canceled { at_ms: entry.at, session_id }, out);
            }
            (Key::Cancel(id), None) => {
                part.drop_leftover(id, read.key);
                part.cancels.remove(&id);
            }
            (Key::State(id, state_epoch), Some(entry)) => {
                self.read_state(partition, id, state_epoch, entry, out);
            }
            (Key::State(id, state_epoch), None) => {
                part.drop_leftover(id, read.key);
                part.forget_state(id, state_epoch);
            }
        }
        if offset == epoch && self.partitions.get(&partition).is_some_and(|p| p.phase == Phase::Restoring) {
            self.restored(partition, out);
        }
        self.give_back_if_idle(partition, out);
    }

    fn read_accepted(
        &mut self,
        partition: i32,
        id: Uuid,
        Origin { writer, offset }: Origin,
        (entry, command): (LedgerEntry, Option<Arc<OutboundCommand>>),
        out: &mut Vec<Effect>,
    ) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.position = part.position.max(entry.position);
        if let Some(open) = part.open.get_mut(&id) {
            if writer == part.epoch && !open.accepted_read {
                open.accepted_read = true;
                open.unread = open.unread.saturating_sub(1);
                let token = Token::Intake { partition, epoch: writer, offset: open.request_offset };
                self.publish_accepted(partition, id, token, out);
                self.look_again(partition, id, out);
            } else if open.refusal.is_some()
                && let Some(command) = command
            {
                self.overrule(partition, id, command, &entry);
            }
            return;
        }
        if part.done.get(&id).is_some() {
            // A former owner's late append of a message that is done: its key must not stay.
            self.tombstone(partition, id, Key::Accepted(id), out);
            return;
        }
        let Some(command) = command else {
            out.push(Effect::Note(Note::StrangeLedgerRecord { partition, offset }));
            return;
        };
        let open = self.open_from(partition, id, command, &entry);
        let live = self.partitions.get(&partition).is_some_and(|p| p.phase == Phase::Owned);
        if let Some(part) = self.partitions.get_mut(&partition) {
            part.open.insert(id, open);
        }
        if live {
            self.enqueue(partition, id);
            self.arm(partition, id);
        }
    }

    /// A former owner had accepted what we are refusing: its word stands before ours, which is void.
    fn overrule(&mut self, partition: i32, id: Uuid, command: Arc<OutboundCommand>, entry: &LedgerEntry) {
        let accepted = self.open_from(partition, id, command, entry);
        if let Some(open) = self.open_mut(partition, &id) {
            let refused = std::mem::replace(open, accepted);
            open.request_offset = refused.request_offset;
            open.repeats = refused.repeats;
            open.refusal = refused.refusal;
            open.unread = refused.unread;
            open.stage = refused.stage;
        }
    }

    /// An open message as its Accepted record tells it.
    fn open_from(
        &mut self,
        partition: i32,
        id: Uuid,
        command: Arc<OutboundCommand>,
        entry: &LedgerEntry,
    ) -> Open {
        let recipient: Arc<str> = entry.recipient.as_deref().unwrap_or_default().into();
        let session = self.sessions.of(&command.session_id, partition);
        let part = self.partitions.get_mut(&partition);
        let canceled = part.as_ref().is_some_and(|part| part.is_canceled(&id, &command.session_id));
        let recorded = part.and_then(|part| part.strays.remove(&id)).unwrap_or_default();
        Open {
            recorded,
            request_offset: entry.request_offset.unwrap_or(-1),
            traceparent: entry.traceparent.clone(),
            body_hash: hash32(entry.body_sha256.as_deref()),
            accepted_at_ms: entry.at,
            expires_at_us: self.expires_at_us(&command, entry.at),
            accepted_read: true,
            canceled,
            ..Open::new(session, command, recipient, id)
        }
    }

    /// Somebody's tombstone of an Accepted record: the message is done, wherever Done now stands.
    fn read_accepted_gone(&mut self, partition: i32, id: Uuid, writer: i64) {
        let Some(part) = self.partitions.get(&partition) else { return };
        if writer != part.epoch {
            self.close(partition, id);
        }
    }

    fn read_done(&mut self, partition: i32, id: Uuid, entry: LedgerEntry, out: &mut Vec<Effect>) {
        let session = entry.session_id.as_deref().map(|s| self.sessions.of(s, partition));
        if let Some(session) = session {
            self.sessions.get_mut(session).restore_tats(&entry.tats, entry.throttled_until);
        }
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let is_known =
            part.open.get(&id).is_some_and(|open| open.accepted_read) || part.done.get(&id).is_some();
        if is_refusal(&entry) && is_known {
            // Its writer did not know what became of the request: its word came too late, and was not told.
            self.refusal_is_void(partition, id, out);
            return;
        }
        part.done.insert(
            id,
            Done {
                at_ms: entry.at,
                outcome: entry.outcome,
                reason: entry.reason.as_deref().map(Into::into),
                body_hash: hash32(entry.body_sha256.as_deref()),
                provider_message_id: entry.provider_message_id.as_deref().map(Into::into),
                claim_epoch: entry.claim_epoch.unwrap_or(-1),
                claim_seq: entry.claim_seq.unwrap_or(0),
                attempts: u32::try_from(entry.attempt.unwrap_or(0)).unwrap_or(0),
            },
        );
        let leftovers = part.keys_of(id);
        if part.phase == Phase::Restoring {
            self.restore_candidate(partition, id, &entry);
        }
        self.answer_request(partition, id, out);
        // What Done makes superfluous, whoever wrote it, is tombstoned; in a restore, what turns out to stay.
        for key in leftovers {
            self.tombstone(partition, id, key, out);
        }
        self.close(partition, id);
        self.pump(out);
    }

    /// Our own refusal stands behind another's acceptance: the message is open after all, and told so.
    fn refusal_is_void(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let Some(epoch) = self.epoch(partition) else { return };
        let Some(open) = self.open_mut(partition, &id).filter(|open| open.refusal.is_some()) else { return };
        open.refusal = None;
        open.unread = open.unread.saturating_sub(1);
        let mut offsets = std::mem::take(&mut open.repeats);
        offsets.push(open.request_offset);
        for offset in offsets {
            self.publish_accepted(partition, id, Token::Intake { partition, epoch, offset }, out);
        }
        self.enqueue(partition, id);
        self.arm(partition, id);
        self.pump(out);
    }

    /// A request taken in, whose message turns out to be done, refused or finished by another: that is told, and
    /// settles it.
    fn answer_request(&self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get(&partition) else { return };
        let (Some(open), Some(done)) =
            (part.open.get(&id).filter(|open| !open.accepted_read), part.done.get(&id))
        else {
            return;
        };
        for offset in [open.request_offset].iter().chain(&open.repeats) {
            let fact = match open.refusal.as_deref() {
                Some((outcome, why)) if *outcome == done.outcome => {
                    Fact { status: *outcome, error: Some(why.clone()), ..Fact::default() }
                }
                _ => fact_of(&done),
            };
            let token = Token::Intake { partition, epoch: part.epoch, offset: *offset };
            self.publish(partition, id, open, fact, token, out);
        }
    }

    fn read_state(
        &mut self,
        partition: i32,
        id: Uuid,
        state_epoch: i64,
        entry: Box<LedgerEntry>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(session_id) = entry.session_id.as_deref() {
            let session = self.sessions.of(session_id, partition);
            self.sessions.get_mut(session).restore_tats(&entry.tats, entry.throttled_until);
        }
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let (epoch, phase) = (part.epoch, part.phase);
        let Some(open) = part.open.get_mut(&id) else {
            if part.done.get(&id).is_some() {
                self.tombstone(partition, id, Key::State(id, state_epoch), out);
            } else if phase == Phase::Restoring {
                // Its Accepted record may stand further on: a former owner's late append replaces the earlier one.
                part.strays.entry(id).or_default().take(state_epoch, entry);
            }
            return;
        };
        if state_epoch == epoch {
            open.unread = open.unread.saturating_sub(1);
            self.look_again(partition, id, out);
        } else if phase == Phase::Restoring {
            open.recorded.take(state_epoch, entry);
        } else {
            // Read after our own fence it is void: its writer met the fence before it could use the claim.
            open.recorded.note(state_epoch);
        }
    }

    /// Tombstones a key of a message that is done; in a restore only if no tombstone of it is met.
    pub(super) fn tombstone(&mut self, partition: i32, id: Uuid, key: Key, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if part.is_live() {
            out.push(Effect::Append { partition, epoch: part.epoch, key, entry: None, urgent: true });
        } else {
            let keys = part.leftovers.entry(id).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }

    pub(super) fn publish_accepted(&self, partition: i32, id: Uuid, token: Token, out: &mut Vec<Effect>) {
        if let Some(open) = self.open(partition, &id) {
            let fact =
                Fact { status: Status::Accepted, occurred_at: Some(open.accepted_at_ms), ..Fact::default() };
            self.publish(partition, id, open, fact, token, out);
        }
    }

    /// Forgets an open message and all that hangs on it.
    pub(super) fn close(&mut self, partition: i32, id: Uuid) {
        self.set_due(partition, id, None);
        let Some(open) = self.partitions.get_mut(&partition).and_then(|p| p.open.remove(&id)) else { return };
        let finished_in_order = open.stage == Stage::Finishing;
        let session = self.sessions.get_mut(open.session);
        if open.in_backlog {
            session.backlog = session.backlog.saturating_sub(1);
        }
        if let Some(chat) = session.chats.get_mut(&open.chat) {
            if finished_in_order {
                chat.finish(id);
            } else {
                chat.forget(id);
            }
            if chat.is_idle() && !chat.is_ready {
                session.chats.remove(&open.chat);
            }
        }
        if matches!(open.stage, Stage::Claiming(_) | Stage::Claimed(_)) {
            self.free_claim(open.session, open.slot);
        }
        let now_us = self.now.wall_us;
        self.sessions.get_mut(open.session).ready_chat(&open.chat, now_us);
        self.offer(open.session);
    }
}

/// Whether a Done record refuses its request at intake.
fn is_refusal(done: &LedgerEntry) -> bool {
    done.attempt.is_none()
}

pub(super) fn hash32(bytes: Option<&[u8]>) -> [u8; 32] {
    bytes.and_then(|b| b.try_into().ok()).unwrap_or([0; 32])
}
