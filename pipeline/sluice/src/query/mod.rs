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
use sluice_scylla::MessageStore;

use self::fresh::Fresh;
pub use self::links::Links;
pub use self::reads::Docs;
use crate::api::Tokens;
use crate::directory::Directory;
use crate::telemetry::metrics::Metrics;

/// Missing ids remembered to tell "not yet visible" from "not there".
const FRESH_IDS_MAX: usize = 10_000;

/// What the reads need.
#[derive(Clone)]
pub struct Deps {
    /// The store.
    pub store: MessageStore,
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

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("query::Deps").finish_non_exhaustive()
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
