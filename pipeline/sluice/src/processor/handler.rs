//! A batch of webhooks through decoding, translation and writing.

use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use sluice_kafka::record::Record;
use sluice_kafka::registry::{Codec, Codecs};
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{
    DeadLetterReason, InboundWebhook, MessageStatus, ReceivedMessage, SessionLink, SessionStatus, placement,
};
use sluice_whatsapp::Registry as Connectors;

use super::address::{Output, Value};
use super::owner;
use super::translate::{Connections, translate};
use crate::consume;
use crate::consume::writer::{Encoded, Writer};
use crate::dead_letters::{self, Cause, DeadLetters, TooManyDead};
use crate::directory::Directory;
use crate::telemetry::metrics::Metrics;

/// What translation and writing need, beside the codecs.
pub(super) struct Parts {
    pub(super) dead: DeadLetters,
    pub(super) writer: Writer,
    /// Partitions of the session-placed topics.
    pub(super) partitions: i32,
    pub(super) connectors: Connectors,
    pub(super) directory: Directory,
    pub(super) metrics: Arc<Metrics>,
    pub(super) names: Names,
}

pub(super) struct Shared {
    parts: Parts,
    webhooks: Codec<InboundWebhook>,
    statuses: Codec<MessageStatus>,
    received: Codec<ReceivedMessage>,
    connections: Codec<SessionStatus>,
    links: Codec<SessionLink>,
    latest: Mutex<Connections>,
}

impl Shared {
    pub(super) fn new(parts: Parts, codecs: &Codecs, latest: Connections) -> Self {
        Self {
            parts,
            webhooks: codecs.codec(Topic::WebhooksInbound),
            statuses: codecs.codec(Topic::MessagesStatus),
            received: codecs.codec(Topic::MessagesReceived),
            connections: codecs.codec(Topic::SessionsStatus),
            links: codecs.codec(Topic::SessionsLinks),
            latest: Mutex::new(latest),
        }
    }

    /// Everything that `webhook`, read from `record`, is to be written as.
    fn records_of(&self, webhook: InboundWebhook, record: &Record) -> Result<Vec<Encoded>, TooManyDead> {
        let mut webhook = webhook;
        let provider = webhook.provider.as_str();
        let metrics = &self.parts.metrics;
        let owner = owner::of(&webhook, &self.parts.directory);
        let translated = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            translate(&mut webhook, owner, &self.parts.connectors, &mut latest)
        };
        let translated = match translated {
            Ok(translated) => translated,
            Err(cause) => {
                metrics.webhook_events.with_label_values(&[provider, "unparseable"]).inc();
                return Ok(vec![self.parts.dead.letter(record, cause)?]);
            }
        };
        self.parts.dead.alive();
        let ignored = translated.counted.len() + translated.stale;
        if ignored > 0 {
            tracing::debug!(webhook_id = webhook.webhook_id, kinds = ?translated.counted, "nothing to write");
            metrics.webhook_events.with_label_values(&[provider, "ignored"]).inc_by(ignored as u64);
        }
        Ok(translated
            .outputs
            .into_iter()
            .map(|output| {
                metrics.webhook_events.with_label_values(&[provider, output.value.kind()]).inc();
                if let Value::Status(status) = &output.value {
                    let late_ms = (webhook.received_at - status.occurred_at).max(0);
                    let latency =
                        metrics.receipt_latency_seconds.with_label_values(&[status.status.as_str()]);
                    latency.observe(late_ms as f64 / 1e3);
                }
                self.encode(output)
            })
            .collect())
    }

    fn encode(&self, output: Output) -> Encoded {
        let value = match &output.value {
            Value::Status(value) => self.statuses.encode(value),
            Value::Received(value) => self.received.encode(value),
            Value::Connection(value) => self.connections.encode(value),
            Value::Link(value) => self.links.encode(value),
        };
        Encoded {
            topic: self.parts.names.get(output.topic).to_owned(),
            partition: Some(placement::partition_for(output.session_id.as_bytes(), self.parts.partitions)),
            key: output.key.into_bytes(),
            value,
            headers: output.headers,
        }
    }

    /// Waits for the batch's records; a webhook one of whose records is too large for its topic is dead.
    async fn finish(&self, begun: Begun, batch: &[Record]) -> anyhow::Result<()> {
        let mut sources: Vec<usize> =
            begun.writing.finish().await?.into_iter().filter_map(|i| begun.sources.get(i).copied()).collect();
        sources.dedup();
        let mut letters = Vec::new();
        for record in sources.into_iter().filter_map(|index| batch.get(index)) {
            let cause = Cause::new(
                DeadLetterReason::TooLarge,
                "what the webhook tells is larger than its topic allows; raise max.message.bytes",
            );
            letters.push(self.parts.dead.letter(record, cause)?);
        }
        self.write_letters(letters).await
    }

    async fn write_letters(&self, letters: Vec<Encoded>) -> anyhow::Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let too_large = self.parts.writer.write(letters).await?;
        anyhow::ensure!(
            too_large.is_empty(),
            "a dead letter is larger than its topic allows; run topics apply"
        );
        Ok(())
    }

    /// A webhook written with a schema that was not known: asks the registry, then goes the usual way.
    async fn later(&self, record: &Record) -> anyhow::Result<()> {
        let records = match dead_letters::decode(&self.webhooks, record).await {
            Ok(webhook) => self.records_of(webhook, record)?,
            Err(cause) => vec![self.parts.dead.letter(record, cause)?],
        };
        let sources = vec![0; records.len()];
        let begun = Begun { writing: self.parts.writer.begin(records), sources };
        self.finish(begun, std::slice::from_ref(record)).await
    }
}

/// A batch's records on their way.
struct Begun {
    writing: consume::writer::Writing,
    /// Index into the batch, for each record written.
    sources: Vec<usize>,
}

impl Value {
    /// Name of the kind, for metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Received(_) => "received",
            Self::Connection(_) => "connection",
            Self::Link(_) => "link",
        }
    }
}

/// The processor's work on batches.
pub(super) struct Handler {
    shared: Arc<Shared>,
}

impl Handler {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Translates at once what can be, in the order of the batch, and hands it to the producer.
    fn begin(&self, batch: &[Record]) -> Result<(Begun, Vec<usize>), TooManyDead> {
        let shared = &self.shared;
        let mut records = Vec::with_capacity(batch.len());
        let mut sources = Vec::with_capacity(batch.len());
        let mut later = Vec::new();
        for (index, record) in batch.iter().enumerate() {
            let of_record = match shared.webhooks.decode(record) {
                Ok(webhook) => shared.records_of(webhook, record)?,
                Err(error) => match dead_letters::cause_of(&error) {
                    Some(cause) => vec![shared.parts.dead.letter(record, cause)?],
                    None => {
                        later.push(index);
                        continue;
                    }
                },
            };
            sources.resize(sources.len() + of_record.len(), index);
            records.extend(of_record);
        }
        Ok((Begun { writing: shared.parts.writer.begin(records), sources }, later))
    }
}

impl consume::Handler for Handler {
    fn handle(&mut self, batch: Vec<Record>) -> BoxFuture<'static, anyhow::Result<()>> {
        let begun = self.begin(&batch);
        let shared = Arc::clone(&self.shared);
        async move {
            let (begun, later) = begun?;
            shared.finish(begun, &batch).await?;
            for record in later.into_iter().filter_map(|index| batch.get(index)) {
                shared.later(record).await?;
            }
            Ok(())
        }
        .boxed()
    }
}
