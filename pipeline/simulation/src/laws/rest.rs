//! Once the faults stop: everything ends, is told, and is tidy.

use std::collections::HashSet;

use sluice_core::sender::ledger::Key;
use sluice_schemas::{Source, Status};
use uuid::Uuid;

use super::{is_end, is_of};
use crate::world::World;

impl World {
    pub(crate) fn check_submitted(&mut self, id: Uuid, when: &str) {
        if self.broken.is_none() && !self.told(id).contains(&Status::Submitted) {
            let told = self.told(id);
            self.fail(format!("a probe {when} was not sent in time: {id} {told:?}"));
        }
    }

    /// A message that is not urgent goes before all but some of the urgent ones that came with it.
    pub(crate) fn check_turns(&mut self, slow: Uuid, urgent: &[Uuid], most: usize) {
        if self.broken.is_some() {
            return;
        }
        let called_us = |id: Uuid| self.provider.acceptances(id).map(|taken| taken.called_us).min();
        let Some(slow_us) = called_us(slow) else {
            return self
                .fail(format!("a message of the slow lane was not sent: {slow} {:?}", self.told(slow)));
        };
        let passed = urgent.iter().filter(|id| called_us(**id).is_some_and(|us| us < slow_us)).count();
        if passed >= most {
            self.fail(format!("{passed} urgent messages passed one that is not, of {most} turns one is its"));
        }
    }

    /// Whether nothing waits but what is in doubt.
    pub(crate) fn is_settled(&self) -> bool {
        let owner = self.group.and_then(|owner| self.owners[owner].sender.as_ref());
        owner.map(|sender| sender.gauges()).is_some_and(|gauges| gauges.open == gauges.in_doubt)
    }

    /// Everything is settled and everything is free.
    pub(crate) fn check_rest(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let owner = self.group.unwrap_or(0);
        let Some(gauges) = self.owners[owner].sender.as_ref().map(|sender| sender.gauges()) else { return };
        if gauges.owned != 1 || gauges.calls != 0 || gauges.open != gauges.in_doubt {
            self.fail(format!("not at rest: {gauges:?}"));
        }
        if self.committed != self.requests.len() as i64 {
            self.fail(format!("intake stands at {} of {}", self.committed, self.requests.len()));
        }
        let ids: HashSet<Uuid> = self.requests.iter().filter(|r| r.is_message()).map(|r| r.id).collect();
        for id in ids {
            self.check_end(id);
        }
    }

    fn check_end(&mut self, id: Uuid) {
        let told = self.told(id);
        let doubted = told.contains(&Status::InDoubt);
        let ended = told.iter().any(|status| is_end(*status));
        let taken = self.provider.acceptances(id).next().is_some();
        if !ended && !doubted {
            self.fail(format!("no end: {id} {told:?}"));
        }
        if taken && !doubted && !told.contains(&Status::Submitted) {
            self.fail(format!("sent, and nothing says so: {id} {told:?}"));
        }
        let unsent = |s: &Status| matches!(s, Status::Canceled | Status::Expired | Status::Failed);
        if taken && !doubted && told.iter().any(unsent) && !self.was_forgotten(id) {
            self.fail(format!("sent, and told not to be: {id} {told:?}"));
        }
        let remembered = self.log.latest(Key::Done(id)).map(|done| done.outcome);
        if taken && !doubted && remembered.is_some_and(|outcome| outcome != Status::Submitted) {
            self.fail(format!("sent, and remembered not to be: {id} {told:?}"));
        }
        let is_open = self.log.latest(Key::Accepted(id)).is_some() && doubted;
        if ended && self.log.latest(Key::Done(id)).is_none() && !is_open && !self.was_forgotten(id) {
            self.fail(format!("ended, and the ledger does not remember it: {id} {told:?}"));
        }
    }

    /// Of what is done only the memory stays.
    pub(crate) fn check_tidy(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let live = self.log.live_keys();
        // A refusal behind an Accepted record is void.
        let ends = |key: &Key| self.log.latest(*key).is_some_and(|done| done.attempt.is_some());
        let done = live.iter().filter(|key| ends(key));
        let done: HashSet<Uuid> =
            done.filter_map(|key| if let Key::Done(id) = key { Some(*id) } else { None }).collect();
        let left = live.iter().find(|key| match key {
            Key::Accepted(id) | Key::State(id, _) | Key::Cancel(id) => done.contains(id),
            _ => false,
        });
        if let Some(key) = left {
            self.fail(format!("a key stays though its message is done: {key}"));
        }
    }

    /// How many attempts were ever in doubt; a doubt told again is no new one.
    pub(crate) fn count_doubts(&self) -> usize {
        let doubts = self.statuses.iter().filter(|stated| stated.status.status == Status::InDoubt);
        doubts.map(|stated| &stated.status.event_id).collect::<HashSet<_>>().len()
    }

    /// Messages of a session that have not ended and are not in doubt.
    pub(crate) fn count_waiting(&self, session: usize) -> usize {
        let id = &self.sessions[session].id;
        let its = self.requests.iter().filter(|r| r.is_message() && *r.command.session_id == **id);
        let ids: HashSet<Uuid> = its.map(|request| request.id).collect();
        let waits = |id: &&Uuid| !self.told(**id).iter().any(|s| is_end(*s) || *s == Status::InDoubt);
        ids.iter().filter(waits).count()
    }

    /// What the senders told of a message.
    fn told(&self, id: Uuid) -> Vec<Status> {
        self.statuses
            .iter()
            .filter(|stated| stated.status.source != Source::Operator && is_of(&stated.status, id))
            .map(|stated| stated.status.status)
            .collect()
    }
}
