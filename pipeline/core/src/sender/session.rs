//! One session: what it is, whether it may send, and, while there is any, its work.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_schemas::{Connection, OnDelete};

use super::backlog::Backlog;
use super::bridge::Span;
use super::bulkhead::BulkheadIndex;
use super::circuit::Passage;
use super::io::{SessionCondition, SessionConfig};
use super::local::Rate;
use super::rate::Buckets;
use super::work::Work;
use crate::pool::Pool;

/// Place of a session in [`Sessions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionIndex(usize);

#[cfg(test)]
impl SessionIndex {
    pub(super) fn for_tests(n: usize) -> Self {
        Self(n)
    }

    pub(super) fn for_tests_number(self) -> usize {
        self.0
    }
}

/// Reason of a hold while a circuit is open.
pub(super) const CIRCUIT_OPEN: &str = "circuit_open";

/// Why a session does not send, and what releases it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holding {
    /// Not (or no longer) known; released by its record, or its messages fail.
    Unknown,
    /// Paused by an operator; released by resume.
    Paused,
    /// Down; released by a connected status, a new record, or a probe at this time (wall µs).
    Down(i64),
    /// Its calls failed again and again; released by this time (wall µs), for a probe, and its success.
    CircuitOpen(i64),
}

impl Holding {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "session_unknown",
            Self::Paused => "session_paused",
            Self::Down(_) => "session_down",
            Self::CircuitOpen(_) => CIRCUIT_OPEN,
        }
    }

    /// When time alone releases it, wall µs.
    pub(super) const fn until_us(self) -> Option<i64> {
        match self {
            Self::Unknown | Self::Paused => None,
            Self::Down(at_us) | Self::CircuitOpen(at_us) => Some(at_us),
        }
    }
}

/// A session that answered, or is told, that it cannot send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Down {
    pub(super) since_ms: i64,
    pub(super) probe_at_us: i64,
}

/// One session. There may be many, most of them idle: what is here is what an idle one costs.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Arc<str>,
    pub(super) partition: i32,
    pub(super) tenant: Arc<str>,
    pub(super) config: Option<Arc<SessionConfig>>,
    pub(super) bulkhead: Option<BulkheadIndex>,
    pub(super) condition: SessionCondition,
    pub(super) down: Option<Down>,
    /// What was accepted up to this time was of a session that has been deleted, ms.
    pub(super) deleted_at_ms: i64,
    /// Latest send, wall µs, of a session without work: limits to come count from there.
    last_send_us: Option<i64>,
    /// None: it has nothing to send and nothing to remember.
    work: Option<Box<Work>>,
}

impl Session {
    fn new(id: Arc<str>, partition: i32, tenant: Arc<str>) -> Self {
        Self {
            id,
            partition,
            tenant,
            config: None,
            bulkhead: None,
            condition: SessionCondition::default(),
            down: None,
            deleted_at_ms: i64::MIN,
            last_send_us: None,
            work: None,
        }
    }

    fn new_work(&self) -> Work {
        Work::new(self.config.as_deref(), self.last_send_us)
    }

    /// Its work, made if there is none.
    pub(super) fn work(&mut self) -> &mut Work {
        let (config, last_send_us) = (self.config.as_deref(), self.last_send_us);
        self.work.get_or_insert_with(|| Box::new(Work::new(config, last_send_us)))
    }

    /// Its work, if there is any.
    pub(super) fn at_work(&self) -> Option<&Work> {
        self.work.as_deref()
    }

    /// The same, to change it.
    pub(super) fn at_work_mut(&mut self) -> Option<&mut Work> {
        self.work.as_deref_mut()
    }

    /// What its work says, or would say.
    fn read<R>(&self, of: impl FnOnce(&Work) -> R) -> R {
        match self.at_work() {
            Some(work) => of(work),
            None => of(&self.new_work()),
        }
    }

    /// Forgets its work if a new one would do as well.
    fn rest(&mut self, now_us: i64, span: Span) {
        if let Some(work) = self.work.take_if(|work| work.is_void(now_us, span)) {
            self.last_send_us = work.buckets.last_us();
        }
    }

    /// What of it waits.
    pub(super) fn backlog(&self) -> Backlog {
        self.at_work().map(|work| work.backlog).unwrap_or_default()
    }

    /// How long it needs at its limits for what is in its queues, µs.
    pub(super) fn wait_us(&self) -> i64 {
        self.at_work().map_or(0, Work::wait_us)
    }

    fn in_flight(&self) -> u32 {
        self.at_work().map_or(0, |work| work.in_flight)
    }

    /// The provider asked it to wait until then, wall µs.
    pub(super) fn throttled_until_us(&self) -> i64 {
        self.at_work().map_or(i64::MIN, |work| work.throttled_until_us)
    }

