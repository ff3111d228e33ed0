//! Messages that wait and are not in memory: a session keeps the heads of its queues there, and what is behind, or
//! due later, is in the local state only. So a million messages in one session cost it nothing but disk.

use uuid::Uuid;

use super::backlog::Backlog;
use super::chat::Chat;
use super::kept::{Kept, Place, Spot};
use super::message::{Lane, Open, Stage};
use super::session::SessionIndex;
use super::{Effect, Partition, Phase, Sender};

/// Messages brought to memory, or looked at, in one step of a timer.
const PER_STEP: usize = 64;

/// Messages looked at in one queue: those behind one that lives longer are found as well.
const HEADS: usize = 16;
/// Pause between two steps of one round.
const PAUSE_US: i64 = 10_000;

/// Looks at the heads of all queues in turn. Messages whose requests do not say when they expire do so in the order
/// of their queue, so that they need no entry of their own.
#[derive(Debug, Default)]
pub(super) struct ExpirySweep {
    /// When it goes on, wall µs.
    pub(super) at_us: i64,
    /// The session it has come to in this round.
    after: Option<std::sync::Arc<str>>,
}

impl Partition {
    /// Keeps an open message, of which the log tells.
    pub(super) fn keep(&mut self, id: Uuid, kept: Kept) {
        if let Place::Calendar(at_us) = kept.place {
            self.local_floor_us = self.local_floor_us.min(at_us);
        }
        if kept.is_timed {
            self.local_floor_us = self.local_floor_us.min(kept.expires_at_us);
        }
        self.local.keep(id, kept);
    }

    /// The rank of the request at `offset`, or one behind all that were given if that would stand before some.
    pub(super) fn next_rank(&mut self, offset: i64) -> i64 {
        self.rank = self.rank.saturating_add(1).max(rank_of(offset));
        self.rank
    }
}

/// Where the request at `offset` stands, whoever took it in; between two of them there is room for those that come
/// late or are due.
pub(super) fn rank_of(offset: i64) -> i64 {
    offset.saturating_mul(1 << 20)
}

impl Sender {
    /// How many messages of one lane of a session may be in memory.
    fn resident_max(&self) -> usize {
        let resident: usize = self.partitions.values().map(|part| part.open.len()).sum();
        if resident < self.settings.resident_max {
            self.settings.session_resident_max
        } else {
            self.settings.session_resident_min
        }
    }

    /// Whether a message behind all others of its lane has to wait outside memory.
    pub(super) fn must_park(&self, session: SessionIndex, lane: Lane) -> bool {
        let Some(work) = self.sessions.get(session).at_work() else { return false };
        work.parked[lane as usize].count > 0 || work.resident[lane as usize] >= self.resident_max()
    }

    /// A message whose Accepted record is read back leaves memory if it is to wait outside it; whether it did.
    pub(super) fn leave(&mut self, partition: i32, id: Uuid) -> bool {
        let Some(open) = self.open(partition, &id) else { return false };
        let session = open.session;
        if (open.parked || open.is_scheduled()) && open.may_leave() {
            // One that was due later may have been given a place behind it and be in memory already.
            let (lane, before) = (open.lane, (open.rank.saturating_sub(1), Uuid::max()));
            let parked = &mut self.sessions.work(session).parked[lane as usize];
            parked.loaded_to = parked.loaded_to.min(Some(before));
            self.set_due(partition, id, None);
            if let Some(part) = self.partitions.get_mut(&partition) {
                part.open.remove(&id);
                self.floor_us = self.floor_us.min(part.local_floor_us);
            }
            self.offer(session);
            return true;
        }
        self.unpark(partition, id);
        false
    }

    /// A message in memory that was to leave it stays.
    fn unpark(&mut self, partition: i32, id: Uuid) {
        let Some(open) = self.open_mut(partition, &id) else { return };
        if std::mem::take(&mut open.parked) {
            let (session, lane) = (open.session, open.lane);
            self.sessions.work(session).count_parked(lane, -1);
        }
    }

    /// Brings the next messages of a session's queues to memory if few are left there.
    pub(super) fn refill(&mut self, session: SessionIndex) {
        for lane in Lane::ALL {
            // What is met may be in memory already, or wait behind something: nothing else would look again.
            while self.refill_lane(session, lane) {}
        }
    }

