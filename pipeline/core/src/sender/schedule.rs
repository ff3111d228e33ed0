//! Who goes next: base URL → tenant → session → (lane, chat). A session that is not ready costs nothing.

use sluice_schemas::{ErrorClass, Status};
use uuid::Uuid;

use super::backlog::Backlog;
use super::bulkhead::BulkheadIndex;
use super::chat::Chat;
use super::facts::{Fact, error};
use super::message::{End, Lane, Next, Stage, Unsent};
use super::session::SessionIndex;
use super::{Effect, Phase, Planted, Sender, SessionCondition, SessionConfig};

/// Sessions looked at in one step for what they need no more, and the least pause between two.
const REST_PER_STEP: usize = 4_096;
const REST_PAUSE_US: i64 = 1_000_000;

/// Expired entries of the dedupe window removed per step.
const EXPIRED_PER_STEP: usize = 16;

impl Sender {
    /// Puts an open message where it waits: its chat's queue, or the calendar.
    pub(super) fn enqueue(&mut self, partition: i32, id: Uuid) {
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.stage = Stage::Waiting;
        let (session, lane, waits) = (open.session, open.lane, Backlog::one(open.bytes));
        let newly = !std::mem::replace(&mut open.in_backlog, true);
        // A message that had its turn goes back to the head.
        let back = open.attempts > 0 || !open.recorded.epochs.is_empty();
        let stays = (open.is_scheduled() && !back) || open.queued || open.parked;
        if newly {
            self.sessions.wait(session, waits);
        }
        if stays {
            return;
        }
        if !back && self.must_park(session, lane) {
            if let Some(open) = self.open_mut(partition, &id) {
                open.parked = true;
            }
            self.sessions.work(session).count_parked(lane, 1);
            return;
        }
        self.stand_in_chat(partition, id, if back { Chat::push_front } else { Chat::push });
        self.offer(session);
    }

    /// Puts a message into its chat's queue, at the end or the head as `push` does.
    pub(super) fn stand_in_chat(&mut self, partition: i32, id: Uuid, push: fn(&mut Chat, Lane, Uuid)) {
        let now_us = self.now.wall_us;
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.queued = true;
        let (session, chat, lane) = (open.session, open.chat.clone(), open.lane);
        let state = self.sessions.work(session);
        state.count_queued(lane, 1);
        push(state.chats.entry(chat.clone()).or_default(), lane, id);
        state.ready_chat(&chat, now_us);
    }

    /// Sets when a waiting message is looked at next: its time, its end, or the end of patience with an
    /// unknown session.
    pub(super) fn arm(&mut self, partition: i32, id: Uuid) {
        let now_us = self.now.wall_us;
        let unknown_hold_us =
            i64::try_from(self.settings.unknown_session_hold_ms).unwrap_or(i64::MAX / 1000) * 1000;
        let Some(open) = self.open(partition, &id) else { return };
        let mut due_us = open.expires_at_us;
        match &open.stage {
            Stage::Waiting => {
                if open.canceled {
                    due_us = now_us;
                }
                if self.sessions.get(open.session).config.is_none() {
                    due_us =
                        due_us.min(open.accepted_at_ms.saturating_mul(1000).saturating_add(unknown_hold_us));
                }
            }
            Stage::Retrying { not_before_us } => {
                due_us = if open.canceled { now_us } else { due_us.min(*not_before_us) };
            }
            Stage::InDoubt(doubt) if !doubt.held => due_us = doubt.decide_at_ms.saturating_mul(1000),
            _ => return,
        }
        self.set_due(partition, id, Some(due_us));
    }

    /// Offers a session to its bulkhead's line if it has something to send and may.
    pub(super) fn offer(&mut self, session: SessionIndex) {
        let now_us = self.now.wall_us;
        if self.sessions.get(session).has_parked() {
            self.refill(session);
        }
        let state = self.sessions.get(session);
        if !state.has_ready_chat() || state.is_in_line() || !state.has_room() {
            return;
        }
        if let Some(holding) = state.holding(now_us) {
            if let (Some(bulkhead), true) = (state.bulkhead, self.planted(Planted::HeldBlocksOthers)) {
                self.bulkheads.get(bulkhead).throttled_until_us = now_us + 60_000_000;
            }
            if let Some(at) = holding.until_us().filter(|at| *at > now_us) {
                self.wake_session(session, at);
            }
            return;
        }
        if self.partitions.get(&state.partition).is_none_or(|part| part.phase != Phase::Owned) {
            return;
        }
        let Some(bulkhead) = state.bulkhead else { return };
        let claim_at_us = self.claim_at_us(session, bulkhead);
        if claim_at_us > now_us {
            self.wake_session(session, claim_at_us);
            return;
        }
        let state = self.sessions.get(session);
        let weight = state.config.as_ref().map_or(1, |config| config.tenant_weight);
        let tenant = state.tenant.clone();
        self.sessions.work(session).in_line = true;
        self.bulkheads.get(bulkhead).enter(&tenant, weight, session);
    }

