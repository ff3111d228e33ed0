//! What steers and questions the simulator.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::answer;
use super::faults::FaultRule;
use super::hooks::{self, Inbound};
use super::settings::{SessionSettings, WebhookSettings};
use super::world::World;

pub(super) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/sessions", get(sessions).post(add_session))
        .route("/sessions/{id}/status", put(set_status))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/webhooks", put(set_webhooks))
        .route("/inbound", post(inbound))
        .route("/truth", get(truth))
        .route("/truth/summary", get(summary))
}

async fn sessions(State(world): State<Arc<World>>) -> Json<Value> {
    let all = world.all_sessions();
    let shown = all.iter().map(|s| json!({"session_id": &*s.id, "status": s.status(), "limits": s.windows}));
    Json(shown.collect())
}

async fn add_session(State(world): State<Arc<World>>, Json(session): Json<SessionSettings>) -> Response {
    if session.session_id.is_empty() || session.api_key.is_empty() {
        return answer(422, json!({"error": "session_id and api_key are required"}));
    }
    world.add_session(session);
    answer(200, json!({"ok": true}))
}

#[derive(Deserialize)]
struct NewStatus {
    status: String,
}

async fn set_status(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
    Json(new): Json<NewStatus>,
) -> Response {
    done(World::set_status(&world, &id, &new.status))
}

async fn faults(State(world): State<Arc<World>>) -> Json<Value> {
    Json(world.faults.shown())
}

async fn add_fault(State(world): State<Arc<World>>, Json(body): Json<Value>) -> Response {
    let rule: FaultRule = match serde_json::from_value(body.clone()) {
        Ok(rule) => rule,
        Err(error) => return answer(422, json!({"error": error.to_string()})),
    };
    // A misspelt condition would otherwise strike everybody: every name must be one the rule has.
    let known = serde_json::to_value(&rule).unwrap_or_default();
    let names = body.as_object().into_iter().flat_map(|fields| fields.keys());
    if let Some(unknown) = names.into_iter().find(|name| known.get(name.as_str()).is_none()) {
        return answer(422, json!({"error": format!("unknown field {unknown}")}));
    }
    world.faults.add(rule);
    done(true)
}

async fn clear_faults(State(world): State<Arc<World>>) -> Response {
    world.faults.clear();
    done(true)
}

async fn set_webhooks(
    State(world): State<Arc<World>>,
    Json(settings): Json<Option<WebhookSettings>>,
) -> Response {
    world.hooks.set(settings);
    done(true)
}

async fn inbound(State(world): State<Arc<World>>, Json(message): Json<Inbound>) -> Response {
    done(hooks::inbound(&world, &message))
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn truth(State(world): State<Arc<World>>, Query(query): Query<Since>) -> Response {
    let mut lines = String::new();
    for entry in world.truth.since(query.since) {
        // An entry of plain fields always serialises.
        lines.push_str(&serde_json::to_string(&entry).unwrap_or_default());
        lines.push('\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response()
}

async fn summary(State(world): State<Arc<World>>) -> Response {
    Json(world.summary()).into_response()
}

fn done(found: bool) -> Response {
    if found {
        answer(200, json!({"ok": true}))
    } else {
        answer(404, json!({"error": "no such session, or it has no webhook_url"}))
    }
}
