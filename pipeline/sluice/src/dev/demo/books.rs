//! What is known of the demo's messages from the API's answers and from the topics, as it comes in.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use sluice_schemas::{MessageState, MessageStatus, Source, Status};
use uuid::Uuid;

/// Answers that were not an acceptance, kept to be shown.
const REFUSALS_MAX: usize = 20;

/// The books.
#[derive(Debug)]
pub(super) struct Books {
    messages: HashMap<Uuid, Entry>,
    /// Requests not accepted, and why; the first few.
    refusals: Vec<(Uuid, String)>,
    changed: Instant,
}

/// What is known of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// How often it was accepted.
    pub(super) accepted: u32,
    /// The kinds of facts told of it.
    pub(super) kinds: BTreeSet<Status>,
    /// The facts with which the sender ended it, by event id and kind. One, unless it was in doubt.
    pub(super) ends: BTreeSet<(String, Status)>,
    /// Whether a webhook told that it failed after it was submitted.
    pub(super) failed_by_provider: bool,
    /// Its newest state.
    pub(super) state: Option<MessageState>,
}

/// Counts for the progress line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) accepted: usize,
    pub(super) settled: usize,
    pub(super) submitted: usize,
    pub(super) delivered: usize,
    pub(super) read: usize,
    pub(super) in_doubt: usize,
}

impl Books {
    /// Books of these messages; facts of others are none of theirs.
    pub(super) fn new(ids: impl IntoIterator<Item = Uuid>) -> Self {
        Self {
            messages: ids.into_iter().map(|id| (id, Entry::default())).collect(),
            refusals: Vec::new(),
            changed: Instant::now(),
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, id: Uuid, answer: Result<(), String>) {
        self.changed = Instant::now();
        match answer {
            Ok(()) => {
                if let Some(entry) = self.messages.get_mut(&id) {
                    entry.accepted += 1;
                }
            }
            Err(why) if self.refusals.len() < REFUSALS_MAX => self.refusals.push((id, why)),
            Err(_) => {}
        }
    }

    /// A fact was read from `messages.status`.
    pub(super) fn fact(&mut self, fact: MessageStatus) {
        let id = fact.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        let Some(entry) = id.and_then(|id| self.messages.get_mut(&id)) else { return };
        self.changed = Instant::now();
        entry.kinds.insert(fact.status);
        if fact.source == Source::Sender && is_end(fact.status) {
            entry.ends.insert((fact.event_id, fact.status));
        }
    }

    /// A state was read from `messages.state`; the newest counts.
    pub(super) fn state(&mut self, state: MessageState) {
        let Some(entry) = Uuid::try_parse(&state.message_id).ok().and_then(|id| self.messages.get_mut(&id))
        else {
            return;
        };
        self.changed = Instant::now();
        if entry.state.as_ref().is_none_or(|known| known.revision <= state.revision) {
            // Only a webhook tells of a failure after the sender said submitted.
            entry.failed_by_provider = state.submitted_at.is_some() && state.failed_at.is_some();
            entry.state = Some(state);
        }
    }

    pub(super) fn get(&self, id: &Uuid) -> Entry {
        self.messages.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn refusals(&self) -> &[(Uuid, String)] {
        &self.refusals
    }

    /// When something last came in.
    pub(super) fn changed(&self) -> Instant {
        self.changed
    }

    /// Whether every accepted message has an end, or has been in doubt since before `doubt_before_ms`.
    pub(super) fn are_settled(&self, doubt_before_ms: i64) -> bool {
        let mut accepted = self.messages.values().filter(|entry| entry.accepted > 0);
        accepted.all(|entry| entry.is_settled(doubt_before_ms))
    }

    /// Ids of accepted messages.
    pub(super) fn accepted(&self) -> Vec<Uuid> {
        let accepted = self.messages.iter().filter(|(_, entry)| entry.accepted > 0);
        accepted.map(|(id, _)| *id).collect()
    }

    pub(super) fn progress(&self) -> Progress {
        let mut progress = Progress::default();
        for entry in self.messages.values() {
            progress.accepted += usize::from(entry.accepted > 0);
            let Some(state) = &entry.state else { continue };
            progress.settled += usize::from(state.terminal);
            progress.submitted += usize::from(state.submitted_at.is_some());
            progress.delivered += usize::from(state.delivered_at.is_some());
            progress.read += usize::from(state.read_at.is_some());
            progress.in_doubt += usize::from(state.in_doubt);
        }
        progress
    }
}

impl Entry {
    fn is_settled(&self, doubt_before_ms: i64) -> bool {
        let Some(state) = &self.state else { return false };
        let old_doubt = state.in_doubt_at.is_some_and(|at| at < doubt_before_ms);
        state.terminal || (state.in_doubt && old_doubt)
    }
}

/// Whether the sender does no more for a message after it.
pub(super) fn is_end(status: Status) -> bool {
    matches!(
        status,
        Status::Submitted | Status::Failed | Status::Expired | Status::Canceled | Status::Skipped
    )
}