    /// Claims for whoever is in line while there are slots.
    pub(super) fn pump(&mut self, out: &mut Vec<Effect>) {
        let now_us = self.now.wall_us;
        for bulkhead in self.bulkheads.indices() {
            while self.bulkheads.get(bulkhead).has_slot(now_us) {
                let Some(session) = self.bulkheads.get(bulkhead).next() else { break };
                self.sessions.work(session).in_line = false;
                // It may have been paused, or another claim may have used its time, since it got in line.
                if self.sessions.get(session).bulkhead == Some(bulkhead) && self.is_ready(session) {
                    self.claim_next(session, out);
                }
                self.offer(session);
            }
        }
    }

    /// When the session's next message may be claimed: ahead of the time the limits allow its call, so that the claim
    /// stands in the log by then.
    fn claim_at_us(&self, session: SessionIndex, bulkhead: BulkheadIndex) -> i64 {
        let lead_us = i64::try_from(self.settings.claim_lead_ms).unwrap_or(0).saturating_mul(1000);
        let throttled_until_us = self.bulkheads.look_at(bulkhead).throttled_until_us;
        self.sessions
            .get(session)
            .ready_at_us(self.now.wall_us)
            .max(throttled_until_us)
            .saturating_sub(lead_us)
    }

    fn is_ready(&self, session: SessionIndex) -> bool {
        let now_us = self.now.wall_us;
        let state = self.sessions.get(session);
        let Some(bulkhead) = state.bulkhead else { return false };
        state.has_room()
            && state.holding(now_us).is_none()
            && self.claim_at_us(session, bulkhead) <= now_us
            && self.partitions.get(&state.partition).is_some_and(|part| part.phase == Phase::Owned)
    }

    fn claim_next(&mut self, session: SessionIndex, out: &mut Vec<Effect>) {
        let (now_us, mut share_min) = (self.now.wall_us, self.settings.lane_share_min);
        if self.planted(Planted::LowLaneStarves) {
            share_min = u32::MAX;
        }
        let state = self.sessions.get_mut(session);
        let partition = state.partition;
        let Some(id) = state.work().take_head(now_us, share_min) else { return };
        if self.planted(Planted::ChatBusyIgnored) {
            self.sessions.work(session).free_chats(id);
        }
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.queued = false;
        let lane = open.lane;
        self.sessions.work(session).count_queued(lane, -1);
        let Some(open) = self.open(partition, &id) else { return };
        if !matches!(open.stage, Stage::Waiting) || self.why_unsent(partition, &id).is_some() {
            self.look_again(partition, id, out);
            return;
        }
        if self.wait_for_pair(partition, id) {
            return;
        }
        self.claim(partition, id, out);
    }

    /// Looks at a message whose time has come or about which something was read.
    pub(super) fn look_again(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let now_us = self.now.wall_us;
        let Some(part) = self.partitions.get(&partition).filter(|part| part.is_live()) else { return };
        let Some(open) = part.open.get(&id) else { return };
        if open.unread > 0 && !self.planted(Planted::DecideWhileUnread) {
            // No decision while a record of ours about it is unread: its read-back looks again.
            return;
        }
        if matches!(open.stage, Stage::Waiting | Stage::Retrying { .. })
            && let Some(why) = self.why_unsent(partition, &id)
        {
            self.append_ending(partition, id, why, out);
            return;
        }
        match &open.stage {
            Stage::Waiting if open.queued => self.arm(partition, id),
            Stage::Waiting => self.requeue(partition, id),
            Stage::Retrying { not_before_us } if *not_before_us <= now_us => self.requeue(partition, id),
            Stage::Retrying { .. } => self.wait_for_retry(partition, id),
            // Nothing of it is unread: its claim stands in the log, and so does its Accepted record.
            Stage::Claiming(claim) | Stage::Claimed(claim) => {
                let claim = *claim;
                self.try_start(partition, id, claim, out);
            }
            Stage::Ending(why) => {
                let why = why.clone();
                self.end_unsent(partition, id, &why, out);
            }
            Stage::InDoubt(_) => self.decide(partition, id, out),
            Stage::Calling(..) | Stage::Settling(_) | Stage::Finishing => {}
        }
    }

