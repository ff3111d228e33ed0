//! The ledger partition: a total order of records, in which compaction removes what is superseded.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_core::sender::ledger::{Key, Read};
use sluice_schemas::codec::Datum;
use sluice_schemas::wire::Reader;
use sluice_schemas::{EntryKind, LedgerEntry, OutboundCommand};
use uuid::Uuid;

pub(crate) struct Record {
    pub(crate) at_us: i64,
    pub(crate) key: Key,
    pub(crate) epoch: i64,
    pub(crate) entry: Option<Box<LedgerEntry>>,
    compacted: bool,
}

#[derive(Default)]
pub(crate) struct Log {
    /// Every record that was ever appended, compacted or not: the laws look at all of them.
    pub(crate) records: Vec<Record>,
}

impl Log {
    pub(crate) fn append(
        &mut self,
        at_us: i64,
        key: Key,
        epoch: i64,
        entry: Option<Box<LedgerEntry>>,
    ) -> i64 {
        self.records.push(Record { at_us, key, epoch, entry, compacted: false });
        self.end() - 1
    }

    pub(crate) fn end(&self) -> i64 {
        self.records.len() as i64
    }

    /// The record at `offset` as a tail reads it; `None` if compaction removed it.
    pub(crate) fn read(&self, offset: i64) -> Option<Read> {
        let record = self.records.get(usize::try_from(offset).ok()?)?;
        if record.compacted {
            return None;
        }
        let command = record
            .entry
            .as_ref()
            .and_then(|entry| entry.request.as_deref())
            .and_then(|raw| OutboundCommand::read(&mut Reader::new(raw)).ok())
            .map(Arc::new);
        Some(Read { offset, key: record.key, epoch: record.epoch, entry: record.entry.clone(), command })
    }

    /// Removes each record written before `before_us` whose key has a later record.
    pub(crate) fn compact(&mut self, before_us: i64) {
        let mut newest: HashMap<Key, usize> = HashMap::new();
        for (at, record) in self.records.iter().enumerate() {
            newest.insert(record.key, at);
        }
        for (at, record) in self.records.iter_mut().enumerate() {
            record.compacted |= record.at_us < before_us && newest[&record.key] != at;
        }
    }

    /// Offset of the latest claim that `epoch` wrote for a message.
    pub(crate) fn claim(&self, id: Uuid, epoch: i64) -> Option<i64> {
        self.records
            .iter()
            .rposition(|record| {
                record.key == Key::State(id, epoch)
                    && record.entry.as_ref().is_some_and(|entry| entry.kind == EntryKind::Claimed)
            })
            .map(|at| at as i64)
    }

    /// Whether a fence stands strictly between two offsets.
    pub(crate) fn is_fenced_between(&self, from: i64, to: i64) -> bool {
        (from + 1..to).any(|offset| self.records[offset as usize].key == Key::Fence)
    }

    /// Where a message was first accepted.
    pub(crate) fn accepted(&self, id: Uuid) -> Option<i64> {
        self.records
            .iter()
            .position(|record| record.key == Key::Accepted(id) && record.entry.is_some())
            .map(|at| at as i64)
    }

    /// When a message was first claimed, µs.
    pub(crate) fn first_claimed_us(&self, id: Uuid) -> Option<i64> {
        self.records
            .iter()
            .find(|record| {
                matches!(record.key, Key::State(of, _) if of == id)
                    && record.entry.as_ref().is_some_and(|entry| entry.kind == EntryKind::Claimed)
            })
            .map(|record| record.at_us)
    }

    /// What the latest record of a key says.
    pub(crate) fn latest(&self, key: Key) -> Option<&LedgerEntry> {
        self.records.iter().rev().find(|record| record.key == key)?.entry.as_deref()
    }

    pub(crate) fn has(&self, key: Key) -> bool {
        self.records.iter().any(|record| record.key == key)
    }

    /// Every key whose latest record is no tombstone.
    pub(crate) fn live_keys(&self) -> Vec<Key> {
        let mut newest: HashMap<Key, usize> = HashMap::new();
        for (at, record) in self.records.iter().enumerate() {
            newest.insert(record.key, at);
        }
        let mut live: Vec<(usize, Key)> = newest
            .into_iter()
            .filter(|(_, at)| self.records[*at].entry.is_some())
            .map(|(key, at)| (at, key))
            .collect();
        live.sort_unstable_by_key(|(at, _)| *at);
        live.into_iter().map(|(_, key)| key).collect()
    }
}

/// The bytes of a request, as the Accepted record keeps them.
pub(crate) fn bytes_of(command: &OutboundCommand) -> Vec<u8> {
    let mut raw = Vec::new();
    command.put(&mut raw);
    raw
}
