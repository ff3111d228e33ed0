//! Rate windows, counted on arrival.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// At most `count` requests in any `per_ms` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Requests.
    pub count: u32,
    /// Length, milliseconds.
    pub per_ms: u64,
}

/// The arrivals that the windows of a session still have to know.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Microseconds since the simulator began, oldest first.
    times_us: VecDeque<u64>,
}

/// A request came too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooEarly {
    /// The window that is full.
    pub(super) window: Window,
    /// What remains of the wait, microseconds.
    pub(super) wait_us: u64,
}

impl Arrivals {
    /// Counts a request that arrived at `now_us`, or says how long it should have waited. A request that is
    /// refused does not count.
    pub(super) fn take(&mut self, windows: &[Window], now_us: u64) -> Result<(), TooEarly> {
        let mut longest = 0;
        let mut worst: Option<TooEarly> = None;
        for window in windows {
            let count = window.count as usize;
            longest = longest.max(count);
            let Some(index) = self.times_us.len().checked_sub(count) else { continue };
            let passed_us = match self.times_us.get(index) {
                Some(oldest_us) => now_us.saturating_sub(*oldest_us),
                // A window of none lets nothing pass.
                None => 0,
            };
            let wait_us = (window.per_ms * 1_000).saturating_sub(passed_us);
            if wait_us > 0 && worst.is_none_or(|worst| worst.wait_us < wait_us) {
                worst = Some(TooEarly { window: *window, wait_us });
            }
        }
        if let Some(worst) = worst {
            return Err(worst);
        }
        if longest > 0 {
            self.times_us.push_back(now_us);
            while self.times_us.len() > longest {
                self.times_us.pop_front();
            }
        }
        Ok(())
    }

    /// How many more `window` takes at `now_us`.
    pub(super) fn left(&self, window: Window, now_us: u64) -> u32 {
        let since_us = now_us.saturating_sub(window.per_ms * 1_000);
        let inside = self.times_us.iter().rev().take_while(|time_us| **time_us > since_us).count();
        window.count.saturating_sub(u32::try_from(inside).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_ever_holds_more_than_its_count() {
        let windows = [Window { count: 2, per_ms: 100 }, Window { count: 3, per_ms: 1_000 }];
        let mut arrivals = Arrivals::default();
        assert!(arrivals.take(&windows, 0).is_ok());
        assert!(arrivals.take(&windows, 50_000).is_ok());
        let early = arrivals.take(&windows, 60_000).unwrap_err();
        assert_eq!((early.window.count, early.wait_us), (2, 40_000));
        assert!(arrivals.take(&windows, 100_000).is_ok(), "the first has left the short window");
        assert_eq!(arrivals.take(&windows, 300_000).unwrap_err().wait_us, 700_000);
        assert_eq!(arrivals.take(&windows, 900_000).unwrap_err().wait_us, 100_000, "the wait decreases");
        assert!(arrivals.take(&windows, 1_000_000).is_ok());
        assert_eq!(arrivals.left(windows[0], 1_000_001), 1);
        assert!(Arrivals::default().take(&[Window { count: 0, per_ms: 5 }], 9).is_err());
    }
}
