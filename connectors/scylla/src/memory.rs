//! The in-memory twin, for `dev` and tests: bounded, and gone with the process.
//!
//! It keeps rows as the tables would: per partition and clustering key, of two writes the one with the higher
//! timestamp stays, of two with the same the later to expire, then the greater value.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_core::fold::Fact;

use crate::error::Error;
use crate::tables::{IdKey, Tables, Write};
use crate::timeline::{Entry, Position, Timeline};

/// A partition of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Partition {
    Facts(String),
    ProviderId(IdKey),
    Unmatched(IdKey),
    Timeline(Timeline),
    SessionFacets(String),
    TenantSessions(String),
}

/// A row of a partition: rows sort by time, then id.
type RowKey = (Partition, Position);

#[derive(Debug, Clone)]
struct Row {
    timestamp_us: i64,
    expires: Option<Instant>,
    body: String,
}

impl Row {
    fn is_live(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    fn beats(&self, other: &Self) -> bool {
        let order = self.timestamp_us.cmp(&other.timestamp_us);
        // No expiry counts as the latest.
        let expiry = || match (self.expires, other.expires) {
            (None, None) => std::cmp::Ordering::Equal,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(_), None) => std::cmp::Ordering::Less,
            (Some(own), Some(others)) => own.cmp(&others),
        };
        order.then_with(expiry).then_with(|| self.body.cmp(&other.body)).is_gt()
    }
}

/// What rows are counted by, and dropped by when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    Message,
    Received,
    Unmatched,
    Session,
}

/// Whose a row is.
type Owner = (Class, String);

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<RowKey, Row>,
    owned: HashMap<Owner, Vec<RowKey>>,
    arrival: HashMap<Class, VecDeque<Owner>>,
}

/// The tables in memory.
#[derive(Debug)]
pub(crate) struct MemoryTables {
    owners_max: usize,
    inner: Mutex<Inner>,
}

impl MemoryTables {
    /// Keeps at most `owners_max` messages, received messages, unmatched receipts and sessions each.
    pub(crate) fn new(owners_max: usize) -> Self {
        Self { owners_max, inner: Mutex::new(Inner::default()) }
    }

    /// No method leaves the rows half changed, so they stay good if a thread dies.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, owner: Owner, key: RowKey, body: String, write: Write) {
        let life = write.ttl_s.map(|life_s| Duration::from_secs(u64::from(life_s.unsigned_abs())));
        let expires = life.map(|life| Instant::now() + life);
        self.inner().put(
            owner,
            key,
            Row { timestamp_us: write.timestamp_us, expires, body },
            self.owners_max,
        );
    }

    /// Live rows of a partition in the order of their keys, those in `range` by position.
    fn read(&self, partition: Partition, from: Position, limit: usize) -> Vec<(Position, String)> {
        let now = Instant::now();
        let inner = self.inner();
        let rows = inner.rows.range((partition.clone(), from)..);
        rows.take_while(|((of, _), _)| *of == partition)
            .filter(|(_, row)| row.is_live(now))
            .map(|((_, position), row)| (position.clone(), row.body.clone()))
            .take(limit)
            .collect()
    }
}

impl Inner {
    fn put(&mut self, owner: Owner, key: RowKey, row: Row, owners_max: usize) {
        match self.rows.get_mut(&key) {
            Some(known) => {
                if row.beats(known) {
                    *known = row;
                }
            }
            None => {
                self.rows.insert(key.clone(), row);
                self.own(owner, key, owners_max);
            }
        }
    }

    fn own(&mut self, owner: Owner, key: RowKey, owners_max: usize) {
        if let Some(keys) = self.owned.get_mut(&owner) {
            keys.push(key);
            return;
        }
        self.owned.insert(owner.clone(), vec![key]);
        let arrival = self.arrival.entry(owner.0).or_default();
        arrival.push_back(owner);
        if arrival.len() > owners_max
            && let Some(oldest) = arrival.pop_front()
        {
            for key in self.owned.remove(&oldest).unwrap_or_default() {
                self.rows.remove(&key);
            }
        }
    }
}

