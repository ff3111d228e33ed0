//! The one handle on the message store, whichever of the two it is.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures::stream::{self, StreamExt, TryStreamExt};
use sluice_core::fold::{FACTS_MAX, Fact, MessageFacts};
use sluice_schemas::{MessageState, MessageStatus, ReceivedMessage, SessionStatus};

use crate::cql::CqlTables;
use crate::error::Error;
use crate::join::{self, Arrived, Lives, ProviderId, Recorded};
use crate::listing;
use crate::memory::MemoryTables;
use crate::page::{self, Page, PageRequest};
use crate::settings::{MemorySettings, Settings};
use crate::tables::{Tables, Write};
use crate::timeline::{Entry, Position, Timeline};

const DAY_MS: i64 = 24 * 3_600_000;

/// How far the date of a received message may be ahead of its arrival before it is not believed.
const AHEAD_MAX_MS: i64 = DAY_MS;

/// Most keys that one batch on the in-memory twin works on at once; there is nothing to wait for.
const MEMORY_CONCURRENCY: usize = 1;

/// The message store. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct MessageStore {
    backend: Arc<Backend>,
    lives: Lives,
    concurrency_max: usize,
}

#[derive(Debug)]
enum Backend {
    Cql(Box<CqlTables>),
    Memory(MemoryTables),
}

/// Runs an expression with the tables of either store.
macro_rules! with_tables {
    ($store:expr, $tables:ident => $body:expr) => {
        match $store.backend.as_ref() {
            Backend::Cql(tables) => {
                let $tables = tables.as_ref();
                $body
            }
            Backend::Memory($tables) => $body,
        }
    };
}

