//! The world around the senders: one ledger partition, its topics, a group, a provider, and time.

use std::collections::{BTreeMap, HashMap};

use sluice_core::sender::ledger::Key;
use sluice_core::sender::{Effect, Input, Planted, Request as Asked, SessionCondition, Settings, Token};
use sluice_schemas::{Connection, LedgerEntry, MessageStatus};
use uuid::Uuid;

use crate::log::Log;
use crate::owner::{Owner, START_US};
use crate::plan::{Line, Request, sessions, settings};
use crate::provider::{Arrival, Made, Mood, Provider};
use crate::rng::Rng;

/// Clocks of two owners differ by at most this much.
pub(crate) const SKEW_US: i64 = 100_000;

/// A process at one time of its life.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) owner: usize,
    pub(crate) life: u64,
}

/// Something that is going to happen.
pub(crate) enum Event {
    Input(At, Box<Input>),
    Tick(At),
    ReadLedger(At),
    ReadStatus(At),
    ReadRequests(At, u64),
    AskStatusEnd(At, u64),
    Look(At, usize),
    Refence(At),
    /// The owner learns that it lost an assignment.
    Lost(At, u64),
    Delayed(At, u64, Box<Asked>),
    StartCall(At, Made),
    Land(At, Key, i64, Option<Box<LedgerEntry>>),
    /// The same record again, by a former owner.
    LandAgain(Key, i64, Option<Box<LedgerEntry>>),
    LandFence(At, Box<LedgerEntry>, bool),
    LandStatus(At, Option<i64>, Box<MessageStatus>, Token),
    Arrive(Made, Option<[String; 2]>),
    /// Somebody else than a sender states something.
    State(Box<MessageStatus>),
    Assign(usize),
    Restart(usize),
    Overdue(At, u64),
    Produce,
    Fault,
    /// The provider is itself again.
    Calm,
}

