//! The sender's decisions (design §5): one pure state machine for every partition a process owns.
//!
//! The log decides: state changes only on ledger records read back from the tail, plus time, call results,
//! evidence and controls. Restore and run are the same code. [`Sender::step`] takes one [`Input`] and adds
//! the [`Effect`]s that follow; the shell carries them out.
//!
//! Where to find what: `own` takes partitions over and gives them back; `intake` takes requests in; `schedule`
//! decides who goes next; `attempt` claims, starts and settles calls; `judge`, `health` and `circuit` say what their
//! outcomes mean; `records` tells the ledger; `doubt` settles what nobody knows; `operator` takes an operator's word for it; `read` applies ledger records; `facts` writes the statuses.

mod attempt;
mod backlog;
mod bridge;
mod bulkhead;
mod by_id;
mod cancel;
mod chat;
mod circuit;
mod done;
mod doubt;
mod echoes;
mod facts;
mod health;
mod intake;
mod intake_window;
mod io;
mod judge;
mod kept;
mod keys;
mod lanes;
pub mod ledger;
pub mod local;
mod message;
mod operator;
mod own;
mod pairs;
mod park;
mod planted;
pub mod rate;
mod read;
mod records;
mod restate;
mod rng;
mod schedule;
mod session;
mod settings;
mod sizes;
mod slowing;
pub mod store;
mod sweep;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use sluice_schemas::OutboundCommand;
use uuid::Uuid;

pub use io::{
    BadRequest, Call, CallId, CircuitOf, Effect, Input, Note, Request, Resume, SessionCondition,
    SessionConfig, Token,
};
pub use local::Identity;
pub use planted::Planted;
pub use settings::{Invalid, Settings};
pub use sizes::Sizes;

use crate::time::Now;
use bulkhead::{BulkheadIndex, Bulkheads};
use by_id::ById;
use intake_window::IntakeWindow;
use local::Local;
use message::Open;
use rng::Rng;
use session::{SessionIndex, Sessions};

/// Where a partition stands with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The fence is on its way into the log.
    Fencing,
    /// The ledger is read up to the fence.
    Restoring,
    /// Ours.
    Owned,
    /// Ours, nothing new is begun.
    Releasing,
}

/// One partition.
#[derive(Debug)]
struct Partition {
    phase: Phase,
    /// Offset of our fence; meaningless while fencing.
    epoch: i64,
    claim_seq: i64,
    /// Open messages in memory: those about which something is under way, and the heads of the queues.
    open: ById<Open>,
    /// Every message that the log tells of.
    local: Local,
    /// Restore only: messages that have ended and whose key a void refusal has taken, with their sessions.
    overwritten: Vec<(Uuid, Option<String>)>,
    /// Everything below this offset of the ledger is applied.
    next_offset: Option<i64>,
    /// Where its ledger was read from, when its local state was taken up again.
    resumed_at: Option<i64>,
    /// Highest rank given to a message.
    rank: i64,
    /// No message that is not in memory is due or expires before this, wall µs.
    local_floor_us: i64,
    /// Sessions whose rate the log has told since the last commit.
    rates_told: BTreeSet<SessionIndex>,
    /// Sessions whose backlog is looked through for messages that are to end.
    sweeps: VecDeque<sweep::Sweep>,
    /// Looks through the queues for messages whose time is up.
    expiry_sweep: park::ExpirySweep,
    /// When the next step of a sweep is due, wall µs.
    sweep_at_us: i64,
    /// Cancels in the log of messages that are not done.
    cancels: ById<cancel::Canceled>,
    /// The same in log order, to forget those whose message never comes.
    cancel_order: VecDeque<(i64, Uuid)>,
    /// Cancels, with the offsets of their requests, that wait to be read back.
    cancel_requests: HashMap<Uuid, Vec<(i64, Arc<OutboundCommand>)>>,
    intake: IntakeWindow,
    /// Outcomes of calls of a former epoch of this process that came before the ledger was read.
    early_testimony: Vec<sluice_schemas::MessageStatus>,
    /// States of messages that are not in memory.
    strays: ById<message::Recorded>,
    /// Highest position the ledger records.
    position: Option<i64>,
    /// When messages are looked at next, wall µs.
    due: BTreeSet<(i64, Uuid)>,
    /// Messages in doubt; may hold some that no longer are.
    in_doubt: HashSet<Uuid>,
    /// Offset of our latest acked status.
    status_offset: i64,
    /// Webhooks are read up to what stood in the log at this time, ms.
    status_seen_ms: i64,
}

impl Partition {
    fn new(local: Local) -> Self {
        Self {
            phase: Phase::Fencing,
            epoch: -1,
            claim_seq: 0,
            open: ById::default(),
            local,
            overwritten: Vec::new(),
            next_offset: None,
            resumed_at: None,
            rank: 0,
            local_floor_us: i64::MAX,
            rates_told: BTreeSet::new(),
            sweeps: VecDeque::new(),
            expiry_sweep: park::ExpirySweep::default(),
            sweep_at_us: i64::MIN,
            cancels: ById::default(),
            cancel_order: VecDeque::new(),
            cancel_requests: HashMap::new(),
            intake: IntakeWindow::default(),
            early_testimony: Vec::new(),
            strays: ById::default(),
            position: None,
            due: BTreeSet::new(),
            in_doubt: HashSet::new(),
            status_offset: 0,
            status_seen_ms: i64::MIN,
        }
    }

