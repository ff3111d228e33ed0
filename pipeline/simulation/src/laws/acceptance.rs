//! What the provider takes: once, and in order.

use sluice_core::sender::ledger::Key;
use sluice_schemas::{Command, Order, Source, Status};

use super::is_of;
use crate::plan::Request;
use crate::provider::{Acceptance, Made};
use crate::world::{SKEW_US, World};

impl World {
    /// At most one acceptance per message, unless of two calls the doubt of the first, and the decision of the policy or
    /// an operator to send again, were on record before the second was decided; or the message was done, forgotten
    /// after its time, and asked for anew.
    pub(crate) fn check_accept(&mut self, made: &Made) {
        let id = made.call.message_id;
        let mut is_first = true;
        let mut silent = false;
        for other in self.provider.acceptances(id) {
            is_first = false;
            let here = (made.decided_us, made.claim, made.request_offset);
            let there = (other.called_us, other.claim, other.request_offset);
            let (first, second) = if there.0 <= here.0 { (there, here) } else { (here, there) };
            let is_new = second.2 > first.2 && self.log.is_forgotten_between(id, first.0, second.0);
            silent |= !is_new && !self.is_resent(id, first.1, second.0);
        }
        if silent {
            self.fail(format!("taken twice, silently: {id}"));
        }
        if is_first {
            self.check_order(made);
        }
    }

    /// Whether it was stated before `before_us` that the attempt under `claim` is in doubt, and is to be made again.
    fn is_resent(&self, id: uuid::Uuid, claim: (i64, i64), before_us: i64) -> bool {
        let mut doubted = false;
        let mut resent = false;
        for stated in self.statuses.iter().filter(|stated| stated.at_us <= before_us) {
            let status = &stated.status;
            let is_its = (status.claim_epoch, status.claim_seq) == (Some(claim.0), Some(claim.1));
            if status.source != Source::Sender || !is_its || !is_of(status, id) {
                continue;
            }
            let code = status.error.as_ref().map(|error| error.code.as_str());
            doubted |= status.status == Status::InDoubt;
            resent |= doubted && status.status == Status::Retrying && code == Some("in_doubt_resend");
        }
        resent
    }

    /// A chat keeps its order, but for messages that waited longer than the hold, or were in doubt.
    fn check_order(&mut self, made: &Made) {
        let id = made.call.message_id;
        let Some(at) = self.requests.iter().position(|r| r.is_message() && r.id == id) else { return };
        let request = &self.requests[at];
        if !keeps_order(request) {
            return;
        }
        // One in doubt keeps its chat waiting only for a while; and one that ended, and whose end was lost with its
        // owner, no longer at all.
        if self.statuses.iter().any(|s| s.status.status == Status::InDoubt && is_of(&s.status, id)) {
            return;
        }
        let hold_us = self.settings.order_hold_max_ms as i64 * 1000 - SKEW_US - self.jumped_us;
        let is_overtaken = |other: &&Acceptance| {
            let Some(later) = self.requests.iter().position(|r| r.is_message() && r.id == other.id) else {
                return false;
            };
            later > at
                && is_same_queue(request, &self.requests[later])
                && self.log.accepted(request.id) < self.log.accepted(other.id)
                && self.log.first_claimed_us(request.id).is_none_or(|first| other.called_us - first < hold_us)
        };
        if let Some(other) = self.provider.accepted.iter().find(is_overtaken) {
            let other = other.id;
            self.fail(format!("one of a chat overtook another: {other} went before {id}"));
        }
    }

    /// Whether a message was done and forgotten, so that it may be there again.
    pub(crate) fn was_forgotten(&self, id: uuid::Uuid) -> bool {
        self.log.records.iter().any(|record| record.key == Key::Done(id) && record.entry.is_none())
    }
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
