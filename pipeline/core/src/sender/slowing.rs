//! Slowing: a session that the provider asks to wait goes slower than its limits for a while.
//!
//! A throttling answer within our own limits says that they are not the provider's. The interval between calls doubles
//! with each, up to a maximum, and halves again with time. It only ever adds to what the limits ask for, and is not
//! handed over: the next owner begins with the limits, and with the time the provider said to wait.

/// How much slower a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slowing {
    /// Interval when it last rose, in intervals of the limits; a power of 2.
    factor: u32,
    rose_at_us: i64,
    /// Time in which it halves.
    recovery_us: i64,
}

impl Default for Slowing {
    fn default() -> Self {
        Self { factor: 1, rose_at_us: i64::MIN, recovery_us: i64::MAX }
    }
}

impl Slowing {
    /// The factor now; 1: as fast as the limits allow.
    pub(super) fn factor(&self, now_us: i64) -> u32 {
        let steps = now_us.saturating_sub(self.rose_at_us).max(0) / self.recovery_us.max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.factor.checked_shr(steps).unwrap_or(0).max(1)
    }

    /// A call that was claimed at `claimed_at_us` was throttled. One claimed before the factor last rose tells nothing
    /// new.
    pub(super) fn throttled(&mut self, now_us: i64, claimed_at_us: i64, factor_max: u32, recovery_us: i64) {
        if claimed_at_us <= self.rose_at_us {
            return;
        }
        let factor = self.factor(now_us).saturating_mul(2).min(factor_max.max(1));
        *self = Self { factor, rose_at_us: now_us, recovery_us };
    }

    /// Least time between two calls, µs, where the limits ask for `interval_us`; 0: what the limits say.
    pub(super) fn gap_us(&self, now_us: i64, interval_us: i64) -> i64 {
        match self.factor(now_us) {
            1 => 0,
            factor => interval_us.saturating_mul(i64::from(factor)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_with_each_throttling_up_to_a_maximum_and_halves_with_time() {
        let mut slowing = Slowing::default();
        assert_eq!(slowing.gap_us(0, 5), 0);
        for (n, factor) in [2, 4, 8, 8].into_iter().enumerate() {
            let now_us = 1 + n as i64;
            slowing.throttled(now_us, now_us, 8, 1_000);
            assert_eq!(slowing.factor(now_us), factor);
        }
        assert_eq!(slowing.gap_us(4, 5), 40);
        assert_eq!([1_003, 1_004, 2_004, 3_004].map(|now_us| slowing.factor(now_us)), [8, 4, 2, 1]);
    }

    #[test]
    fn a_call_from_before_it_rose_tells_nothing_new() {
        let mut slowing = Slowing::default();
        slowing.throttled(100, 50, 8, 1_000);
        slowing.throttled(110, 90, 8, 1_000);
        assert_eq!(slowing.factor(110), 2);
    }

    proptest! {
        /// Whenever calls are throttled: between 1 and the maximum, and 1 again once that has stopped for long enough.
        #[test]
        fn never_beyond_the_maximum_and_always_back(
            factor_max in 1..64u32, waits in prop::collection::vec(0..5_000i64, 1..100),
        ) {
            let (mut slowing, mut now_us) = (Slowing::default(), 0);
            for wait in waits {
                now_us += wait;
                slowing.throttled(now_us, now_us, factor_max, 1_000);
                prop_assert!((1..=factor_max).contains(&slowing.factor(now_us)));
            }
            prop_assert_eq!(slowing.factor(now_us + 6_000), 1);
        }
    }
}
