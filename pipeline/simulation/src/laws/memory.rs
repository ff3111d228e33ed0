//! What is kept in memory is bounded by settings, whatever waits.

use crate::world::World;

/// Requests given at once before an owner can say that it has enough.
pub(crate) const READ_AT_ONCE: usize = 3;

/// Recipients of one session from which on the sender forgets those it need not remember.
const PAIRS_TIDIED_FROM: usize = 64;

impl World {
    pub(crate) fn check_memory(&mut self, owner: usize) {
        let Some(sender) = self.owners[owner].sender.as_ref() else { return };
        let sizes = sender.sizes();
        let settings = &self.settings;
        let intake_max = settings.intake_records_max + READ_AT_ONCE;
        let candidates_max = (self.sessions.len() + 1) * settings.bridge_candidates_max;
        let backlog_max = settings.session_backlog_max + intake_max;
        let broken = if sizes.intake_records > intake_max {
            Some("requests are taken in beyond the bound")
        } else if sizes.bridge_candidates > candidates_max {
            Some("messages wait for their WhatsApp id beyond the bound")
        } else if sizes.session_backlog > backlog_max {
            Some("messages wait in a session beyond the bound")
        } else if sizes.idle_resident > self.idle_resident_max() + intake_max {
            Some("messages that only wait are in memory beyond the bound")
        } else if sizes.pairs > (self.sessions.len() + 1) * (PAIRS_TIDIED_FROM + 1) {
            Some("recipients are remembered beyond the bound")
        } else if sizes.timers > sizes.resident + 2 * (self.sessions.len() + 2) {
            Some("more timers than messages and sessions")
        } else {
            None
        };
        if let Some(law) = broken {
            self.fail(format!("{law}: {sizes:?}"));
        }
    }

    /// Messages of every lane of every session that may be in memory though they only wait.
    fn idle_resident_max(&self) -> usize {
        let settings = &self.settings;
        // One that is brought to memory may bring a few.
        let lane = settings.session_resident_held_max + settings.session_resident_max;
        3 * (self.sessions.len() + 1) * lane
    }
}
