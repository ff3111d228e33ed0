//! Messages that are done: remembered for the dedupe window, so that a second request is not sent again.

use std::collections::{HashMap, VecDeque};

use sluice_schemas::Status;
use uuid::Uuid;

/// What is remembered of a finished message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Done {
    pub(super) at_ms: i64,
    pub(super) outcome: Status,
    pub(super) reason: Option<Box<str>>,
    pub(super) body_hash: [u8; 32],
    pub(super) provider_message_id: Option<Box<str>>,
    pub(super) claim_epoch: i64,
    pub(super) claim_seq: i64,
    pub(super) attempts: u32,
}

/// Finished messages of one partition, in memory.
#[derive(Debug, Default)]
pub(super) struct DoneIndex {
    by_id: HashMap<Uuid, Done>,
    /// In log order, which is near enough time order.
    order: VecDeque<(i64, Uuid)>,
}

impl DoneIndex {
    pub(super) fn insert(&mut self, id: Uuid, done: Done) {
        self.order.push_back((done.at_ms, id));
        self.by_id.insert(id, done);
    }

    pub(super) fn get(&self, id: &Uuid) -> Option<&Done> {
        self.by_id.get(id)
    }

    pub(super) fn remove(&mut self, id: &Uuid) {
        self.by_id.remove(id);
    }

    /// Takes at most `most` messages that finished before `before_ms`.
    pub(super) fn expired(&mut self, before_ms: i64, most: usize) -> Vec<Uuid> {
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
