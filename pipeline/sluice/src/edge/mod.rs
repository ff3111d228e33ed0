//! The edge role: the HTTP API that writes topics, and the webhook listener.
//!
//! The laws: never a look-up outside memory; never a success before the brokers' acknowledgement; when Kafka
//! does not answer, a 503 with `Retry-After` within the request's time limit, not ready, and still live.

mod accounts;
mod content;
mod control;
mod docs;
mod incoming;
mod manage;
mod messages;
mod records;
mod request;
mod sessions;
mod trace;
mod webhooks;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{post, put};
use sluice_whatsapp::Registry as Connectors;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::docs::Docs;
use self::records::Records;
use self::writer::{Parts, Writer};
use crate::api::{Tokens, layers};
use crate::deps::{self, Deps};
use crate::directory::Directory;
use crate::lifecycle::{Ending, Lifecycle};
use crate::sealing::Sealer;
use crate::settings;
use crate::telemetry::metrics::Metrics;

/// State of the handlers.
type Shared = Arc<Edge>;

/// The edge: what its handlers share.
#[derive(Debug)]
pub struct Edge {
    settings: settings::Edge,
    tokens: Tokens,
    directory: Directory,
    connectors: Connectors,
    sealer: Arc<Sealer>,
    records: Records,
    writer: Writer,
    metrics: Arc<Metrics>,
}

/// The sockets of the edge.
#[derive(Debug)]
pub struct Listeners {
    /// Of the API.
    pub api: TcpListener,
    /// Of the webhooks.
    pub webhooks: TcpListener,
}

/// Binds the sockets of the settings and starts the edge as a component of `life`.
///
/// # Errors
/// If a port is taken or a Kafka setting is wrong.
pub async fn start(deps: &Deps, life: &mut Lifecycle) -> anyhow::Result<()> {
    let settings = &deps.settings.edge;
    let listeners = Listeners {
        api: deps::bind("edge.listen", settings.listen).await?,
        webhooks: deps::bind("edge.webhook_listen", settings.webhook_listen).await?,
    };
    let edge = Edge::open(deps)?;
    // Requests in flight, then what was sent and is not acknowledged.
    let limit = Duration::from_millis(settings.drain_timeout_ms + settings.ack_timeout_ms);
    life.spawn("edge", limit, run(edge, listeners, life.shutdown()));
    Ok(())
}

/// Serves until `shutdown`, then finishes the requests in flight.
///
/// # Errors
/// If a listener or the producer fails for good.
pub async fn run(edge: Arc<Edge>, listeners: Listeners, shutdown: CancellationToken) -> Ending {
    run_with(edge, Router::new(), listeners, shutdown).await
}

/// The same with `more` routes on the API's listener, under its limits.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    edge: Arc<Edge>,
    more: Router,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Ending {
    let drain = Duration::from_millis(edge.settings.drain_timeout_ms);
    let api = layers::around(edge.routes().merge(more), edge.limits("api"), edge.metrics.clone());
    let api = serve(listeners.api, api, shutdown.clone());
    let webhooks = serve(listeners.webhooks, edge.webhooks(), shutdown.clone());
    let served = async { tokio::try_join!(api, webhooks) };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = served => { served?; }
        () = overdue => tracing::warn!("requests in flight were cut off"),
        () = edge.writer.broken() => anyhow::bail!("the Kafka producer has failed for good"),
    }
    edge.writer.flush().await;
    Ok(())
}

async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

impl Edge {
    /// An edge that writes where `deps` says.
    ///
    /// # Errors
    /// If a Kafka setting is wrong.
    pub fn open(deps: &Deps) -> anyhow::Result<Arc<Self>> {
        let settings = deps.settings.edge.clone();
        let writer = Writer::open(Parts {
            kafka: deps.settings.kafka.clone(),
            names: deps.names.clone(),
            brokers: deps.brokers.clone(),
            metrics: deps.metrics.clone(),
            ack_timeout: Duration::from_millis(settings.ack_timeout_ms),
            linger_ms: settings.linger_ms,
            retry_after_s: settings.retry_after_s,
        })?;
        Ok(Arc::new(Self {
            tokens: Tokens::new(&deps.settings.auth),
            directory: deps.directory.clone(),
            connectors: deps.connectors.clone(),
            sealer: deps.sealer.clone(),
            records: Records::new(&deps.codecs),
            writer,
            metrics: deps.metrics.clone(),
            settings,
        }))
    }

    /// The routes of the API alone, for a listener that has others too.
    pub fn routes(self: &Arc<Self>) -> Router {
        let session = put(sessions::put_session).delete(sessions::delete_session);
        let account = put(accounts::put_account).delete(accounts::delete_account);
        Router::new()
            .route("/v1/sessions/{session_id}/messages", post(messages::send))
            .route("/v1/sessions/{session_id}/messages/batch", post(messages::batch))
            .route("/v1/sessions/{session_id}/messages/{message_id}/cancel", post(messages::cancel))
            .route("/v1/sessions/{session_id}", session)
            .route("/v1/accounts/{account_id}", account)
            .route("/v1/sessions/{session_id}/pause", post(control::pause))
            .route("/v1/sessions/{session_id}/resume", post(control::resume))
            .route("/v1/sessions/{session_id}/connect", post(control::connect))
            .route("/v1/sessions/{session_id}/disconnect", post(control::disconnect))
            .with_state(self.clone())
    }

    /// The webhook listener with its limits.
    pub fn webhooks(self: &Arc<Self>) -> Router {
        let router = Router::new()
            .route("/webhooks/{provider}/{id}", post(webhooks::receive))
            .route("/webhooks/{provider}/{id}/{*rest}", post(webhooks::receive_below))
            .with_state(self.clone());
        layers::around(router, self.limits("webhooks"), self.metrics.clone())
    }

    /// The limits of a listener of this name.
    pub fn limits(&self, listener: &'static str) -> layers::Limits {
        layers::Limits {
            listener,
            header_bytes_max: self.settings.header_bytes_max,
            in_flight_max: self.settings.in_flight_max,
            request_timeout: Duration::from_millis(self.settings.request_timeout_ms),
            retry_after_s: self.settings.retry_after_s,
        }
    }
}