/// A status in the log.
pub(crate) struct Stated {
    pub(crate) status: MessageStatus,
    pub(crate) epoch: Option<i64>,
    pub(crate) at_us: i64,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now_us: i64,
    events: BTreeMap<(i64, u64), Event>,
    next_event: u64,
    pub(crate) owners: Vec<Owner>,
    pub(crate) group: Option<usize>,
    /// Who gets the partition once it is given back.
    pub(crate) heir: Option<usize>,
    pub(crate) revocations: u64,
    pub(crate) log: Log,
    pub(crate) statuses: Vec<Stated>,
    pub(crate) requests: Vec<Request>,
    pub(crate) committed: i64,
    /// Below this offset every request was seen to be settled when it was committed.
    pub(crate) committed_checked: i64,
    /// Requests put aside or re-produced elsewhere.
    pub(crate) aside: Vec<i64>,
    pub(crate) provider: Provider,
    pub(crate) sessions: Vec<Line>,
    pub(crate) settings: Settings,
    /// How far wall clocks have jumped, in all, µs.
    pub(crate) jumped_us: i64,
    pub(crate) arrivals: Vec<Arrival>,
    /// When each claim was written, true time, µs.
    pub(crate) claimed_us: HashMap<(i64, i64), i64>,
    /// Attempts used per message and the request it was accepted from.
    pub(crate) attempts: HashMap<(Uuid, i64), u32>,
    pub(crate) faults: bool,
    pub(crate) broken: Option<String>,
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Planted>, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let (settings, sessions) = (settings(&mut rng), sessions(&mut rng));
        let owners = (0..3)
            .map(|n| Owner::new(n, rng.between(-SKEW_US / 2, SKEW_US / 2), &settings, planted))
            .collect();
        let mut world = Self {
            rng,
            now_us: START_US,
            events: BTreeMap::new(),
            next_event: 0,
            owners,
            group: None,
            heir: None,
            revocations: 0,
            log: Log::default(),
            statuses: Vec::new(),
            requests: Vec::new(),
            committed: 0,
            committed_checked: 0,
            jumped_us: 0,
            aside: Vec::new(),
            provider: Provider::new(),
            sessions,
            settings,
            arrivals: Vec::new(),
            claimed_us: HashMap::new(),
            attempts: HashMap::new(),
            faults: true,
            broken: None,
            trace: traced.then(Vec::new),
        };
        for owner in 0..3 {
            world.look_at_all(owner);
        }
        world
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let mut line = line();
            if line.len() > 420 {
                line.truncate((0..=420).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0));
            }
            trace.push(format!("{:>11.3} ms  {line}", (self.now_us - START_US) as f64 / 1000.0));
        }
    }

    pub(crate) fn fail(&mut self, law: String) {
        if self.broken.is_none() {
            self.note(|| format!("LAW BROKEN: {law}"));
            self.broken = Some(law);
        }
    }

    pub(crate) fn at(&self, owner: usize) -> At {
        At { owner, life: self.owners[owner].life }
    }

    pub(crate) fn later(&mut self, after_us: i64, event: Event) {
        let at = self.now_us + after_us.max(0);
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    pub(crate) fn input(&mut self, after_us: i64, at: At, input: Input) {
        self.later(after_us, Event::Input(at, Box::new(input)));
    }

    /// Runs until `end_us` or a broken law.
    pub(crate) fn run_until(&mut self, end_us: i64) {
        while self.broken.is_none() {
            let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end_us) else {
                break;
            };
            let ((at_us, _), event) = entry.remove_entry();
            self.now_us = self.now_us.max(at_us);
            self.happen(event);
        }
        self.now_us = self.now_us.max(end_us);
    }

    /// The process an event is for, unless it died; an event for a frozen one comes when it thaws.
    fn is_for_none(&mut self, at: At) -> bool {
        let owner = &self.owners[at.owner];
        owner.life != at.life || owner.sender.is_none()
    }

    fn target(event: &Event) -> Option<At> {
        match event {
            Event::Input(at, _)
            | Event::Tick(at)
            | Event::ReadLedger(at)
            | Event::ReadStatus(at)
            | Event::ReadRequests(at, _)
            | Event::AskStatusEnd(at, _)
            | Event::Look(at, _)
            | Event::Refence(at)
            | Event::Lost(at, _)
            | Event::Delayed(at, ..)
            | Event::StartCall(at, ..) => Some(*at),
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(at) = Self::target(&event) {
            if self.is_for_none(at) {
                return;
            }
            let thaws_us = self.owners[at.owner].frozen_until_us;
            if thaws_us > self.now_us {
                self.later(thaws_us - self.now_us, event);
                return;
            }
        }
        match event {
            Event::Input(at, input) => self.step(at.owner, *input),
            Event::Tick(at) => {
                if self.owners[at.owner].tick_us.is_some_and(|tick| tick <= self.now_us) {
                    self.owners[at.owner].tick_us = None;
                    self.step(at.owner, Input::Tick);
                }
            }
            Event::ReadLedger(at) => self.read_ledger(at),
            Event::ReadStatus(at) => self.read_status(at),
            Event::ReadRequests(at, tenure) => self.read_requests(at, tenure),
            Event::AskStatusEnd(at, tenure) => self.ask_status_end(at, tenure),
            Event::Look(at, session) => self.look(at, session),
            Event::Refence(at) => {
                if self.owners[at.owner].assigned {
                    self.step(at.owner, Input::Assigned { partition: 0 });
                }
            }
            Event::Lost(at, assignment) => self.learn_loss(at.owner, assignment),
            Event::Delayed(at, tenure, asked) => {
                if self.owners[at.owner].tenure == tenure {
                    self.step(at.owner, Input::Request(*asked));
                }
            }
            Event::StartCall(at, made) => self.start_call(at, made),
            Event::Land(at, key, epoch, entry) => self.land(at, key, epoch, entry),
            Event::LandAgain(key, epoch, entry) => self.land_again(key, epoch, entry),
            Event::LandFence(at, entry, reported) => self.land_fence(at, entry, reported),
            Event::LandStatus(at, epoch, status, token) => self.land_status(at, epoch, *status, token),
            Event::Arrive(made, ids) => self.arrive(&made, ids),
            Event::State(status) => self.state(None, *status),
            Event::Assign(owner) => self.assign(owner),
            Event::Restart(owner) => self.restart(owner),
            Event::Overdue(at, revocation) => self.overdue(at, revocation),
            Event::Produce => self.produce_one(),
            Event::Fault => self.fault(),
            Event::Calm => self.provider.mood = Mood::Usual,
        }
    }

    pub(crate) fn step(&mut self, owner: usize, input: Input) {
        self.note(|| format!("{owner} <- {input:?}"));
        let now = self.owners[owner].now(self.now_us);
        let fenced = if let Input::Fenced { offset, .. } = &input { Some(*offset) } else { None };
        let mut out = Vec::new();
        let Some(sender) = &mut self.owners[owner].sender else { return };
        sender.step(now, input, &mut out);
        if fenced.is_some() && fenced == self.owners[owner].epoch() {
            self.owners[owner].tail = Some(self.owners[owner].tail_from);
            self.later(1_000, Event::ReadLedger(self.at(owner)));
        }
        for effect in out {
            self.note(|| format!("{owner}    -> {effect:?}"));
            self.carry_out(owner, effect);
        }
        self.check_memory(owner);
        self.plan_tick(owner);
    }

    fn plan_tick(&mut self, owner: usize) {
        let state = &mut self.owners[owner];
        let Some(wake_us) = state.sender.as_ref().and_then(|sender| sender.next_wake_us()) else { return };
        let tick_us = state.true_us(wake_us).max(self.now_us + 1);
        if state.tick_us.is_none_or(|planned| tick_us < planned) {
            state.tick_us = Some(tick_us);
            let after_us = tick_us - self.now_us;
            self.later(after_us, Event::Tick(self.at(owner)));
        }
    }

    fn carry_out(&mut self, owner: usize, effect: Effect) {
        let at = self.at(owner);
        match effect {
            Effect::Fence { resume, .. } => {
                if resume.is_none() {
                    self.owners[owner].throttled_ms.clear();
                }
                if resume.as_ref().is_some_and(|resume| !self.log.holds(&resume.identity)) {
                    self.input(1_000, at, Input::StoreStale { partition: 0 });
                    return;
                }
                self.owners[owner].tail_from = resume.map_or(0, |resume| resume.next_offset);
                self.write_fence(at);
            }
            Effect::FenceLater { after_ms, .. } => self.later(after_ms as i64 * 1000, Event::Refence(at)),
            Effect::Append { epoch, key, entry, urgent, .. } => self.append(at, key, epoch, entry, urgent),
            Effect::Publish { status, token, .. } => self.publish(at, status, token),
            Effect::DeadLetter { offset, token, .. } | Effect::Reroute { offset, token, .. } => {
                self.aside.push(offset);
                self.input(5_000, at, Input::Acked { token, offset: 0 });
            }
            Effect::Call(call) => {
                let Some(made) = self.check_call(owner, call) else { return };
                let slow = self.faults && self.rng.chance(4);
                let after_us = self.rng.between(0, if slow { 6_000_000 } else { 20_000 });
                self.later(after_us, Event::StartCall(at, made));
            }
            Effect::LookUp { message_id, provider_message_id, .. } => {
                self.look_up(at, message_id, &provider_message_id);
            }
            Effect::Own { position, status_from_ms, .. } => self.own(at, position, status_from_ms),
            Effect::Commit { offset, .. } => self.commit(owner, offset),
            Effect::HoldIntake { hold, .. } => {
                self.owners[owner].intake_held = hold;
                let tenure = self.owners[owner].tenure;
                self.later(1_000, Event::ReadRequests(at, tenure));
            }
            Effect::Drop { .. } => self.owners[owner].end_tenure(),
            Effect::GiveBack { .. } => self.given_back(owner),
            Effect::StoreFailed { .. } => self.broken = Some("a store failed".to_owned()),
            Effect::SessionStatus { .. } | Effect::Note(_) => {}
        }
    }

    pub(crate) fn look_at_all(&mut self, owner: usize) {
        for session in 0..self.sessions.len() {
            self.later(0, Event::Look(self.at(owner), session));
        }
    }

    pub(crate) fn session_changed(&mut self, session: usize) {
        for owner in 0..self.owners.len() {
            let after_us = self.rng.between(1_000, 500_000);
            self.later(after_us, Event::Look(self.at(owner), session));
        }
    }

    fn look(&mut self, at: At, session: usize) {
        let line = &self.sessions[session];
        let config = line.exists.then(|| Box::new(line.config.clone()));
        let connection = if line.down { Connection::LoggedOut } else { Connection::Connected };
        let condition =
            SessionCondition { paused: line.paused, connection, connection_at_ms: line.connection_at_ms };
        let session_id = line.id.clone();
        let may_send = line.exists && !line.paused;
        let told = &mut self.owners[at.owner].told;
        told.resize(self.sessions.len(), false);
        self.step(at.owner, Input::Session { session_id: session_id.clone(), config });
        self.step(at.owner, Input::Condition { session_id, condition });
        self.owners[at.owner].told[session] = may_send;
    }
}
