//! What goes wrong, and who owns the partition.

use sluice_core::sender::Input;
use sluice_schemas::{OutboundCommand, Priority, RateLimit};

use crate::owner::START_US;
use crate::plan::{self, Request};
use crate::provider::Mood;
use crate::world::{At, Event, World};

/// A wall clock jumps by at most this much.
const JUMP_MAX_US: i64 = 10_000_000;
/// A message that nothing is in the way of is sent within this time.
const PROBE_US: i64 = 3_000_000;
/// An owner that is well gives a partition back within this time.
const GIVE_BACK_US: i64 = 60_000_000;

const SECOND_US: i64 = 1_000_000;

impl World {
    /// A run: some minutes of trouble, then peace until everything is settled.
    pub(crate) fn play(&mut self) {
        self.later(0, Event::Assign(0));
        let bursts = self.rng.chance(15);
        let requests = self.rng.between(3, if bursts { 160 } else { 40 });
        let burst_us = self.rng.between(0, 60 * SECOND_US);
        for n in 0..requests {
            let in_burst = bursts && n % 4 > 0;
            let at_us = if in_burst { burst_us } else { self.rng.between(0, 90 * SECOND_US) };
            self.later(at_us, Event::Produce);
        }
        let faults = self.rng.between(0, 25);
        for _ in 0..faults {
            let after_us = self.rng.between(0, 120 * SECOND_US);
            self.later(after_us, Event::Fault);
        }
        let peace_us = START_US + self.rng.between(60, 150) * SECOND_US;
        self.run_until(peace_us);
        self.make_peace();
        self.probe_beside_held_sessions();
        self.probe_all_sessions();
        self.probe_lanes();
        self.hand_over_clean();
    }

    pub(crate) fn produce_one(&mut self) {
        let now_ms = self.now_us / 1000;
        let request = plan::request(&mut self.rng, now_ms, &self.sessions, &self.requests);
        self.produce(request);
    }