    /// Whether a cancel of this message of this session stands in the log.
    fn is_canceled(&self, id: &Uuid, session_id: &str) -> bool {
        self.cancels.get(id).is_some_and(|canceled| *canceled.session_id == *session_id)
    }

    /// When something of what is not in memory is to be looked at, wall µs.
    fn floor_us(&self) -> i64 {
        let floor_us = self.local_floor_us.min(self.expiry_sweep.at_us);
        if self.sweeps.is_empty() { floor_us } else { floor_us.min(self.sweep_at_us) }
    }

    /// Whether decisions are made on it.
    fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Owned | Phase::Releasing)
    }
}

/// A call under way, kept apart from its partition: its true outcome is published even when the partition
/// has gone.
#[derive(Debug)]
struct InFlight {
    partition: i32,
    epoch: i64,
    message_id: Uuid,
    session: SessionIndex,
    bulkhead: BulkheadIndex,
    claim_seq: i64,
    attempt: u32,
    /// What the status needs when the message is no longer here.
    orphan: Box<Open>,
}

/// Sizes for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Partitions owned.
    pub owned: usize,
    /// Partitions being taken over.
    pub restoring: usize,
    /// Open messages.
    pub open: usize,
    /// Those of them in memory.
    pub resident: usize,
    /// Messages in doubt.
    pub in_doubt: usize,
    /// When the attempt was claimed that has been in doubt longest, ms.
    pub in_doubt_since_ms: Option<i64>,
    /// Calls under way.
    pub calls: usize,
    /// Sessions whose circuit is not closed.
    pub session_circuits_open: usize,
    /// Base URLs whose circuit is not closed.
    pub base_url_circuits_open: usize,
    /// Sessions that go slower than their limits because they were throttled.
    pub sessions_slowed: usize,
}

/// The sender of one process.
pub struct Sender {
    settings: Settings,
    owner: String,
    partition_count: i32,
    partitions: BTreeMap<i32, Partition>,
    sessions: Sessions,
    bulkheads: Bulkheads,
    calls: HashMap<CallId, InFlight>,
    next_call: u64,
    /// No timer is due before this, wall µs: most steps look at no timer at all.
    floor_us: i64,
    /// Sessions to be looked at, wall µs.
    wakes: BTreeSet<(i64, SessionIndex)>,
    /// When sessions are looked at next that may rest, wall µs.
    rest_at_us: i64,
    /// Sessions with look-ups to make, wall µs.
    look_ups: BTreeSet<(i64, SessionIndex)>,
    /// Look-ups under way.
    looking: HashMap<Uuid, (SessionIndex, bridge::Print)>,
    open_store: store::OpenStore,
    #[cfg(feature = "planted-faults")]
    planted: Option<Planted>,
    rng: Rng,
    now: Now,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("owner", &self.owner)
            .field("gauges", &self.gauges())
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender that owns nothing yet. `owner` names the process in fences; `seed` feeds the jitter.
    pub fn new(settings: Settings, owner: impl Into<String>, partition_count: i32, seed: u64) -> Self {
        Self {
            settings,
            owner: owner.into(),
            partition_count,
            partitions: BTreeMap::new(),
            sessions: Sessions::default(),
            bulkheads: Bulkheads::default(),
            calls: HashMap::new(),
            next_call: 0,
            floor_us: i64::MAX,
            wakes: BTreeSet::new(),
            rest_at_us: i64::MIN,
            look_ups: BTreeSet::new(),
            looking: HashMap::new(),
            open_store: Box::new(|_, _| store::Opened::empty(Box::<store::MemoryStore>::default())),
            #[cfg(feature = "planted-faults")]
            planted: None,
            rng: Rng::new(seed),
            now: Now::default(),
        }
    }

    /// Keeps the local state of its partitions in these stores instead of in memory.
    #[must_use]
    pub fn with_stores(mut self, open: store::OpenStore) -> Self {
        self.open_store = open;
        self
    }

