//! A simulated Wasender: real HTTP, both kinds of token, rate windows, scripted faults, webhooks, and a truth
//! log of every send request that reached it. Tests, `sluice dev` and the benches count truth from it.
//!
//! The provider's routes are under `/api`; what steers and questions the simulator is under `/_admin`:
//!
//! | call | |
//! |---|---|
//! | `POST /_admin/sessions` | add or replace a session ([`SessionSettings`]) |
//! | `GET /_admin/sessions` | sessions and their states |
//! | `PUT /_admin/sessions/{id}/status` | `{"status": "logged_out"}`; sends the `session.status` webhook |
//! | `POST /_admin/faults` | add a [`FaultRule`] |
//! | `GET`, `DELETE /_admin/faults` | rules with their hits; remove all |
//! | `PUT /_admin/webhooks` | replace the [`WebhookSettings`] |
//! | `POST /_admin/inbound` | send an inbound message's webhook ([`Inbound`]) |
//! | `GET /_admin/truth?since=SEQ` | the truth log as JSON lines, entries after `SEQ` |
//! | `GET /_admin/truth/summary` | exact counts ([`Summary`]) |

mod admin;
mod api;
mod faults;
mod hooks;
mod send;
mod session;
mod settings;
mod truth;
mod window;
mod world;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use faults::{Fault, FaultRule};
pub use hooks::{HookCounts, Inbound};
pub use settings::{AutoSessions, Plan, SessionSettings, SimulatorSettings, WebhookSettings};
pub use truth::{SessionTruth, Summary, TruthEntry, Verdict};
pub use window::Window;
use world::World;

/// How long requests in work may go on once the simulator is told to stop.
const STOP_MS: u64 = 2_000;

/// Why the simulator does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener or a socket failed.
    #[error("the simulated provider cannot serve: {0}")]
    Io(#[from] std::io::Error),
    /// The client that sends webhooks cannot be built.
    #[error("the webhook client cannot be built: {0}")]
    Client(#[from] reqwest::Error),
}

/// Serves until `shutdown` is done. Webhooks not yet sent by then are dropped.
pub async fn serve(
    listener: TcpListener,
    settings: SimulatorSettings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    run(listener, Arc::new(World::new(settings)?), shutdown).await
}

async fn run(
    listener: TcpListener,
    world: Arc<World>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let stop: CancellationToken = world.stop.clone();
    let app = Router::new()
        .nest("/api", api::routes())
        .nest("/_admin", admin::routes())
        .layer(DefaultBodyLimit::max(world.settings.body_bytes_max))
        .with_state(world);
    let listener = listener.tap_io(|stream| {
        // Without it, answers wait for acknowledgements and latency figures lie. Failing is harmless.
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned());
    let server = std::pin::pin!(server.into_future());
    let mut server = server;
    tokio::select! {
        ended = &mut server => Ok(ended?),
        () = shutdown => {
            stop.cancel();
            match tokio::time::timeout(Duration::from_millis(STOP_MS), server).await {
                Ok(ended) => Ok(ended?),
                // Requests that still hang are cut off.
                Err(_) => Ok(()),
            }
        }
    }
}

/// A running simulator for tests and `sluice dev`. Stops when dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    world: Arc<World>,
}

impl Simulator {
    /// Starts on a free port of the loopback address.
    pub async fn start(settings: SimulatorSettings) -> Result<Self, Error> {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await?, settings)
    }

    /// Starts on `listener`.
    pub fn on(listener: TcpListener, settings: SimulatorSettings) -> Result<Self, Error> {
        let address = listener.local_addr()?;
        let world = Arc::new(World::new(settings)?);
        let served = Arc::clone(&world);
        let stop = world.stop.clone();
        tokio::spawn(async move {
            if let Err(error) = run(listener, served, stop.cancelled_owned()).await {
                tracing::error!(%error, "the simulated provider ended");
            }
        });
        Ok(Self { address, world })
    }

    /// Base URL of the provider's API, as an account's `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// Base URL of the admin calls.
    pub fn admin_url(&self) -> String {
        format!("http://{}/_admin", self.address)
    }

    /// Adds or replaces a session.
    pub fn add_session(&self, session: SessionSettings) {
        self.world.add_session(session);
    }

    /// Adds a fault. Rules are tried in the order they were added; the first that fits decides.
    pub fn add_fault(&self, rule: FaultRule) {
        self.world.faults.add(rule);
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.world.faults.clear();
    }

    /// Replaces how webhooks are sent; `None` sends none.
    pub fn set_webhooks(&self, settings: Option<WebhookSettings>) {
        self.world.hooks.set(settings);
    }

    /// Changes a session's status (`connected`, `logged_out`, …) and sends its webhook. False if there is no
    /// such session.
    pub fn set_status(&self, session_id: &str, status: &str) -> bool {
        World::set_status(&self.world, session_id, status)
    }

    /// Sends the webhook of an inbound message. False if there is no such session, or it has no webhook URL.
    pub fn inbound(&self, inbound: &Inbound) -> bool {
        hooks::inbound(&self.world, inbound)
    }

    /// The truth log's entries after `since`, as far as they are still kept.
    pub fn truth(&self, since: u64) -> Vec<TruthEntry> {
        self.world.truth.since(since)
    }

    /// Exact counts of the truth log.
    pub fn summary(&self) -> Summary {
        self.world.summary()
    }

    /// Stops serving. Webhooks not yet sent are dropped.
    pub fn stop(&self) {
        self.world.stop.cancel();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