    /// Takes a new configuration; what was used of the limits stays used.
    pub(super) fn configure(&mut self, config: Option<Arc<SessionConfig>>, tenant: Option<Arc<str>>) {
        if let (Some(config), Some(work)) = (&config, &mut self.work) {
            work.configure(config);
        }
        self.tenant = tenant.unwrap_or_else(|| self.tenant.clone());
        self.config = config;
    }

    /// Counts a claim of a former owner as a send to `recipient` at `at_us`.
    pub(super) fn count_claim(&mut self, recipient: &Arc<str>, at_us: i64) {
        let is_known = self.config.is_some();
        let work = self.work();
        work.pairs.count_claim(recipient, at_us);
        if is_known {
            work.buckets.take(at_us);
        } else {
            work.uncounted_us.push(at_us);
        }
    }

    /// Takes what a ledger record says of the buckets.
    pub(super) fn restore_tats(&mut self, tats: &[String], throttled_until_ms: Option<i64>, now_us: i64) {
        let is_known = self.config.is_some();
        let work = self.work();
        work.pairs.restore(tats, now_us);
        work.buckets.restore(tats);
        if !is_known {
            work.recorded.absorb(Buckets::recorded(tats));
        }
        if let Some(ms) = throttled_until_ms {
            work.throttled_until_us = work.throttled_until_us.max(ms.saturating_mul(1000));
        }
    }

    /// What keeps it from sending, if anything does.
    pub(super) fn holding(&self, now_us: i64) -> Option<Holding> {
        if self.config.is_none() {
            return Some(Holding::Unknown);
        }
        if self.condition.paused {
            return Some(Holding::Paused);
        }
        match self.down {
            Some(down) if down.probe_at_us > now_us => Some(Holding::Down(down.probe_at_us)),
            // The probe is one message: the next waits for its outcome.
            Some(down) if self.in_flight() > 0 => Some(Holding::Down(down.probe_at_us)),
            _ => self.holding_circuit(now_us),
        }
    }

    fn passage(&self, now_us: i64) -> Passage {
        self.at_work().map_or(Passage::Free, |work| work.circuit.passage(now_us))
    }

    /// Until when its circuit lets no call through, wall µs.
    pub(super) fn shut_until_us(&self, now_us: i64) -> Option<i64> {
        self.at_work().and_then(|work| work.circuit.shut_until_us(now_us))
    }

    fn holding_circuit(&self, now_us: i64) -> Option<Holding> {
        match self.passage(now_us) {
            Passage::Shut(until_us) => Some(Holding::CircuitOpen(until_us)),
            Passage::Probe if self.in_flight() > 0 => Some(Holding::CircuitOpen(now_us)),
            Passage::Probe | Passage::Free => None,
        }
    }

    /// Earliest time the limits allow a send that is claimed now.
    pub(super) fn ready_at_us(&self, now_us: i64) -> i64 {
        self.read(|work| work.ready_behind_us(work.reserved, now_us))
    }

    /// Earliest time they allow the next send, whatever is claimed and not started.
    pub(super) fn ready_first_us(&self, now_us: i64) -> i64 {
        self.read(|work| work.ready_behind_us(0, now_us))
    }

    /// Earliest time a send to `recipient` may start, wall µs.
    pub(super) fn pair_ready_at_us(&self, recipient: &str, pairs_max: usize) -> i64 {
        self.read(|work| work.pairs.ready_at_us(recipient, pairs_max))
    }

    pub(super) fn has_room(&self) -> bool {
        self.config.is_some() && self.read(|work| work.in_flight < work.buckets.in_flight_max())
    }

    pub(super) fn has_parked(&self) -> bool {
        self.at_work().is_some_and(Work::has_parked)
    }

    pub(super) fn has_ready_chat(&self) -> bool {
        self.at_work().is_some_and(Work::has_ready_chat)
    }

    /// Whether it stands in its bulkhead's line.
    pub(super) fn is_in_line(&self) -> bool {
        self.at_work().is_some_and(|work| work.in_line)
    }

    /// Whether a claim made earlier may still start its call.
    pub(super) fn may_start(&self, now_us: i64) -> bool {
        self.config.is_some()
            && !self.condition.paused
            && self.down.is_none_or(|down| down.probe_at_us <= now_us)
            && self.shut_until_us(now_us).is_none()
    }

    /// Takes what the ledger says of its rate, for the local state.
    pub(super) fn rate(&self, now_us: i64) -> Rate {
        let is_known = self.config.is_some();
        let throttled_until_us = self.throttled_until_us();
        self.read(|work| {
            let buckets = if is_known { &work.buckets } else { &work.recorded };
            Rate {
                tats: buckets.tats(0, now_us).into_iter().chain(work.pairs.tats(now_us)).collect(),
                throttled_until_ms: (throttled_until_us > now_us)
                    .then(|| super::attempt::ceil_ms(throttled_until_us)),
            }
        })
    }

