//! The laws.

use std::collections::HashSet;

use sluice_core::sender::Call;
use sluice_core::sender::ledger::Key;
use sluice_schemas::{Command, MessageStatus, Order, Status};
use uuid::Uuid;

use crate::plan::{Line, Request, settings};
use crate::world::{SKEW_US, World};

impl World {
    /// No call without an own claim that was read from the log, and no fence above it.
    pub(crate) fn check_call(&mut self, owner: usize, call: &Call) {
        let id = call.message_id;
        let epoch = self.owners[owner].epoch().unwrap_or(-1);
        let read = self.owners[owner].tail.unwrap_or(0);
        match self.log.claim(id, epoch) {
            Some(offset) if offset < read => {
                if self.log.is_fenced_between(epoch, offset) {
                    self.fail(format!("{id} is called under a claim that stands behind another's fence"));
                }
            }
            _ => self.fail(format!("{id} is called without a claim of epoch {epoch} that was read back")),
        }
        if self.log.accepted(id).is_none() {
            self.fail(format!("{id} is called, but the ledger does not hold it"));
        }
        self.calls.push((call.session_id.clone(), self.now_us));
        self.check_rate(call);
    }

    /// No window holds more calls than the limit, whoever made them.
    fn check_rate(&mut self, call: &Call) {
        let is_its = |line: &&Line| *line.id == *call.session_id && !line.relimited;
        let Some(line) = self.sessions.iter().find(is_its) else { return };
        let times: Vec<i64> =
            self.calls.iter().filter(|(id, _)| *id == call.session_id).map(|(_, at)| *at).collect();
        let over = line.config.limits.iter().find(|limit| {
            let count = limit.count as usize;
            let first = times.len().checked_sub(count + 1).map(|at| times[at]);
            first.is_some_and(|first| self.now_us - first < limit.per_ms * 1000 - SKEW_US)
        });
        if let Some(limit) = over {
            self.fail(format!("{} is over its limit {limit:?}", call.session_id));
        }
    }

    /// An owner that read a fence above its own writes no more.
    pub(crate) fn check_append(&mut self, owner: usize, epoch: i64) {
        if epoch < self.owners[owner].fence_read {
            self.fail(format!("owner {owner} writes under epoch {epoch} after it read a higher fence"));
        }
    }

    /// At most one acceptance, unless the doubt and the decision to send again were on record first.
    pub(crate) fn check_accept(&mut self, call: &Call, decided_us: i64) {
        let id = call.message_id;
        if self.provider.acceptances(id).next().is_none() {
            self.check_order(call, decided_us);
            return;
        }
        let mut doubted = false;
        let mut resent = false;
        for stated in
            self.statuses.iter().filter(|stated| stated.at_us <= decided_us && is_of(&stated.status, id))
        {
            doubted |= stated.status.status == Status::InDoubt;
            resent |= doubted && stated.status.status == Status::Retrying;
        }
        if !resent {
            self.fail(format!("{id} is taken twice, silently"));
        }
    }

    /// A chat keeps its order, but for messages that waited longer than the hold, or were in doubt.
    fn check_order(&mut self, call: &Call, decided_us: i64) {
        let Some(at) = self.requests.iter().position(|r| r.is_message() && r.id == call.message_id) else {
            return;
        };
        let request = &self.requests[at];
        if !keeps_order(request) {
            return;
        }
        // An earlier call of this very message, in doubt then, may be the one that kept the order.
        let hold_us = settings().order_hold_max_ms as i64 * 1000 - SKEW_US;
        let overtaken = self.provider.accepted.iter().find(|other| {
            let Some(later) = self.requests.iter().position(|r| r.is_message() && r.id == other.id) else {
                return false;
            };
            later > at
                && is_same_queue(request, &self.requests[later])
                && self.log.accepted(request.id) < self.log.accepted(other.id)
                && self.log.first_claimed_us(request.id).is_none_or(|first| other.called_us - first < hold_us)
        });
        if let Some(other) = overtaken {
            let other = other.id;
            self.fail(format!(
                "{other} overtook {} in its chat (call decided at {decided_us})",
                call.message_id
            ));
        }
    }

