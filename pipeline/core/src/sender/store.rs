//! The local state of one partition: an ordered map of bytes, on disk or in memory.
//!
//! What is in it, and under which keys, is [`super::local`]'s business. A store only keeps it, and what it keeps
//! is always the state at one offset of the ledger: [`Store::commit`] makes everything put since the last commit
//! stand together with that offset, or nothing of it.

use std::collections::BTreeMap;

use crate::time::Now;

/// Key and value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Keeps the local state of one partition.
///
/// A store that cannot read or write says so by [`Store::has_failed`]; what it answered since is worth nothing,
/// and the sender carries out no effect that follows from it.
pub trait Store: std::fmt::Debug + Send {
    /// The value of `key`, puts that are not committed included.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// Sets a value.
    fn put(&mut self, key: &[u8], value: Vec<u8>);
    /// Removes a value; nothing if there is none.
    fn remove(&mut self, key: &[u8]);
    /// At most `most` pairs from `from` up to, not including, `to`, in the order of their keys.
    fn scan(&self, from: &[u8], to: &[u8], most: usize) -> Vec<Pair>;
    /// Whether it is time to commit.
    fn wants_commit(&self, now: Now) -> bool;
    /// Makes all puts stand, as the state when everything below `next_offset` of the ledger is applied.
    fn commit(&mut self, now: Now, next_offset: i64);
    /// Forgets everything.
    fn clear(&mut self);
    /// Whether it could not read or write.
    fn has_failed(&self) -> bool;
}

/// A store as it was found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Box<dyn Store>,
    /// Where the ledger is to be read from when what is in it may be used; `None` if it may not, or nothing is.
    pub next_offset: Option<i64>,
}

impl Opened {
    /// An empty store.
    pub fn empty(store: Box<dyn Store>) -> Self {
        Self { store, next_offset: None }
    }
}

/// Opens the store of a partition that is taken over.
pub type OpenStore = Box<dyn Fn(i32, Now) -> Opened + Send>;

/// A store that lives and dies with the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.pairs.get(key).cloned()
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.pairs.insert(key.to_vec(), value);
    }

    fn remove(&mut self, key: &[u8]) {
        self.pairs.remove(key);
    }

    fn scan(&self, from: &[u8], to: &[u8], most: usize) -> Vec<Pair> {
        let range =
            self.pairs.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        range.take(most).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn wants_commit(&self, _now: Now) -> bool {
        false
    }

    fn commit(&mut self, _now: Now, _next_offset: i64) {}

    fn clear(&mut self) {
        self.pairs.clear();
    }

    fn has_failed(&self) -> bool {
        false
    }
}
