//! A store that survives its process: what was committed stands, what was put since is lost in a crash.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_core::sender::store::{Opened, Pair, Store};
use sluice_core::time::Now;

/// Records of the ledger between two commits.
const RECORDS: usize = 7;
/// A store older than this is not resumed: half the time that tombstones stay in the log.
const RESUMED_WITHIN_US: u64 = crate::log::DELETE_RETENTION_US as u64 / 2;

#[derive(Debug, Default)]
struct Disk {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    next_offset: Option<i64>,
    /// When that was committed, boot clock.
    committed_boot_us: u64,
    /// Counts openings: an earlier holder's puts count no more.
    holder: u64,
}

/// The disk of one process.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedDisk(Arc<Mutex<Disk>>);

impl SharedDisk {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens it. It may be resumed if no tombstone can have gone from the log that it has not met, which is this
    /// shell's duty to know.
    pub(crate) fn open(&self, now: Now, resumes_stale: bool) -> Opened {
        let mut disk = self.disk();
        disk.holder += 1;
        let is_young = now.boot_us.saturating_sub(disk.committed_boot_us) < RESUMED_WITHIN_US;
        let next_offset = disk.next_offset.filter(|_| is_young || resumes_stale);
        let store = DiskStore {
            disk: self.clone(),
            holder: disk.holder,
            pending: BTreeMap::new(),
            asked: Default::default(),
        };
        Opened { store: Box::new(store), next_offset }
    }

    /// Somebody deletes it.
    pub(crate) fn wipe(&self) {
        let mut disk = self.disk();
        disk.pairs.clear();
        disk.next_offset = None;
    }
}

#[derive(Debug)]
struct DiskStore {
    disk: SharedDisk,
    holder: u64,
    pending: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// How often it was asked whether it is time since it last was.
    asked: std::sync::atomic::AtomicUsize,
}

impl Store for DiskStore {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.pending.get(key) {
            Some(value) => value.clone(),
            None => self.disk.disk().pairs.get(key).cloned(),
        }
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.pending.insert(key.to_vec(), Some(value));
    }

    fn remove(&mut self, key: &[u8]) {
        self.pending.insert(key.to_vec(), None);
    }

    fn scan(&self, from: &[u8], to: &[u8], most: usize) -> Vec<Pair> {
        let disk = self.disk.disk();
        let range = || (std::ops::Bound::Included(from), std::ops::Bound::Excluded(to));
        let mut all: BTreeMap<&[u8], Option<&Vec<u8>>> =
            disk.pairs.range::<[u8], _>(range()).map(|(key, value)| (key.as_slice(), Some(value))).collect();
        all.extend(
            self.pending.range::<[u8], _>(range()).map(|(key, value)| (key.as_slice(), value.as_ref())),
        );
        all.into_iter().filter_map(|(key, value)| Some((key.to_vec(), value?.clone()))).take(most).collect()
    }

    fn wants_commit(&self, _now: Now) -> bool {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= RECORDS
    }

    fn commit(&mut self, now: Now, next_offset: i64) {
        self.asked = Default::default();
        let mut disk = self.disk.disk();
        if disk.holder != self.holder {
            return;
        }
        for (key, value) in std::mem::take(&mut self.pending) {
            match value {
                Some(value) => disk.pairs.insert(key, value),
                None => disk.pairs.remove(&key),
            };
        }
        disk.next_offset = Some(next_offset);
        disk.committed_boot_us = now.boot_us;
    }

    fn clear(&mut self) {
        self.pending.clear();
        self.disk.wipe();
    }

    fn has_failed(&self) -> bool {
        false
    }
}
