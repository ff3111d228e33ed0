//! Taking partitions over, losing them, and giving them back.

use sluice_schemas::{EntryKind, LedgerEntry, Source, Status};
use uuid::Uuid;

use super::cancel::Canceled;
use super::doubt::RESEND;
use super::facts::Fact;
use super::ledger::Key;
use super::local::Local;
use super::message::{Doubt, Next, Stage, Unsent};
use super::store::Opened;
use super::{Effect, Note, Partition, Phase, Planted, Resume, Sender};

impl Sender {
    pub(super) fn assigned(&mut self, partition: i32, out: &mut Vec<Effect>) {
        self.forget_partition(partition);
        let Opened { store, next_offset } = (self.open_store)(partition, self.now);
        let mut local = Local::new(store);
        let resume =
            next_offset.zip(local.identity()).map(|(next_offset, identity)| Resume { next_offset, identity });
        if resume.is_none() {
            local.clear();
        }
        let mut part = Partition::new(local);
        part.next_offset = resume.as_ref().map(|resume| resume.next_offset);
        part.resumed_at = part.next_offset;
        self.partitions.insert(partition, part);
        out.push(Effect::Fence { partition, resume });
    }

    /// The store of a partition has followed another ledger: it begins anew.
    pub(super) fn store_stale(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.local.clear();
        part.next_offset = None;
        part.resumed_at = None;
        if part.phase == Phase::Fencing {
            out.push(Effect::Fence { partition, resume: None });
        } else {
            self.step_down(partition, out);
        }
    }

