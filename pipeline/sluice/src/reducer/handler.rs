//! A batch of facts through the store to published states.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sluice_kafka::record::Record;
use sluice_kafka::registry::{Codec, Codecs};
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{MessageState, MessageStatus, ReceivedMessage, SessionStatus, headers};
use sluice_scylla::{Arrived, Error, MessageStore};
use tokio::time::Instant;

use super::check;
use super::settle::settle;
use crate::consume;
use crate::consume::writer::{Encoded, Writer};
use crate::dead_letters::{self, Cause, DeadLetters};
use crate::lifecycle::Latch;
use crate::telemetry::metrics::Metrics;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Received messages and session rows written to the store at once.
const WRITES_AT_ONCE: usize = 32;

/// What the work needs, beside the codecs.
pub(super) struct Parts {
    pub(super) dead: DeadLetters,
    pub(super) writer: Writer,
    pub(super) store: MessageStore,
    pub(super) metrics: Arc<Metrics>,
    pub(super) names: Names,
    /// Says whether the store answers.
    pub(super) ready: Latch,
}

struct Shared {
    parts: Parts,
    statuses: Codec<MessageStatus>,
    received: Codec<ReceivedMessage>,
    sessions: Codec<SessionStatus>,
    states: Codec<MessageState>,
}

/// A batch, decoded.
#[derive(Default)]
struct Sorted {
    facts: Vec<Arrived<MessageStatus>>,
    received: Vec<Arrived<ReceivedMessage>>,
    sessions: Vec<Arrived<SessionStatus>>,
    letters: Vec<Encoded>,
}

impl Shared {
    /// Decodes `batch` and checks what is in it; what is dead becomes a letter.
    async fn sort(&self, batch: &[Record]) -> anyhow::Result<Sorted> {
        let names = &self.parts.names;
        let mut sorted = Sorted::default();
        for record in batch {
            let topic = &*record.partition.topic;
            let result = if topic == names.get(Topic::MessagesStatus) {
                kept(&self.statuses, record, check::status, &mut sorted.facts).await
            } else if topic == names.get(Topic::MessagesReceived) {
                kept(&self.received, record, check::received, &mut sorted.received).await
            } else if record.value.is_none() {
                // A tombstone of a session's facet: its row ages away.
                Ok(())
            } else {
                kept(&self.sessions, record, |_| Ok(()), &mut sorted.sessions).await
            };
            match result {
                Ok(()) => self.parts.dead.alive(),
                Err(cause) => sorted.letters.push(self.parts.dead.letter(record, cause)?),
            }
        }
        Ok(sorted)
    }

    async fn carry_out(&self, batch: Vec<Record>) -> anyhow::Result<()> {
        let Sorted { facts, received, sessions, letters } = self.sort(&batch).await?;
        let letters = self.parts.writer.begin(letters);
        let store = &self.parts.store;
        let settled = self.stored("record", || settle(store, &facts)).await?;
        let metrics = &self.parts.metrics;
        for fact in &facts {
            metrics.facts.with_label_values(&[fact.record.status.as_str()]).inc();
        }
        metrics.unmatched_receipts.with_label_values(&["kept"]).inc_by(settled.unmatched);
        metrics.unmatched_receipts.with_label_values(&["joined"]).inc_by(settled.joined);
        if settled.ignored > 0 {
            tracing::debug!(facts = settled.ignored, "facts that are not kept");
        }
        let states = self.parts.writer.begin(settled.states.iter().map(|state| self.encode(state)).collect());
        self.stored("record_received", || {
            each(&received, |one| store.record_received(&one.record, one.received_ms))
        })
        .await?;
        self.stored("record_session", || {
            each(&sessions, |one| store.record_session(&one.record, one.received_ms))
        })
        .await?;
        let too_large = [states.finish().await?, letters.finish().await?].concat();
        anyhow::ensure!(
            too_large.is_empty(),
            "a record is larger than its topic allows; run `sluice topics apply`"
        );
        Ok(())
    }

    fn encode(&self, state: &MessageState) -> Encoded {
        let mut all = Vec::with_capacity(4);
        if let Some(tenant) = &state.tenant_id {
            all.push((headers::TENANT_ID, tenant.clone()));
        }
        all.push((headers::SESSION_ID, state.session_id.clone()));
        all.push((headers::MESSAGE_ID, state.message_id.clone()));
        all.push((headers::EVENT_TYPE, state.status.as_str().to_owned()));
        Encoded {
            topic: self.parts.names.get(Topic::MessagesState).to_owned(),
            partition: None,
            key: state.message_id.clone().into_bytes(),
            value: self.states.encode(state),
            headers: all,
        }
    }

    /// Does `work` until the store has done it: a store that is down stops the commits and nothing else.
    async fn stored<T, W: Future<Output = Result<T, Error>>>(
        &self,
        operation: &'static str,
        work: impl Fn() -> W,
    ) -> anyhow::Result<T> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let start = Instant::now();
            let result = work().await;
            let metrics = &self.parts.metrics;
            metrics.store_seconds.with_label_values(&[operation]).observe(start.elapsed().as_secs_f64());
            match result {
                Ok(done) => {
                    self.parts.ready.set(true);
                    return Ok(done);
                }
                Err(error) => {
                    metrics.store_errors.with_label_values(&[operation]).inc();
                    self.parts.ready.set(false);
                    if !error.is_transient() {
                        return Err(error.into());
                    }
                    tracing::warn!(operation, %error, "the store does not answer; trying again");
                }
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

async fn kept<T: sluice_schemas::codec::Record>(
    codec: &Codec<T>,
    record: &Record,
    check: impl FnOnce(&T) -> Result<(), Cause>,
    to: &mut Vec<Arrived<T>>,
) -> Result<(), Cause> {
    let value = dead_letters::decode(codec, record).await?;
    check(&value)?;
    to.push(Arrived { record: value, received_ms: record.timestamp_ms });
    Ok(())
}

/// Writes each of `items`, a bounded number at once.
async fn each<'a, T, W: Future<Output = Result<(), Error>>>(
    items: &'a [Arrived<T>],
    write: impl Fn(&'a Arrived<T>) -> W,
) -> Result<(), Error> {
    for some in items.chunks(WRITES_AT_ONCE) {
        futures::future::try_join_all(some.iter().map(&write)).await?;
    }
    Ok(())
}

/// The reducer's work on batches.
pub(super) struct Handler {
    shared: Arc<Shared>,
}

impl Handler {
    pub(super) fn new(parts: Parts, codecs: &Codecs) -> Self {
        Self {
            shared: Arc::new(Shared {
                parts,
                statuses: codecs.codec(Topic::MessagesStatus),
                received: codecs.codec(Topic::MessagesReceived),
                sessions: codecs.codec(Topic::SessionsStatus),
                states: codecs.codec(Topic::MessagesState),
            }),
        }
    }

    /// Waits until the store answers for the first time.
    pub(super) async fn wait_for_store(&self) {
        let shared = &self.shared;
        let pinged = shared.stored("ping", || shared.parts.store.ping()).await;
        if let Err(error) = pinged {
            // What is wrong for good shows again, with its operation, at the first batch.
            tracing::error!(cause = format!("{error:#}"), "the store refuses");
        }
    }
}

impl consume::Handler for Handler {
    fn handle(&mut self, batch: Vec<Record>) -> BoxFuture<'static, anyhow::Result<()>> {
        let shared = Arc::clone(&self.shared);
        async move { shared.carry_out(batch).await }.boxed()
    }
}
