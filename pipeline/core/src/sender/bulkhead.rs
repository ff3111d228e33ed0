//! HTTP slots per base URL, shared fairly: tenant by weight, then session in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::circuit::{Circuit, Passage};
use super::session::SessionIndex;

/// Place of a bulkhead in [`Bulkheads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BulkheadIndex(usize);

/// The slots of one base URL and the sessions in line for them.
#[derive(Debug)]
pub(super) struct Bulkhead {
    url: Arc<str>,
    pub(super) circuit: Circuit,
    slots_max: u32,
    in_use: u32,
    /// Every session of the account waits until this time, wall µs.
    pub(super) throttled_until_us: i64,
    /// Tenants with sessions in line, in turn.
    turn: VecDeque<Arc<str>>,
    lines: HashMap<Arc<str>, Line>,
}

#[derive(Debug, Default)]
struct Line {
    sessions: VecDeque<SessionIndex>,
    /// Claims the tenant may still make in this turn.
    credit: u32,
    weight: u32,
}

impl Bulkhead {
    fn new(url: Arc<str>, slots_max: u32) -> Self {
        Self {
            url,
            circuit: Circuit::default(),
            slots_max,
            in_use: 0,
            throttled_until_us: i64::MIN,
            turn: VecDeque::new(),
            lines: HashMap::new(),
        }
    }

    /// Whether a call may be claimed; one alone on probation.
    pub(super) fn has_slot(&self, now_us: i64) -> bool {
        match self.circuit.passage(now_us) {
            Passage::Free => self.in_use < self.slots_max,
            Passage::Shut(_) => false,
            Passage::Probe => self.in_use == 0,
        }
    }

    pub(super) fn take_slot(&mut self) {
        self.in_use += 1;
    }

    pub(super) fn free_slot(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// Puts a session at the end of its tenant's line.
    pub(super) fn enter(&mut self, tenant: &Arc<str>, weight: u32, session: SessionIndex) {
        let line = match self.lines.get_mut(tenant) {
            Some(line) => line,
            None => self.lines.entry(tenant.clone()).or_default(),
        };
        if line.sessions.is_empty() {
            self.turn.push_back(tenant.clone());
            line.credit = weight.max(1);
        }
        line.weight = weight.max(1);
        line.sessions.push_back(session);
    }

    /// Takes a session out of its tenant's line: it moved to another base URL.
    pub(super) fn leave(&mut self, tenant: &Arc<str>, session: SessionIndex) {
        let Some(line) = self.lines.get_mut(tenant) else { return };
        line.sessions.retain(|waiting| *waiting != session);
        if line.sessions.is_empty() {
            self.turn.retain(|waiting| waiting != tenant);
        }
    }

    /// The session whose turn it is.
    pub(super) fn next(&mut self) -> Option<SessionIndex> {
        let tenant = self.turn.pop_front()?;
        let line = self.lines.get_mut(&tenant)?;
        let session = line.sessions.pop_front();
        line.credit = line.credit.saturating_sub(1);
        if line.sessions.is_empty() {
            // An idle tenant costs nothing.
            if self.lines.len() > 64 {
                self.lines.remove(&tenant);
            }
        } else if line.credit > 0 {
            self.turn.push_front(tenant);
        } else {
            line.credit = line.weight;
            self.turn.push_back(tenant);
        }
        session
    }
}

/// All bulkheads of the process.
#[derive(Debug, Default)]
pub(super) struct Bulkheads {
    all: Vec<Bulkhead>,
    by_url: HashMap<String, BulkheadIndex>,
}

impl Bulkheads {
    /// The bulkhead of `base_url`, made or resized to `slots_max`.
    pub(super) fn of(&mut self, base_url: &str, slots_max: u32) -> BulkheadIndex {
        if let Some(index) = self.by_url.get(base_url) {
            self.all[index.0].slots_max = slots_max;
            return *index;
        }
        let index = BulkheadIndex(self.all.len());
        self.all.push(Bulkhead::new(base_url.into(), slots_max));
        self.by_url.insert(base_url.to_owned(), index);
        index
    }

    pub(super) fn look_at(&self, index: BulkheadIndex) -> &Bulkhead {
        &self.all[index.0]
    }

    pub(super) fn get(&mut self, index: BulkheadIndex) -> &mut Bulkhead {
        &mut self.all[index.0]
    }

    pub(super) fn url(&self, index: BulkheadIndex) -> Arc<str> {
        self.all[index.0].url.clone()
    }

    /// Whether no call goes there now.
    pub(super) fn is_shut(&self, index: BulkheadIndex, now_us: i64) -> bool {
        self.all[index.0].circuit.shut_until_us(now_us).is_some()
    }

    /// When the next one may be tried again, wall µs.
    pub(super) fn next_probe_us(&self, now_us: i64) -> Option<i64> {
        self.all.iter().filter_map(|bulkhead| bulkhead.circuit.shut_until_us(now_us)).min()
    }

    /// How many are not closed.
    pub(super) fn circuits_open(&self) -> usize {
        self.all.iter().filter(|bulkhead| !bulkhead.circuit.is_closed()).count()
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = BulkheadIndex> + use<> {
        (0..self.all.len()).map(BulkheadIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::session::SessionIndex;

    #[test]
    fn tenants_share_by_weight_whatever_their_sessions() {
        let mut bulkhead = Bulkhead::new("http://provider".into(), 1);
        let (big, small): (Arc<str>, Arc<str>) = ("big".into(), "small".into());
        for i in 0..10 {
            bulkhead.enter(&big, 2, SessionIndex::for_tests(i));
        }
        bulkhead.enter(&small, 1, SessionIndex::for_tests(100));
        bulkhead.enter(&small, 1, SessionIndex::for_tests(101));
        let order: Vec<_> = std::iter::from_fn(|| bulkhead.next()).map(|s| s.for_tests_number()).collect();
        assert_eq!(&order[..6], &[0, 1, 100, 2, 3, 101]);
        assert_eq!(order.len(), 12);
    }

    #[test]
    fn a_session_that_left_keeps_nobody_waiting() {
        let mut bulkhead = Bulkhead::new("http://provider".into(), 1);
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        bulkhead.enter(&one, 1, SessionIndex::for_tests(1));
        bulkhead.enter(&other, 1, SessionIndex::for_tests(2));
        bulkhead.leave(&one, SessionIndex::for_tests(1));
        assert_eq!(bulkhead.next().map(|s| s.for_tests_number()), Some(2));
        bulkhead.enter(&one, 1, SessionIndex::for_tests(1));
        assert_eq!(bulkhead.next().map(|s| s.for_tests_number()), Some(1));
        assert_eq!(bulkhead.next(), None);
    }
}
