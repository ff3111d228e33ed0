//! The local state of partitions on disk: one fjall database of the process, one keyspace in it per partition.
//!
//! Puts gather in memory and are written in one batch with the offset they belong to, so that what is on disk is
//! always the state at one offset, and messages that come and go quickly cost next to nothing. Nothing is synced:
//! the kernel keeps what a dead process wrote, and after a crash of the machine (another boot id) all of it is
//! thrown away. The ledger has everything.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use fjall::config::{PartitioningPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use serde::{Deserialize, Serialize};
use sluice_core::sender::local;
use sluice_core::sender::store::{Opened, Pair, Store};
use sluice_core::time::Now;
use sluice_schemas::codec::Record as _;
use sluice_schemas::{LedgerEntry, OutboundCommand};

/// Key of the mark that tells what a keyspace holds; behind every key of the state.
const MARK: &[u8] = &[0xff];

/// Where and how the local state is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Directory of the database, of this process alone. Empty: in memory, and rebuilt at every start.
    pub directory: PathBuf,
    /// Cache of blocks read, mebibytes, for all partitions.
    pub cache_mbytes_max: u64,
    /// Puts of one partition that are on their way to disk, kibibytes.
    pub write_buffer_kbytes_max: u64,
    /// Puts of one partition that gather before they are written, kibibytes.
    pub batch_kbytes_max: usize,
    /// How long they gather at most, milliseconds.
    pub batch_interval_ms: u64,
    /// A state older than this is rebuilt from the ledger, milliseconds: at most half of the ledger's
    /// `delete.retention.ms`, for tombstones older than that may be gone.
    pub resume_age_max_ms: i64,
}

/// The stores of a process.
#[derive(Clone)]
pub struct Disk {
    database: Database,
    settings: Arc<Settings>,
    boot_id: Arc<str>,
    format: u64,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("directory", &self.settings.directory).finish_non_exhaustive()
    }
}

/// What a keyspace holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Format of the state and schemas of what is in it.
    pub format: u64,
    /// Boot of the machine it was written in.
    pub boot_id: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// Everything of the ledger below this offset is in it.
    pub next_offset: i64,
}

impl Disk {
    /// Opens the database, or makes it.
    ///
    /// # Errors
    /// If the directory cannot be used, or another process uses it.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        let directory = &settings.directory;
        let database = open_database(directory, settings.cache_mbytes_max).with_context(|| {
            format!(
                "sender.store.directory {} cannot be used: give each process a directory of its own that it may \
                 write, or none to keep the state in memory",
                directory.display()
            )
        })?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self {
            database,
            settings: Arc::new(settings.clone()),
            boot_id: boot_id.trim().into(),
            format: format(),
        })
    }

    /// The store of a partition; its state may be used if it is of this boot, of this format and young enough.
    pub fn partition(&self, partition: i32, now: Now) -> Opened {
        let failed = || Opened::empty(Box::new(DiskStore::new(self.clone(), None, now)));
        let keyspace = match self.keyspace(partition) {
            Ok(keyspace) => keyspace,
            Err(error) => {
                tracing::error!(partition, %error, "local state not opened");
                return failed();
            }
        };
        let mark = match read_mark(&keyspace) {
            Ok(mark) => mark,
            Err(error) => {
                tracing::error!(partition, %error, "local state not read");
                return failed();
            }
        };
        let next_offset = mark.filter(|mark| self.is_usable(mark, now)).map(|mark| mark.next_offset);
        Opened { store: Box::new(DiskStore::new(self.clone(), Some(keyspace), now)), next_offset }
    }

    /// The partitions with a state, and what is in each.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn partitions(&self) -> anyhow::Result<Vec<Holding>> {
        let mut all = Vec::new();
        for name in self.database.list_keyspace_names() {
            let Some(partition) = name.strip_prefix('p').and_then(|number| number.parse().ok()) else {
                continue;
            };
            let keyspace = self.keyspace(partition)?;
            let mark = read_mark(&keyspace)?;
            let keys = |kind: u8| keyspace.prefix([kind]).map(|pair| pair.size().unwrap_or(0));
            let open = keys(local::OPEN_KINDS[0]).count() + keys(local::OPEN_KINDS[1]).count();
            let done = keys(local::ENDED_KIND).map(|bytes| bytes as usize / local::ENDED_BYTES).sum();
            all.push(Holding { partition, mark, open, done, bytes: keyspace.disk_space() });
        }
        all.sort_unstable_by_key(|holding| holding.partition);
        Ok(all)
    }

    fn is_usable(&self, mark: &Mark, now: Now) -> bool {
        let age_ms = now.wall_ms().saturating_sub(mark.at_ms);
        mark.format == self.format
            && *mark.boot_id == *self.boot_id
            && !self.boot_id.is_empty()
            && (0..self.settings.resume_age_max_ms).contains(&age_ms)
    }

    fn keyspace(&self, partition: i32) -> fjall::Result<Keyspace> {
        self.database.keyspace(&format!("p{partition}"), || {
            // Neither indices nor filters stay in memory beside the cache, or a large state would cost some.
            KeyspaceCreateOptions::default()
                .max_memtable_size(self.settings.write_buffer_kbytes_max.saturating_mul(1024))
                .index_block_pinning_policy(PinningPolicy::all(false))
                .filter_block_pinning_policy(PinningPolicy::all(false))
                .index_block_partitioning_policy(PartitioningPolicy::all(true))
                .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        })
    }
}

