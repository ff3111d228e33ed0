//! Rate buckets of a session: GCRA, so that one number per bucket is its whole state and can ride on every
//! ledger record, together with the limit it belongs to: limits change, and the state of one says nothing of
//! another.
//!
//! A limit is `count` sends in any window of `per`. With a burst `b` the emission interval is
//! `per / (count − b + 1)`: a window then holds at most `b` sends at its start and one per interval after,
//! which is `count`. So the limit holds in *every* window, also across a burst.
//!
//! What counts is when a send arrives, and that is known only to lie between the call's start and its answer. So
//! the next interval begins at the answer, and of `m` calls at once up to `m − 1` may arrive late, in one window
//! with those that follow: they are taken off the count like a burst. More calls at once than `count` are never
//! allowed.

use sluice_schemas::RateLimit;

/// One bucket. `tat_us` is the theoretical arrival time of GCRA, wall clock, microseconds.
#[derive(Debug, Clone, PartialEq)]
struct Bucket {
    limit: RateLimit,
    interval_us: i64,
    tolerance_us: i64,
    tat_us: i64,
}

impl Bucket {
    fn new(limit: &RateLimit, in_flight_max: u32) -> Self {
        let count = i64::from(limit.count.max(1));
        let late = (i64::from(in_flight_max) - 1).clamp(0, count - 1);
        let burst = i64::from(limit.burst.max(1)).min(count - late);
        let per_us = limit.per_ms.max(1).saturating_mul(1000);
        // Rounded up, so that rounding never lets one more send into a window.
        let steps = count - burst - late + 1;
        let interval_us = per_us.saturating_add(steps - 1) / steps;
        let tolerance_us = interval_us.saturating_mul(burst - 1);
        Self { limit: limit.clone(), interval_us, tolerance_us, tat_us: 0 }
    }

    /// `count/per_ms/burst:tat_us`.
    fn to_text(&self) -> String {
        let RateLimit { count, per_ms, burst } = &self.limit;
        format!("{count}/{per_ms}/{burst}:{}", self.tat_us)
    }

    fn parse(text: &str) -> Option<Self> {
        let (limit, tat_us) = text.split_once(':')?;
        let mut parts = limit.split('/');
        let limit = RateLimit {
            count: parts.next()?.parse().ok()?,
            per_ms: parts.next()?.parse().ok()?,
            burst: parts.next()?.parse().ok()?,
        };
        Some(Self { tat_us: tat_us.parse().ok()?, ..Self::new(&limit, 1) })
    }
}

/// The part of an account's limit that each of its `sessions` has, whoever owns them: equal parts, so that no owner
/// has to ask another. With no more sessions than sends, their sum is within the limit in every window; with more,
/// each sends once in several windows, and the limit holds on average.
#[must_use]
pub fn share_of(limit: &RateLimit, sessions: usize) -> RateLimit {
    let sessions = i32::try_from(sessions).unwrap_or(i32::MAX).max(1);
    let count = limit.count.max(1);
    if sessions <= count {
        return RateLimit {
            count: count / sessions,
            per_ms: limit.per_ms,
            burst: (limit.burst / sessions).max(1),
        };
    }
    let windows = i64::from(sessions) / i64::from(count) + i64::from(sessions % count > 0);
    RateLimit { count: 1, per_ms: limit.per_ms.saturating_mul(windows), burst: 1 }
}

/// All buckets of a session; a send must fit every one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets {
    buckets: Vec<Bucket>,
    /// Latest send counted, wall µs.
    last_us: Option<i64>,
    in_flight_max: u32,
}

impl Buckets {
    /// Buckets for these limits, all empty, when up to `in_flight_max` calls may be under way. A limit with a count
    /// below 1 allows one send per window.
    pub fn new(limits: &[RateLimit], in_flight_max: u32) -> Self {
        let counts = limits.iter().map(|limit| u32::try_from(limit.count.max(1)).unwrap_or(1));
        let in_flight_max = counts.fold(in_flight_max.max(1), u32::min);
        Self {
            buckets: limits.iter().map(|limit| Bucket::new(limit, in_flight_max)).collect(),
            last_us: None,
            in_flight_max,
        }
    }

    /// As of who has used limits that are not known, at this time the last time.
    pub(super) fn used_last(last_us: Option<i64>) -> Self {
        Self { last_us, ..Self::default() }
    }

    /// Calls at once under which the limits can be kept.
    pub fn in_flight_max(&self) -> u32 {
        self.in_flight_max
    }

