//! Writes again how a message ended when a void refusal stands behind it.
//!
//! An owner that was fenced and does not know it may refuse a request whose message has ended. Both records have one
//! key, so that compaction would leave the refusal only, and a later restore would take it for the end.

use sluice_schemas::{EntryKind, LedgerEntry};
use uuid::Uuid;

use super::done::Done;
use super::ledger::Key;
use super::{Effect, Phase, Sender};

impl Sender {
    /// A void refusal of a message that has ended was read.
    pub(super) fn refusal_overwrites(
        &mut self,
        partition: i32,
        id: Uuid,
        session_id: Option<String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        // How one ended that was never sent matters little: it is not to be sent either way.
        let Some(done) = part.local.done(&id).filter(|done| done.claim_epoch >= 0) else { return };
        match part.phase {
            Phase::Fencing => {}
            Phase::Restoring => part.overwritten.push((id, session_id)),
            Phase::Owned | Phase::Releasing => {
                let entry = Box::new(entry_of(part.epoch, id, session_id, &done));
                let (epoch, key) = (part.epoch, Key::Done(id));
                out.push(Effect::Append { partition, epoch, key, entry: Some(entry), urgent: false });
            }
        }
    }

    /// The same for those met in the restore.
    pub(super) fn restate_overwritten(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        for (id, session_id) in std::mem::take(&mut part.overwritten) {
            self.refusal_overwrites(partition, id, session_id, out);
        }
    }
}

fn entry_of(epoch: i64, id: Uuid, session_id: Option<String>, done: &Done) -> LedgerEntry {
    let echo = done.echo.as_ref();
    LedgerEntry {
        kind: EntryKind::Done,
        epoch,
        at: done.at_ms,
        message_id: Some(id.to_string()),
        session_id,
        claim_seq: Some(done.claim_seq),
        claim_epoch: Some(done.claim_epoch),
        attempt: Some(i32::try_from(done.attempts).unwrap_or(i32::MAX)),
        outcome: done.outcome,
        reason: done.reason.clone(),
        body_sha256: Some(done.body_hash.to_vec()),
        content_sha256: echo.map(|echo| echo.content.to_vec()),
        recipient: echo.map(|echo| echo.recipient.clone()),
        provider_message_id: done.provider_message_id.clone(),
        ..LedgerEntry::default()
    }
}