    /// What a ledger record about a message to `recipient` says of the limits.
    pub(super) fn tats(&self, recipient: &str, now_us: i64) -> Vec<String> {
        self.read(|work| {
            let mut tats = work.buckets.tats(0, now_us);
            tats.extend(work.pairs.tats_of(recipient, now_us));
            tats
        })
    }

    /// Whether a message was accepted for what the session no longer is, and is to end with that.
    pub(super) fn has_outlived(&self, accepted_at_ms: i64, binding_epoch: Option<i64>) -> bool {
        let of_deleted = accepted_at_ms <= self.deleted_at_ms;
        let of_former_binding = self.config.as_ref().is_some_and(|config| {
            config.on_rebinding == OnDelete::Fail
                && binding_epoch.is_some_and(|epoch| epoch < config.binding_epoch)
        });
        of_deleted || of_former_binding
    }

    /// Takes what the provider says of the connection; true if that changes whether the session is down.
    pub(super) fn connect(&mut self, condition: SessionCondition, probe_at_us: i64) -> bool {
        let newer = condition.connection_at_ms >= self.condition.connection_at_ms;
        self.condition.paused = condition.paused;
        if !newer {
            return false;
        }
        self.condition = condition;
        let was_down = self.down.is_some();
        match condition.connection {
            Connection::Connected => {
                if self.down.is_some_and(|down| down.since_ms <= condition.connection_at_ms) {
                    self.down = None;
                }
            }
            Connection::Unknown | Connection::Connecting => {}
            _ => {
                if self.down.is_none() {
                    self.down = Some(Down { since_ms: condition.connection_at_ms, probe_at_us });
                }
            }
        }
        was_down != self.down.is_some()
    }
}

/// All sessions the process has heard of.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Vec<Session>,
    by_id: HashMap<Arc<str>, SessionIndex>,
    configs: Pool<SessionConfig>,
    names: Pool<str>,
    /// The session at which the look for those that may rest goes on.
    rest_at: usize,
    /// What waits, by tenant; none: nothing.
    pub(super) tenants: HashMap<Arc<str>, Backlog>,
}

impl Sessions {
    /// The session `id`, made if it is new.
    pub(super) fn of(&mut self, id: &str, partition: i32) -> SessionIndex {
        if let Some(index) = self.by_id.get(id) {
            return *index;
        }
        let index = SessionIndex(self.all.len());
        let id: Arc<str> = id.into();
        self.all.push(Session::new(id.clone(), partition, self.names.share("")));
        self.by_id.insert(id, index);
        index
    }

    pub(super) fn all(&self) -> &[Session] {
        &self.all
    }

    pub(super) fn find(&self, id: &str) -> Option<SessionIndex> {
        self.by_id.get(id).copied()
    }

    pub(super) fn get(&self, index: SessionIndex) -> &Session {
        &self.all[index.0]
    }

    pub(super) fn get_mut(&mut self, index: SessionIndex) -> &mut Session {
        &mut self.all[index.0]
    }

    /// The work of a session, made if there is none.
    pub(super) fn work(&mut self, index: SessionIndex) -> &mut Work {
        self.get_mut(index).work()
    }

    /// A configuration and the name of its tenant, as the sessions share them.
    pub(super) fn shared(&mut self, config: Box<SessionConfig>) -> (Arc<SessionConfig>, Arc<str>) {
        let config = self.configs.share(config);
        let tenant = self.names.share(config.tenant_id.as_str());
        (config, tenant)
    }

    /// Looks at the next `most` sessions: what they need no more of their work is forgotten.
    pub(super) fn rest(&mut self, most: usize, now_us: i64, span: Span) {
        let end = self.rest_at.saturating_add(most).min(self.all.len());
        for session in &mut self.all[self.rest_at..end] {
            session.rest(now_us, span);
        }
        self.rest_at = if end < self.all.len() { end } else { 0 };
    }

    fn works(&self) -> impl Iterator<Item = &Work> {
        self.all.iter().filter_map(Session::at_work)
    }

    /// How many go slower than their limits.
    pub(super) fn slowed(&self, now_us: i64) -> usize {
        self.works().filter(|work| work.slowing.factor(now_us) > 1).count()
    }

    /// How many circuits are not closed.
    pub(super) fn circuits_open(&self) -> usize {
        self.works().filter(|work| !work.circuit.is_closed()).count()
    }

    /// Sessions of one partition.
    pub(super) fn of_partition(&self, partition: i32) -> Vec<SessionIndex> {
        (0..self.all.len()).filter(|i| self.all[*i].partition == partition).map(SessionIndex).collect()
    }
}
