//! Pair limits: how often a session may send to one recipient.
//!
//! A pair has buckets of its own only while they are not full, so that a session remembers as many pairs as it can
//! have sent to within the longest window, and no more than `session_pairs_max`: then who is not among them waits for
//! one of them. The state of a message's pair rides on its ledger records beside that of the session.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_schemas::RateLimit;
use uuid::Uuid;

use super::Sender;
use super::rate::Buckets;

/// Pairs below which looking for full ones is not worth it.
const TIDY_FROM: usize = 64;

/// The pairs of one session.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// None: not known yet.
    limits: Option<Vec<RateLimit>>,
    in_flight_max: u32,
    known: HashMap<Arc<str>, Buckets>,
    /// Calls under way, and when the latest of them will have ended: no more at once than the limits can bear.
    under_way: HashMap<Arc<str>, UnderWay>,
    /// Claims of a former owner counted before the limits were known.
    uncounted: Vec<(Arc<str>, i64)>,
    /// Full ones are looked for at this size.
    tidy_at: usize,
}

/// Pause between two looks at whether a call to a recipient has ended, µs.
const LOOK_US: i64 = 250_000;

#[derive(Debug, Default)]
struct UnderWay {
    calls: u32,
    end_us: i64,
}

impl Pairs {
    /// Takes new limits; what was used stays used.
    pub(super) fn configure(&mut self, limits: &[RateLimit], in_flight_max: u32) {
        if self.limits.as_deref() == Some(limits) && self.in_flight_max == in_flight_max {
            return;
        }
        let is_first = self.limits.is_none();
        self.limits = Some(limits.to_vec());
        self.in_flight_max = in_flight_max;
        for buckets in self.known.values_mut() {
            let mut new = Buckets::new(limits, in_flight_max);
            if !is_first {
                new.carry_over(buckets);
            }
            new.restore_from(buckets);
            *buckets = new;
        }
        if limits.is_empty() {
            self.known.clear();
        }
        for (recipient, at_us) in std::mem::take(&mut self.uncounted) {
            self.count(&recipient, at_us);
        }
    }

    fn is_limited(&self) -> bool {
        self.limits.as_ref().is_some_and(|limits| !limits.is_empty())
    }

    /// Earliest time a send to `recipient` may start, wall µs.
    pub(super) fn ready_at_us(&self, recipient: &str, pairs_max: usize) -> i64 {
        if !self.is_limited() {
            return i64::MIN;
        }
        match self.known.get(recipient) {
            Some(buckets) => {
                let under_way = self.under_way.get(recipient);
                let full = under_way.filter(|under_way| under_way.calls >= buckets.in_flight_max());
                buckets.ready_at_us(0).max(full.map_or(i64::MIN, |under_way| under_way.end_us))
            }
            None if self.known.len() < pairs_max => i64::MIN,
            None => self.known.values().map(Buckets::full_at_us).min().unwrap_or(i64::MIN),
        }
    }

    /// When to look again at a message that has to wait until `ready_at_us`: a call under way may end long before the
    /// latest time it can.
    fn look_again_at_us(&self, recipient: &str, ready_at_us: i64, now_us: i64) -> i64 {
        match (self.under_way.get(recipient), self.known.get(recipient)) {
            (Some(under_way), Some(buckets)) if under_way.end_us >= ready_at_us => {
                buckets.ready_at_us(0).max(now_us.saturating_add(LOOK_US)).min(ready_at_us)
            }
            _ => ready_at_us,
        }
    }

