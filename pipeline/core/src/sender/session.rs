//! One session: its limits, holds, chats and place in line.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sluice_schemas::{Connection, OnDelete};

use super::backlog::Backlog;
use super::bridge::Bridge;
use super::bulkhead::BulkheadIndex;
use super::chat::Chat;
use super::circuit::{Circuit, Passage};
use super::io::{SessionCondition, SessionConfig};
use super::lanes::LaneTurns;
use super::local::Rate;
use super::message::{ChatKey, Lane};
use super::pairs::Pairs;
use super::rate::Buckets;
use super::slowing::Slowing;

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

/// Interval that slowing stretches where the limits ask for less: bursts are what was too fast.
const SLOWED_INTERVAL_US: i64 = 100_000;

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

/// Messages of one lane that are not in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parked {
    pub(super) count: usize,
    /// What stands behind this one, in the order of the queue, is parked; up to it, all were brought to memory.
    pub(super) loaded_to: Option<(i64, uuid::Uuid)>,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Arc<str>,
    pub(super) partition: i32,
    pub(super) tenant: Arc<str>,
    pub(super) config: Option<Box<SessionConfig>>,
    pub(super) bulkhead: Option<BulkheadIndex>,
    pub(super) condition: SessionCondition,
    pub(super) down: Option<Down>,
    pub(super) circuit: Circuit,
    pub(super) slowing: Slowing,
    pub(super) buckets: Buckets,
    pub(super) pairs: Pairs,
    /// Latest bucket states read from the ledger, kept for when the limits are known.
    recorded: Buckets,
    /// Sends counted by a restore before the limits were known, wall µs.
    uncounted_us: Vec<i64>,
    pub(super) throttled_until_us: i64,
    /// Claims made and calls not started.
    pub(super) reserved: u32,
    /// Claims made and calls not ended.
    pub(super) in_flight: u32,
    /// Open messages that wait.
    pub(super) backlog: Backlog,
    /// Those of them in its queues and not in memory, by lane.
    pub(super) parked: [Parked; 3],
    /// Messages in its chats' queues, by lane.
    pub(super) resident: [usize; 3],
    /// What was accepted up to this time was of a session that has been deleted, ms.
    pub(super) deleted_at_ms: i64,
    pub(super) chats: HashMap<ChatKey, Chat>,
    /// Chats whose head of a lane may go, by lane; some may have become busy or held since.
    ready: [VecDeque<ChatKey>; 3],
    turns: LaneTurns,
    /// Chats with a message that keeps a lane waiting.
    held_chats: Vec<ChatKey>,
    /// Whether it stands in its bulkhead's line.
    pub(super) in_line: bool,
    /// When it is looked at next, wall µs.
    pub(super) wake_us: Option<i64>,
    pub(super) bridge: Bridge,
    pub(super) look_ups: Buckets,
    pub(super) look_up_due_us: Option<i64>,
}

impl Session {
    fn new(id: Arc<str>, partition: i32) -> Self {
        Self {
            id,
            partition,
            tenant: "".into(),
            config: None,
            bulkhead: None,
            condition: SessionCondition::default(),
            down: None,
            circuit: Circuit::default(),
            slowing: Slowing::default(),
            buckets: Buckets::default(),
            pairs: Pairs::default(),
            recorded: Buckets::default(),
            uncounted_us: Vec::new(),
            throttled_until_us: i64::MIN,
            reserved: 0,
            in_flight: 0,
            backlog: Backlog::default(),
            parked: Default::default(),
            resident: [0; 3],
            deleted_at_ms: i64::MIN,
            chats: HashMap::new(),
            ready: Default::default(),
            turns: LaneTurns::default(),
            held_chats: Vec::new(),
            in_line: false,
            wake_us: None,
            bridge: Bridge::default(),
            look_ups: Buckets::default(),
            look_up_due_us: None,
        }
    }

    /// How long it needs at its limits for what is in its queues, µs.
    pub(super) fn wait_us(&self) -> i64 {
        let queued = self.parked.iter().map(|parked| parked.count).chain(self.resident).sum::<usize>();
        i64::try_from(queued).unwrap_or(i64::MAX).saturating_mul(self.buckets.interval_us())
    }

