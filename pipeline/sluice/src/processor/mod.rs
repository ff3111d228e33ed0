//! The processor: provider webhooks in, facts about messages and sessions out.
//!
//! `webhooks.inbound` is read at least once: the offset of a webhook is committed after everything it told is
//! acknowledged. A repeat writes the same records again, with the same event ids.

pub(crate) mod address;
mod handler;
mod owner;
pub(crate) mod translate;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_kafka::producer::Producer;
use sluice_kafka::registry::Codecs;
use sluice_kafka::settings::ProducerOptions;
use sluice_schemas::Facet;
use sluice_schemas::topics::Topic;
use sluice_whatsapp::Registry as Connectors;
use tokio_util::sync::CancellationToken;

use self::handler::{Handler, Shared};
use self::translate::Connections;
use crate::consume::{self, Limits, writer::Writer};
use crate::dead_letters::{self, DeadLetters};
use crate::directory::Directory;
use crate::lifecycle::{Lifecycle, Readiness};
use crate::telemetry::metrics::Metrics;

/// Name of the role in groups, dead letters and metrics.
pub(crate) const ROLE: &str = "processor";

/// Settings of the processor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bounds of reading.
    pub limits: Limits,
    /// Part of the last `dead_window_records` webhooks that may become dead letters before the role ends, because
    /// something other than they is wrong; 0 to 1.
    pub dead_ratio_max: f64,
    /// Records the ratio is taken over.
    pub dead_window_records: usize,
}

/// What the processor needs.
#[derive(Debug, Clone)]
pub struct Deps {
    /// How to reach Kafka, and what its topics are called.
    pub kafka: sluice_kafka::settings::Settings,
    /// Partitions of the session-placed topics, as the brokers have them.
    pub partitions: i32,
    /// Codecs of the topics.
    pub codecs: Codecs,
    /// The providers.
    pub connectors: Connectors,
    /// Accounts and sessions.
    pub directory: Directory,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Readiness of the process.
    pub readiness: Readiness,
}

/// Runs until `shutdown`.
///
/// # Errors
/// If Kafka cannot be used, or so much is dead that something other than the webhooks must be wrong.
pub async fn run(settings: &Settings, deps: Deps, shutdown: CancellationToken) -> anyhow::Result<()> {
    let ready = deps.readiness.latch("processor.directory");
    tokio::select! {
        // Without the directory nobody knows whose webhook it is.
        () = deps.directory.loaded() => ready.set(true),
        () = shutdown.cancelled() => return Ok(()),
    }
    let options = ProducerOptions::default();
    let (producer, _deliveries) = Producer::<()>::open(&deps.kafka, &options)?;
    let names = deps.kafka.names();
    let mut connections = Connections::default();
    for session in deps.directory.sessions() {
        let id = &session.session_id;
        if let Some(status) = deps.directory.status(id, Facet::Connection) {
            connections.known(id, status.occurred_at);
        }
    }
    let limits = dead_letters::Limits {
        ratio_max: settings.dead_ratio_max,
        window_records: settings.dead_window_records,
    };
    let shared = Shared::new(
        handler::Parts {
            dead: DeadLetters::new(ROLE, &names, &deps.codecs, deps.metrics.clone(), limits),
            writer: Writer::new(producer, options.message_timeout_ms),
            partitions: deps.partitions,
            connectors: deps.connectors,
            directory: deps.directory,
            metrics: deps.metrics,
            names: names.clone(),
        },
        &deps.codecs,
        connections,
    );
    let topics = [names.get(Topic::WebhooksInbound)];
    let source = consume::Source { kafka: &deps.kafka, role: ROLE, topics: &topics, reread_ms: None };
    consume::run(source, Handler::new(shared), &settings.limits, shutdown).await
}

/// Starts the role as a component of `life`. It waits for Kafka and the directory; `/livez` answers meanwhile.
///
/// # Errors
/// None; the signature is that of every role.
pub async fn start(deps: &crate::deps::Deps, life: &mut Lifecycle) -> anyhow::Result<()> {
    let (deps, shutdown) = (deps.clone(), life.shutdown());
    let settings = deps.settings.processor.clone();
    let limit = Duration::from_millis(settings.limits.drain_timeout_ms) + consume::CLOSE_GRACE;
    life.spawn(ROLE, limit, async move {
        let partitions = tokio::select! {
            partitions = deps.brokers.checked() => partitions?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let role = Deps {
            kafka: deps.settings.kafka.clone(),
            partitions,
            codecs: deps.codecs,
            connectors: deps.connectors,
            directory: deps.directory,
            metrics: deps.metrics,
            readiness: deps.readiness,
        };
        run(&settings, role, shutdown).await
    });
    Ok(())
}

#[cfg(test)]
mod tests;