    /// Counts a send that starts now and will have ended at `end_us`.
    pub(super) fn take(&mut self, recipient: &Arc<str>, now_us: i64, end_us: i64) {
        let under_way = self.under_way.entry(recipient.clone()).or_default();
        under_way.calls += 1;
        under_way.end_us = under_way.end_us.max(end_us);
        if self.is_limited() {
            if self.known.len() >= self.tidy_at.max(TIDY_FROM) {
                self.known.retain(|_, buckets| buckets.full_at_us() > now_us);
                self.tidy_at = self.known.len().saturating_mul(2);
            }
            self.count(recipient, now_us);
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_void(&self, now_us: i64) -> bool {
        self.under_way.is_empty()
            && self.uncounted.is_empty()
            && self.known.values().all(|buckets| buckets.full_at_us() <= now_us)
    }

    /// Forgets the full ones; the bound of [`Pairs::ready_at_us`] counts those that are left.
    pub(super) fn tidy(&mut self, now_us: i64) {
        self.known.retain(|_, buckets| buckets.full_at_us() > now_us);
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Counts a claim of a former owner as a send at `at_us`.
    pub(super) fn count_claim(&mut self, recipient: &Arc<str>, at_us: i64) {
        match &self.limits {
            None => self.uncounted.push((recipient.clone(), at_us)),
            Some(_) => self.count(recipient, at_us),
        }
    }

    fn count(&mut self, recipient: &Arc<str>, at_us: i64) {
        let Some(limits) = self.limits.as_deref().filter(|limits| !limits.is_empty()) else { return };
        let in_flight_max = self.in_flight_max;
        let buckets = self.known.entry(recipient.clone());
        buckets.or_insert_with(|| Buckets::new(limits, in_flight_max)).take(at_us);
    }

    /// The provider may have counted the latest send to `recipient` as late as `at_us`.
    pub(super) fn arrived_by(&mut self, recipient: &str, at_us: i64) {
        if let Some(under_way) = self.under_way.get_mut(recipient) {
            under_way.calls = under_way.calls.saturating_sub(1);
            if under_way.calls == 0 {
                self.under_way.remove(recipient);
            }
        }
        if let Some(buckets) = self.known.get_mut(recipient) {
            buckets.arrived_by(at_us);
        }
    }

    /// What a ledger record of a message to `recipient` says of the pair: `recipient=count/per_ms/burst:time`.
    pub(super) fn tats_of(&self, recipient: &str, now_us: i64) -> Vec<String> {
        let tats = self.known.get(recipient).map(|buckets| buckets.tats(0, now_us)).unwrap_or_default();
        tats.into_iter().map(|tat| format!("{recipient}={tat}")).collect()
    }

    /// The same of all pairs that are not full.
    pub(super) fn tats(&self, now_us: i64) -> Vec<String> {
        let used = self.known.iter().filter(|(_, buckets)| buckets.full_at_us() > now_us);
        let mut tats: Vec<String> = used.flat_map(|(recipient, _)| self.tats_of(recipient, now_us)).collect();
        tats.sort_unstable();
        tats
    }

    /// Takes the later of the own and the recorded states; what is full by now is not remembered.
    pub(super) fn restore(&mut self, tats: &[String], now_us: i64) {
        for (recipient, tat) in tats.iter().filter_map(|text| text.rsplit_once('=')) {
            let recorded = Buckets::recorded(std::slice::from_ref(&tat.to_owned()));
            if recorded.full_at_us() <= now_us {
                continue;
            }
            match self.limits.as_deref() {
                None => self.known.entry(recipient.into()).or_default().absorb(recorded),
                Some([]) => {}
                Some(limits) => {
                    let in_flight_max = self.in_flight_max;
                    let new = || Buckets::new(limits, in_flight_max);
                    self.known.entry(recipient.into()).or_insert_with(new).restore_from(&recorded);
                }
            }
        }
    }

    /// Forgets what was counted and has no limits to count against.
    pub(super) fn forget_uncounted(&mut self) {
        self.uncounted.clear();
    }
}

impl Sender {
    /// Puts a message that had its turn back if its recipient must not be sent to yet; whether it did.
    pub(super) fn wait_for_pair(&mut self, partition: i32, id: Uuid) -> bool {
        let (now_us, pairs_max) = (self.now.wall_us, self.settings.session_pairs_max);
        let Some(part) = self.partitions.get_mut(&partition) else { return false };
        let Some(open) = part.open.get_mut(&id) else { return false };
        let session = open.session;
        let state = self.sessions.work(session);
        if state.pairs.len() >= pairs_max {
            state.pairs.tidy(now_us);
        }
        let ready_at_us = state.pairs.ready_at_us(&open.recipient, pairs_max);
        if ready_at_us <= now_us {
            return false;
        }
        open.queued = true;
        state.count_queued(open.lane, 1);
        let chat = state.chats.entry(open.chat.clone()).or_default();
        chat.release(id);
        chat.push_front(open.lane, id);
        let look_at_us = state.pairs.look_again_at_us(&open.recipient, ready_at_us, now_us);
        chat.throttle(look_at_us);
        state.note_held_chat(open.chat.clone());
        self.wake_session(session, look_at_us);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const META: RateLimit = RateLimit { count: 1, per_ms: 6_000, burst: 1 };

    fn pairs(limits: &[RateLimit]) -> Pairs {
        let mut pairs = Pairs::default();
        pairs.configure(limits, 1);
        pairs
    }

    #[test]
    fn a_pair_waits_and_no_other_does() {
        let mut pairs = pairs(&[META]);
        let (a, b): (Arc<str>, Arc<str>) = ("+1".into(), "+2".into());
        pairs.take(&a, 1_000_000, 1_000_000);
        assert_eq!(pairs.ready_at_us(&a, 10), 7_000_000);
        assert!(pairs.ready_at_us(&b, 10) <= 1_000_000);
        pairs.arrived_by(&a, 2_000_000);
        assert_eq!(pairs.ready_at_us(&a, 10), 8_000_000, "it may have arrived as late as its answer");
    }

    #[test]
    fn what_a_former_owner_used_stays_used_whenever_the_limits_become_known() {
        let mut former = pairs(&[META]);
        let (a, b): (Arc<str>, Arc<str>) = ("+1".into(), "+2".into());
        former.take(&a, 1_000_000, 1_000_000);
        former.take(&b, 1_500_000, 1_500_000);
        let told = former.tats(1_500_000);
        let mut early = pairs(&[META]);
        early.restore(&told, 2_000_000);
        let mut late = Pairs::default();
        late.restore(&told, 2_000_000);
        late.count_claim(&b, 3_000_000);
        late.configure(&[META], 1);
        assert_eq!(early.ready_at_us(&a, 10), 7_000_000);
        assert_eq!(late.ready_at_us(&a, 10), 7_000_000);
        assert_eq!(early.ready_at_us(&b, 10), 7_500_000);
        assert_eq!(late.ready_at_us(&b, 10), 13_500_000, "an open claim counts besides");
        let mut much_later = pairs(&[META]);
        much_later.restore(&told, 60_000_000);
        assert_eq!(much_later.len(), 0, "what is full again is not remembered");
    }

    #[test]
    fn a_full_memory_makes_new_pairs_wait_for_room() {
        let mut pairs = pairs(&[META]);
        pairs.take(&"+1".into(), 0, 0);
        pairs.take(&"+2".into(), 1_000_000, 1_000_000);
        assert_eq!(pairs.ready_at_us("+3", 2), 6_000_000);
        pairs.tidy(6_000_000);
        assert!(pairs.ready_at_us("+3", 2) <= 6_000_000);
    }

    proptest! {
        /// However many recipients there are, what is remembered is bounded by what was sent within a window.
        #[test]
        fn full_pairs_are_forgotten(gaps in prop::collection::vec(0..2_000_000i64, 1..600)) {
            let mut pairs = pairs(&[META]);
            let mut now = 0;
            let mut times = Vec::new();
            for (n, gap) in gaps.into_iter().enumerate() {
                now += gap;
                pairs.take(&format!("+{n}").into(), now, now);
                pairs.arrived_by(&format!("+{n}"), now);
                times.push(now);
                let recent = times.iter().filter(|at| **at > now - 6_000_000).count();
                prop_assert!(pairs.len() <= (2 * recent).max(TIDY_FROM) * 2, "{} for {recent}", pairs.len());
            }
        }

        /// No window of a pair holds more than the limit, also when it changes owners in between.
        #[test]
        fn no_window_of_a_pair_holds_more_than_its_limit_across_owners(
            sends in prop::collection::vec((0..3usize, 0..3_000_000i64, prop::bool::weighted(0.2)), 1..200),
            count in 1..5i32, burst in 1..5i32,
        ) {
            let limit = RateLimit { count, per_ms: 6_000, burst };
            let mut pairs = pairs(std::slice::from_ref(&limit));
            let names: [Arc<str>; 3] = ["+1".into(), "+2".into(), "+3".into()];
            let mut sent: [Vec<i64>; 3] = Default::default();
            let mut now = 0;
            for (to, gap, changes_owner) in sends {
                now = (now + gap).max(pairs.ready_at_us(&names[to], 100));
                pairs.take(&names[to], now, now);
                pairs.arrived_by(&names[to], now);
                sent[to].push(now);
                if changes_owner {
                    let mut next = Pairs::default();
                    next.restore(&pairs.tats(now), now);
                    next.configure(std::slice::from_ref(&limit), 1);
                    pairs = next;
                }
            }
            for times in sent {
                for (i, start) in times.iter().enumerate() {
                    let inside = times[i..].iter().take_while(|at| **at < start + 6_000_000).count();
                    prop_assert!(inside <= count as usize, "{inside} in one window of {count}");
                }
            }
        }
    }
}
