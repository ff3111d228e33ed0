//! The truth log: every send request that reached the provider, and what became of it.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::hooks::HookCounts;
use super::world::lock;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Sent to WhatsApp, whatever the answer was.
    Accepted,
    /// Not sent.
    Refused,
}

/// One send request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TruthEntry {
    /// Number, from 1, in order of arrival.
    pub seq: u64,
    /// When it arrived, milliseconds since 1970.
    pub at_ms: u64,
    /// Session id.
    pub session: String,
    /// Recipient as the request writes it.
    pub recipient: String,
    /// Text or caption.
    pub text: String,
    /// Sent or not.
    pub verdict: Verdict,
    /// Why it was refused, or the fault met on an accepted one.
    pub why: Option<String>,
    /// Wasender's id.
    pub msg_id: Option<u64>,
    /// WhatsApp's id.
    pub whatsapp_id: Option<String>,
    /// It arrived over a rate limit.
    pub breach: bool,
    /// The same session, recipient and text had been accepted before.
    pub double: bool,
}

/// Exact counts of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTruth {
    /// Send requests.
    pub received: u64,
    /// Sent.
    pub accepted: u64,
    /// Not sent.
    pub refused: u64,
    /// Acceptances beyond the first of the same recipient and text.
    pub doubles: u64,
    /// Requests that arrived over a rate limit (they were refused).
    pub breaches: u64,
    /// Requests over the concurrency cap (they were refused).
    pub over_concurrency: u64,
}

impl SessionTruth {
    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.doubles += other.doubles;
        self.breaches += other.breaches;
        self.over_concurrency += other.over_concurrency;
    }
}

/// Exact counts of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Over all sessions.
    pub total: SessionTruth,
    /// False once more messages were accepted than can be remembered to tell doubles.
    pub doubles_exact: bool,
    /// Per session id.
    pub sessions: BTreeMap<String, SessionTruth>,
    /// Webhooks.
    pub webhooks: HookCounts,
}

impl Summary {
    pub(super) fn of(
        sessions: BTreeMap<String, SessionTruth>,
        doubles_exact: bool,
        webhooks: HookCounts,
    ) -> Self {
        let mut total = SessionTruth::default();
        sessions.values().for_each(|session| total.add(session));
        Self { total, doubles_exact, sessions, webhooks }
    }
}

/// The log.
#[derive(Debug)]
pub(super) struct Truth {
    ring: Mutex<Ring>,
    entries_max: usize,
    known_max: usize,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Ring {
    last_seq: u64,
    entries: VecDeque<TruthEntry>,
    /// Hashes of (session, recipient, text) accepted so far.
    known: HashSet<u64>,
    known_full: bool,
}

impl Truth {
    pub(super) fn new(entries_max: usize, known_max: usize) -> Self {
        Self { ring: Mutex::default(), entries_max, known_max, hasher: RandomState::new() }
    }

    /// Writes an entry; numbers it and tells whether it is a double.
    pub(super) fn write(&self, mut entry: TruthEntry) -> bool {
        let accepted = entry.verdict == Verdict::Accepted;
        let hash = accepted.then(|| self.hasher.hash_one((&entry.session, &entry.recipient, &entry.text)));
        let mut ring = lock(&self.ring);
        ring.last_seq += 1;
        entry.seq = ring.last_seq;
        if let Some(hash) = hash {
            if ring.known.contains(&hash) {
                entry.double = true;
            } else if ring.known.len() < self.known_max {
                ring.known.insert(hash);
            } else {
                ring.known_full = true;
            }
        }
        let double = entry.double;
        if self.entries_max > 0 {
            if ring.entries.len() >= self.entries_max {
                ring.entries.pop_front();
            }
            ring.entries.push_back(entry);
        }
        double
    }

    pub(super) fn since(&self, seq: u64) -> Vec<TruthEntry> {
        let ring = lock(&self.ring);
        let from = ring.entries.partition_point(|entry| entry.seq <= seq);
        ring.entries.range(from..).cloned().collect()
    }

    pub(super) fn doubles_exact(&self) -> bool {
        !lock(&self.ring).known_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, verdict: Verdict) -> TruthEntry {
        TruthEntry {
            seq: 0,
            at_ms: 1,
            session: "s".into(),
            recipient: "+1".into(),
            text: text.into(),
            verdict,
            why: None,
            msg_id: None,
            whatsapp_id: None,
            breach: false,
            double: false,
        }
    }

    #[test]
    fn the_ring_forgets_entries_but_no_double() {
        let truth = Truth::new(2, 100);
        assert!(!truth.write(entry("a", Verdict::Refused)));
        assert!(!truth.write(entry("a", Verdict::Accepted)));
        for _ in 0..5 {
            truth.write(entry("b", Verdict::Refused));
        }
        assert!(
            truth.write(entry("a", Verdict::Accepted)),
            "accepted twice, though the first has left the ring"
        );
        let kept = truth.since(0);
        assert_eq!(kept.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(truth.since(7).len(), 1);
    }

    #[test]
    fn a_full_memory_of_doubles_says_so() {
        let truth = Truth::new(0, 1);
        truth.write(entry("a", Verdict::Accepted));
        assert!(truth.doubles_exact());
        truth.write(entry("b", Verdict::Accepted));
        assert!(!truth.doubles_exact());
    }
}