    pub(super) fn requeue(&mut self, partition: i32, id: Uuid) {
        self.enqueue(partition, id);
        if !self.leave(partition, id) {
            self.arm(partition, id);
        }
    }

    /// Why a message that waits is not to be sent, if so.
    fn why_unsent(&self, partition: i32, id: &Uuid) -> Option<Unsent> {
        let unknown_hold_ms = i64::try_from(self.settings.unknown_session_hold_ms).unwrap_or(i64::MAX);
        let open = self.open(partition, id)?;
        let session = self.sessions.get(open.session);
        let is_known = session.config.is_some();
        let tenant = open.command.tenant_id.as_deref();
        if open.canceled {
            Some(Unsent::new(Status::Canceled, "canceled"))
        } else if open.expires_at_us <= self.now.wall_us {
            Some(Unsent::new(Status::Expired, "expired"))
        } else if session.has_outlived(open.accepted_at_ms, open.binding_epoch) {
            Some(Unsent::new(Status::Failed, "session_deleted"))
        } else if !is_known && open.accepted_at_ms.saturating_add(unknown_hold_ms) <= self.now.wall_ms() {
            Some(Unsent::new(Status::Failed, "unknown_session"))
        } else if is_known && tenant.is_some_and(|tenant| *tenant != *session.tenant) {
            Some(Unsent::new(Status::Failed, "tenant_mismatch"))
        } else {
            None
        }
    }

    /// A message whose next attempt is later keeps its chat waiting, but no session slot.
    pub(super) fn wait_for_retry(&mut self, partition: i32, id: Uuid) {
        self.hold_chat(partition, id);
        self.arm(partition, id);
    }

    /// The message keeps its lane waiting from now on, up to `order_hold_max_ms`.
    pub(super) fn hold_chat(&mut self, partition: i32, id: Uuid) {
        let mut until_us = self.after_us(self.settings.order_hold_max_ms);
        if self.planted(Planted::ChatHoldForever) {
            until_us = i64::MAX;
        } else if self.planted(Planted::ChatHoldSkipped) {
            until_us = self.now.wall_us;
        }
        let now_us = self.now.wall_us;
        let Some(open) = self.open(partition, &id) else { return };
        let (session, chat_key, lane) = (open.session, open.chat.clone(), open.lane);
        let state = self.sessions.work(session);
        let chat = state.chats.entry(chat_key.clone()).or_default();
        chat.release(id);
        chat.hold(lane, id, until_us);
        state.ready_chat(&chat_key, now_us);
        state.note_held_chat(chat_key);
        self.wake_session(session, until_us);
    }

    /// Ends a message without (another) attempt.
    pub(super) fn end_unsent(&mut self, partition: i32, id: Uuid, why: &Unsent, out: &mut Vec<Effect>) {
        let fact = Fact {
            status: why.outcome,
            error: Some(error(ErrorClass::Refused, &why.code, why.detail())),
            ..Fact::default()
        };
        let end = End {
            outcome: why.outcome,
            reason: Some(why.code.clone()),
            provider_message_id: None,
            claim_epoch: -1,
            claim_seq: 0,
        };
        self.settle(partition, id, fact, Next::Done(end), out);
    }

    pub(super) fn run_timers(&mut self, out: &mut Vec<Effect>) {
        let now_us = self.now.wall_us;
        if now_us < self.floor_us {
            self.pump(out);
            return;
        }
        self.run_message_timers(now_us, out);
        self.run_local_timers(out);
        while let Some((_, session)) = pop_due(&mut self.wakes, now_us) {
            let work = self.sessions.work(session);
            work.wake_us = None;
            if let Some(next_us) = work.ready_held_chats(now_us) {
                self.wake_session(session, next_us);
            }
            self.offer(session);
        }
        while let Some((_, session)) = pop_due(&mut self.look_ups, now_us) {
            self.sessions.work(session).look_up_due_us = None;
            self.look_up(session, out);
        }
        self.forget_expired(out);
        self.rest();
        self.pump(out);
        self.floor_us = self.earliest_timer_us();
    }

