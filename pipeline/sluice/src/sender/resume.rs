//! Where the ledger is read from when a partition's local state is taken up again, and the look before whether the
//! ledger is still the one that state has followed.

use std::collections::HashMap;

use sluice_core::sender::Resume;
use sluice_core::sender::ledger::Key;
use sluice_kafka::record::Record;
use sluice_kafka::registry::Codec;
use sluice_schemas::LedgerEntry;

/// How far the take-over of a partition with a local state is.
#[derive(Debug)]
enum Step {
    /// The record that names the ledger is being read.
    Looking(Resume),
    /// It is the same ledger: it is read from this offset.
    From(i64),
}

/// Partitions whose local state is taken up again.
#[derive(Debug, Default)]
pub(super) struct Resumes {
    steps: HashMap<i32, Step>,
}

impl Resumes {
    pub(super) fn look(&mut self, partition: i32, resume: Resume) {
        self.steps.insert(partition, Step::Looking(resume));
    }

    pub(super) fn forget(&mut self, partition: i32) {
        self.steps.remove(&partition);
    }

    pub(super) fn is_looking(&self, partition: i32) -> bool {
        matches!(self.steps.get(&partition), Some(Step::Looking(_)))
    }

    /// Where the ledger is read from, if not from its beginning.
    pub(super) fn from(&self, partition: i32) -> Option<i64> {
        match self.steps.get(&partition) {
            Some(Step::From(next_offset)) => Some(*next_offset),
            _ => None,
        }
    }

    /// Judges the first record that stands where the name of the ledger should: whether it is that.
    pub(super) fn judge(&mut self, partition: i32, record: &Record, entries: &Codec<LedgerEntry>) -> bool {
        let Some(Step::Looking(resume)) = self.steps.remove(&partition) else { return false };
        let is_name = record.offset == resume.identity.offset
            && record.key.as_deref().and_then(Key::parse) == Some(Key::Identity)
            && entries.decode(record).is_ok_and(|entry| entry.owner.as_ref() == Some(&resume.identity.name));
        if is_name {
            self.steps.insert(partition, Step::From(resume.next_offset));
        }
        is_name
    }
}
