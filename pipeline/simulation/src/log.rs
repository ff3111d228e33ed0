//! The ledger partition: a total order of records, in which compaction removes what is superseded.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_core::sender::Identity;
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

/// Tombstones stay at least this long.
pub(crate) const DELETE_RETENTION_US: i64 = 120_000_000;
/// Superseded records stay at least this long.
const COMPACTION_LAG_US: i64 = 20_000_000;

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

    /// Removes old records whose key has a later record, and old tombstones.
    pub(crate) fn compact(&mut self, now_us: i64) {
        let (before_us, gone_us) = (now_us - COMPACTION_LAG_US, now_us - DELETE_RETENTION_US);
        let mut newest: HashMap<Key, usize> = HashMap::new();
        for (at, record) in self.records.iter().enumerate() {
            newest.insert(record.key, at);
        }
        for (at, record) in self.records.iter_mut().enumerate() {
            record.compacted |= record.at_us < before_us && newest[&record.key] != at;
            record.compacted |= record.at_us < gone_us && record.entry.is_none();
        }
    }

    /// Whether it is the partition that `identity` names.
    pub(crate) fn holds(&self, identity: &Identity) -> bool {
        let read = self.read(identity.offset);
        read.is_some_and(|read| {
            read.key == Key::Identity
                && read.entry.is_some_and(|entry| entry.owner.as_ref() == Some(&identity.name))
        })
    }

    /// Offset and number of the latest claim below `read` that `epoch` wrote for a message, under whatever key.
    pub(crate) fn claim(&self, id: Uuid, epoch: i64, read: i64) -> Option<(i64, i64)> {
        let read = usize::try_from(read).unwrap_or(0).min(self.records.len());
        let mut latest = self.records[..read].iter().enumerate().rev();
        latest.find_map(|(at, record)| {
            let is_its = matches!(record.key, Key::State(of, _) if of == id) && record.epoch == epoch;
            let entry = record.entry.as_ref().filter(|entry| entry.kind == EntryKind::Claimed && is_its)?;
            Some((at as i64, entry.claim_seq.unwrap_or(0)))
        })
    }

    /// Offset of the request that a message was accepted from.
    pub(crate) fn accepted_from(&self, id: Uuid) -> Option<i64> {
        let mut latest = self.records.iter().rev();
        let entry =
            latest.find(|record| record.key == Key::Accepted(id) && record.entry.is_some())?.entry.as_ref();
        entry?.request_offset
    }

    /// Whether a cancel of a message of this session stands below `read`.
    pub(crate) fn is_canceled(&self, id: Uuid, session_id: &str, read: i64) -> bool {
        let read = usize::try_from(read).unwrap_or(0).min(self.records.len());
        let latest = self.records[..read].iter().rev().find(|record| record.key == Key::Cancel(id));
        let entry = latest.and_then(|record| record.entry.as_ref());
        entry.is_some_and(|entry| entry.session_id.as_deref() == Some(session_id))
    }

    /// When a message that is done ended, as the earliest record says since it was last forgotten, ms.
    pub(crate) fn first_done_ms(&self, id: Uuid) -> Option<i64> {
        let latest = self.records.iter().rev().filter(|record| record.key == Key::Done(id));
        latest.map_while(|record| record.entry.as_ref()).map(|done| done.at).min()
    }

    /// Whether the end of a message was forgotten between two times.
    pub(crate) fn is_forgotten_between(&self, id: Uuid, from_us: i64, to_us: i64) -> bool {
        let mut between = self.records.iter().filter(|record| (from_us..=to_us).contains(&record.at_us));
        between.any(|record| record.key == Key::Done(id) && record.entry.is_none())
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