    /// Brings some of one lane; false if there is no need, or nothing more.
    fn refill_lane(&mut self, session: SessionIndex, lane: Lane) -> bool {
        let now_us = self.now.wall_us;
        let most = self.resident_max();
        let state = self.sessions.get(session);
        let Some(work) = state.at_work() else { return false };
        let (parked, resident) = (work.parked[lane as usize], work.resident[lane as usize]);
        // All that is here waits behind something, and the session could send.
        let starves = !state.has_ready_chat() && state.has_room() && state.holding(now_us).is_none();
        let few =
            resident < most.div_ceil(2) || (starves && resident < self.settings.session_resident_held_max);
        let partition = state.partition;
        let session_id = state.id.clone();
        let live = self.partitions.get_mut(&partition).filter(|part| part.is_live());
        let Some(part) = live.filter(|_| parked.count > 0 && few) else { return false };
        let wanted = most.saturating_sub(resident).max(most.div_ceil(2));
        let found = part.local.queued(&session_id, lane, parked.loaded_to, wanted);
        let more = found.len() == wanted;
        for (rank, id, kept) in found {
            self.sessions.work(session).parked[lane as usize].loaded_to = Some((rank, id));
            if self.load_kept(partition, id, &kept) {
                // The session is offered by who refills it.
                self.stand_in_chat(partition, id, Chat::push);
                self.arm(partition, id);
            }
        }
        more
    }

    /// Brings a parked message to memory; false if it is there already, or not open.
    pub(super) fn load(&mut self, partition: i32, id: Uuid) -> bool {
        let Some(part) = self.partitions.get(&partition).filter(|part| !part.open.contains_key(&id)) else {
            return false;
        };
        let Some(kept) = part.local.kept(&id) else { return false };
        self.load_kept(partition, id, &kept)
    }

    fn load_kept(&mut self, partition: i32, id: Uuid, kept: &Kept) -> bool {
        if self.open(partition, &id).is_some() {
            return false;
        }
        let Some(mut open) = self.open_of(partition, id, kept) else { return false };
        open.in_backlog = true;
        if kept.place == Place::Queue {
            self.sessions.work(open.session).count_parked(open.lane, -1);
        }
        let Some(part) = self.partitions.get_mut(&partition) else { return false };
        open.recorded = part.strays.remove(&id).unwrap_or_default();
        part.open.insert(id, open);
        true
    }

    /// An open message as the local state tells it.
    pub(super) fn open_of(&mut self, partition: i32, id: Uuid, kept: &Kept) -> Option<Open> {
        let Ok(command) = kept.command() else {
            self.partitions.get(&partition)?.local.mark_corrupt();
            return None;
        };
        let session = self.sessions.of(&kept.session_id, partition);
        let canceled = self.partitions.get(&partition)?.is_canceled(&id, &kept.session_id);
        Some(Open {
            rank: kept.rank,
            place: kept.place,
            binding_epoch: kept.binding_epoch,
            request_offset: kept.request_offset,
            traceparent: kept.traceparent.clone(),
            body_hash: kept.body_hash,
            accepted_at_ms: kept.accepted_at_ms,
            expires_at_us: kept.expires_at_us,
            accepted_read: true,
            canceled,
            ..Open::new(session, command, kept.recipient.clone(), id)
        })
    }

    /// A parked message has ended: it counts no longer.
    pub(super) fn forget_parked(&mut self, partition: i32, spot: &Spot) {
        let session = self.sessions.of(&spot.session_id, partition);
        self.sessions.wait_no_more(session, Backlog::one(spot.bytes));
        if spot.place == Place::Queue {
            self.sessions.work(session).count_parked(spot.lane, -1);
        }
    }