    /// A store cannot read or write. What was decided in this step may follow from that: nothing of it is done, and
    /// nothing is decided any more.
    pub(super) fn stop_for_its_store(&mut self, before: usize, out: &mut Vec<Effect>) {
        out.truncate(before);
        let failed = self.partitions.iter().find(|(_, part)| part.local.has_failed()).map(|(n, _)| *n);
        for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
            self.forget_partition(partition);
            out.push(Effect::Drop { partition });
        }
        out.extend(failed.map(|partition| Effect::StoreFailed { partition }));
    }

    pub(super) fn fenced(&mut self, partition: i32, offset: i64) {
        if let Some(part) = self.partitions.get_mut(&partition)
            && part.phase == Phase::Fencing
        {
            part.phase = Phase::Restoring;
            part.epoch = offset;
            self.resume(partition);
        }
    }

    /// Takes from the local state what is in memory besides: all of it is as of where the ledger is read from.
    fn resume(&mut self, partition: i32) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.local.take_up();
        part.position = part.local.position();
        for (id, epoch, entry) in part.local.states() {
            part.strays.entry(id).or_default().take(epoch, entry);
        }
        let mut cancels = part.local.cancels();
        cancels.sort_unstable_by_key(|(id, at_ms, _)| (*at_ms, *id));
        for (id, at_ms, session_id) in cancels {
            part.cancel_order.push_back((at_ms, id));
            part.cancels.insert(id, Canceled { at_ms, session_id: session_id.into_boxed_str() });
        }
        let now_us = self.now.wall_us;
        for (session_id, rate) in part.local.rates() {
            let session = self.sessions.of(&session_id, partition);
            self.sessions.get_mut(session).restore_tats(&rate.tats, rate.throttled_until_ms, now_us);
        }
        self.restore_candidates(partition);
    }

    /// Everything below `next_offset` is applied.
    pub(super) fn follow(&mut self, partition: i32, next_offset: i64) {
        let now = self.now;
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.next_offset = part.next_offset.max(Some(next_offset));
        if part.local.wants_commit(now) {
            self.commit_local(partition);
        }
    }

    fn commit_local(&mut self, partition: i32) {
        let now = self.now;
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let Some(next_offset) = part.next_offset.filter(|_| part.phase != Phase::Fencing) else { return };
        for session in std::mem::take(&mut part.rates_told) {
            let state = self.sessions.get(session);
            part.local.put_rate(&state.id, &state.rate(now.wall_us));
        }
        if let Some(position) = part.position {
            part.local.put_position(position);
        }
        part.local.commit(now, next_offset);
    }

    /// The entry of a fence of this process.
    pub fn fence_entry(&self) -> LedgerEntry {
        LedgerEntry {
            kind: EntryKind::Fence,
            epoch: -1,
            at: self.now.wall_ms(),
            owner: Some(self.owner.clone()),
            partition_count: Some(self.partition_count),
            ..LedgerEntry::default()
        }
    }

    pub(super) fn ledger_passed(&mut self, partition: i32, next_offset: i64, out: &mut Vec<Effect>) {
        if self
            .partitions
            .get(&partition)
            .is_some_and(|p| p.phase == Phase::Restoring && next_offset > p.epoch)
        {
            self.restored(partition, out);
        }
        self.follow(partition, next_offset);
    }

    /// The ledger is read up to our own fence: what was open is taken on.
    pub(super) fn restored(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let ignores_position = self.planted(Planted::PositionIgnored);
        let forgets_cancels = self.planted(Planted::CancelNotRestored);
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.phase = Phase::Owned;
        if forgets_cancels {
            part.cancels.clear();
        }
        let epoch = part.epoch;
        for key in part.local.leftovers() {
            out.push(Effect::Append { partition, epoch, key, entry: None, urgent: false });
        }
        let position = part.position.filter(|_| !ignores_position);
        self.restate_overwritten(partition, out);
        self.count_backlogs(partition);
        self.identify(partition, out);
        let ids = self.load_begun(partition, out);

        let mut status_from_ms =
            self.now.wall_ms() - i64::try_from(self.settings.bridge_window_ms).unwrap_or(i64::MAX / 2);
        let mut in_doubt = 0;
        for (_, id) in &ids {
            if let Some(claim_at_ms) = self.take_on(partition, *id, out) {
                status_from_ms = status_from_ms.min(claim_at_ms);
                in_doubt += 1;
            }
        }
        let Some(part) = self.partitions.get(&partition) else { return };
        let (resumed_at, open) = (part.resumed_at, part.local.open_count());
        out.push(Effect::Note(Note::Restored { partition, resumed_at, open, in_doubt }));
        for session in self.sessions.of_partition(partition) {
            if self.sessions.get(session).has_parked() {
                self.offer(session);
            }
        }
        let skew_ms = i64::try_from(self.settings.evidence_skew_ms).unwrap_or(0);
        out.push(Effect::Own { partition, position, status_from_ms: status_from_ms - skew_ms });
        let early = self.partitions.get_mut(&partition).map(|part| std::mem::take(&mut part.early_testimony));
        for status in early.unwrap_or_default() {
            self.testimony(partition, &status, out);
        }
        self.pump(out);
    }

    /// Names the ledger partition, if nobody has: a store tells by that what it has followed.
    fn identify(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get(&partition).filter(|part| part.local.identity().is_none())
        else {
            return;
        };
        let entry = LedgerEntry {
            // Its key tells what it is.
            kind: EntryKind::Fence,
            epoch: part.epoch,
            at: self.now.wall_ms(),
            owner: Some(self.rng.name()),
            ..LedgerEntry::default()
        };
        let epoch = part.epoch;
        let (key, entry) = (Key::Identity, Some(Box::new(entry)));
        out.push(Effect::Append { partition, epoch, key, entry, urgent: false });
    }

    /// Brings to memory what a former owner had begun, and what is to end because it was canceled, in the order of
    /// the requests. States without a message go: nobody can have used those claims.
    fn load_begun(&mut self, partition: i32, out: &mut Vec<Effect>) -> Vec<(i64, Uuid)> {
        let Some(part) = self.partitions.get(&partition) else { return Vec::new() };
        let epoch = part.epoch;
        let mut begun: Vec<Uuid> = part.strays.keys().chain(part.cancels.keys()).copied().collect();
        begun.sort_unstable();
        begun.dedup();
        let mut ids = Vec::new();
        for id in begun {
            if self.load(partition, id)
                && let Some(open) = self.open(partition, &id)
            {
                ids.push((open.request_offset, id));
            }
            let Some(part) = self.partitions.get_mut(&partition) else { break };
            for state in part.strays.remove(&id).into_iter().flat_map(|stray| stray.epochs) {
                let key = Key::State(id, state);
                part.local.forget_state(&id, state);
                part.local.put_leftover(key);
                out.push(Effect::Append { partition, epoch, key, entry: None, urgent: false });
            }
        }
        ids.sort_unstable();
        ids
    }

    /// Takes on one restored message; for one in doubt, the time of its claim.
    fn take_on(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) -> Option<i64> {
        let mut recorded = self.open_mut(partition, &id)?.recorded.governing.take();
        if self.planted(Planted::OpenClaimForgotten) {
            recorded = recorded.filter(|(_, entry)| entry.kind != EntryKind::Claimed);
        }
        let Some((epoch, entry)) = recorded else {
            self.enqueue(partition, id);
            self.arm(partition, id);
            return None;
        };
        let doubt_wait_ms = self.settings.doubt_wait_ms();
        let now_ms = self.now.wall_ms();
        let call_end_ms = self.settings.claim_ttl_ms.saturating_add(self.settings.call_timeout_ms);
        let call_end_ms = i64::try_from(call_end_ms).unwrap_or(i64::MAX);
        let (forgets_cancel, uncounted) =
            (self.planted(Planted::CancelNotRestored), self.planted(Planted::OpenClaimUncounted));
        let open = self.open_mut(partition, &id)?;
        open.is_resent = entry.reason.as_deref() == Some(RESEND);
        if open.is_resent {
            self.add_candidate(partition, id, entry.at, super::bridge::Stage::Rival);
        }
        let open = self.open_mut(partition, &id)?;
        open.attempts = u32::try_from(entry.attempt.unwrap_or(0)).unwrap_or(0);
        open.canceled |= entry.canceled && !forgets_cancel;
        match entry.kind {
            EntryKind::Claimed | EntryKind::InDoubt => {
                let claimed = entry.kind == EntryKind::Claimed;
                // As far as anybody knows the claim was used.
                open.attempts += u32::from(claimed);
                let doubt = Doubt {
                    claim_epoch: entry.claim_epoch.unwrap_or(epoch),
                    claim_seq: entry.claim_seq.unwrap_or(0),
                    claim_at_ms: entry.at,
                    decide_at_ms: entry
                        .not_before
                        .filter(|_| !claimed)
                        .unwrap_or_else(|| (now_ms.max(entry.at)).saturating_add(doubt_wait_ms)),
                    held: false,
                };
                let (session, recipient) = (open.session, open.recipient.clone());
                if claimed && !uncounted {
                    // The call may start as late as the claim's life allows, and come to the provider as late as a call
                    // takes: count it there, not before.
                    let used_at_ms = now_ms.max(entry.at.saturating_add(call_end_ms));
                    self.sessions.get_mut(session).count_claim(&recipient, used_at_ms.saturating_mul(1000));
                }
                self.enter_doubt(partition, id, doubt, out);
                Some(entry.at)
            }
            // It was to end unsent: it ends.
            EntryKind::Queued if entry.outcome != Status::Unknown => {
                let why = Unsent::new(entry.outcome, entry.reason.as_deref().unwrap_or_default());
                self.end_unsent(partition, id, &why, out);
                None
            }
            _ => {
                let open = self.open_mut(partition, &id)?;
                open.stage =
                    Stage::Retrying { not_before_us: entry.not_before.unwrap_or(0).saturating_mul(1000) };
                self.wait_for_retry(partition, id);
                None
            }
        }
    }

    /// States that a restored message is in doubt and puts that on record under our own epoch.
    fn enter_doubt(&mut self, partition: i32, id: Uuid, doubt: Doubt, out: &mut Vec<Effect>) {
        let fact = Fact {
            status: Status::InDoubt,
            claim: Some((doubt.claim_epoch, doubt.claim_seq)),
            attempt: self.open(partition, &id).map(|open| open.attempts),
            wait: Some(("evidence", Some(doubt.decide_at_ms))),
            error: Some(super::facts::error(
                sluice_schemas::ErrorClass::Uncertain,
                "owner_changed",
                "the owner of the claim went away before it told the outcome",
            )),
            source: Source::Sender,
            ..Fact::default()
        };
        self.add_candidate(partition, id, doubt.claim_at_ms, super::bridge::Stage::InDoubt);
        self.settle(partition, id, fact, Next::Doubt(doubt), out);
    }

    pub(super) fn ledger_failed(&mut self, partition: i32, epoch: i64, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get(&partition) else { return };
        // A report about an earlier tenure says nothing about this one.
        if part.phase == Phase::Fencing || part.epoch != epoch {
            return;
        }
        self.step_down(partition, out);
    }

    /// Another owner has fenced us, or our records do not get through: nothing is decided here any more.
    pub(super) fn step_down(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let part = self.partitions.get(&partition);
        let releasing = part.is_some_and(|part| part.phase == Phase::Releasing);
        self.forget_partition(partition);
        if releasing {
            // The group waits for it; what is not settled is the next owner's.
            out.push(Effect::GiveBack { partition });
            return;
        }
        out.push(Effect::Drop { partition });
        let after_ms = self.rng.between(self.settings.refence_min_ms, self.settings.refence_max_ms);
        out.push(Effect::FenceLater { partition, after_ms });
    }

    pub(super) fn lost(&mut self, partition: i32, out: &mut Vec<Effect>) {
        if self.forget_partition(partition) {
            out.push(Effect::Drop { partition });
        }
    }

    fn forget_partition(&mut self, partition: i32) -> bool {
        if self.partitions.get(&partition).is_some_and(|part| !part.local.has_failed()) {
            self.commit_local(partition);
        }
        let removed = self.partitions.remove(&partition);
        for slot in removed.iter().flat_map(|part| part.open.values()).filter_map(|open| open.slot) {
            self.bulkheads.get(slot).free_slot();
        }
        for session in self.sessions.of_partition(partition) {
            self.sessions.clear(session);
            let work = self.sessions.get_mut(session).at_work_mut();
            if let Some(at) = work.and_then(|work| work.wake_us.take()) {
                self.wakes.remove(&(at, session));
            }
        }
        self.look_ups.retain(|(_, session)| self.sessions.get(*session).partition != partition);
        removed.is_some()
    }

    pub(super) fn revoking(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else {
            out.push(Effect::GiveBack { partition });
            return;
        };
        if part.phase == Phase::Owned {
            part.phase = Phase::Releasing;
            self.give_back_if_idle(partition, out);
        } else if part.phase != Phase::Releasing {
            // Never ours: no record of ours but the fence stands.
            self.forget_partition(partition);
            out.push(Effect::GiveBack { partition });
        }
    }

    /// Once nothing of ours is under way the partition goes back to the group.
    pub(super) fn give_back_if_idle(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get(&partition) else { return };
        let under_way = part.open.values().any(|open| open.is_under_way());
        if part.phase != Phase::Releasing || under_way && !self.planted(Planted::GiveBackUnderWay) {
            return;
        }
        let entry = LedgerEntry {
            kind: EntryKind::Released,
            epoch: part.epoch,
            at: self.now.wall_ms(),
            position: part.intake.frontier().or(part.position),
            ..LedgerEntry::default()
        };
        out.push(Effect::Append {
            partition,
            epoch: part.epoch,
            key: Key::Released,
            entry: Some(Box::new(entry)),
            urgent: true,
        });
        self.forget_partition(partition);
        out.push(Effect::GiveBack { partition });
    }
}
