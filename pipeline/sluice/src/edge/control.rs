//! Pausing, resuming, connecting, disconnecting.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sluice_kafka::clock::wall_ms;
use sluice_schemas::{Facet, SessionAction, SessionCommand, SessionStatus};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Shared;
use super::incoming::{Ids, Incoming};
use super::manage::view;
use crate::api::problem::ProblemBody;
use crate::api::{Caller, Problem, json};
use crate::settings::Scope;

/// Why a session is paused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PauseBody {
    /// For those who find it paused.
    reason: Option<String>,
}

/// Whether a session is paused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PauseAnswer {
    /// The session.
    session_id: String,
    /// Whether it is paused.
    paused: bool,
}

/// A command was taken: it stands in the log. What it came to is told by the session's status.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommandAnswer {
    /// The session.
    session_id: String,
    /// The command.
    command_id: String,
    /// Always `accepted`.
    #[schema(example = "accepted")]
    status: &'static str,
}

/// Pause a session: nothing is sent until it is resumed. Calls in flight are not cut off.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/pause", tag = "sessions", security(("token" = ["control"])),
    params(("session_id" = String, Path, description = "The session")),
    request_body = Option<PauseBody>,
    responses(
        (status = 200, body = PauseAnswer),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn pause(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    set_paused(&edge, session_id, incoming, true).await
}

/// Let a paused session go on.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/resume", tag = "sessions", security(("token" = ["control"])),
    params(("session_id" = String, Path, description = "The session")),
    responses(
        (status = 200, body = PauseAnswer),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn resume(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    set_paused(&edge, session_id, incoming, false).await
}

/// Ask for a session to be connected at its provider.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/connect", tag = "sessions", security(("token" = ["control"])),
    params(("session_id" = String, Path, description = "The session")),
    responses(
        (status = 202, body = CommandAnswer),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn connect(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    command(&edge, session_id, incoming.caller, SessionAction::Connect).await
}

/// Ask for a session to be disconnected at its provider.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/disconnect", tag = "sessions", security(("token" = ["control"])),
    params(("session_id" = String, Path, description = "The session")),
    responses(
        (status = 202, body = CommandAnswer),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn disconnect(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    command(&edge, session_id, incoming.caller, SessionAction::Disconnect).await
}

async fn set_paused(
    edge: &Shared,
    session_id: String,
    incoming: Incoming,
    paused: bool,
) -> Result<Response, Problem> {
    let caller = incoming.caller.clone();
    let session = edge.session_for(&caller, Scope::Control, &session_id)?;
    let body = incoming.body(edge.settings.body_bytes_max).await?;
    let body: PauseBody =
        if body.trim_ascii().is_empty() { PauseBody::default() } else { json::read(&body)? };
    let now = wall_ms();
    let tenant_id = session.tenant_id.to_string();
    let status = SessionStatus {
        session_id: session_id.clone(),
        tenant_id: Some(tenant_id.clone()),
        facet: Facet::Operator,
        held: paused,
        reason: body.reason.filter(|_| paused),
        occurred_at: now,
        updated_at: now,
        ..Default::default()
    };
    edge.writer.write(&edge.records.pause(&status, &tenant_id)).await?;
    view(&edge.directory, |directory| directory.is_paused(&session_id) == paused).await;
    tracing::info!(session_id, caller = caller.name, paused, "session paused or resumed");
    Ok(Json(PauseAnswer { session_id, paused }).into_response())
}

async fn command(
    edge: &Shared,
    session_id: String,
    caller: Caller,
    action: SessionAction,
) -> Result<Response, Problem> {
    let session = edge.session_for(&caller, Scope::Control, &session_id)?;
    let command = SessionCommand {
        command_id: Uuid::now_v7().to_string(),
        session_id: session_id.clone(),
        tenant_id: Some(session.tenant_id.to_string()),
        action,
        requested_at: wall_ms(),
    };
    edge.writer.write(&edge.records.session_command(&command)).await?;
    tracing::info!(session_id, caller = caller.name, action = action.as_str(), "session command");
    let answer = CommandAnswer { session_id, command_id: command.command_id, status: "accepted" };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}