/// The position of rows that have no time.
fn by_id(id: &str) -> Position {
    Position { at_ms: 0, id: id.to_owned() }
}

fn first() -> Position {
    Position { at_ms: i64::MIN, id: String::new() }
}

fn fact_json(fact: &Fact) -> Result<String, Error> {
    fact.to_json().map_err(|error| Error::Corrupt { table: "message_facts", detail: error.to_string() })
}

fn bodies(rows: Vec<(Position, String)>) -> Vec<String> {
    rows.into_iter().map(|(_, body)| body).collect()
}

impl Tables for MemoryTables {
    async fn put_fact(&self, message_id: &str, fact: &Fact, write: Write) -> Result<(), Error> {
        let key = (Partition::Facts(message_id.to_owned()), by_id(&fact.key()));
        self.put((Class::Message, message_id.to_owned()), key, fact_json(fact)?, write);
        Ok(())
    }

    async fn facts(&self, message_id: &str, limit: usize) -> Result<Vec<String>, Error> {
        Ok(bodies(self.read(Partition::Facts(message_id.to_owned()), first(), limit)))
    }

    async fn put_provider_id(&self, id: &IdKey, message_id: &str, write: Write) -> Result<(), Error> {
        let key = (Partition::ProviderId(id.clone()), by_id(""));
        self.put((Class::Message, message_id.to_owned()), key, message_id.to_owned(), write);
        Ok(())
    }

    async fn message_of(&self, id: &IdKey) -> Result<Option<String>, Error> {
        Ok(bodies(self.read(Partition::ProviderId(id.clone()), first(), 1)).pop())
    }

    async fn put_unmatched(&self, id: &IdKey, fact: &Fact, write: Write) -> Result<(), Error> {
        let key = (Partition::Unmatched(id.clone()), by_id(&fact.key()));
        self.put((Class::Unmatched, fact.key()), key, fact_json(fact)?, write);
        Ok(())
    }

    async fn unmatched(&self, id: &IdKey, limit: usize) -> Result<Vec<String>, Error> {
        Ok(bodies(self.read(Partition::Unmatched(id.clone()), first(), limit)))
    }

    async fn put_entry(&self, timeline: &Timeline, entry: &Entry, write: Write) -> Result<(), Error> {
        let class = match timeline {
            Timeline::Messages { .. } => Class::Message,
            Timeline::Received { .. } | Timeline::Chat { .. } => Class::Received,
        };
        let key = (Partition::Timeline(timeline.clone()), entry.position.clone());
        self.put((class, entry.position.id.clone()), key, entry.body.clone(), write);
        Ok(())
    }

    async fn buckets(&self, timeline: &Timeline, from: i64, limit: usize) -> Result<Vec<i64>, Error> {
        let inner = self.inner();
        let partition = Partition::Timeline(timeline.clone());
        let mut found = Vec::new();
        let mut end_ms = timeline.bucket_end_ms(from);
        while found.len() < limit {
            let end = Position { at_ms: end_ms, id: String::new() };
            let rows = (partition.clone(), first())..(partition.clone(), end);
            let Some(((_, newest), _)) = inner.rows.range(rows).next_back() else { break };
            let bucket = timeline.bucket(newest.at_ms);
            found.push(bucket);
            end_ms = timeline.bucket_end_ms(bucket.saturating_sub(1));
        }
        Ok(found)
    }

    async fn entries(
        &self,
        timeline: &Timeline,
        bucket: i64,
        after: &Position,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let now = Instant::now();
        let inner = self.inner();
        let partition = Partition::Timeline(timeline.clone());
        let start_ms = timeline.bucket_end_ms(bucket.saturating_sub(1));
        let start = Position { at_ms: start_ms, id: String::new() };
        if *after <= start {
            return Ok(Vec::new());
        }
        let rows = inner.rows.range((partition.clone(), start)..(partition, after.clone()));
        Ok(rows
            .rev()
            .filter(|(_, row)| row.is_live(now))
            .map(|((_, position), row)| Entry { position: position.clone(), body: row.body.clone() })
            .take(limit)
            .collect())
    }