    /// What is committed is in the ledger or settled.
    pub(crate) fn check_commit(&mut self, owner: usize, offset: i64) {
        for (at, request) in self.requests.iter().enumerate().take(offset as usize) {
            let at = at as i64;
            let settled = self.log.accepted(request.id).is_some()
                || self.log.has(Key::Cancel(request.id))
                || self.aside.contains(&at)
                || self.statuses.iter().any(|s| is_of(&s.status, request.id) && is_end(s.status.status));
            if !settled {
                self.fail(format!("owner {owner} commits {offset}, but request {at} is not settled"));
                return;
            }
        }
    }

    /// A status tells the truth about what the provider did.
    pub(crate) fn check_status(&mut self, epoch: Option<i64>, status: &MessageStatus) {
        let Some(id) = status.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) else { return };
        let taken = self.provider.acceptances(id).next().is_some();
        if status.status == Status::Submitted && !taken {
            self.fail(format!("{id} is told to be submitted, but the provider never took it"));
        }
        // An owner that was fenced and does not know it yet does not know the messages of the new one: it may take
        // the echo of one for that of an equal message. An append per echo would be the remedy, and costs more.
        let stale = epoch.is_some_and(|epoch| self.log.is_fenced_between(epoch, self.log.end()));
        if status.status == Status::ProviderId && !stale {
            let told = status.whatsapp_message_id.as_deref();
            if !self.provider.acceptances(id).any(|a| Some(a.whatsapp_id.as_str()) == told) {
                self.fail(format!("{id} is told to have the WhatsApp id {told:?} of another"));
            }
        }
    }

    pub(crate) fn check_submitted(&mut self, id: Uuid, when: &str) {
        if self.broken.is_none() && !self.told(id).contains(&Status::Submitted) {
            let told = self.told(id);
            self.fail(format!("a probe {when} was not sent: {id} {told:?}"));
        }
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
            self.fail(format!("{id} has no end: {told:?}"));
        }
        if taken && !doubted && !told.contains(&Status::Submitted) {
            self.fail(format!("{id} was sent and nothing says so: {told:?}"));
        }
        let unsent = |s: &Status| matches!(s, Status::Canceled | Status::Expired | Status::Failed);
        if taken && !doubted && told.iter().any(unsent) {
            self.fail(format!("{id} was sent and is told not to be: {told:?}"));
        }
        if ended && self.log.latest(Key::Done(id)).is_none() {
            self.fail(format!("{id} has ended and the ledger does not remember it: {told:?}"));
        }
    }

    /// Of what is done only the memory stays.
    pub(crate) fn check_tidy(&mut self) {
        if self.broken.is_some() {
            return;
        }
        let live = self.log.live_keys();
        let done: HashSet<Uuid> =
            live.iter().filter_map(|key| if let Key::Done(id) = key { Some(*id) } else { None }).collect();
        let left = live.iter().find(|key| match key {
            Key::Accepted(id) | Key::State(id, _) | Key::Cancel(id) => done.contains(id),
            _ => false,
        });
        if let Some(key) = left {
            self.fail(format!("{key} stays though its message is done"));
        }
    }

    /// How many attempts were ever in doubt; a doubt told again is no new one.
    pub(crate) fn count_doubts(&self) -> usize {
        let doubts = self.statuses.iter().filter(|stated| stated.status.status == Status::InDoubt);
        doubts.map(|stated| &stated.status.event_id).collect::<HashSet<_>>().len()
    }

    fn told(&self, id: Uuid) -> Vec<Status> {
        self.statuses
            .iter()
            .filter(|stated| is_of(&stated.status, id))
            .map(|stated| stated.status.status)
            .collect()
    }
}

fn is_of(status: &MessageStatus, id: Uuid) -> bool {
    status.message_id.as_deref() == Some(id.to_string().as_str())
}

fn is_end(status: Status) -> bool {
    matches!(status, Status::Submitted | Status::Failed | Status::Expired | Status::Canceled)
}

/// Whether the order of a request is a law: not if it asks for none, is due later, or came in late.
fn keeps_order(request: &Request) -> bool {
    let command = &request.command;
    command.command == Command::Send
        && command.order != Order::None
        && command.send_at.is_none()
        && !request.delayed
}

fn is_same_queue(one: &Request, other: &Request) -> bool {
    keeps_order(other)
        && one.command.session_id == other.command.session_id
        && one.command.to == other.command.to
        && one.command.priority == other.command.priority
}
