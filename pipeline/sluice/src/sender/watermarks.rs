//! Before an attempt in doubt is decided, the webhooks that stood in `webhooks.inbound` when its time came must have
//! been processed: one of them may be the evidence. This watches the processor's group from outside, and only while
//! something is in doubt. A processor that is down keeps doubts open: nothing is decided on ignorance.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_kafka::clock;
use sluice_kafka::progress::Progress;
use sluice_kafka::tail::Error;
use sluice_schemas::topics::{Names, Topic};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::processor;
use crate::telemetry::metrics::Metrics;

/// How the processor is watched.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// How often the processor's committed offsets are looked at while messages are in doubt, milliseconds.
    pub interval_ms: u64,
    /// A warning comes each time doubts have waited so long for the processor, milliseconds.
    pub warn_after_ms: u64,
}

/// Watches the processor's group, one round at a time.
pub(super) struct Watermarks {
    kafka: sluice_kafka::settings::Settings,
    topic: String,
    watch: Watch,
    metrics: Arc<Metrics>,
    progress: Option<Progress>,
    round: Option<JoinHandle<()>>,
}

impl Watermarks {
    pub(super) fn new(
        kafka: &sluice_kafka::settings::Settings,
        names: &Names,
        watch: Watch,
        metrics: Arc<Metrics>,
    ) -> Self {
        let topic = names.get(Topic::WebhooksInbound).to_owned();
        Self { kafka: kafka.clone(), topic, watch, metrics, progress: None, round: None }
    }

    /// Begins a round unless one is under way: takes the ends of `webhooks.inbound` now, waits until the processor
    /// has committed up to them, and tells `done` when that "now" was, ms.
    ///
    /// # Errors
    /// If no client can be made.
    pub(super) fn begin(&mut self, done: impl FnOnce(i64) + Send + 'static) -> Result<(), Error> {
        if self.round.as_ref().is_some_and(|round| !round.is_finished()) {
            return Ok(());
        }
        let progress = match &self.progress {
            Some(progress) => progress.clone(),
            None => {
                let opened = Progress::open(&self.kafka, processor::ROLE, &self.topic)?;
                self.progress.insert(opened).clone()
            }
        };
        let round = Round { progress, watch: self.watch, metrics: Arc::clone(&self.metrics) };
        self.round = Some(tokio::spawn(async move { done(round.run().await) }));
        Ok(())
    }

    /// Nothing is in doubt any more: nobody waits for the round that may be under way.
    pub(super) fn end(&mut self) {
        if let Some(round) = self.round.take() {
            round.abort();
            self.metrics.watermark_behind.set(0);
            self.metrics.watermark_wait_seconds.set(0.0);
        }
    }
}

impl Drop for Watermarks {
    fn drop(&mut self) {
        self.end();
    }
}

struct Round {
    progress: Progress,
    watch: Watch,
    metrics: Arc<Metrics>,
}

impl Round {
    async fn run(self) -> i64 {
        let interval = Duration::from_millis(self.watch.interval_ms);
        let warn_after = Duration::from_millis(self.watch.warn_after_ms);
        let (asked_ms, ends) = loop {
            let asked_ms = clock::wall_ms();
            match self.progress.ends().await {
                Ok(ends) => break (asked_ms, ends),
                Err(error) => {
                    tracing::warn!(%error, "the end of the webhooks is not known yet; doubts stay open")
                }
            }
            tokio::time::sleep(interval).await;
        };
        let (begun, mut warned) = (Instant::now(), Instant::now());
        loop {
            match self.progress.behind(&ends).await {
                Ok(0) => break,
                Ok(behind) => self.metrics.watermark_behind.set(i64::try_from(behind).unwrap_or(i64::MAX)),
                Err(error) => {
                    tracing::warn!(%error, "the processor's offsets are not known; doubts stay open")
                }
            }
            self.metrics.watermark_wait_seconds.set(begun.elapsed().as_secs_f64());
            if warned.elapsed() >= warn_after {
                warned = Instant::now();
                tracing::warn!(
                    behind = self.metrics.watermark_behind.get(),
                    waited_s = begun.elapsed().as_secs(),
                    "attempts in doubt wait for the processor: it is behind on webhooks.inbound, or down"
                );
            }
            tokio::time::sleep(interval).await;
        }
        self.metrics.watermark_behind.set(0);
        self.metrics.watermark_wait_seconds.set(0.0);
        asked_ms
    }
}