    async fn put_session_facet(
        &self,
        session_id: &str,
        facet: &str,
        body: &str,
        write: Write,
    ) -> Result<(), Error> {
        let key = (Partition::SessionFacets(session_id.to_owned()), by_id(facet));
        self.put((Class::Session, session_id.to_owned()), key, body.to_owned(), write);
        Ok(())
    }

    async fn session_facets(&self, session_id: &str) -> Result<Vec<String>, Error> {
        Ok(bodies(self.read(Partition::SessionFacets(session_id.to_owned()), first(), usize::MAX)))
    }

    async fn put_tenant_session(&self, tenant_id: &str, session_id: &str) -> Result<(), Error> {
        let key = (Partition::TenantSessions(tenant_id.to_owned()), by_id(session_id));
        self.put((Class::Session, session_id.to_owned()), key, String::new(), Write::latest(0));
        Ok(())
    }

    async fn tenant_sessions(
        &self,
        tenant_id: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        // The first id above `after` is `after` with the lowest byte behind it.
        let from =
            Position { at_ms: 0, id: if after.is_empty() { String::new() } else { format!("{after}\0") } };
        let rows = self.read(Partition::TenantSessions(tenant_id.to_owned()), from, limit);
        Ok(rows.into_iter().map(|(position, _)| position.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(timestamp_us: i64) -> Write {
        Write { timestamp_us, ttl_s: Some(1_000) }
    }

    fn fact(event_id: &str) -> Fact {
        Fact { event_id: event_id.to_owned(), session_id: "s".to_owned(), ..Fact::default() }
    }

    #[tokio::test]
    async fn the_oldest_message_goes_first_and_whole() {
        let tables = MemoryTables::new(2);
        let id = |name: &str| IdKey { session_id: "s".to_owned(), id: name.to_owned() };
        let timeline = Timeline::Messages { session_id: "s".to_owned() };
        for (index, message) in ["a", "b", "c"].into_iter().enumerate() {
            tables.put_fact(message, &fact("e"), write(1)).await.unwrap();
            tables.put_provider_id(&id(message), message, write(1)).await.unwrap();
            let position = Position { at_ms: index as i64, id: message.to_owned() };
            tables.put_entry(&timeline, &Entry { position, body: String::new() }, write(1)).await.unwrap();
        }
        assert!(tables.facts("a", 10).await.unwrap().is_empty());
        assert_eq!(tables.message_of(&id("a")).await.unwrap(), None);
        let head = Position { at_ms: 100, id: String::new() };
        let listed = tables.entries(&timeline, 0, &head, 10).await.unwrap();
        let listed: Vec<&str> = listed.iter().map(|entry| entry.position.id.as_str()).collect();
        assert_eq!(listed, ["c", "b"]);
        assert_eq!(tables.facts("b", 10).await.unwrap().len(), 1);
        assert_eq!(tables.inner().rows.len(), 6, "nothing of the dropped message is left");
    }

    #[tokio::test]
    async fn of_two_writes_the_higher_timestamp_then_the_greater_value_stays() {
        let tables = MemoryTables::new(10);
        let latest = |timestamp_us| Write { timestamp_us, ttl_s: None };
        for (body, at) in [("b", 5), ("a", 5), ("z", 4)] {
            tables.put_session_facet("s", "HOLD", body, latest(at)).await.unwrap();
        }
        assert_eq!(tables.session_facets("s").await.unwrap(), ["b"]);
        tables.put_session_facet("s", "HOLD", "a", latest(6)).await.unwrap();
        assert_eq!(tables.session_facets("s").await.unwrap(), ["a"]);
    }
}
