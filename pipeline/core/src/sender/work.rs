//! What a session needs for its messages, and must remember of those it has sent lately. A session with nothing to
//! send and nothing to remember has none of it: most sessions are idle most of the time.

use std::collections::{HashMap, VecDeque};

use super::backlog::Backlog;
use super::bridge::{Bridge, Span};
use super::chat::Chat;
use super::circuit::Circuit;
use super::io::SessionConfig;
use super::lanes::LaneTurns;
use super::message::{ChatKey, Lane};
use super::pairs::Pairs;
use super::rate::Buckets;
use super::slowing::Slowing;

/// Interval that slowing stretches where the limits ask for less: bursts are what was too fast.
const SLOWED_INTERVAL_US: i64 = 100_000;

/// Messages of one lane that are not in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parked {
    pub(super) count: usize,
    /// What stands behind this one, in the order of the queue, is parked; up to it, all were brought to memory.
    pub(super) loaded_to: Option<(i64, uuid::Uuid)>,
}

/// The messages of one session, and what was used of its limits.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) circuit: Circuit,
    pub(super) slowing: Slowing,
    pub(super) buckets: Buckets,
    pub(super) pairs: Pairs,
    /// Latest bucket states read from the ledger, kept for when the limits are known.
    pub(super) recorded: Buckets,
    /// Sends counted by a restore before the limits were known, wall µs.
    pub(super) uncounted_us: Vec<i64>,
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
    /// When the next look-up may be made, wall µs.
    pub(super) look_up_free_us: i64,
    pub(super) look_up_due_us: Option<i64>,
}

impl Work {
    /// That of a session whose latest send, if any, was so long ago that nothing else of it counts.
    pub(super) fn new(config: Option<&SessionConfig>, last_send_us: Option<i64>) -> Self {
        let mut buckets = Buckets::default();
        let mut pairs = Pairs::default();
        if let Some(config) = config {
            buckets = Buckets::new(&config.limits, config.max_in_flight);
            pairs.configure(&config.pair_limits, buckets.in_flight_max());
        }
        buckets.carry_over(&Buckets::used_last(last_send_us));
        Self {
            circuit: Circuit::default(),
            slowing: Slowing::default(),
            buckets,
            pairs,
            recorded: Buckets::default(),
            uncounted_us: Vec::new(),
            throttled_until_us: i64::MIN,
            reserved: 0,
            in_flight: 0,
            backlog: Backlog::default(),
            parked: Default::default(),
            resident: [0; 3],
            chats: HashMap::new(),
            ready: Default::default(),
            turns: LaneTurns::default(),
            held_chats: Vec::new(),
            in_line: false,
            wake_us: None,
            bridge: Bridge::default(),
            look_up_free_us: i64::MIN,
            look_up_due_us: None,
        }
    }

    /// Whether a new one would do as well: nothing is under way or waits, and what was used of the limits is free again.
    pub(super) fn is_void(&self, now_us: i64, span: Span) -> bool {
        self.is_without_messages() && self.is_unlimited_by_the_past(now_us) && self.bridge.is_void(span)
    }

    fn is_without_messages(&self) -> bool {
        self.in_flight == 0
            && self.reserved == 0
            && self.backlog.count == 0
            && self.resident == [0; 3]
            && !self.has_parked()
            && !self.has_ready_chat()
            && self.held_chats.is_empty()
            && self.chats.is_empty()
            && !self.in_line
            && self.wake_us.is_none()
            && self.look_up_due_us.is_none()
    }

    fn is_unlimited_by_the_past(&self, now_us: i64) -> bool {
        self.buckets.full_at_us() <= now_us
            && self.recorded.full_at_us() <= now_us
            && self.uncounted_us.is_empty()
            && self.throttled_until_us <= now_us
            && self.look_up_free_us <= now_us
            && self.circuit.is_void()
            && self.slowing.factor(now_us) == 1
            && self.pairs.is_void(now_us)
    }

    /// How long the session needs at its limits for what is in its queues, µs.
    pub(super) fn wait_us(&self) -> i64 {
        let queued = self.parked.iter().map(|parked| parked.count).chain(self.resident).sum::<usize>();
        i64::try_from(queued).unwrap_or(i64::MAX).saturating_mul(self.buckets.interval_us())
    }

    /// Takes a new configuration; what was used of the limits stays used.
    pub(super) fn configure(&mut self, config: &SessionConfig) {
        let mut buckets = Buckets::new(&config.limits, config.max_in_flight);
        buckets.carry_over(&self.buckets);
        buckets.restore_from(&self.recorded);
        for at_us in self.uncounted_us.drain(..) {
            buckets.take(at_us);
        }
        self.pairs.configure(&config.pair_limits, buckets.in_flight_max());
        self.buckets = buckets;
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

    /// Lets every chat go on that has `id` in flight.
    pub(super) fn free_chats(&mut self, id: uuid::Uuid) {
        self.chats.values_mut().for_each(|chat| chat.release(id));
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
}