    /// Takes over what `earlier` counted when limits change: the state of a limit that stays; a new limit
    /// counts from the latest send on.
    pub fn carry_over(&mut self, earlier: &Self) {
        self.last_us = earlier.last_us;
        for bucket in &mut self.buckets {
            bucket.tat_us = match earlier.buckets.iter().find(|old| old.limit == bucket.limit) {
                Some(old) => old.tat_us,
                None => earlier.last_us.map_or(0, |last| last.saturating_add(bucket.interval_us)),
            };
        }
    }

    /// Earliest time at which a send may start when `reserved` sends are claimed but not started.
    pub fn ready_at_us(&self, reserved: u32) -> i64 {
        self.buckets
            .iter()
            .map(|b| {
                b.tat_us
                    .saturating_add(b.interval_us.saturating_mul(i64::from(reserved)))
                    .saturating_sub(b.tolerance_us)
            })
            .max()
            .unwrap_or(i64::MIN)
    }

    /// Least time between two sends in the long run, µs; 0 without limits.
    pub(super) fn interval_us(&self) -> i64 {
        self.buckets.iter().map(|bucket| bucket.interval_us).max().unwrap_or(0)
    }

    /// Least time between two sends that no burst covers, by the quickest limit, µs; 0 without limits.
    pub(super) fn shortest_interval_us(&self) -> i64 {
        self.buckets.iter().map(|bucket| bucket.interval_us).min().unwrap_or(0)
    }

    /// Latest send counted, wall µs.
    pub(super) fn last_us(&self) -> Option<i64> {
        self.last_us
    }

    /// When every bucket is full again, so that nothing used needs to be remembered.
    pub(super) fn full_at_us(&self) -> i64 {
        self.buckets.iter().map(|bucket| bucket.tat_us).max().unwrap_or(i64::MIN)
    }

    /// Counts a send that starts at `at_us`.
    pub fn take(&mut self, at_us: i64) {
        self.last_us = self.last_us.max(Some(at_us));
        for bucket in &mut self.buckets {
            bucket.tat_us = bucket.tat_us.max(at_us).saturating_add(bucket.interval_us);
        }
    }

    /// The provider may have counted the latest send as late as `at_us` (its answer came then): the next
    /// interval begins there.
    pub fn arrived_by(&mut self, at_us: i64) {
        self.last_us = self.last_us.max(Some(at_us));
        for bucket in &mut self.buckets {
            bucket.tat_us = bucket.tat_us.max(at_us.saturating_add(bucket.interval_us));
        }
    }

    /// State to put on a ledger record, with `reserved` further sends counted at `at_us`.
    pub fn tats(&self, reserved: u32, at_us: i64) -> Vec<String> {
        let mut copy = self.clone();
        for _ in 0..reserved {
            copy.take(at_us);
        }
        copy.buckets.iter().map(Bucket::to_text).collect()
    }

    /// Takes the later of the own and the recorded state of each limit; what is recorded of others is ignored.
    pub fn restore(&mut self, tats: &[String]) {
        self.restore_from(&Self::recorded(tats));
    }

    /// The same, from states read earlier.
    pub(super) fn restore_from(&mut self, recorded: &Self) {
        for bucket in &mut self.buckets {
            for known in recorded.buckets.iter().filter(|known| known.limit == bucket.limit) {
                bucket.tat_us = bucket.tat_us.max(known.tat_us);
            }
        }
    }

    /// What a ledger record says, for when the limits are known.
    pub(super) fn recorded(tats: &[String]) -> Self {
        Self { buckets: tats.iter().filter_map(|text| Bucket::parse(text)).collect(), ..Self::default() }
    }