    /// Once in a while some of the sessions are looked at: those with nothing to remember need less memory.
    fn rest(&mut self) {
        let now_us = self.now.wall_us;
        if self.rest_at_us <= now_us || self.rest_at_us > now_us.saturating_add(REST_PAUSE_US) {
            self.rest_at_us = now_us.saturating_add(REST_PAUSE_US);
            let (mut as_of_us, mut span) = (now_us, self.span());
            if self.planted(Planted::RestTooEarly) {
                (as_of_us, span.now_ms) = (i64::MAX, i64::MAX);
            }
            self.sessions.rest(REST_PER_STEP, as_of_us, span);
        }
    }

    fn run_message_timers(&mut self, now_us: i64, out: &mut Vec<Effect>) {
        let due: Vec<(i32, Uuid)> = self
            .partitions
            .iter()
            .filter(|(_, part)| part.is_live())
            .flat_map(|(n, part)| part.due.range(..=(now_us, Uuid::max())).map(|(_, id)| (*n, *id)))
            .collect();
        for (partition, id) in due {
            self.set_due(partition, id, None);
            self.look_again(partition, id, out);
        }
    }

    /// Drops what is past the dedupe window.
    fn forget_expired(&mut self, out: &mut Vec<Effect>) {
        let window_ms = i64::try_from(self.settings.dedupe_window_ms).unwrap_or(i64::MAX);
        let before_ms = self.now.wall_ms().saturating_sub(window_ms);
        self.forget_cancels(before_ms, out);
        for (n, part) in &mut self.partitions {
            if part.phase != Phase::Owned {
                continue;
            }
            for id in part.local.take_ended(before_ms, EXPIRED_PER_STEP) {
                out.push(Effect::Append {
                    partition: *n,
                    epoch: part.epoch,
                    key: super::ledger::Key::Done(id),
                    entry: None,
                    urgent: false,
                });
            }
        }
    }

    pub(super) fn session(
        &mut self,
        session_id: &str,
        config: Option<Box<SessionConfig>>,
        out: &mut Vec<Effect>,
    ) {
        let partition = self.partition_of(session_id);
        let session = self.sessions.of(session_id, partition);
        let bulkhead = config.as_ref().map(|config| {
            let slots = config.base_url_in_flight_max.unwrap_or(self.settings.base_url_in_flight_max);
            self.bulkheads.of(&config.base_url, slots)
        });
        let before = self.sessions.get(session).config.as_deref();
        let deleted = config.is_none() && before.is_some();
        let rebound =
            before.zip(config.as_deref()).is_some_and(|(old, new)| old.binding_epoch < new.binding_epoch);
        self.move_to(session, bulkhead);
        self.sessions.configure(session, config);
        let state = self.sessions.get_mut(session);
        // A new record may bring a new credential: try again.
        state.down = None;
        if deleted {
            state.deleted_at_ms = self.now.wall_ms();
        }
        if deleted || rebound {
            self.sweep(partition, session);
        }
        self.offer(session);
        self.pump(out);
    }

    /// The session waits at another base URL from now on; at the old one it may stand behind dead calls.
    fn move_to(&mut self, session: SessionIndex, bulkhead: Option<BulkheadIndex>) {
        let state = self.sessions.get_mut(session);
        if bulkhead.is_none() || bulkhead == state.bulkhead {
            return;
        }
        let old = std::mem::replace(&mut state.bulkhead, bulkhead);
        let was_in_line = state.at_work_mut().is_some_and(|work| std::mem::take(&mut work.in_line));
        if let Some(old) = old.filter(|_| was_in_line) {
            let tenant = state.tenant.clone();
            self.bulkheads.get(old).leave(&tenant, session);
        }
    }

    pub(super) fn condition(&mut self, session_id: &str, condition: SessionCondition, out: &mut Vec<Effect>) {
        let partition = self.partition_of(session_id);
        let probe_at_us = self.after_us(self.settings.session_probe_ms);
        let session = self.sessions.of(session_id, partition);
        let changed = self.sessions.get_mut(session).connect(condition, probe_at_us);
        if changed {
            self.state_hold(session, out);
        }
        self.offer(session);
        self.pump(out);
    }
}

fn pop_due(
    set: &mut std::collections::BTreeSet<(i64, SessionIndex)>,
    now_us: i64,
) -> Option<(i64, SessionIndex)> {
    if set.first().is_some_and(|(at, _)| *at <= now_us) { set.pop_first() } else { None }
}
