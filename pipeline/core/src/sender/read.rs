//! Applies ledger records as they are read back: ours, a former owner's, or, in a restore, everybody's.

use std::sync::Arc;

use sluice_schemas::{LedgerEntry, OutboundCommand};
use uuid::Uuid;

use super::backlog::Backlog;
use super::cancel::Canceled;
use super::done::{Done, Echoed};
use super::facts::Fact;
use super::intake::{accepted, fact_of};
use super::kept::{Kept, Place, Spot};
use super::ledger::{Key, Read};
use super::local::{Identity, Known};
use super::message::{Open, Stage};
use super::park::rank_of;
use super::session::{SessionIndex, Sessions};
use super::{Effect, Note, Phase, Planted, Sender, Token};

/// Who wrote a record, and where it stands.
struct Origin {
    writer: i64,
    offset: i64,
}

impl super::Partition {
    /// What is known of a message. Of one in memory whose acceptance is read, that tells what the local state holds.
    fn known(&self, id: &Uuid, sessions: &Sessions) -> Option<Known> {
        let Some(open) = self.open.get(id).filter(|open| open.accepted_read) else {
            return self.local.known(id);
        };
        let known = Some(Known::Open(Spot::of(open, sessions.get(open.session).id.clone())));
        debug_assert_eq!(known, self.local.known(id), "memory and the local state agree");
        known
    }

    /// Keys about a message, but for Done, that stand in the log, or may.
    pub(super) fn keys_of(&self, id: Uuid, known: Option<&Known>) -> Vec<Key> {
        let accepted = matches!(known, Some(Known::Open(_))).then_some(Key::Accepted(id));
        let open = self.open.get(&id).map(|open| &open.recorded);
        let states = open.into_iter().chain(self.strays.get(&id)).flat_map(|recorded| &recorded.epochs);
        let canceled = self.cancels.contains_key(&id).then_some(Key::Cancel(id));
        accepted.into_iter().chain(states.map(|epoch| Key::State(id, *epoch))).chain(canceled).collect()
    }

    /// A tombstone of a state was met.
    fn forget_state(&mut self, id: Uuid, epoch: i64) {
        self.local.forget_state(&id, epoch);
        if let Some(open) = self.open.get_mut(&id) {
            open.recorded.forget(epoch);
        }
        if let Some(stray) = self.strays.get_mut(&id) {
            stray.forget(epoch);
            if stray.epochs.is_empty() {
                self.strays.remove(&id);
            }
        }
    }
}

