//! Taking partitions over, losing them, and giving them back.

use sluice_schemas::{EntryKind, LedgerEntry, Source, Status};
use uuid::Uuid;

use super::doubt::RESEND;
use super::facts::Fact;
use super::ledger::Key;
use super::message::{Doubt, Next, Stage, Unsent};
use super::{Effect, Note, Partition, Phase, Sender};

impl Sender {
    pub(super) fn assigned(&mut self, partition: i32, out: &mut Vec<Effect>) {
        self.forget_partition(partition);
        let done = (self.make_done)(partition);
        self.partitions.insert(partition, Partition::new(done));
        out.push(Effect::Fence { partition });
    }

    pub(super) fn fenced(&mut self, partition: i32, offset: i64) {
        if let Some(part) = self.partitions.get_mut(&partition)
            && part.phase == Phase::Fencing
        {
            part.phase = Phase::Restoring;
            part.epoch = offset;
        }
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
    }

    /// The ledger is read up to our own fence: what was open is taken on.
    pub(super) fn restored(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.phase = Phase::Owned;
        for key in part.take_leftovers() {
            out.push(Effect::Append { partition, epoch: part.epoch, key, entry: None, urgent: false });
        }
        let position = part.position;
        let mut ids: Vec<(i64, Uuid)> =
            part.open.iter().map(|(id, open)| (open.request_offset, *id)).collect();
        ids.sort_unstable();

        let mut status_from_ms =
            self.now.wall_ms() - i64::try_from(self.settings.bridge_window_ms).unwrap_or(i64::MAX / 2);
        let mut in_doubt = 0;
        for (_, id) in &ids {
            if let Some(claim_at_ms) = self.take_on(partition, *id, out) {
                status_from_ms = status_from_ms.min(claim_at_ms);
                in_doubt += 1;
            }
        }
        out.push(Effect::Note(Note::Restored { partition, open: ids.len(), in_doubt }));
        let skew_ms = i64::try_from(self.settings.evidence_skew_ms).unwrap_or(0);
        out.push(Effect::Own { partition, position, status_from_ms: status_from_ms - skew_ms });
        let early = self.partitions.get_mut(&partition).map(|part| std::mem::take(&mut part.early_testimony));
        for status in early.unwrap_or_default() {
            self.testimony(partition, &status, out);
        }
        self.pump(out);
    }

    /// Takes on one restored message; for one in doubt, the time of its claim.
    fn take_on(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) -> Option<i64> {
        let recorded = self.open_mut(partition, &id)?.recorded.governing.take();
        let Some((epoch, entry)) = recorded else {
            self.enqueue(partition, id);
            self.arm(partition, id);
            return None;
        };
        let doubt_wait_ms = self.settings.doubt_wait_ms();
        let now_ms = self.now.wall_ms();
        let claim_ttl_ms = i64::try_from(self.settings.claim_ttl_ms).unwrap_or(i64::MAX);
        let open = self.open_mut(partition, &id)?;
        open.attempts = u32::try_from(entry.attempt.unwrap_or(0)).unwrap_or(0);
        open.canceled |= entry.canceled;
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
                let session = open.session;
                if claimed {
                    // The call may start as late as the claim's life allows: count it there, not before.
                    let used_at_ms = now_ms.max(entry.at.saturating_add(claim_ttl_ms));
                    self.sessions.get_mut(session).count_claim(used_at_ms.saturating_mul(1000));
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
                if entry.reason.as_deref() == Some(RESEND) {
                    self.add_candidate(partition, id, entry.at, super::bridge::Stage::Rival);
                }
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
        let removed = self.partitions.remove(&partition);
        for slot in removed.iter().flat_map(|part| part.open.values()).filter_map(|open| open.slot) {
            self.bulkheads.get(slot).free_slot();
        }
        for session in self.sessions.of_partition(partition) {
            let state = self.sessions.get_mut(session);
            state.clear();
            if let Some(at) = state.wake_us.take() {
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
        if part.phase != Phase::Releasing || part.open.values().any(|open| open.is_under_way()) {
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
