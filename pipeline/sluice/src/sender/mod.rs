//! The sender role: a thin shell around [`sluice_core::sender`], which decides everything.
//!
//! One task, the [`pump`], owns the state machine and feeds it what happens ([`events`]): group events, the ledger read back
//! ([`ledger`]), facts of others ([`evidence`]), acks ([`writer`]), call results ([`calls`]), and what the
//! directory says of sessions ([`sessions`]). It carries the effects out in order.

mod calls;
pub mod disk;
mod events;
mod evidence;
mod ledger;
mod notes;
mod pump;
mod requests;
mod resume;
mod sessions;
mod start;
mod watermarks;
mod writer;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_kafka::settings::Fetch;
use sluice_whatsapp::client::ClientSettings;

pub use watermarks::Watch;

use crate::deps::Deps;
use crate::lifecycle::Lifecycle;

/// Settings of the role.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// At most one commit of request offsets in this time, milliseconds.
    pub commit_interval_ms: u64,
    /// How often evidence is asked for while messages are in doubt, milliseconds.
    pub evidence_interval_ms: u64,
    /// How the processor is watched while messages are in doubt.
    pub watermark: Watch,
    /// Whether requests are read again when the group's committed offset was set back below the position in the
    /// ledger.
    pub rewind_allowed: bool,
    /// Part of the last `dead_window_records` requests that may become dead letters before the role ends, 0 to 1.
    pub dead_ratio_max: f64,
    /// Requests the ratio is taken over.
    pub dead_window_records: usize,
    /// Linger of the producers, milliseconds: a claim waits this long at most for company.
    pub linger_ms: u64,
    /// How fetches of requests wait.
    pub intake_fetch: Fetch,
    /// How fetches of the ledger wait: this is between a claim and its call.
    pub ledger_fetch: Fetch,
    /// How fetches of `messages.status` wait: evidence and echoes are in no hurry.
    pub evidence_fetch: Fetch,
    /// Time to end calls and give partitions back when the process stops, milliseconds.
    pub drain_timeout_ms: u64,
    /// Where the local state is kept.
    pub store: disk::Settings,
    /// Limits and times of the decisions.
    pub decisions: sluice_core::sender::Settings,
    /// Limits of the HTTP client.
    pub client: ClientSettings,
}

impl Settings {
    /// The settings of the decisions, with what is set elsewhere put in.
    pub fn decisions(&self, deployment: &crate::settings::Deployment) -> sluice_core::sender::Settings {
        let positive = |ms: i64| u64::try_from(ms).unwrap_or(0);
        sluice_core::sender::Settings {
            ttl_ms: positive(deployment.ttl_ms),
            dedupe_window_ms: positive(deployment.dedupe_window_ms),
            call_timeout_ms: self.client.call_timeout_ms,
            ..self.decisions.clone()
        }
    }
}

/// Starts the role as a component of `life`.
///
/// # Errors
/// If a client cannot be made.
pub async fn start(deps: &Deps, life: &mut Lifecycle) -> anyhow::Result<()> {
    let limit = Duration::from_millis(deps.settings.sender.drain_timeout_ms.saturating_add(5_000));
    let (deps, shutdown) = (deps.clone(), life.shutdown());
    life.spawn("sender", limit, async move {
        let partitions = tokio::select! {
            checked = deps.brokers.checked() => checked?,
            () = shutdown.cancelled() => return Ok(()),
        };
        tokio::select! {
            () = deps.directory.loaded() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        pump::Pump::open(&deps, partitions)?.run(shutdown).await
    });
    Ok(())
}
