//! How much is in memory, for the simulation's law that all of it is bounded.

use super::Sender;
use super::message::Stage;

/// Sizes of what a sender keeps in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Requests of the fullest partition that are taken in and not settled.
    pub intake_records: usize,
    /// Messages in memory.
    pub resident: usize,
    /// Those of them that only wait: nothing of them was begun, and nothing about them is unread.
    pub idle_resident: usize,
    /// Messages that wait in the fullest session, in memory or not.
    pub session_backlog: usize,
    /// Sessions with messages, or with something to remember of those they sent.
    pub sessions_at_work: usize,
    /// Attempts that an echo may be of.
    pub bridge_candidates: usize,
    /// Recipients remembered for their pair limits.
    pub pairs: usize,
    /// Times at which something is looked at.
    pub timers: usize,
}

impl Sender {
    /// Sizes of what is in memory. Walks all of it.
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes { timers: self.wakes.len() + self.look_ups.len(), ..Sizes::default() };
        for partition in self.partitions.values() {
            sizes.intake_records = sizes.intake_records.max(partition.intake.len());
            sizes.resident += partition.open.len();
            sizes.timers += partition.due.len();
            let idle = partition.open.values().filter(|open| {
                open.stage == Stage::Waiting && open.unread == 0 && open.recorded.epochs.is_empty()
            });
            sizes.idle_resident += idle.count();
        }
        for session in self.sessions.all() {
            let Some(work) = session.at_work() else { continue };
            sizes.sessions_at_work += 1;
            sizes.session_backlog = sizes.session_backlog.max(work.backlog.count);
            sizes.pairs += work.pairs.len();
            sizes.bridge_candidates += work.bridge.len();
        }
        sizes
    }
}