impl MessageStore {
    /// Connects to a cluster.
    ///
    /// # Errors
    /// [`Error::Settings`] before anything is contacted; [`Error::NotMigrated`] when the keyspace lacks what
    /// this version needs; [`Error::Unavailable`] when trying again can help.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        settings.validate()?;
        let tables = CqlTables::connect(settings).await?;
        Ok(Self {
            backend: Arc::new(Backend::Cql(Box::new(tables))),
            lives: lives(settings.ttl_days, settings.unmatched_ttl_days),
            concurrency_max: settings.concurrency_max,
        })
    }

    /// A store in this process's memory, empty.
    pub fn memory(settings: &MemorySettings) -> Result<Self, Error> {
        settings.validate()?;
        Ok(Self {
            backend: Arc::new(Backend::Memory(MemoryTables::new(settings.messages_max))),
            lives: lives(settings.ttl_days, settings.unmatched_ttl_days),
            concurrency_max: MEMORY_CONCURRENCY,
        })
    }

    /// Whether the store answers: for readiness.
    pub async fn ping(&self) -> Result<(), Error> {
        match self.backend.as_ref() {
            Backend::Cql(tables) => tables.ping().await,
            Backend::Memory(_) => Ok(()),
        }
    }

    /// Keeps a fact, and joins it with receipts that came before it. Once this has returned, [`Self::message`]
    /// sees it. Harmless to repeat.
    ///
    /// `received_ms` is the log append time of its record. A fact without a message id is resolved by the
    /// provider's ids it bears.
    pub async fn record(&self, status: &MessageStatus, received_ms: i64) -> Result<Recorded, Error> {
        with_tables!(self, tables => join::record(tables, self.lives, status, received_ms, now_ms()).await)
    }

    /// [`Self::record`] for many, several at once. Gives one answer for each, in their order.
    ///
    /// Facts are kept in any order; on an error some are kept and some not: repeat the whole batch.
    pub async fn record_all(&self, statuses: &[Arrived<MessageStatus>]) -> Result<Vec<Recorded>, Error> {
        // Collected, because a closure kept inside the stream makes this future not `Send`.
        let writes: Vec<_> =
            statuses.iter().map(|arrived| self.record(&arrived.record, arrived.received_ms)).collect();
        stream::iter(writes).buffered(self.concurrency_max).try_collect().await
    }

    /// The state of a message; nothing when no fact of it is known.
    pub async fn message(&self, message_id: &str) -> Result<Option<MessageState>, Error> {
        Ok(self.facts(message_id).await?.map(|facts| facts.state()))
    }

    /// The states of those of the messages that are known, in the order asked for, several read at once.
    pub async fn messages_by_id(&self, message_ids: &[String]) -> Result<Vec<MessageState>, Error> {
        let reads: Vec<_> = message_ids.iter().map(|message_id| self.message(message_id)).collect();
        let states: Vec<_> = stream::iter(reads).buffered(self.concurrency_max).try_collect().await?;
        Ok(states.into_iter().flatten().collect())
    }

    /// Every known fact of a message; nothing when none is.
    pub async fn facts(&self, message_id: &str) -> Result<Option<MessageFacts>, Error> {
        if !join::is_id(message_id) {
            return Ok(None);
        }
        let kept = with_tables!(self, tables => tables.facts(message_id, FACTS_MAX).await)?;
        let mut facts = MessageFacts::new(message_id);
        for fact in kept.iter().filter_map(|json| join::read_kept("message_facts", Fact::from_json(json))) {
            facts.insert(fact);
        }
        Ok(Some(facts).filter(|facts| !facts.is_empty()))
    }

    /// The message that a provider knows by this id.
    pub async fn message_id_of(&self, session_id: &str, id: &ProviderId) -> Result<Option<String>, Error> {
        let key = id.key(session_id);
        with_tables!(self, tables => tables.message_of(&key).await)
    }

    /// Messages of a session, the latest accepted first.
    pub async fn messages(
        &self,
        session_id: &str,
        request: &PageRequest,
    ) -> Result<Page<MessageState>, Error> {
        let timeline = Timeline::Messages { session_id: session_id.to_owned() };
        let listed = with_tables!(self, tables => listing::entries(tables, &timeline, request).await)?;
        let reads = listed.entries.iter().map(|entry| async move {
            let facts = self.facts(&entry.position.id).await?;
            // A message accepted twice (by two owners) has two entries: the one at its earliest time counts.
            let here = facts.filter(|facts| facts.listed_ms() == Some(entry.position.at_ms));
            Ok::<_, Error>(here.map(|facts| facts.state()))
        });
        let reads: Vec<_> = reads.collect();
        let states: Vec<_> = stream::iter(reads).buffered(self.concurrency_max).try_collect().await?;
        Ok(Page {
            items: states.into_iter().flatten().collect(),
            next: listed.next.as_ref().map(page::cursor),
        })
    }

    /// Keeps a received message. Harmless to repeat. `received_ms` is the log append time of its record.
    pub async fn record_received(&self, message: &ReceivedMessage, received_ms: i64) -> Result<(), Error> {
        let arrived_ms = if message.received_at > 0 { message.received_at } else { received_ms };
        // Dated by the provider, so that a webhook delivered twice has one place in the list.
        let believed = |at_ms: &i64| *at_ms > 0 && *at_ms <= arrived_ms.saturating_add(AHEAD_MAX_MS);
        let at_ms = message.sent_at.filter(believed).unwrap_or(arrived_ms);
        let Some(life) = Write::earliest(at_ms, self.lives.fact_ms, now_ms()) else { return Ok(()) };
        if !join::is_id(&message.session_id) || !join::is_id(&message.event_id) {
            return Ok(());
        }
        // Of two deliveries of one message the earlier stays.
        let write = Write { timestamp_us: crate::tables::mirrored_us(arrived_ms), ..life };
        let body = to_json("session_received", message)?;
        let entry = Entry { position: Position { at_ms, id: message.event_id.clone() }, body };
        let session_id = message.session_id.clone();
        let of_session = Timeline::Received { session_id: session_id.clone() };
        with_tables!(self, tables => tables.put_entry(&of_session, &entry, write).await)?;
        if !join::is_id(&message.chat_id) {
            return Ok(());
        }
        let of_chat = Timeline::Chat { session_id, chat_id: message.chat_id.clone() };
        with_tables!(self, tables => tables.put_entry(&of_chat, &entry, write).await)
    }

    /// Messages that a session received, the latest first: of one chat (as the provider writes its id), or of
    /// all.
    pub async fn received(
        &self,
        session_id: &str,
        chat_id: Option<&str>,
        request: &PageRequest,
    ) -> Result<Page<ReceivedMessage>, Error> {
        let session_id = session_id.to_owned();
        let timeline = match chat_id {
            Some(chat_id) => Timeline::Chat { session_id, chat_id: chat_id.to_owned() },
            None => Timeline::Received { session_id },
        };
        let listed = with_tables!(self, tables => listing::entries(tables, &timeline, request).await)?;
        let items = listed.entries.iter().filter_map(|entry| from_json("session_received", &entry.body));
        Ok(Page { items: items.collect(), next: listed.next.as_ref().map(page::cursor) })
    }

    /// Keeps a facet of a session's status; of two of one facet the later stays. `received_ms` is the log
    /// append time of its record.
    pub async fn record_session(&self, status: &SessionStatus, received_ms: i64) -> Result<(), Error> {
        if !join::is_id(&status.session_id) {
            return Ok(());
        }
        let body = to_json("session_status", status)?;
        // A writer's clock that runs ahead must not outlast what is written after it is set right.
        let updated_ms = if received_ms > 0 { status.updated_at.min(received_ms) } else { status.updated_at };
        let write = Write::latest(updated_ms);
        let facet = status.facet.as_str();
        with_tables!(self, tables => tables.put_session_facet(&status.session_id, facet, &body, write).await)?;
        match status.tenant_id.as_deref().filter(|tenant| join::is_id(tenant)) {
            Some(tenant) => {
                with_tables!(self, tables => tables.put_tenant_session(tenant, &status.session_id).await)
            }
            None => Ok(()),
        }
    }

    /// What is known of a session's condition: one status for each facet told, in the order of their names.
    pub async fn session(&self, session_id: &str) -> Result<Vec<SessionStatus>, Error> {
        if !join::is_id(session_id) {
            return Ok(Vec::new());
        }
        let kept = with_tables!(self, tables => tables.session_facets(session_id).await)?;
        Ok(kept.iter().filter_map(|json| from_json("session_status", json)).collect())
    }

    /// The sessions of a tenant by id, each with its facets as [`Self::session`] gives them.
    pub async fn sessions(
        &self,
        tenant_id: &str,
        request: &PageRequest,
    ) -> Result<Page<Vec<SessionStatus>>, Error> {
        let after = request.id()?;
        if !join::is_id(tenant_id) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let limit = request.limit();
        let mut ids =
            with_tables!(self, tables => tables.tenant_sessions(tenant_id, &after, limit + 1).await)?;
        let more = ids.len() > limit;
        ids.truncate(limit);
        let next = ids.last().filter(|_| more).map(|id| Position { at_ms: 0, id: id.clone() });
        let reads: Vec<_> = ids.iter().map(|session_id| self.session(session_id)).collect();
        let items: Vec<_> = stream::iter(reads).buffered(self.concurrency_max).try_collect().await?;
        let items = items.into_iter().filter(|facets| !facets.is_empty()).collect();
        Ok(Page { items, next: next.as_ref().map(page::cursor) })
    }
}

