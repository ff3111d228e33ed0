//! The set of facts known of one message.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sluice_schemas::{MessageState, MessageStatus};

use super::fact::Fact;
use super::state;

/// Most facts kept of one message: enough for every receipt of every member of the largest group (1,024
/// members × 3 receipts), with room for holds and retries. The last by [`Fact::key`] are dropped beyond it,
/// which keeps the join commutative.
pub const FACTS_MAX: usize = 8_192;

/// The facts known of one message.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageFacts {
    message_id: String,
    facts: BTreeMap<String, Fact>,
}

impl MessageFacts {
    /// No facts yet.
    pub fn new(message_id: impl Into<String>) -> Self {
        Self { message_id: message_id.into(), facts: BTreeMap::new() }
    }

    /// Adds what `status` states; `received_ms` is when its record reached its topic (log append time). True
    /// when that changed the set.
    ///
    /// The caller knows that the status is about this message: a receipt found by a provider id carries no
    /// message id.
    pub fn apply(&mut self, status: &MessageStatus, received_ms: i64) -> bool {
        Fact::of(status, received_ms).is_some_and(|fact| self.insert(fact))
    }

    /// Adds a fact. True when that changed the set.
    pub fn insert(&mut self, fact: Fact) -> bool {
        let key = fact.key();
        let changed = match self.facts.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(fact);
                true
            }
            Entry::Occupied(mut known) => match fact.precedence(known.get()) {
                Ordering::Less => {
                    known.insert(fact);
                    true
                }
                Ordering::Equal | Ordering::Greater => false,
            },
        };
        if self.facts.len() > FACTS_MAX
            && let Some((dropped, _)) = self.facts.pop_last()
        {
            return dropped != key;
        }
        changed
    }

    /// Adds every fact of another set about the same message.
    pub fn merge(&mut self, other: &Self) {
        for fact in other.facts.values() {
            self.insert(fact.clone());
        }
    }

    /// What the facts come to.
    pub fn state(&self) -> MessageState {
        state::fold(self)
    }

    /// The message.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// Every fact, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Fact> {
        self.facts.values()
    }

    /// How many facts are known.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether no fact is known.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// When the message stands in its session's list, milliseconds: the earliest of the facts that list it
    /// (accepted, or refused outright). Nothing while only receipts are known.
    pub fn listed_ms(&self) -> Option<i64> {
        self.iter().filter(|fact| fact.lists()).map(|fact| fact.at_ms).min()
    }
}
