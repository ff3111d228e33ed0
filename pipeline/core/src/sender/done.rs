//! Messages that are done: remembered for the dedupe window, so that a second request is not sent again.
//!
//! [`DoneStore`] is the seam for a store on disk; [`MemoryDone`] keeps everything in memory.

use std::collections::{HashMap, VecDeque};

use sluice_schemas::Status;
use uuid::Uuid;

/// What is remembered of a finished message.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// When, milliseconds.
    pub at_ms: i64,
    /// How it ended for the sender.
    pub outcome: Status,
    /// Why, if it was not sent.
    pub reason: Option<Box<str>>,
    /// Hash over the canonical request.
    pub body_hash: [u8; 32],
    /// Id the provider gave.
    pub provider_message_id: Option<Box<str>>,
    /// Epoch of the claim that ended it; -1 for none.
    pub claim_epoch: i64,
    /// Number of that claim.
    pub claim_seq: i64,
    /// Attempts used.
    pub attempts: u32,
}

/// Remembers the finished messages of one partition.
pub trait DoneStore: std::fmt::Debug + Send {
    /// Remembers a finished message; a later record of it replaces an earlier one.
    fn insert(&mut self, id: Uuid, done: Done);
    /// What is remembered of a message.
    fn get(&self, id: &Uuid) -> Option<Done>;
    /// Forgets a message.
    fn remove(&mut self, id: &Uuid);
    /// At most `most` messages that finished before `before_ms`, each given once.
    fn expired(&mut self, before_ms: i64, most: usize) -> Vec<Uuid>;
}

/// Makes the store of a partition that is taken over.
pub type MakeDoneStore = Box<dyn Fn(i32) -> Box<dyn DoneStore> + Send>;

/// Finished messages in memory.
#[derive(Debug, Default)]
pub struct MemoryDone {
    by_id: HashMap<Uuid, Done>,
    /// In log order, which is near enough time order.
    order: VecDeque<(i64, Uuid)>,
}

impl DoneStore for MemoryDone {
    fn insert(&mut self, id: Uuid, done: Done) {
        self.order.push_back((done.at_ms, id));
        self.by_id.insert(id, done);
    }

    fn get(&self, id: &Uuid) -> Option<Done> {
        self.by_id.get(id).cloned()
    }

    fn remove(&mut self, id: &Uuid) {
        self.by_id.remove(id);
    }

    fn expired(&mut self, before_ms: i64, most: usize) -> Vec<Uuid> {
        let mut out = Vec::new();
        while out.len() < most && self.order.front().is_some_and(|(at, _)| *at < before_ms) {
            if let Some((at_ms, id)) = self.order.pop_front()
                && self.by_id.get(&id).is_some_and(|done| done.at_ms == at_ms)
            {
                out.push(id);
            }
        }
        out
    }
}
