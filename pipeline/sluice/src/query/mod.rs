//! The query role: reads of the message store over HTTP.
//!
//! Reads only; every answer is scoped to the caller's tenant, and what another tenant owns is as if it were not
//! there.

pub(crate) mod cursor;
pub(crate) mod fresh;
mod links;
mod reads;
pub(crate) mod view;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use sluice_kafka::table::{Event, Table};
use sluice_schemas::SessionLink;
use sluice_schemas::topics::Topic;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::fresh::Fresh;
pub use self::links::Links;
pub use self::reads::Docs;
use crate::api::{Tokens, layers};
use crate::deps;
use crate::directory::Directory;
use crate::lifecycle::{Ending, Latch, Lifecycle};
use crate::stores::Stores;
use crate::telemetry::metrics::Metrics;

/// Missing ids remembered to tell "not yet visible" from "not there".
const FRESH_IDS_MAX: usize = 10_000;
/// How often the store is asked whether it answers, for readiness.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Largest sum of header names and values, bytes. Reads have no body, and nothing but a token is needed.
const HEADER_BYTES_MAX: usize = 16_384;
/// What `Retry-After` says when there are too many reads at once, seconds.
const OVERLOAD_RETRY_S: u64 = 1;

/// What the reads need.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The store.
    pub stores: Stores,
    /// Whose session is whose.
    pub directory: Directory,
    /// Who may call.
    pub tokens: Arc<Tokens>,
    /// Codes to link sessions with.
    pub links: Links,
    /// Metrics of the process.
    pub metrics: Arc<Metrics>,
    /// How long a message that was just accepted may take to appear.
    pub visible_within: Duration,
}

impl Deps {
    /// What the reads need, without anything that runs beside them: the store is connected to when it is first
    /// asked.
    pub fn of(deps: &deps::Deps) -> Self {
        Self {
            stores: deps.stores.clone(),
            directory: deps.directory.clone(),
            tokens: Arc::new(Tokens::new(&deps.settings.auth)),
            links: Links::default(),
            metrics: deps.metrics.clone(),
            visible_within: Duration::from_millis(deps.settings.query.visible_within_ms),
        }
    }
}

/// State of the handlers.
struct Reads {
    deps: Deps,
    fresh: Mutex<Fresh>,
}

/// The routes of the reads, without listener limits (see [`crate::api::layers`]).
pub fn router(deps: Deps) -> Router {
    let fresh = Mutex::new(Fresh::new(deps.visible_within, FRESH_IDS_MAX));
    Router::new()
        .route("/v1/messages/{id}", get(reads::message))
        .route("/v1/messages", get(reads::messages))
        .route("/v1/received", get(reads::received))
        .route("/v1/session-status", get(reads::session_statuses))
        .route("/v1/session-status/{session}", get(reads::session_status))
        .route("/v1/session-status/{session}/qr", get(reads::qr))
        .with_state(Arc::new(Reads { deps, fresh }))
}

/// Starts what the reads need beside a listener: the watch over the store, and following the link codes. Gives
/// what [`router`] is made of.
///
/// # Errors
/// If a Kafka setting is wrong.
pub fn open(deps: &deps::Deps, life: &mut Lifecycle) -> anyhow::Result<Deps> {
    let reads = Deps::of(deps);
    let limit = Duration::from_millis(deps.settings.deployment.stop_timeout_ms);
    let table = Table::<SessionLink>::follow(
        &deps.settings.kafka,
        deps.names.get(Topic::SessionsLinks),
        deps.codecs.codec(Topic::SessionsLinks),
    )?;
    life.spawn("query.links", limit, follow(table, reads.links.clone(), life.shutdown()));
    let latch = deps.readiness.latch("query.store");
    life.spawn("query.store", limit, watch(deps.stores.clone(), latch, life.shutdown()));
    Ok(reads)
}

/// Binds the socket of the settings and starts the role as components of `life`.
///
/// # Errors
/// If the port is taken or a Kafka setting is wrong.
pub async fn start(deps: &deps::Deps, life: &mut Lifecycle) -> anyhow::Result<()> {
    let settings = &deps.settings.query;
    let listener = deps::bind("query.listen", settings.listen).await?;
    let limits = layers::Limits {
        listener: "query",
        header_bytes_max: HEADER_BYTES_MAX,
        in_flight_max: settings.in_flight_max,
        request_timeout: Duration::from_millis(settings.request_timeout_ms),
        retry_after_s: OVERLOAD_RETRY_S,
    };
    let limit = Duration::from_millis(settings.request_timeout_ms);
    let routes = layers::around(router(open(deps, life)?), limits, deps.metrics.clone());
    life.spawn("query", limit, serve(listener, routes, life.shutdown()));
    Ok(())
}

async fn serve(listener: TcpListener, routes: Router, shutdown: CancellationToken) -> Ending {
    axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

/// Keeps `links` equal to the topic until `shutdown`.
async fn follow(mut table: Table<SessionLink>, links: Links, shutdown: CancellationToken) -> Ending {
    loop {
        let event = tokio::select! {
            event = table.recv() => event,
            () = shutdown.cancelled() => return Ok(()),
        };
        match event {
            None => anyhow::bail!("the table of link codes has ended"),
            Some(Event::Changes(changes)) => {
                changes.into_iter().filter_map(|change| change.value).for_each(|link| links.apply(link));
            }
            Some(Event::Unusable { record, flaw }) => {
                tracing::warn!(partition = %record.partition, offset = record.offset, %flaw, "link code cannot be read");
            }
            Some(Event::Error(error)) => tracing::warn!(%error, "link codes are behind"),
            Some(Event::Ready) => {}
        }
    }
}

/// Keeps `latch` equal to whether the store answers.
async fn watch(stores: Stores, latch: Latch, shutdown: CancellationToken) -> Ending {
    let Some(store) = stores.wait(&shutdown).await? else { return Ok(()) };
    loop {
        let ping = store.ping().await;
        if let Err(error) = &ping {
            tracing::warn!(%error, "the store does not answer");
        }
        latch.set(ping.is_ok());
        tokio::select! {
            () = tokio::time::sleep(PING_INTERVAL) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
