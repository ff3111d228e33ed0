//! Turns of the lanes: the most urgent goes first, and no lane starves.

use super::message::Lane;

/// Whose turn it is. A lane with something ready gets at least one of every `share_min` turns.
#[derive(Debug, Clone, Default)]
pub(super) struct LaneTurns {
    /// Turns each lane let pass with something ready.
    passed: [u32; 3],
}

impl LaneTurns {
    /// The lane that goes next, of those that are ready. `share_min` is 4 or more, so that HIGH has turns of its own.
    pub(super) fn next(&self, ready: [bool; 3], share_min: u32) -> Option<Lane> {
        let first = Lane::ALL.into_iter().find(|lane| ready[*lane as usize])?;
        Some(self.overdue(ready, share_min).unwrap_or(first))
    }

    /// The lane that must go now to have its share. NORMAL is overdue a turn early: both may be at once, and only
    /// one goes.
    pub(super) fn overdue(&self, ready: [bool; 3], share_min: u32) -> Option<Lane> {
        let is_over = |lane: Lane, most: u32| ready[lane as usize] && self.passed[lane as usize] >= most;
        if is_over(Lane::Low, share_min.saturating_sub(1)) {
            Some(Lane::Low)
        } else if is_over(Lane::Normal, share_min.saturating_sub(2)) {
            Some(Lane::Normal)
        } else {
            None
        }
    }

    /// `lane` had the turn while these were ready.
    pub(super) fn took(&mut self, lane: Lane, ready: [bool; 3]) {
        for other in Lane::ALL {
            let passed = &mut self.passed[other as usize];
            *passed = if other == lane || !ready[other as usize] { 0 } else { passed.saturating_add(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is ready when: a lane that stays ready waits for fewer than `share_min` turns, and nothing
        /// less urgent goes but for that.
        #[test]
        fn a_lane_with_something_ready_gets_one_of_every_n_turns(
            share_min in 4..12u32,
            patterns in prop::collection::vec(prop::array::uniform3(prop::bool::weighted(0.9)), 1..300),
        ) {
            let mut turns = LaneTurns::default();
            let mut waited = [0u32; 3];
            for ready in patterns {
                let Some(lane) = turns.next(ready, share_min) else {
                    prop_assert_eq!(ready, [false; 3], "a turn is given whenever something is ready");
                    continue;
                };
                prop_assert!(ready[lane as usize]);
                turns.took(lane, ready);
                for other in Lane::ALL {
                    let n = other as usize;
                    waited[n] = if other == lane || !ready[n] { 0 } else { waited[n] + 1 };
                    prop_assert!(waited[n] < share_min, "{other:?} waited {} of {share_min} turns", waited[n]);
                }
            }
        }
    }

    #[test]
    fn the_urgent_lane_has_all_turns_but_the_shares_of_the_others() {
        let mut turns = LaneTurns::default();
        let ready = [true, true, true];
        let mut had = [0; 3];
        for _ in 0..800 {
            let lane = turns.next(ready, 8).expect("all are ready");
            turns.took(lane, ready);
            had[lane as usize] += 1;
        }
        assert_eq!(had[Lane::Low as usize], 100);
        assert!(had[Lane::High as usize] >= 580, "{had:?}");
    }
}