impl Recorded {
    /// The messages that a batch touched, each once.
    pub fn messages(recorded: &[Self]) -> Vec<String> {
        let mut seen = HashSet::new();
        recorded
            .iter()
            .filter_map(|recorded| match recorded {
                Self::Message { message_id, .. } => Some(message_id),
                Self::Unmatched | Self::Ignored(_) => None,
            })
            .filter(|message_id| seen.insert(message_id.as_str()))
            .cloned()
            .collect()
    }
}

fn lives(ttl_days: u32, unmatched_ttl_days: u32) -> Lives {
    Lives { fact_ms: i64::from(ttl_days) * DAY_MS, unmatched_ms: i64::from(unmatched_ttl_days) * DAY_MS }
}

/// Milliseconds since 1970; a clock set before that counts as 1970.
fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

fn to_json<T: serde::Serialize>(table: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Corrupt { table, detail: error.to_string() })
}

fn from_json<T: serde::de::DeserializeOwned>(table: &'static str, json: &str) -> Option<T> {
    join::read_kept(table, serde_json::from_str(json))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    /// Compiling is the proof: roles box these futures and spawn them.
    #[tokio::test]
    async fn every_call_can_be_spawned() {
        async fn run(store: MessageStore, ids: Vec<String>) -> Result<(), Error> {
            let request = PageRequest::default();
            let status = Arrived { record: MessageStatus::default(), received_ms: 0 };
            store.record_all(&[status]).await?;
            store.messages_by_id(&ids).await?;
            store.messages("s", &request).await?;
            store.received("s", None, &request).await?;
            store.sessions("t", &request).await?;
            store.record_received(&ReceivedMessage::default(), 0).await?;
            store.record_session(&SessionStatus::default(), 0).await
        }
        let store = MessageStore::memory(&MemorySettings::default()).unwrap();
        let boxed: BoxFuture<'static, _> = run(store, vec!["m".to_owned()]).boxed();
        tokio::spawn(boxed).await.unwrap().unwrap();
    }
}