    /// Adds what another record says.
    pub(super) fn absorb(&mut self, other: Self) {
        for bucket in other.buckets {
            match self.buckets.iter_mut().find(|known| known.limit == bucket.limit) {
                Some(known) => known.tat_us = known.tat_us.max(bucket.tat_us),
                None => self.buckets.push(bucket),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(count: i32, per_ms: i64, burst: i32) -> RateLimit {
        RateLimit { count, per_ms, burst }
    }

    proptest! {
        /// Whatever the limits and the wish to send, no window of `per` holds more than `count` sends.
        #[test]
        fn no_window_holds_more_than_the_limit(
            count in 1..40i32, per_ms in 1..5_000i64, burst in 1..40i32,
            pauses in prop::collection::vec(0..3_000_000i64, 1..200),
        ) {
            let mut buckets = Buckets::new(&[limit(count, per_ms, burst)], 1);
            let mut now = 0i64;
            let mut sends = Vec::new();
            for pause in pauses {
                now = (now + pause / 50).max(buckets.ready_at_us(0));
                buckets.take(now);
                sends.push(now);
            }
            for (i, start) in sends.iter().enumerate() {
                let inside = sends[i..].iter().take_while(|t| **t < start + per_ms * 1000).count();
                prop_assert!(inside <= count as usize, "{inside} sends in one window of {per_ms} ms");
            }
        }

        /// Whenever between start and answer a call arrives, no window holds more arrivals than the limit.
        #[test]
        fn no_window_holds_more_arrivals_than_the_limit_with_several_calls_under_way(
            count in 1..20i32, burst in 1..20i32, at_once in 1..6u32,
            calls in prop::collection::vec((0..4_000_000i64, 0..=100i64), 1..150),
        ) {
            let per_us = 1_000_000;
            let mut buckets = Buckets::new(&[limit(count, 1_000, burst)], at_once);
            let mut now = 0i64;
            let mut under_way: Vec<i64> = Vec::new();
            let mut arrivals = Vec::new();
            for (takes_us, arrives_percent) in calls {
                loop {
                    let room = under_way.len() < buckets.in_flight_max() as usize;
                    let ready = buckets.ready_at_us(0);
                    let ends = under_way.iter().min().copied();
                    if room && ends.is_none_or(|end| ready.max(now) <= end) {
                        now = now.max(ready);
                        break;
                    }
                    let end = ends.expect("something is under way");
                    now = now.max(end);
                    under_way.retain(|at| *at != end);
                    buckets.arrived_by(now);
                }
                buckets.take(now);
                under_way.push(now + takes_us);
                arrivals.push(now + takes_us * arrives_percent / 100);
            }
            arrivals.sort_unstable();
            for (i, start) in arrivals.iter().enumerate() {
                let inside = arrivals[i..].iter().take_while(|t| **t < start + per_us).count();
                prop_assert!(inside <= count as usize, "{inside} arrivals in one window, {count} allowed");
            }
        }

        /// The shares of an account's sessions never add up to more than its limit, per window while there are sends
        /// enough for all, on average else.
        #[test]
        fn shares_of_an_account_never_add_up_to_more_than_its_limit(
            count in 1..500i32, per_ms in 1..100_000i64, burst in 1..500i32, sessions in 1..2_000usize,
        ) {
            let share = share_of(&limit(count, per_ms, burst), sessions);
            let sends_in_all = i128::from(share.count) * sessions as i128 * i128::from(per_ms);
            prop_assert!(sends_in_all <= i128::from(count) * i128::from(share.per_ms));
            prop_assert!(share.count >= 1 && share.burst >= 1 && share.burst <= share.count.max(burst));
            if sessions <= count as usize {
                prop_assert_eq!(share.per_ms, per_ms);
                prop_assert!(share.burst * i32::try_from(sessions).unwrap() <= burst.max(i32::try_from(sessions).unwrap()));
            }
        }

        /// A greedy sender with burst 1 uses the limit whole.
        #[test]
        fn a_greedy_sender_uses_the_whole_limit(count in 1..300i32, per_ms in 1_000..60_000i64) {
            let mut buckets = Buckets::new(&[limit(count, per_ms, 1)], 1);
            let mut now = 0i64;
            for _ in 0..count * 10 {
                now = now.max(buckets.ready_at_us(0));
                buckets.take(now);
            }
            let ideal = per_ms * 1000 * 10;
            prop_assert!(now <= ideal + i64::from(count) * 10, "{now} µs for what {ideal} µs allow");
        }
    }

    #[test]
    fn restore_takes_the_later_state() {
        let mut buckets = Buckets::new(&[limit(1, 5_000, 1)], 1);
        buckets.take(1_000_000);
        buckets.restore(&["1/5000/1:2".into()]);
        assert_eq!(buckets.ready_at_us(0), 6_000_000);
        buckets.restore(&["1/5000/1:9000000".into()]);
        assert_eq!(buckets.ready_at_us(0), 9_000_000);
        assert_eq!(buckets.ready_at_us(1), 14_000_000);
    }

    #[test]
    fn the_state_of_one_limit_says_nothing_of_another() {
        let day = limit(50, 86_400_000, 50);
        let mut buckets = Buckets::new(std::slice::from_ref(&day), 1);
        for _ in 0..50 {
            buckets.take(1_000_000);
        }
        let recorded = buckets.tats(0, 1_000_000);
        let mut changed = Buckets::new(&[limit(1, 60_000, 1), day], 1);
        changed.carry_over(&buckets);
        changed.restore(&recorded);
        let day_only = buckets.ready_at_us(0);
        assert_eq!(
            changed.ready_at_us(0),
            day_only,
            "the limit that stays keeps its state wherever it stands"
        );
        let mut minute = Buckets::new(&[limit(1, 60_000, 1)], 1);
        minute.carry_over(&buckets);
        minute.restore(&recorded);
        assert_eq!(minute.ready_at_us(0), 61_000_000, "a new one counts from the latest send, not for days");
    }
}
