//! Looks through the backlog of a session that was deleted, or bound to another account, for messages that end with
//! that: a bounded part of it per step.

use uuid::Uuid;

use super::message::{Lane, Stage};
use super::session::SessionIndex;
use super::{Effect, Sender};

/// Messages looked at per step.
const PER_STEP: usize = 64;
/// Pause between two steps, so that what they append does not pile up.
const PAUSE_US: i64 = 5_000;

/// A backlog that is being looked through.
#[derive(Debug)]
pub(super) struct Sweep {
    session: SessionIndex,
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// What is in memory.
    Memory,
    /// A queue, behind this message.
    Queue(Lane, Option<(i64, Uuid)>),
    /// The calendar, behind this message.
    Calendar(Option<(i64, Uuid)>),
}

impl Part {
    fn next(self) -> Option<Self> {
        match self {
            Self::Memory => Some(Self::Queue(Lane::High, None)),
            Self::Queue(Lane::High, _) => Some(Self::Queue(Lane::Normal, None)),
            Self::Queue(Lane::Normal, _) => Some(Self::Queue(Lane::Low, None)),
            Self::Queue(Lane::Low, _) => Some(Self::Calendar(None)),
            Self::Calendar(_) => None,
        }
    }
}

impl Sender {
    /// The backlog of `session` is to be looked through.
    pub(super) fn sweep(&mut self, partition: i32, session: SessionIndex) {
        // While the ledger is being read nobody knows what became of its messages; then each is looked at anyway.
        let Some(part) = self.partitions.get_mut(&partition).filter(|part| part.is_live()) else { return };
        part.sweeps.retain(|sweep| sweep.session != session);
        part.sweeps.push_back(Sweep { session, part: Part::Memory });
        part.sweep_at_us = self.now.wall_us;
        self.floor_us = self.floor_us.min(part.sweep_at_us);
    }

    pub(super) fn run_sweep(&mut self, partition: i32, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.sweep_at_us = self.now.wall_us.saturating_add(PAUSE_US);
        let Some(mut sweep) = part.sweeps.pop_front() else { return };
        let (ids, at) = self.part_of(partition, &sweep);
        for id in ids {
            if self.is_swept(partition, &id, sweep.session) {
                self.load(partition, id);
                self.look_again(partition, id, out);
            }
        }
        if let Some(at) = at {
            sweep.part = at;
            if let Some(part) = self.partitions.get_mut(&partition) {
                part.sweeps.push_front(sweep);
            }
        }
    }

    /// Whether a message ends by the sweep; if not it stays where it is.
    fn is_swept(&self, partition: i32, id: &Uuid, session: SessionIndex) -> bool {
        let Some(part) = self.partitions.get(&partition) else { return false };
        let accepted = match part.open.get(id) {
            Some(open) => Some((open.accepted_at_ms, open.binding_epoch)),
            None => part.local.spot(id).map(|spot| (spot.accepted_at_ms, spot.binding_epoch)),
        };
        accepted.is_some_and(|(at_ms, binding)| self.sessions.get(session).has_outlived(at_ms, binding))
    }

    /// The messages a sweep looks at now, and where it goes on.
    fn part_of(&mut self, partition: i32, sweep: &Sweep) -> (Vec<Uuid>, Option<Part>) {
        let session_id = self.sessions.get(sweep.session).id.clone();
        let Some(part) = self.partitions.get_mut(&partition) else { return (Vec::new(), None) };
        match sweep.part {
            Part::Memory => {
                let mut waiting: Vec<(i64, Uuid)> = part
                    .open
                    .iter()
                    .filter(|(_, open)| open.session == sweep.session && open.unread == 0)
                    .filter(|(_, open)| matches!(open.stage, Stage::Waiting | Stage::Retrying { .. }))
                    .map(|(id, open)| (open.rank, *id))
                    .collect();
                waiting.sort_unstable();
                (waiting.into_iter().map(|(_, id)| id).collect(), sweep.part.next())
            }
            Part::Queue(lane, after) => {
                let found = part.local.queued(&session_id, lane, after, PER_STEP);
                let at = if found.len() < PER_STEP {
                    sweep.part.next()
                } else {
                    Some(Part::Queue(lane, found.last().map(|(rank, id, _)| (*rank, *id))))
                };
                (found.into_iter().map(|(_, id, _)| id).collect(), at)
            }
            Part::Calendar(after) => {
                let (found, last) = part.local.calendar_of(&session_id, after, PER_STEP);
                (found, last.map(|last| Part::Calendar(Some(last))))
            }
        }
    }
}
