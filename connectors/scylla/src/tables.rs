//! The tables both stores have, one method per statement.

use std::future::Future;

use sluice_core::fold::Fact;

use crate::error::Error;
use crate::timeline::{Entry, Position, Timeline};

/// Fixed point in the past around which times are mirrored, so that the earlier event has the higher write
/// timestamp and no timestamp is in the future (ScyllaDB refuses those more than 3 days ahead).
/// 2020-01-01T00:00:00Z, milliseconds.
const ANCHOR_MS: i64 = 1_577_836_800_000;

/// Timestamp and life of a written row, both from the event's own time, so that a replay writes the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Write {
    /// Write timestamp, microseconds: of two writes of one row the higher stays; of two with the same the
    /// greater value.
    pub(crate) timestamp_us: i64,
    /// Remaining life, seconds; nothing for rows that stay.
    pub(crate) ttl_s: Option<i32>,
}

impl Write {
    /// A write where the earliest event wins, that is kept `ttl_ms` after the event. Nothing when that time
    /// has passed: what has expired must not come back.
    pub(crate) fn earliest(at_ms: i64, ttl_ms: i64, now_ms: i64) -> Option<Self> {
        let expires_ms = at_ms.saturating_add(ttl_ms);
        // Expiry is rounded up to whole seconds of the clock, not of the life, so that it does not depend on
        // when within a second the write is made.
        let life_s = expires_ms.saturating_add(999).div_euclid(1_000) - now_ms.div_euclid(1_000);
        let ttl_s = i32::try_from(life_s).unwrap_or(i32::MAX);
        (ttl_s > 0).then_some(Self { timestamp_us: mirrored_us(at_ms), ttl_s: Some(ttl_s) })
    }

    /// The same, of a fact: of two records of one event at one time the one wins that the fold keeps.
    pub(crate) fn of_fact(fact: &Fact, ttl_ms: i64, now_ms: i64) -> Option<Self> {
        let write = Self::earliest(fact.at_ms, ttl_ms, now_ms)?;
        Some(Self { timestamp_us: write.timestamp_us + i64::from(fact.tie()), ..write })
    }

    /// A write where the latest event wins, that stays.
    pub(crate) fn latest(at_ms: i64) -> Self {
        Self { timestamp_us: at_ms.saturating_mul(1_000), ttl_s: None }
    }
}

/// The write timestamp for a time where the earliest wins, microseconds.
pub(crate) fn mirrored_us(at_ms: i64) -> i64 {
    (2 * ANCHOR_MS).saturating_sub(at_ms).saturating_mul(1_000)
}

/// A provider's id in its kept form, with its session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IdKey {
    /// The session.
    pub(crate) session_id: String,
    /// The id with the sort of id in front.
    pub(crate) id: String,
}

/// The tables. Writes are blind and idempotent; nothing is deleted.
pub(crate) trait Tables: Send + Sync {
    /// Writes a fact of a message.
    fn put_fact(
        &self,
        message_id: &str,
        fact: &Fact,
        write: Write,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The facts of a message, as kept, the first `limit` by key.
    fn facts(
        &self,
        message_id: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Writes that a provider's id is of a message.
    fn put_provider_id(
        &self,
        id: &IdKey,
        message_id: &str,
        write: Write,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The message of a provider's id.
    fn message_of(&self, id: &IdKey) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// Keeps a fact whose message is not known under an id of it.
    fn put_unmatched(
        &self,
        id: &IdKey,
        fact: &Fact,
        write: Write,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The facts kept under an id, as kept, at most `limit`.
    fn unmatched(&self, id: &IdKey, limit: usize) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Writes an entry of a list.
    fn put_entry(
        &self,
        timeline: &Timeline,
        entry: &Entry,
        write: Write,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The buckets of a list that may hold entries, newest first, from `from` down, at most `limit`.
    fn buckets(
        &self,
        timeline: &Timeline,
        from: i64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<i64>, Error>> + Send;

    /// The entries of a bucket that come after `after` (that is, are older), newest first, at most `limit`.
    fn entries(
        &self,
        timeline: &Timeline,
        bucket: i64,
        after: &Position,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Entry>, Error>> + Send;

    /// Writes a facet of a session's status.
    fn put_session_facet(
        &self,
        session_id: &str,
        facet: &str,
        body: &str,
        write: Write,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The facets of a session's status, as kept.
    fn session_facets(&self, session_id: &str) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Writes that a session is of a tenant.
    fn put_tenant_session(
        &self,
        tenant_id: &str,
        session_id: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The sessions of a tenant with ids above `after`, by id, at most `limit`.
    fn tenant_sessions(
        &self,
        tenant_id: &str,
        after: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<String>, Error>> + Send;
}

#[cfg(test)]
mod tests {
    use sluice_core::fold::MessageFacts;
    use sluice_schemas::{MessageStatus, Source, Status};

    use super::*;

    const NOW_MS: i64 = 1_790_000_000_500;

    #[test]
    fn the_earlier_event_has_the_higher_timestamp_and_none_is_in_the_future() {
        let timestamp = |at_ms| Write::earliest(at_ms, 1_000_000, NOW_MS).unwrap().timestamp_us;
        assert!(timestamp(NOW_MS - 1) > timestamp(NOW_MS));
        assert!(timestamp(NOW_MS - 900_000) < NOW_MS * 1_000);
    }

    #[test]
    fn of_two_records_of_one_event_the_store_keeps_the_one_the_fold_keeps_whenever_they_are_written() {
        let record = |observed_ms| {
            let status = MessageStatus {
                event_id: "e".to_owned(),
                status: Status::Accepted,
                source: Source::Sender,
                occurred_at: NOW_MS,
                observed_at: observed_ms,
                ..MessageStatus::default()
            };
            Fact::of(&status, 0).unwrap()
        };
        let mut told_apart = 0;
        for n in 0..200 {
            let (one, other) = (record(NOW_MS + n), record(NOW_MS + 1_000 + n));
            assert_eq!((one.key(), one.at_ms), (other.key(), other.at_ms));
            let mut facts = MessageFacts::new("m");
            facts.insert(one.clone());
            facts.insert(other.clone());
            let kept = facts.iter().next().unwrap().clone();
            let timestamp = |fact, now_ms| Write::of_fact(fact, 1_000_000, now_ms).unwrap().timestamp_us;
            // The second is written a minute later, and so expires at another second.
            let (first, second) = (timestamp(&one, NOW_MS), timestamp(&other, NOW_MS + 60_123));
            if first != second {
                told_apart += 1;
                assert_eq!(kept, if first > second { one } else { other });
            }
        }
        assert!(told_apart > 190, "{told_apart} of 200");
    }

    #[test]
    fn expiry_depends_on_the_event_alone() {
        let at_ms = NOW_MS - 5_000;
        for now_ms in [NOW_MS, NOW_MS + 1, NOW_MS + 499, NOW_MS + 777, NOW_MS + 60_000] {
            let life_s = Write::earliest(at_ms, 100_000, now_ms).unwrap().ttl_s.unwrap();
            assert_eq!(
                now_ms.div_euclid(1_000) + i64::from(life_s),
                (at_ms + 100_000 + 999).div_euclid(1_000)
            );
        }
        assert_eq!(Write::earliest(at_ms, 4_000, NOW_MS), None, "what has expired is not written");
    }
}
