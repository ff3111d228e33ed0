//! What allows a call, and how many.

use sluice_core::outcome::Outcome;
use sluice_core::sender::Call;
use sluice_schemas::RateLimit;
use uuid::Uuid;

use crate::plan::Line;
use crate::provider::{Arrival, Made};
use crate::world::{SKEW_US, World};

/// Owners hear of new limits this late at most, and calls decided before come this late to the provider.
const RELIMIT_US: i64 = 80_000_000;

impl World {
    /// No call without an own claim that was read from the log, and no fence above it; none that a cancel, the end of
    /// its time, a pause or a throttling answer forbids, as far as its owner can know.
    pub(crate) fn check_call(&mut self, owner: usize, call: Box<Call>) -> Option<Made> {
        let id = call.message_id;
        let epoch = self.owners[owner].epoch().unwrap_or(-1);
        let read = self.owners[owner].tail.unwrap_or(0);
        let claim = self.log.claim(id, epoch, read);
        let Some((offset, seq)) = claim else {
            self.fail(format!("a call without a claim of its epoch that was read back: {id}, epoch {epoch}"));
            return None;
        };
        if self.log.is_fenced_between(epoch, offset) {
            self.fail(format!("a call under a claim that stands behind another's fence: {id}"));
        }
        let Some(request_offset) = self.log.accepted_from(id) else {
            self.fail(format!("a call of a message that the ledger does not hold: {id}"));
            return None;
        };
        self.check_allowed(owner, &call, read);
        Some(Made { call, decided_us: self.now_us, claim: (epoch, seq), request_offset })
    }

    fn check_allowed(&mut self, owner: usize, call: &Call, read: i64) {
        let id = call.message_id;
        let now = self.owners[owner].now(self.now_us);
        let is_its = |line: &Line| *line.id == *call.session_id;
        let session = self.sessions.iter().position(is_its);
        if self.log.is_canceled(id, &call.session_id, read) {
            self.fail(format!("a call of a message whose cancel was read: {id}"));
        }
        if call.command.expires_at.is_some_and(|at_ms| at_ms * 1000 <= now.wall_us) {
            self.fail(format!("a call of a message whose time is up: {id}"));
        }
        // Once due it stays so, also when the clock is set back.
        let soon_us = now.wall_us + self.jumped_us;
        if call.command.send_at.is_some_and(|at_ms| at_ms * 1000 > soon_us) {
            self.fail(format!("a call before the time the message is to be sent at: {id}"));
        }
        if session.is_some_and(|at| self.owners[owner].told.get(at) == Some(&false)) {
            self.fail(format!("a call in a session that is told to be paused or deleted: {id}"));
        }
        let throttled_ms = self.owners[owner].throttled_ms.get(&*call.session_id).copied();
        if throttled_ms.is_some_and(|until_ms| until_ms * 1000 > now.wall_us) {
            self.fail(format!("a call while the session waits, as the ledger says: {id}"));
        }
    }

    /// No call starts later after its claim was written than a claim lives.
    pub(crate) fn check_start(&mut self, made: &Made) {
        let ttl_us = self.settings.claim_ttl_ms as i64 * 1000;
        let claimed_us = self.claimed_us.get(&made.claim).copied().unwrap_or(i64::MIN / 2);
        if self.now_us - claimed_us > ttl_us + 1_000 {
            self.fail(format!("a call starts under a claim that is too old: {}", made.call.message_id));
        }
    }

    /// No message has more attempts than it may.
    pub(crate) fn check_budget(&mut self, made: &Made, outcome: &Outcome) {
        if matches!(outcome, Outcome::Throttled { .. } | Outcome::SessionDown { .. } | Outcome::NotMade) {
            return;
        }
        let id = made.call.message_id;
        let used = self.attempts.entry((id, made.request_offset)).or_default();
        *used += 1;
        let used = *used;
        let asked = made.call.command.max_attempts.map_or(u32::MAX, |most| most as u32);
        if used > asked.min(self.settings.attempts_max) && !self.is_operated(id) {
            self.fail(format!("more attempts than allowed: {used} of {id}"));
        }
    }

    /// Whether an operator had a say in it.
    fn is_operated(&self, id: Uuid) -> bool {
        let mut words = self.statuses.iter().map(|stated| &stated.status);
        words.any(|word| word.source == sluice_schemas::Source::Operator && super::is_of(word, id))
    }

    /// No window holds more calls at the provider than the limit, of the session or of one recipient, whoever made them.
    pub(crate) fn check_rate(&mut self, call: &Call) {
        let Some(line) = self.sessions.iter().find(|line| *line.id == *call.session_id) else { return };
        let its = self.arrivals.iter().filter(|arrival| arrival.session_id == call.session_id);
        let to_pair = its.clone().filter(|arrival| arrival.recipient == call.recipient);
        let since_us = line.limited_us.saturating_add(RELIMIT_US);
        let over = self.over(&line.config.limits, its, since_us);
        let over = over.or_else(|| self.over(&line.config.pair_limits, to_pair, i64::MIN));
        if let Some(limit) = over.cloned() {
            self.fail(format!("a window over the limit {limit:?} of {}", call.session_id));
        }
    }

    /// The limit that the latest of `arrivals` is over, in a window that began after `since_us`.
    fn over<'a>(
        &self,
        limits: &'a [RateLimit],
        arrivals: impl Iterator<Item = &'a Arrival>,
        since_us: i64,
    ) -> Option<&'a RateLimit> {
        let times: Vec<i64> = arrivals.map(|arrival| arrival.at_us).collect();
        let slack_us = SKEW_US + self.jumped_us;
        limits.iter().find(|limit| {
            let first = times.len().checked_sub(limit.count as usize + 1).map(|at| times[at]);
            let first = first.filter(|first| *first >= since_us);
            first.is_some_and(|first| self.now_us - first < limit.per_ms * 1000 - slack_us)
        })
    }
}