    /// Takes one input at `now` and adds what follows to `out`, in order.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        self.now = now;
        let before = out.len();
        match input {
            Input::Assigned { partition } => self.assigned(partition, out),
            Input::StoreStale { partition } => self.store_stale(partition, out),
            Input::Fenced { partition, offset } => self.fenced(partition, offset),
            Input::Ledger { partition, read } => self.ledger(partition, read, out),
            Input::LedgerPassed { partition, next_offset } => self.ledger_passed(partition, next_offset, out),
            Input::LedgerFailed { partition, epoch } => self.ledger_failed(partition, epoch, out),
            Input::Revoking { partition } => self.revoking(partition, out),
            Input::Lost { partition } => self.lost(partition, out),
            Input::Request(request) => self.request(request, out),
            Input::RequestDelayed { partition, offset, bytes } => {
                self.request_delayed(partition, offset, bytes)
            }
            Input::Acked { token, offset } => self.acked(token, offset, out),
            Input::Called { call, result } => self.called(call, result, out),
            Input::Status { partition, status } => self.status(partition, *status, out),
            Input::StatusCaughtUp { partition, asked_ms } => self.status_caught_up(partition, asked_ms, out),
            Input::LookedUp { message_id, found } => self.looked_up(message_id, found, out),
            Input::Session { session_id, config } => self.session(&session_id, config, out),
            Input::Condition { session_id, condition } => self.condition(&session_id, condition, out),
            Input::Tick => {}
        }
        self.run_timers(out);
        if self.partitions.values().any(|part| part.local.has_failed()) {
            self.stop_for_its_store(before, out);
        }
    }

    /// When [`Input::Tick`] is needed next, wall clock, microseconds. May be early, never late.
    pub fn next_wake_us(&self) -> Option<i64> {
        (self.floor_us < i64::MAX).then_some(self.floor_us)
    }

    fn earliest_timer_us(&self) -> i64 {
        let messages = self.partitions.values().filter_map(|p| p.due.first().map(|(at, _)| *at)).min();
        let parked =
            self.partitions.values().filter(|p| p.phase == Phase::Owned).map(Partition::floor_us).min();
        let sessions = self.wakes.first().map(|(at, _)| *at);
        let look_ups = self.look_ups.first().map(|(at, _)| *at);
        let probes = self.bulkheads.next_probe_us(self.now.wall_us);
        [messages, parked, sessions, look_ups, probes].into_iter().flatten().min().unwrap_or(i64::MAX)
    }

    /// Sizes for metrics.
    pub fn gauges(&self) -> Gauges {
        let mut gauges = Gauges {
            calls: self.calls.len(),
            session_circuits_open: self.sessions.circuits_open(),
            base_url_circuits_open: self.bulkheads.circuits_open(),
            sessions_slowed: self.sessions.slowed(self.now.wall_us),
            ..Gauges::default()
        };
        for partition in self.partitions.values() {
            if partition.is_live() {
                gauges.owned += 1;
            } else {
                gauges.restoring += 1;
            }
            gauges.resident += partition.open.len();
            gauges.open += partition.local.open_count()
                + partition.open.values().filter(|open| !open.accepted_read).count();
            gauges.in_doubt += partition.in_doubt.len();
            let since_ms =
                partition.in_doubt.iter().filter_map(|id| partition.open.get(id)?.in_doubt_since_ms());
            gauges.in_doubt_since_ms = gauges.in_doubt_since_ms.into_iter().chain(since_ms).min();
        }
        gauges
    }

    /// Partitions with messages whose doubt is still to be decided. One that is held waits for evidence or an
    /// operator, and needs no watching.
    pub fn partitions_in_doubt(&self) -> Vec<i32> {
        let is_held = |open: &Open| matches!(&open.stage, message::Stage::InDoubt(doubt) if doubt.held);
        let waits = |part: &Partition| part.in_doubt.iter().any(|id| !part.open.get(id).is_some_and(is_held));
        self.partitions.iter().filter(|(_, part)| waits(part)).map(|(n, _)| *n).collect()
    }

    /// Epoch under which this process holds `partition`, if it does.
    pub fn epoch(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition).filter(|p| p.phase != Phase::Fencing).map(|p| p.epoch)
    }

    /// Whether nothing of ours is under way any more.
    pub fn is_idle(&self) -> bool {
        self.partitions.is_empty() && self.calls.is_empty()
    }

    fn partition_of(&self, session_id: &str) -> i32 {
        sluice_schemas::placement::partition_for(session_id.as_bytes(), self.partition_count)
    }

    /// Sets when a message is looked at next.
    fn set_due(&mut self, partition: i32, id: Uuid, due_us: Option<i64>) {
        if let Some(part) = self.partitions.get_mut(&partition)
            && let Some(open) = part.open.get_mut(&id)
        {
            if open.due_us == due_us {
                return;
            }
            if let Some(old) = open.due_us {
                part.due.remove(&(old, id));
            }
            open.due_us = due_us;
            if let Some(at) = due_us {
                part.due.insert((at, id));
                self.floor_us = self.floor_us.min(at);
            }
        }
    }

    fn open(&self, partition: i32, id: &Uuid) -> Option<&Open> {
        self.partitions.get(&partition)?.open.get(id)
    }

    fn open_mut(&mut self, partition: i32, id: &Uuid) -> Option<&mut Open> {
        self.partitions.get_mut(&partition)?.open.get_mut(id)
    }

    fn wake_session(&mut self, session: SessionIndex, at_us: i64) {
        let state = self.sessions.work(session);
        if state.wake_us.is_some_and(|old| old <= at_us) {
            return;
        }
        if let Some(old) = state.wake_us.replace(at_us) {
            self.wakes.remove(&(old, session));
        }
        self.wakes.insert((at_us, session));
        self.floor_us = self.floor_us.min(at_us);
    }

    fn after_us(&self, ms: u64) -> i64 {
        self.now.wall_us.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000))
    }
}

/// `Arc<str>` of a text, for keys.
fn shared(text: &str) -> Arc<str> {
    text.into()
}