    /// Takes a new configuration; what was used of the limits stays used.
    pub(super) fn configure(&mut self, config: Option<Box<SessionConfig>>) {
        if let Some(config) = &config {
            let mut buckets = Buckets::new(&config.limits, config.max_in_flight);
            buckets.carry_over(&self.buckets);
            buckets.restore_from(&self.recorded);
            for at_us in self.uncounted_us.drain(..) {
                buckets.take(at_us);
            }
            self.pairs.configure(&config.pair_limits, buckets.in_flight_max());
            self.buckets = buckets;
            self.tenant = config.tenant_id.as_str().into();
        }
        self.config = config;
    }

    /// Counts a claim of a former owner as a send to `recipient` at `at_us`.
    pub(super) fn count_claim(&mut self, recipient: &Arc<str>, at_us: i64) {
        self.pairs.count_claim(recipient, at_us);
        if self.config.is_some() {
            self.buckets.take(at_us);
        } else {
            self.uncounted_us.push(at_us);
        }
    }

    /// Takes what a ledger record says of the buckets.
    pub(super) fn restore_tats(&mut self, tats: &[String], throttled_until_ms: Option<i64>, now_us: i64) {
        self.pairs.restore(tats, now_us);
        self.buckets.restore(tats);
        if self.config.is_none() {
            self.recorded.absorb(Buckets::recorded(tats));
        }
        if let Some(ms) = throttled_until_ms {
            self.throttled_until_us = self.throttled_until_us.max(ms.saturating_mul(1000));
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
            Some(down) if self.in_flight > 0 => Some(Holding::Down(down.probe_at_us)),
            _ => self.holding_circuit(now_us),
        }
    }

    fn holding_circuit(&self, now_us: i64) -> Option<Holding> {
        match self.circuit.passage(now_us) {
            Passage::Shut(until_us) => Some(Holding::CircuitOpen(until_us)),
            Passage::Probe if self.in_flight > 0 => Some(Holding::CircuitOpen(now_us)),
            Passage::Probe | Passage::Free => None,
        }
    }

    /// Earliest time the limits allow a send that is claimed now.
    pub(super) fn ready_at_us(&self, now_us: i64) -> i64 {
        self.ready_behind_us(self.reserved, now_us)
    }

    /// Earliest time the limits allow a send behind `reserved` that are claimed and not started.
    pub(super) fn ready_behind_us(&self, reserved: u32, now_us: i64) -> i64 {
        let interval_us = self.buckets.shortest_interval_us().max(SLOWED_INTERVAL_US);
        let gap_us = self.slowing.gap_us(now_us, interval_us);
        let slowed_until_us = match self.buckets.last_us().filter(|_| gap_us > 0) {
            Some(last_us) => {
                last_us.saturating_add(gap_us.saturating_mul(i64::from(reserved.saturating_add(1))))
            }
            None => i64::MIN,
        };
        self.buckets.ready_at_us(reserved).max(self.throttled_until_us).max(slowed_until_us)
    }

    pub(super) fn has_room(&self) -> bool {
        self.config.is_some() && self.in_flight < self.buckets.in_flight_max()
    }

    /// Puts a chat into the ready queues of the lanes whose heads may go.
    pub(super) fn ready_chat(&mut self, key: &ChatKey, now_us: i64) {
        if let Some(chat) = self.chats.get_mut(key) {
            for lane in chat.enter_lines(now_us) {
                self.ready[lane as usize].push_back(key.clone());
            }
        }
    }

    pub(super) fn note_held_chat(&mut self, key: ChatKey) {
        if !self.held_chats.contains(&key) {
            self.held_chats.push(key);
        }
    }

    /// Readies chats whose holds have ended; when the next hold ends.
    pub(super) fn ready_held_chats(&mut self, now_us: i64) -> Option<i64> {
        let mut next_us: Option<i64> = None;
        let mut kept = Vec::new();
        for key in std::mem::take(&mut self.held_chats) {
            if let Some(chat) = self.chats.get_mut(&key) {
                chat.end_holds(now_us);
            }
            self.ready_chat(&key, now_us);
            if let Some(until) = self.chats.get(&key).and_then(|chat| chat.held_until_us(now_us)) {
                next_us = Some(next_us.map_or(until, |next| next.min(until)));
                kept.push(key);
            }
        }
        self.held_chats = kept;
        next_us
    }

