//! The reducer: facts about messages in, rows of the message store and folded states out.
//!
//! Per batch: facts are written blind, then each message they touch is read back once, and its state published
//! with its revision. One batch at a time, so that the states of a message appear in the order they were read
//! back in; facts that come meanwhile wait and go together in the next batch. Offsets are committed after the
//! store and the broker have acknowledged everything. A repeat writes the same rows and publishes the same
//! states.

pub(crate) mod check;
mod handler;
pub(crate) mod settle;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_kafka::producer::Producer;
use sluice_kafka::registry::Codecs;
use sluice_kafka::settings::ProducerOptions;
use sluice_schemas::topics::Topic;
use sluice_scylla::MessageStore;
use tokio_util::sync::CancellationToken;

use self::handler::{Handler, Parts};
use crate::consume::{self, Limits, writer::Writer};
use crate::dead_letters::{self, DeadLetters};
use crate::lifecycle::{Lifecycle, Readiness};
use crate::telemetry::metrics::Metrics;

/// Name of the role in groups, dead letters and metrics.
pub(crate) const ROLE: &str = "reducer";
/// Says whether the store answers the reducer.
const STORE_LATCH: &str = "reducer.store";

/// Settings of the reducer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Bounds of reading. `batches_max` must be 1.
    pub limits: Limits,
    /// A partition that comes begins this long before now, so that states a former owner read back and did not
    /// publish are published, milliseconds; 0: where the group left off.
    pub reread_ms: i64,
    /// Part of the last `dead_window_records` records that may become dead letters before the role ends, because
    /// something other than they is wrong; 0 to 1.
    pub dead_ratio_max: f64,
    /// Records the ratio is taken over.
    pub dead_window_records: usize,
}

/// What the reducer needs.
#[derive(Clone)]
pub struct Deps {
    /// How to reach Kafka, and what its topics are called.
    pub kafka: sluice_kafka::settings::Settings,
    /// Codecs of the topics.
    pub codecs: Codecs,
    /// The store.
    pub store: MessageStore,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Readiness of the process.
    pub readiness: Readiness,
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("reducer::Deps").finish_non_exhaustive()
    }
}

/// Runs until `shutdown`.
///
/// # Errors
/// If Kafka cannot be used, the store refuses for good, or so much is dead that something other than the
/// records must be wrong.
pub async fn run(settings: &Settings, deps: Deps, shutdown: CancellationToken) -> anyhow::Result<()> {
    let options = ProducerOptions::default();
    let (producer, _deliveries) = Producer::<()>::open(&deps.kafka, &options)?;
    let names = deps.kafka.names();
    let ready = deps.readiness.latch(STORE_LATCH);
    let limits = dead_letters::Limits {
        ratio_max: settings.dead_ratio_max,
        window_records: settings.dead_window_records,
    };
    let parts = Parts {
        dead: DeadLetters::new(ROLE, &names, &deps.codecs, deps.metrics.clone(), limits),
        writer: Writer::new(producer, options.message_timeout_ms),
        store: deps.store,
        metrics: deps.metrics,
        names: names.clone(),
        ready,
    };
    let handler = Handler::new(parts, &deps.codecs);
    tokio::select! {
        () = handler.wait_for_store() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let topics = [
        names.get(Topic::MessagesStatus),
        names.get(Topic::MessagesReceived),
        names.get(Topic::SessionsStatus),
    ];
    let source = consume::Source {
        kafka: &deps.kafka,
        role: ROLE,
        topics: &topics,
        reread_ms: Some(settings.reread_ms).filter(|ms| *ms > 0),
    };
    // States of one message must be published in the order they were read back in.
    let limits = Limits { batches_max: 1, ..settings.limits.clone() };
    consume::run(source, handler, &limits, shutdown).await
}

/// Starts the role as a component of `life`. It waits for Kafka and the store; `/livez` answers meanwhile.
///
/// # Errors
/// None; the signature is that of every role.
pub async fn start(deps: &crate::deps::Deps, life: &mut Lifecycle) -> anyhow::Result<()> {
    let (deps, shutdown) = (deps.clone(), life.shutdown());
    let settings = deps.settings.reducer.clone();
    let limit = Duration::from_millis(settings.limits.drain_timeout_ms) + consume::CLOSE_GRACE;
    // Not ready from the start, and not only once the role runs.
    let _ = deps.readiness.latch(STORE_LATCH);
    life.spawn(ROLE, limit, async move {
        tokio::select! {
            checked = deps.brokers.checked() => { checked?; }
            () = shutdown.cancelled() => return Ok(()),
        }
        let Some(store) = deps.stores.wait(&shutdown).await? else { return Ok(()) };
        let role = Deps {
            kafka: deps.settings.kafka.clone(),
            codecs: deps.codecs,
            store,
            metrics: deps.metrics,
            readiness: deps.readiness,
        };
        run(&settings, role, shutdown).await
    });
    Ok(())
}

#[cfg(test)]
mod tests;