    /// What the local state holds of a partition that is ours now: who has messages waiting there.
    pub(super) fn count_backlogs(&mut self, partition: i32) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.local.is_whole();
        let waiting = part.local.waiting();
        let last_rank = waiting.iter().map(|(_, waiting)| waiting.last_rank).max();
        part.rank = part.rank.max(last_rank.unwrap_or(0));
        part.local_floor_us = part.local.next_time_us();
        self.floor_us = self.floor_us.min(part.local_floor_us);
        for (session_id, waiting) in waiting {
            let session = self.sessions.of(&session_id, partition);
            for (lane, backlog) in Lane::ALL.into_iter().zip(waiting.lanes) {
                self.sessions.work(session).parked[lane as usize] =
                    super::work::Parked { count: backlog.count, loaded_to: None };
                self.sessions.wait(session, backlog);
            }
            self.sessions.wait(session, waiting.calendar);
        }
    }

    /// Messages of the calendar whose time has come join their session's queue; those whose time is up end.
    pub(super) fn run_local_timers(&mut self, out: &mut Vec<Effect>) {
        let partitions: Vec<i32> = self.partitions.keys().copied().collect();
        for partition in partitions {
            let now_us = self.now.wall_us;
            let owned = self.partitions.get(&partition).filter(|part| part.phase == Phase::Owned);
            let Some(part) = owned else { continue };
            if !part.sweeps.is_empty() && part.sweep_at_us <= now_us {
                self.run_sweep(partition, out);
            }
            if self.partitions.get(&partition).is_some_and(|part| part.expiry_sweep.at_us <= now_us) {
                self.sweep_expired(partition, out);
            }
            let Some(part) = self.partitions.get_mut(&partition).filter(|part| part.local_floor_us <= now_us)
            else {
                continue;
            };
            let (due, expired) = (part.local.due(now_us, PER_STEP), part.local.expired(now_us, PER_STEP));
            let more = due.len() == PER_STEP || expired.len() == PER_STEP;
            for (at_us, id) in due {
                self.join_queue(partition, at_us, id);
            }
            for (at_us, id) in expired {
                self.expire(partition, at_us, id, out);
            }
            if let Some(part) = self.partitions.get_mut(&partition) {
                part.local_floor_us = if more { now_us } else { part.local.next_time_us() };
            }
        }
    }

    /// A scheduled message is due: it goes behind what waits in its session.
    fn join_queue(&mut self, partition: i32, at_us: i64, id: Uuid) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let Some(mut kept) = part.local.kept(&id) else {
            part.local.forget_due(&id, at_us);
            return;
        };
        part.local.forget(&id, &kept);
        kept.place = Place::Queue;
        kept.rank = part.next_rank(kept.request_offset);
        let spot = kept.spot.clone();
        part.keep(id, kept);
        let session = self.sessions.of(&spot.session_id, partition);
        if let Some(open) = self.open_mut(partition, &id) {
            (open.place, open.rank) = (spot.place, spot.rank);
            if open.stage == Stage::Waiting && !open.queued && open.unread == 0 {
                self.requeue(partition, id);
            }
            return;
        }
        self.sessions.work(session).count_parked(spot.lane, 1);
        self.offer(session);
    }

    /// One step of the look for messages whose time is up.
    fn sweep_expired(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let (now_us, pause_us) = (self.now.wall_us, self.after_us(self.settings.expiry_sweep_ms));
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        let after = part.expiry_sweep.after.take();
        let sessions = part.local.waiting_behind(after.as_deref(), PER_STEP);
        let ends = sessions.len() < PER_STEP;
        let after = sessions.last().cloned().filter(|_| !ends);
        part.expiry_sweep = ExpirySweep { at_us: if ends { pause_us } else { now_us + PAUSE_US }, after };
        for session_id in sessions {
            let session = self.sessions.of(&session_id, partition);
            for lane in Lane::ALL {
                let Some(work) = self.sessions.get(session).at_work() else { break };
                let parked = work.parked[lane as usize];
                let Some(part) = self.partitions.get_mut(&partition).filter(|_| parked.count > 0) else {
                    continue;
                };
                let heads = part.local.queued(&session_id, lane, parked.loaded_to, HEADS);
                let expired = heads.iter().filter(|(_, _, kept)| kept.expires_at_us <= now_us);
                for id in expired.map(|(_, id, _)| *id).collect::<Vec<_>>() {
                    self.load(partition, id);
                    self.look_again(partition, id, out);
                    if let Some(part) = self.partitions.get_mut(&partition) {
                        // There may be more behind them.
                        part.expiry_sweep.at_us = now_us + PAUSE_US;
                    }
                }
            }
        }
    }

    fn expire(&mut self, partition: i32, at_us: i64, id: Uuid, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.local.forget_expiry(&id, at_us);
        self.load(partition, id);
        self.look_again(partition, id, out);
    }
}