    /// Whether a claim made earlier may still start its call.
    pub(super) fn may_start(&self, now_us: i64) -> bool {
        self.config.is_some()
            && !self.condition.paused
            && self.down.is_none_or(|down| down.probe_at_us <= now_us)
            && self.circuit.shut_until_us(now_us).is_none()
    }

    /// Lets every chat go on that has `id` in flight.
    pub(super) fn free_chats(&mut self, id: uuid::Uuid) {
        self.chats.values_mut().for_each(|chat| chat.release(id));
    }

    /// Takes what the ledger says of its rate, for the local state.
    pub(super) fn rate(&self, now_us: i64) -> Rate {
        let buckets = if self.config.is_some() { &self.buckets } else { &self.recorded };
        Rate {
            tats: buckets.tats(0, now_us).into_iter().chain(self.pairs.tats(now_us)).collect(),
            throttled_until_ms: (self.throttled_until_us > now_us)
                .then(|| super::attempt::ceil_ms(self.throttled_until_us)),
        }
    }

    /// What a ledger record about a message to `recipient` says of the limits.
    pub(super) fn tats(&self, recipient: &str, now_us: i64) -> Vec<String> {
        let mut tats = self.buckets.tats(0, now_us);
        tats.extend(self.pairs.tats_of(recipient, now_us));
        tats
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

    pub(super) fn has_parked(&self) -> bool {
        self.parked.iter().any(|parked| parked.count > 0)
    }

    /// A message entered, or left, a queue of a chat.
    pub(super) fn count_queued(&mut self, lane: Lane, change: isize) {
        let resident = &mut self.resident[lane as usize];
        *resident = resident.saturating_add_signed(change);
    }

    /// A message is parked, or no longer so.
    pub(super) fn count_parked(&mut self, lane: Lane, change: isize) {
        let parked = &mut self.parked[lane as usize];
        parked.count = parked.count.saturating_add_signed(change);
    }

    pub(super) fn has_ready_chat(&self) -> bool {
        self.ready.iter().any(|queue| !queue.is_empty())
    }

    /// Takes the head of the next ready chat. A lane gets at least one of every `share_min` turns.
    pub(super) fn take_head(&mut self, now_us: i64, share_min: u32) -> Option<uuid::Uuid> {
        loop {
            let ready = Lane::ALL.map(|lane| !self.ready[lane as usize].is_empty());
            let lane = self.turns.next(ready, share_min)?;
            let key = self.ready[lane as usize].pop_front()?;
            let Some(chat) = self.chats.get_mut(&key) else { continue };
            chat.leave_line(lane);
            if let Some((lane, id)) = chat.take_turn(lane, now_us, share_min) {
                self.turns.took(lane, ready);
                return Some(id);
            }
            if chat.is_idle() && !chat.is_in_line() {
                self.chats.remove(&key);
            }
        }
    }

    /// Forgets everything about messages; limits stay.
    pub(super) fn clear(&mut self) {
        self.chats.clear();
        self.uncounted_us.clear();
        self.pairs.forget_uncounted();
        self.ready = Default::default();
        self.held_chats.clear();
        self.reserved = 0;
        self.in_flight = 0;
        self.parked = Default::default();
        self.resident = [0; 3];
        self.bridge = Bridge::default();
        self.look_up_due_us = None;
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
        self.all.push(Session::new(id.clone(), partition));
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

    /// How many go slower than their limits.
    pub(super) fn slowed(&self, now_us: i64) -> usize {
        self.all.iter().filter(|session| session.slowing.factor(now_us) > 1).count()
    }

    /// How many circuits are not closed.
    pub(super) fn circuits_open(&self) -> usize {
        self.all.iter().filter(|session| !session.circuit.is_closed()).count()
    }

    /// Sessions of one partition.
    pub(super) fn of_partition(&self, partition: i32) -> Vec<SessionIndex> {
        (0..self.all.len()).filter(|i| self.all[*i].partition == partition).map(SessionIndex).collect()
    }
}