impl Sender {
    pub(super) fn ledger(&mut self, partition: i32, read: Read, out: &mut Vec<Effect>) {
        let (ignores_fence, shares) =
            (self.planted(Planted::IgnoreFence), self.planted(Planted::SharedStateKey));
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if part.phase == Phase::Fencing {
            return;
        }
        let offset = read.offset;
        let epoch = part.epoch;
        match (read.key, read.entry) {
            (Key::Fence, Some(_)) => {
                if offset > epoch && !ignores_fence {
                    out.push(Effect::Note(Note::FencedOff { partition, epoch, by: offset }));
                    self.step_down(partition, out);
                    return;
                }
            }
            (Key::Released, Some(entry)) => part.position = part.position.max(entry.position),
            (Key::Identity, Some(entry)) => {
                part.local.put_identity(&Identity { offset, name: entry.owner.unwrap_or_default() });
            }
            (Key::Fence | Key::Released | Key::Identity, None) => {}
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
                part.local.forget_leftover(read.key);
                self.read_accepted_gone(partition, id, read.epoch);
            }
            (Key::Done(id), Some(entry)) => self.read_done(partition, id, *entry, out),
            (Key::Done(id), None) => part.local.forget_done(&id),
            (Key::Cancel(id), Some(entry)) => {
                let session_id = entry.session_id.unwrap_or_default().into_boxed_str();
                self.read_cancel(partition, id, Canceled { at_ms: entry.at, session_id }, out);
            }
            (Key::Cancel(id), None) => {
                part.local.forget_leftover(read.key);
                part.local.forget_cancel(&id);
                part.cancels.remove(&id);
            }
            (Key::State(id, state_epoch), Some(entry)) => {
                let own_epoch = if read.epoch == epoch { epoch } else { 0 };
                let state_epoch = if shares { own_epoch } else { state_epoch };
                self.read_state(partition, id, state_epoch, entry, out);
            }
            (Key::State(id, state_epoch), None) => {
                part.local.forget_leftover(read.key);
                part.forget_state(id, state_epoch);
            }
        }
        if offset == epoch && self.partitions.get(&partition).is_some_and(|p| p.phase == Phase::Restoring) {
            self.restored(partition, out);
        }
        self.follow(partition, offset.saturating_add(1));
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
                let mut offsets = std::mem::take(&mut open.repeats);
                offsets.insert(0, open.request_offset);
                let kept = Kept::of(open, self.sessions.get(open.session).id.clone());
                if std::mem::take(&mut open.is_anothers_kept)
                    && let Some(another) = part.local.spot(&id)
                {
                    part.local.forget(&id, &another);
                }
                part.keep(id, kept);
                for offset in offsets {
                    let token = Token::Intake { partition, epoch: writer, offset };
                    self.publish_accepted(partition, id, token, out);
                }
                if !self.leave(partition, id) {
                    self.look_again(partition, id, out);
                }
            } else if open.refusal.is_some()
                && let Some(command) = command
            {
                self.overrule(partition, id, command, &entry);
            } else if !open.accepted_read
                && let Some(command) = command
            {
                self.keep_anothers(partition, id, command, &entry);
            }
            return;
        }
        match part.local.known(&id) {
            // A former owner's late append of a message that is done: its key must not stay.
            Some(Known::Done(_)) => self.tombstone(partition, Key::Accepted(id), out),
            Some(Known::Open(_)) => {}
            None => match command {
                Some(command) => self.take_over(partition, id, command, &entry),
                None => out.push(Effect::Note(Note::StrangeLedgerRecord { partition, offset })),
            },
        }
    }

    /// A former owner accepted a message: it waits in the local state.
    fn take_over(&mut self, partition: i32, id: Uuid, command: Arc<OutboundCommand>, entry: &LedgerEntry) {
        let mut open = self.open_from(partition, id, command, entry);
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let live = part.is_live();
        // Behind what was brought to memory from its queue already.
        open.rank = if live { part.next_rank(open.request_offset) } else { open.rank };
        part.keep(id, Kept::of(&open, self.sessions.get(open.session).id.clone()));
        part.rank = part.rank.max(open.rank);
        if live {
            open.recorded = part.strays.remove(&id).unwrap_or_default();
            part.open.insert(id, open);
            self.enqueue(partition, id);
            if !self.leave(partition, id) {
                self.arm(partition, id);
            }
        }
    }

    /// A former owner accepted what we accept too: should ours not get through, it is what the log holds.
    fn keep_anothers(
        &mut self,
        partition: i32,
        id: Uuid,
        command: Arc<OutboundCommand>,
        entry: &LedgerEntry,
    ) {
        let mut theirs = self.open_from(partition, id, command, entry);
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if part.local.known(&id).is_none()
            && let Some(ours) = part.open.get_mut(&id)
        {
            theirs.rank = ours.rank;
            ours.is_anothers_kept = true;
            part.keep(id, Kept::of(&theirs, self.sessions.get(theirs.session).id.clone()));
        }
    }

    /// A former owner had accepted what we are refusing: its word stands before ours, which is void.
    fn overrule(&mut self, partition: i32, id: Uuid, command: Arc<OutboundCommand>, entry: &LedgerEntry) {
        let accepted = self.open_from(partition, id, command, entry);
        let session_id = self.sessions.get(accepted.session).id.clone();
        if let Some(open) = self.open_mut(partition, &id) {
            let refused = std::mem::replace(open, accepted);
            open.request_offset = refused.request_offset;
            open.repeats = refused.repeats;
            open.refusal = refused.refusal;
            open.unread = refused.unread;
            open.stage = refused.stage;
            let kept = Kept::of(open, session_id);
            if let Some(part) = self.partitions.get_mut(&partition) {
                part.keep(id, kept);
            }
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
        let part = self.partitions.get(&partition);
        let canceled = part.is_some_and(|part| part.is_canceled(&id, &command.session_id));
        let request_offset = entry.request_offset.unwrap_or(-1);
        Open {
            request_offset,
            rank: rank_of(request_offset),
            place: Place::of(command.send_at, self.now.wall_us),
            binding_epoch: entry.binding_epoch,
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
        let Some(part) = self.partitions.get_mut(&partition).filter(|part| part.epoch != writer) else {
            return;
        };
        if let Some(spot) = part.local.spot(&id) {
            part.local.forget(&id, &spot);
            self.close_kept(partition, id, &spot);
        }
        self.close(partition, id);
    }

    /// Takes over what a record says of its session's limits.
    fn restore_limits(&mut self, partition: i32, session: SessionIndex, entry: &LedgerEntry) {
        let mut tats = std::borrow::Cow::from(&entry.tats);
        if self.planted(Planted::TatNotRestored) || self.planted(Planted::PairNotRestored) {
            let pairs = self.planted(Planted::PairNotRestored);
            tats.to_mut().retain(|tat| tat.contains('=') != pairs);
        }
        let throttled_until = entry.throttled_until.filter(|_| !self.planted(Planted::ThrottleNotRestored));
        self.sessions.get_mut(session).restore_tats(&tats, throttled_until, self.now.wall_us);
        if let Some(part) = self.partitions.get_mut(&partition) {
            part.rates_told.insert(session);
        }
    }

    fn read_done(&mut self, partition: i32, id: Uuid, entry: LedgerEntry, out: &mut Vec<Effect>) {
        let forgets = self.planted(Planted::DedupeForgotten);
        let session = entry.session_id.as_deref().map(|s| self.sessions.of(s, partition));
        if let Some(session) = session {
            self.restore_limits(partition, session, &entry);
        }
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.position = part.position.max(entry.position);
        let known = part.known(&id, &self.sessions);
        if is_refusal(&entry) && known.is_some() {
            // Its writer did not know what became of the request: its word came too late, and was not told.
            self.refusal_is_void(partition, id, out);
            self.refusal_overwrites(partition, id, entry.session_id, out);
            return;
        }
        let leftovers = part.keys_of(id, known.as_ref());
        let done = done_of(&entry);
        part.local.finish(id, done.clone(), known.as_ref());
        if forgets && part.phase == Phase::Restoring {
            part.local.forget_done(&id);
        }
        if part.phase == Phase::Restoring {
            self.restore_candidate(partition, id, &done);
        }
        self.answer_request(partition, id, out);
        // What Done makes superfluous, whoever wrote it, is tombstoned; in a restore, what turns out to stay.
        for key in leftovers {
            self.tombstone(partition, key, out);
        }
        if let Some(Known::Open(spot)) = known {
            self.close_kept(partition, id, &spot);
        }
        self.close(partition, id);
        self.pump(out);
    }

    /// An open message that the local state kept is so no longer.
    fn close_kept(&mut self, partition: i32, id: Uuid, spot: &Spot) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.strays.remove(&id);
        if part.is_live() && !part.open.contains_key(&id) {
            self.forget_parked(partition, spot);
        }
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
        if !self.leave(partition, id) {
            self.arm(partition, id);
        }
        self.pump(out);
    }

    /// A request taken in, whose message turns out to be done, refused or finished by another: that is told, and
    /// settles it.
    fn answer_request(&self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get(&partition) else { return };
        let Some(open) = part.open.get(&id).filter(|open| !open.accepted_read) else { return };
        let Some(done) = part.local.done(&id) else { return };
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
            self.restore_limits(partition, session, &entry);
        }
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let (epoch, restoring) = (part.epoch, part.phase == Phase::Restoring);
        let Some(open) = part.open.get_mut(&id) else {
            if part.local.done(&id).is_some() {
                self.tombstone(partition, Key::State(id, state_epoch), out);
                return;
            }
            part.local.put_state(&id, state_epoch, entry.clone());
            let stray = part.strays.entry(id).or_default();
            if restoring {
                // Its Accepted record may stand further on: a former owner's late append replaces the earlier one.
                stray.take(state_epoch, entry);
            } else {
                stray.note(state_epoch);
            }
            return;
        };
        part.local.put_state(&id, state_epoch, entry);
        if state_epoch == epoch {
            open.unread = open.unread.saturating_sub(1);
            self.look_again(partition, id, out);
        } else {
            // Read after our own fence it is void: its writer met the fence before it could use the claim.
            open.recorded.note(state_epoch);
        }
    }

    /// Tombstones a key of a message that is done; in a restore only if no tombstone of it is met.
    pub(super) fn tombstone(&mut self, partition: i32, key: Key, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        if let Key::State(id, epoch) = key {
            part.local.forget_state(&id, epoch);
        }
        part.local.put_leftover(key);
        if part.is_live() {
            out.push(Effect::Append { partition, epoch: part.epoch, key, entry: None, urgent: true });
        }
    }

    pub(super) fn publish_accepted(&self, partition: i32, id: Uuid, token: Token, out: &mut Vec<Effect>) {
        if let Some(open) = self.open(partition, &id) {
            self.publish(partition, id, open, accepted(open), token, out);
        }
    }

    /// Forgets an open message and all that hangs on it.
    pub(super) fn close(&mut self, partition: i32, id: Uuid) {
        self.set_due(partition, id, None);
        let Some(open) = self.partitions.get_mut(&partition).and_then(|p| p.open.remove(&id)) else { return };
        let finished_in_order = open.stage == Stage::Finishing;
        if open.in_backlog {
            self.sessions.wait_no_more(open.session, Backlog::one(open.bytes));
        }
        let session = self.sessions.work(open.session);
        if open.queued {
            session.count_queued(open.lane, -1);
        }
        if open.parked {
            session.count_parked(open.lane, -1);
        }
        if let Some(chat) = session.chats.get_mut(&open.chat) {
            if finished_in_order {
                chat.finish(id);
            } else {
                chat.forget(id);
            }
            if chat.is_idle() && !chat.is_in_line() {
                session.chats.remove(&open.chat);
            }
        }
        if matches!(open.stage, Stage::Claiming(_) | Stage::Claimed(_)) {
            self.free_claim(open.session, open.slot);
        }
        let now_us = self.now.wall_us;
        self.sessions.work(open.session).ready_chat(&open.chat, now_us);
        self.offer(open.session);
    }
}

fn done_of(entry: &LedgerEntry) -> Done {
    Done {
        at_ms: entry.at,
        outcome: entry.outcome,
        reason: entry.reason.clone(),
        body_hash: hash32(entry.body_sha256.as_deref()),
        provider_message_id: entry.provider_message_id.clone(),
        claim_epoch: entry.claim_epoch.unwrap_or(-1),
        claim_seq: entry.claim_seq.unwrap_or(0),
        attempts: u32::try_from(entry.attempt.unwrap_or(0)).unwrap_or(0),
        echo: match (&entry.session_id, &entry.recipient, &entry.content_sha256) {
            (Some(session_id), Some(recipient), Some(content)) => Some(Echoed {
                session_id: session_id.clone(),
                recipient: recipient.clone(),
                content: hash32(Some(content)),
            }),
            _ => None,
        },
    }
}

/// Whether a Done record refuses its request at intake.
fn is_refusal(done: &LedgerEntry) -> bool {
    done.attempt.is_none()
}

pub(super) fn hash32(bytes: Option<&[u8]>) -> [u8; 32] {
    bytes.and_then(|b| b.try_into().ok()).unwrap_or([0; 32])
}
