//! What a ledger partition says of its messages, for commands. The sender decides; this only reads.

use std::collections::{BTreeMap, HashMap};

use sluice_core::sender::ledger::Key;
use sluice_schemas::{EntryKind, LedgerEntry, Status};
use uuid::Uuid;

/// An attempt nobody knows the outcome of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The message.
    pub(super) id: Uuid,
    /// Its session.
    pub(super) session_id: String,
    /// Its recipient, canonical.
    pub(super) recipient: String,
    /// Epoch of the owner that claimed.
    pub(super) claim_epoch: i64,
    /// Number of the claim in that epoch.
    pub(super) claim_seq: i64,
    /// When it was claimed, milliseconds.
    pub(super) claimed_at_ms: i64,
    /// Not decided by policy before, milliseconds.
    pub(super) decide_at_ms: i64,
    /// Attempts made so far, this one included.
    pub(super) attempts: i32,
    /// Whether it is canceled, so that it cannot be sent again.
    pub(super) canceled: bool,
}

/// Where a message stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// The ledger does not know it.
    Unknown,
    /// It waits, or a call of it is under way, or its owner died and nobody has taken it over yet.
    Open(EntryKind),
    /// In doubt.
    InDoubt(Doubt),
    /// Done for the sender.
    Done(Status),
}

struct Accepted {
    session_id: String,
    recipient: String,
}

struct State {
    kind: EntryKind,
    claim: (i64, i64),
    at_ms: i64,
    decide_at_ms: i64,
    attempts: i32,
    canceled: bool,
}

/// One partition of the ledger, as far as it is about messages that are not done.
#[derive(Default)]
pub(super) struct Ledger {
    accepted: HashMap<Uuid, Accepted>,
    states: HashMap<Uuid, BTreeMap<i64, State>>,
    done: HashMap<Uuid, Status>,
}

impl Ledger {
    /// Takes a record, in the order of the log.
    pub(super) fn take(&mut self, key: Key, entry: Option<LedgerEntry>) {
        match (key, entry) {
            (Key::Accepted(id), Some(entry)) => {
                let accepted = Accepted {
                    session_id: entry.session_id.unwrap_or_default(),
                    recipient: entry.recipient.unwrap_or_default(),
                };
                self.accepted.insert(id, accepted);
            }
            (Key::Accepted(id), None) => drop(self.accepted.remove(&id)),
            (Key::Done(id), Some(entry)) => drop(self.done.insert(id, entry.outcome)),
            (Key::Done(id), None) => drop(self.done.remove(&id)),
            (Key::State(id, epoch), Some(entry)) => {
                let state = State {
                    kind: entry.kind,
                    claim: (entry.claim_epoch.unwrap_or(epoch), entry.claim_seq.unwrap_or(0)),
                    at_ms: entry.at,
                    decide_at_ms: entry.not_before.unwrap_or(entry.at),
                    attempts: entry.attempt.unwrap_or(0),
                    canceled: entry.canceled,
                };
                self.states.entry(id).or_default().insert(epoch, state);
            }
            (Key::State(id, epoch), None) => {
                if let Some(states) = self.states.get_mut(&id) {
                    states.remove(&epoch);
                }
            }
            (Key::Fence | Key::Released | Key::Identity | Key::Cancel(_), _) => {}
        }
    }

    /// Where a message stands: the state of the highest epoch governs.
    pub(super) fn standing(&self, id: &Uuid) -> Standing {
        if let Some(outcome) = self.done.get(id) {
            return Standing::Done(*outcome);
        }
        let Some(accepted) = self.accepted.get(id) else { return Standing::Unknown };
        let governing = self.states.get(id).and_then(|states| states.last_key_value());
        match governing.map(|(_, state)| state) {
            None => Standing::Open(EntryKind::Accepted),
            Some(state) if state.kind != EntryKind::InDoubt => Standing::Open(state.kind),
            Some(state) => Standing::InDoubt(Doubt {
                id: *id,
                session_id: accepted.session_id.clone(),
                recipient: accepted.recipient.clone(),
                claim_epoch: state.claim.0,
                claim_seq: state.claim.1,
                claimed_at_ms: state.at_ms,
                decide_at_ms: state.decide_at_ms,
                attempts: state.attempts,
                canceled: state.canceled,
            }),
        }
    }

    /// Session of an open message.
    pub(super) fn session_of(&self, id: &Uuid) -> Option<&str> {
        self.accepted.get(id).map(|accepted| accepted.session_id.as_str())
    }

    /// Every attempt in doubt, oldest claim first.
    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let standings = self.states.keys().map(|id| self.standing(id));
        let mut doubts: Vec<Doubt> = standings
            .filter_map(|standing| match standing {
                Standing::InDoubt(doubt) => Some(doubt),
                _ => None,
            })
            .collect();
        doubts.sort_by_key(|doubt| (doubt.claimed_at_ms, doubt.id));
        doubts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn entry(kind: EntryKind) -> Option<LedgerEntry> {
        let session_id = Some("s1".to_owned());
        Some(LedgerEntry { kind, session_id, claim_seq: Some(3), claim_epoch: Some(5), ..Default::default() })
    }

    fn accepted() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.take(Key::Accepted(ID), entry(EntryKind::Accepted));
        ledger
    }

    #[test]
    fn the_state_of_the_highest_epoch_governs_whatever_the_order() {
        let states = [(9, EntryKind::InDoubt), (5, EntryKind::Claimed)];
        for order in [[0, 1], [1, 0]] {
            let mut ledger = accepted();
            for i in order {
                let (epoch, kind) = states[i];
                ledger.take(Key::State(ID, epoch), entry(kind));
            }
            let doubts = ledger.doubts();
            assert_eq!(doubts.len(), 1);
            assert_eq!((doubts[0].claim_epoch, doubts[0].claim_seq), (5, 3), "the claim is a former owner's");
        }
        let mut ledger = accepted();
        ledger.take(Key::State(ID, 5), entry(EntryKind::InDoubt));
        ledger.take(Key::State(ID, 9), entry(EntryKind::Queued));
        assert_eq!(ledger.standing(&ID), Standing::Open(EntryKind::Queued));
    }

    #[test]
    fn what_is_done_or_unknown_is_in_no_doubt() {
        let mut ledger = accepted();
        ledger.take(Key::State(ID, 5), entry(EntryKind::InDoubt));
        let done = LedgerEntry { outcome: Status::Submitted, ..Default::default() };
        ledger.take(Key::Done(ID), Some(done));
        assert_eq!(ledger.standing(&ID), Standing::Done(Status::Submitted));
        assert!(ledger.doubts().is_empty());
        ledger.take(Key::Done(ID), None);
        ledger.take(Key::Accepted(ID), None);
        assert_eq!(ledger.standing(&ID), Standing::Unknown);
    }
}