    pub(crate) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let owner = self.rng.below(self.owners.len());
        let owner = if self.rng.chance(70) { self.group.unwrap_or(owner) } else { owner };
        match self.rng.below(100) {
            0..15 => self.crash(owner),
            15..30 => self.freeze(owner),
            30..44 => self.hand_over(),
            44..51 => self.steal(),
            51..56 => {
                let lag_us = self.rng.between(1_000, 8_000_000);
                self.owners[owner].lag_us = if self.rng.chance(50) { 2_000 } else { lag_us };
            }
            56..64 => {
                self.note(|| "compaction".to_owned());
                self.log.compact(self.now_us);
            }
            64..68 => self.reset_offset(),
            68..72 => self.jump(owner),
            72..77 => self.change_mood(),
            77..82 => self.operate(),
            _ => self.change_session(),
        }
    }

    /// The group forgets how far requests were taken.
    fn reset_offset(&mut self) {
        let to = self.rng.below(self.committed as usize + 1) as i64;
        self.note(|| format!("the committed offset is set back to {to}"));
        self.committed = to;
    }

    /// Somebody sets the wall clock of a machine.
    fn jump(&mut self, owner: usize) {
        let by_us = self.rng.between(-JUMP_MAX_US, JUMP_MAX_US);
        self.note(|| format!("the wall clock of {owner} jumps by {by_us} us"));
        self.owners[owner].skew_us += by_us;
        self.jumped_us += by_us.abs();
    }

    fn change_mood(&mut self) {
        let moods = [Mood::Failing, Mood::Throttling, Mood::Hanging];
        self.provider.mood = moods[self.rng.below(3)];
        let mood = self.provider.mood;
        self.note(|| format!("the provider is {mood:?}"));
        let after_us = self.rng.between(SECOND_US, 40 * SECOND_US);
        self.later(after_us, Event::Calm);
    }

    fn change_session(&mut self) {
        let session = self.rng.below(self.sessions.len());
        let now_ms = self.now_us / 1000;
        let what = self.rng.below(11);
        let limits = plan::limits(&mut self.rng);
        let line = &mut self.sessions[session];
        match what {
            0..3 => line.paused = !line.paused,
            3..5 => {
                line.down = !line.down;
                line.connection_at_ms = now_ms;
            }
            5 => line.exists = !line.exists,
            6 => line.config.base_url = "http://other".into(),
            7 => line.config.base_url_in_flight_max = Some(1),
            8 => {
                line.config.limits = limits;
                line.limited_us = self.now_us;
            }
            9 => {
                line.config.account_id = format!("a{}", line.config.binding_epoch);
                line.config.binding_epoch += 1;
            }
            _ => {}
        }
        let told = (line.id.clone(), line.exists, line.paused, line.down, line.config.binding_epoch);
        self.note(|| format!("session (id, exists, paused, down, binding) {told:?}"));
        self.session_changed(session);
    }

    fn crash(&mut self, owner: usize) {
        if self.owners[owner].sender.is_none() {
            return;
        }
        self.note(|| format!("{owner} crashes"));
        self.owners[owner].crash();
        if self.rng.chance(10) {
            self.note(|| format!("the store of {owner} is deleted"));
            self.owners[owner].disk.wipe();
        }
        let back_us = self.rng.between(SECOND_US, 20 * SECOND_US);
        self.later(back_us, Event::Restart(owner));
        if self.group == Some(owner) {
            self.group = None;
            self.heir = None;
            let after_us = self.rng.between(10_000, 8 * SECOND_US);
            let heir = (owner + 1 + self.rng.below(2)) % 3;
            self.later(after_us, Event::Assign(heir));
        }
    }

    pub(crate) fn restart(&mut self, owner: usize) {
        if self.owners[owner].sender.is_none() {
            self.note(|| format!("{owner} starts"));
            self.owners[owner].start(owner);
            self.look_at_all(owner);
        }
    }

    fn freeze(&mut self, owner: usize) {
        let for_us = self.rng.between(100_000, 45 * SECOND_US);
        self.note(|| format!("{owner} freezes for {for_us} us"));
        self.owners[owner].frozen_until_us = self.now_us + for_us;
        if self.group == Some(owner) && for_us > 10 * SECOND_US {
            // The group writes it off.
            let heir = (owner + 1) % 3;
            self.take_away(owner, for_us);
            self.later(10 * SECOND_US, Event::Assign(heir));
        }
    }

    /// The group takes the partition from an owner that learns of it later.
    fn take_away(&mut self, owner: usize, learns_us: i64) {
        self.group = None;
        self.heir = None;
        let at = self.at(owner);
        let assignment = self.owners[owner].assignment;
        self.later(learns_us, Event::Lost(at, assignment));
    }

    pub(crate) fn learn_loss(&mut self, owner: usize, assignment: u64) {
        let state = &mut self.owners[owner];
        if state.assigned && state.assignment == assignment {
            state.assigned = false;
            self.step(owner, Input::Lost { partition: 0 });
        }
    }

    fn steal(&mut self) {
        let Some(owner) = self.group else { return };
        let learns_us = self.rng.between(0, 15 * SECOND_US);
        self.note(|| format!("the group writes {owner} off"));
        self.take_away(owner, learns_us);
        self.later(1_000, Event::Assign((owner + 1) % 3));
    }

    fn hand_over(&mut self) {
        let Some(owner) = self.group else { return };
        if self.heir.is_some() {
            return;
        }
        self.heir = Some((owner + 1 + self.rng.below(2)) % 3);
        self.revocations += 1;
        let at = self.at(owner);
        self.note(|| format!("{owner} is to give back"));
        self.input(1_000, at, Input::Revoking { partition: 0 });
        self.later(GIVE_BACK_US, Event::Overdue(at, self.revocations));
    }

    /// An owner that was asked to give back and did not.
    pub(crate) fn overdue(&mut self, at: At, revocation: u64) {
        if self.group != Some(at.owner) || self.heir.is_none() || self.revocations != revocation {
            return;
        }
        if self.owners[at.owner].life == at.life
            && self.owners[at.owner].frozen_until_us < self.now_us - GIVE_BACK_US
        {
            self.fail(format!("owner {} was asked to give back and never does", at.owner));
        }
        let heir = self.heir.unwrap_or(0);
        self.take_away(at.owner, 0);
        self.later(1_000, Event::Assign(heir));
    }

    pub(crate) fn given_back(&mut self, owner: usize) {
        self.owners[owner].end_tenure();
        self.owners[owner].assigned = false;
        if self.group == Some(owner) {
            let heir = self.heir.take().unwrap_or((owner + 1) % 3);
            self.group = None;
            // Once everything it wrote is acknowledged.
            let flushed_us = self.owners[owner].lands_us.iter().copied().max().unwrap_or(0).max(self.now_us);
            self.later(flushed_us - self.now_us + 5_000, Event::Assign(heir));
        }
    }

    pub(crate) fn assign(&mut self, owner: usize) {
        if self.group.is_some() {
            return;
        }
        let usable =
            |o: &usize| self.owners[*o].sender.is_some() && self.owners[*o].frozen_until_us <= self.now_us;
        let Some(owner) = [owner, (owner + 1) % 3, (owner + 2) % 3].into_iter().find(usable) else {
            self.later(SECOND_US, Event::Assign(owner));
            return;
        };
        self.note(|| format!("assigned to {owner}"));
        self.group = Some(owner);
        // A member hears of what it lost before it hears of what it gets.
        self.learn_loss(owner, self.owners[owner].assignment);
        self.owners[owner].assigned = true;
        self.owners[owner].assignment += 1;
        self.step(owner, Input::Assigned { partition: 0 });
    }

    fn make_peace(&mut self) {
        self.note(|| "peace".to_owned());
        self.faults = false;
        self.provider.mood = Mood::Usual;
        let now_ms = self.now_us / 1000;
        for owner in 0..self.owners.len() {
            self.owners[owner].frozen_until_us = self.now_us;
            self.owners[owner].lag_us = 2_000;
            self.restart(owner);
        }
        let fails = self.rng.chance(50);
        for session in 0..self.sessions.len() {
            let line = &mut self.sessions[session];
            line.exists = true;
            line.paused = session == 0;
            line.down = session == 1 && !fails;
            line.broken = session == 1 && fails;
            line.connection_at_ms = now_ms;
            self.session_changed(session);
        }
    }

    fn probe(&mut self, session: usize, n: usize) -> uuid::Uuid {
        self.probe_to(Priority::High, session, n, n)
    }

    fn probe_to(&mut self, priority: Priority, session: usize, recipient: usize, n: usize) -> uuid::Uuid {
        let id = self.sessions[session].id.to_string();
        let command = OutboundCommand {
            to: Some(format!("+155599900{recipient:02}")),
            priority,
            ..plan::text(&mut self.rng, id, format!("probe-{n}"))
        };
        let request = Request::new(command);
        let id = request.id;
        self.produce(request);
        id
    }

    fn pass(&mut self, seconds: i64) {
        self.run_until(self.now_us + seconds * SECOND_US);
    }

    /// One session is paused, one is down or failed by the provider: the third sends as if they were not there. What is
    /// in its way are its own messages, at the pace of its own limits.
    fn probe_beside_held_sessions(&mut self) {
        self.pass(60);
        // Something to fail with, but no full queue.
        if self.count_waiting(1) < 4 {
            for n in 20..24 {
                self.probe(1, n);
            }
        }
        // Longer than a circuit of the base URL, open since the trouble, stays shut for a last probe of that session.
        self.pass(20);
        let id = self.probe(2, 0);
        let ahead = self.count_waiting(2);
        // The widest interval of a limit, also with a burst and two calls at once.
        let interval_ms = |limit: &RateLimit| limit.per_ms / i64::from((limit.count - limit.burst).max(1));
        let config = &self.sessions[2].config;
        let limits = config.limits.iter().chain(&config.pair_limits);
        let interval_ms = limits.map(interval_ms).max().unwrap_or(1_000).max(1_000);
        self.run_until(self.now_us + PROBE_US + ahead as i64 * interval_ms * 1000);
        self.check_submitted(id, "beside a paused and a down session");
    }

    fn probe_all_sessions(&mut self) {
        let now_ms = self.now_us / 1000;
        for session in 0..2 {
            let line = &mut self.sessions[session];
            line.paused = false;
            line.down = false;
            line.broken = false;
            line.connection_at_ms = now_ms;
            self.session_changed(session);
        }
        self.pass(5);
        // One that had failed may have a full queue, which would refuse the probe.
        for _ in 0..60 {
            if self.count_waiting(1) < 8 && self.is_settled() {
                break;
            }
            self.pass(20);
        }
        self.log.compact(self.now_us);
        let probes: Vec<_> = (0..3).map(|session| self.probe(session, session + 1)).collect();
        self.pass(400);
        // A long queue at a slow limit takes its time.
        for _ in 0..5 {
            if self.is_settled() {
                break;
            }
            self.pass(300);
        }
        for id in probes {
            self.check_submitted(id, "at rest");
        }
        self.check_rest();
    }

    /// One message that is not urgent among more urgent ones than may pass it.
    fn probe_lanes(&mut self) {
        const BEFORE: usize = 4;
        let most = BEFORE + self.settings.lane_share_min as usize;
        // To no more recipients than a session may know at once, or they would wait for that.
        let urgent = |world: &mut Self, n| world.probe_to(Priority::High, 2, 30 + n % 3, 30 + n);
        let mut all: Vec<_> = (0..BEFORE).map(|n| urgent(self, n)).collect();
        let slow = self.probe_to(Priority::Low, 2, 40, 60);
        all.extend((BEFORE..=most).map(|n| urgent(self, n)));
        for _ in 0..5 {
            self.pass(100);
            if self.is_settled() {
                break;
            }
        }
        self.check_turns(slow, &all, most);
    }

    /// Hand-overs in peace, also to an owner that was away for long, and of which the group forgot how far requests were
    /// taken: they leave nothing in doubt and no key of what is done.
    fn hand_over_clean(&mut self) {
        for round in 0..2 {
            let doubts = self.count_doubts();
            self.log.compact(self.now_us);
            if self.rng.chance(30) {
                self.reset_offset();
            }
            // Calls are under way when it begins.
            for session in 0..3 {
                self.probe(session, 4 + 3 * round + session);
            }
            let soon_us = self.rng.between(0, 300_000);
            self.run_until(self.now_us + soon_us);
            self.hand_over();
            self.pass(90);
            if self.count_doubts() > doubts {
                self.fail("a clean hand-over left something in doubt".to_owned());
            }
            self.check_tidy();
        }
    }
}