/// The state of one partition, for people.
#[derive(Debug, Clone, Serialize)]
pub struct Holding {
    /// Partition.
    pub partition: i32,
    /// What it holds; none if nothing was written whole.
    pub mark: Option<Mark>,
    /// Open messages.
    pub open: usize,
    /// Messages remembered as done.
    pub done: usize,
    /// Its size on disk, bytes.
    pub bytes: u64,
}

fn open_database(directory: &Path, cache_mbytes_max: u64) -> anyhow::Result<Database> {
    std::fs::create_dir_all(directory)?;
    Ok(Database::builder(directory)
        .cache_size(cache_mbytes_max.saturating_mul(1024 * 1024))
        .manual_journal_persist(true)
        .worker_threads(1)
        .open()?)
}

/// What is on disk is of use to programs of the same format and the same schemas only.
fn format() -> u64 {
    let text = format!("{}\n{}\n{}", local::FORMAT, OutboundCommand::SCHEMA, LedgerEntry::SCHEMA);
    let hash = <sha2::Sha256 as sha2::Digest>::digest(text);
    hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn read_mark(keyspace: &Keyspace) -> fjall::Result<Option<Mark>> {
    Ok(keyspace.get(MARK)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// The store of one partition.
struct DiskStore {
    disk: Disk,
    keyspace: Option<Keyspace>,
    /// What was put since the last commit.
    pending: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pending_bytes: usize,
    committed_boot_us: u64,
    failed: AtomicBool,
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl DiskStore {
    /// Without a keyspace it has failed.
    fn new(disk: Disk, keyspace: Option<Keyspace>, now: Now) -> Self {
        Self {
            disk,
            failed: AtomicBool::new(keyspace.is_none()),
            keyspace,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            committed_boot_us: now.boot_us,
        }
    }

    fn fail(&self, error: &fjall::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, directory = %self.disk.settings.directory.display(), "local state unusable");
        }
    }

    fn take<T>(&self, result: fjall::Result<T>) -> Option<T> {
        result.map_err(|error| self.fail(&error)).ok()
    }

    fn pend(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        self.pending_bytes += key.len() + value.as_ref().map_or(0, Vec::len) + 64;
        self.pending.insert(key.to_vec(), value);
    }

    fn write(&mut self, mark: &Mark) -> fjall::Result<()> {
        let Some(keyspace) = &self.keyspace else { return Ok(()) };
        let batch = OwnedWriteBatch::with_capacity(self.disk.database.clone(), self.pending.len() + 1);
        let mut batch = batch.durability(Some(PersistMode::Buffer));
        for (key, value) in std::mem::take(&mut self.pending) {
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.insert(keyspace, MARK, serde_json::to_vec(mark).unwrap_or_default());
        batch.commit()
    }
}

impl Store for DiskStore {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if let Some(value) = self.pending.get(key) {
            return value.clone();
        }
        self.take(self.keyspace.as_ref()?.get(key))?.map(|value| value.to_vec())
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.pend(key, Some(value));
    }

    fn remove(&mut self, key: &[u8]) {
        self.pend(key, None);
    }

    fn scan(&self, from: &[u8], to: &[u8], most: usize) -> Vec<Pair> {
        let Some(keyspace) = &self.keyspace else { return Vec::new() };
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut ahead = self.pending.range::<[u8], _>(range).peekable();
        let mut behind = keyspace.range::<&[u8], _>(range).map(fjall::Guard::into_inner).peekable();
        let mut found = Vec::new();
        while found.len() < most {
            let stored = match behind.peek() {
                Some(Ok((key, _))) => Some(key.to_vec()),
                Some(Err(error)) => {
                    self.fail(error);
                    return Vec::new();
                }
                None => None,
            };
            match (ahead.peek(), stored) {
                (None, None) => break,
                (Some((key, _)), stored) if stored.as_ref().is_none_or(|stored| *key <= stored) => {
                    if stored.as_ref() == Some(*key) {
                        behind.next();
                    }
                    if let Some((key, Some(value))) = ahead.next() {
                        found.push((key.clone(), value.clone()));
                    }
                }
                (_, Some(key)) => {
                    if let Some(Ok((_, value))) = behind.next() {
                        found.push((key, value.to_vec()));
                    }
                }
                (Some(_), None) => {}
            }
        }
        found
    }

    fn wants_commit(&self, now: Now) -> bool {
        let settings = &self.disk.settings;
        self.pending_bytes >= settings.batch_kbytes_max.saturating_mul(1024)
            || now.boot_us.saturating_sub(self.committed_boot_us)
                >= settings.batch_interval_ms.saturating_mul(1000)
    }

    fn commit(&mut self, now: Now, next_offset: i64) {
        self.committed_boot_us = now.boot_us;
        self.pending_bytes = 0;
        let boot_id = self.disk.boot_id.to_string();
        let mark = Mark { format: self.disk.format, boot_id, at_ms: now.wall_ms(), next_offset };
        let written = self.write(&mark);
        self.take(written);
    }

    fn clear(&mut self) {
        self.pending.clear();
        self.pending_bytes = 0;
        let cleared = self.keyspace.as_ref().map_or(Ok(()), Keyspace::clear);
        self.take(cleared);
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
