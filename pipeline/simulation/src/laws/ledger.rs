//! What is written to the ledger, and what is committed.

use sluice_core::sender::ledger::Key;
use sluice_schemas::{LedgerEntry, MessageStatus, Source, Status};
use uuid::Uuid;

use super::{is_end, is_of};
use crate::world::{SKEW_US, World};

/// Whether a status ends a message, or says that the request is another's.
fn settles(status: &MessageStatus, id: Uuid) -> bool {
    let ends = is_end(status.status) || status.status == Status::DuplicateConflict;
    ends && status.source != Source::Operator && is_of(status, id)
}

impl World {
    /// An owner that read a fence above its own writes no more.
    pub(crate) fn check_append(&mut self, owner: usize, epoch: i64) {
        if epoch < self.owners[owner].fence_read {
            self.fail(format!("owner {owner} writes under epoch {epoch} after it read a higher fence"));
        }
    }

    /// A finished message is remembered for the whole dedupe window.
    pub(crate) fn check_record(&mut self, key: Key, entry: Option<&LedgerEntry>) {
        let (Key::Done(id), None) = (key, entry) else { return };
        let window_us = self.settings.dedupe_window_ms as i64 * 1000 - 2 * SKEW_US - self.jumped_us;
        if self.log.first_done_ms(id).is_some_and(|at_ms| self.now_us < at_ms * 1000 + window_us) {
            self.fail(format!("a finished message is forgotten before its time: {id}"));
        }
    }

    /// What is committed is in the ledger or settled.
    pub(crate) fn check_commit(&mut self, owner: usize, offset: i64) {
        for at in self.committed_checked..offset {
            let request = &self.requests[at as usize];
            let settled = self.log.accepted(request.id).is_some()
                || self.log.has(Key::Cancel(request.id))
                || self.aside.contains(&at)
                || self.statuses.iter().any(|stated| settles(&stated.status, request.id));
            if !settled {
                self.fail(format!("owner {owner} commits a request that is not settled: {at}"));
                return;
            }
        }
        self.committed_checked = self.committed_checked.max(offset);
    }
}
