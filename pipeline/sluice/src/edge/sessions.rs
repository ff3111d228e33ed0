//! Putting and deleting sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sluice_kafka::clock::wall_ms;
use sluice_schemas::{OnDelete, RateLimit, Session};
use utoipa::ToSchema;

use super::Shared;
use super::incoming::{Ids, Incoming};
use super::manage::{Written, check_id, seal, tenant, view};
use super::request::InDoubtPolicyName;
use crate::api::problem::{FieldError, ProblemBody};
use crate::api::{Caller, Kind, Problem, json};
use crate::directory::{AccountEntry, SessionEntry};
use crate::sealing::{Secret, session_owner};
use crate::settings::Scope;

/// A session to put.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SessionBody {
    /// Its tenant, for ever. Needed from an operator; from a tenant's token it is that tenant.
    tenant_id: Option<String>,
    /// The account it is bound to. The account says which provider it is.
    #[schema(required)]
    account_id: String,
    /// Id of the session at the provider.
    provider_session_id: Option<String>,
    /// Number, E.164.
    phone_number: Option<String>,
    /// Credentials by name (`api_key`, `webhook_secret`): a text, which is sealed, or `env:NAME` or
    /// `file:/path` (operators only). Those not named stay as they are; null takes one away.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    secrets: BTreeMap<String, Option<Secret>>,
    /// Rate limits, all of which hold. None: those of the provider's connector.
    limits: Vec<LimitBody>,
    /// Rate limits of the session and one recipient, all of which hold. None: none.
    pair_limits: Vec<LimitBody>,
    /// Calls at once.
    #[schema(minimum = 1)]
    max_in_flight: Option<i32>,
    /// What to do when nobody knows whether an attempt was sent.
    in_doubt_policy: Option<InDoubtPolicyName>,
    /// Share of its tenant when senders are busy.
    #[schema(minimum = 1)]
    tenant_weight: Option<i32>,
    /// What becomes of the backlog when the session moves to another account.
    on_delete: Option<OnDeleteName>,
    /// Connector settings.
    settings: BTreeMap<String, String>,
}

/// At most `count` sends in any window of `per_ms`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitBody {
    /// Sends.
    #[schema(minimum = 1)]
    count: i32,
    /// Window, milliseconds.
    #[schema(minimum = 1)]
    per_ms: i64,
    /// Sends that may go back to back.
    #[serde(default = "one")]
    burst: i32,
}

fn one() -> i32 {
    1
}

impl From<LimitBody> for RateLimit {
    fn from(limit: LimitBody) -> Self {
        Self { count: limit.count, per_ms: limit.per_ms, burst: limit.burst }
    }
}

/// Adds what is wrong with the limits under this name.
pub(super) fn check_limits(name: &str, limits: &[LimitBody], errors: &mut Vec<FieldError>) {
    for (i, limit) in limits.iter().enumerate() {
        if limit.count < 1 || limit.per_ms < 1 || limit.burst < 1 || limit.burst > limit.count {
            let detail = "count, per_ms and burst must be 1 or more, and burst at most count";
            errors.push(FieldError::new(format!("/{name}/{i}"), "invalid", detail));
        }
    }
}

/// What becomes of the backlog when a session moves to another account.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnDeleteName {
    /// Its messages become FAILED.
    Fail,
    /// Its messages move along.
    Move,
}

/// Create a session or replace it.
#[utoipa::path(
    put, path = "/v1/sessions/{session_id}", tag = "sessions", security(("token" = ["manage"])),
    params(("session_id" = String, Path, description = "The session: 1 to 128 of A-Z a-z 0-9 . _ - : + @ ~")),
    request_body = SessionBody,
    responses(
        (status = 200, body = Written),
        (status = 201, body = Written),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn put_session(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let caller = incoming.caller.clone();
    caller.require(Scope::Manage)?;
    edge.loaded()?;
    check_id(&session_id)?;
    let body: SessionBody = json::read(&incoming.body(edge.settings.body_bytes_max).await?)?;
    let before = edge.directory.session(&session_id);
    let tenant_id = tenant(&caller, body.tenant_id.as_deref(), before.as_ref().map(|s| &s.tenant_id[..]))?;
    let account = edge
        .directory
        .account(&body.account_id)
        .filter(|account| account.record.tenant_id == tenant_id)
        .ok_or_else(|| {
            let detail = "there is no such account of this tenant: put the account first";
            Problem::new(Kind::InvalidRequest).error("/account_id", "unknown_account", detail)
        })?;
    let record = session_record(&edge, &caller, &session_id, tenant_id, body, &account, before.as_deref())?;
    edge.writer.write(&edge.records.session(&record)).await?;
    view(&edge.directory, |directory| {
        directory.session(&session_id).is_some_and(|seen| seen.record().updated_at >= record.updated_at)
    })
    .await;
    tracing::info!(session_id, caller = caller.name, binding_epoch = record.binding_epoch, "session put");
    let status =
        if before.is_some() { (StatusCode::OK, "updated") } else { (StatusCode::CREATED, "created") };
    let written = Written {
        id: session_id,
        tenant_id: record.tenant_id,
        status: status.1,
        binding_epoch: Some(record.binding_epoch),
    };
    Ok((status.0, Json(written)).into_response())
}

/// Delete a session. Its waiting messages become FAILED with `session_deleted`.
#[utoipa::path(
    delete, path = "/v1/sessions/{session_id}", tag = "sessions", security(("token" = ["manage"])),
    params(("session_id" = String, Path, description = "The session")),
    responses(
        (status = 200, body = Written),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete_session(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let session = edge.session_for(&incoming.caller, Scope::Manage, &session_id)?;
    let tenant_id = session.tenant_id.to_string();
    edge.writer.write(&edge.records.session_gone(&session_id, &tenant_id)).await?;
    // Else a session put under this id later would begin paused.
    edge.writer.write(&edge.records.pause_gone(&session_id, &tenant_id)).await?;
    view(&edge.directory, |directory| directory.session(&session_id).is_none()).await;
    tracing::info!(session_id, caller = incoming.caller.name, "session deleted");
    Ok(Json(Written { id: session_id, tenant_id, status: "deleted", binding_epoch: None }).into_response())
}

fn session_record(
    edge: &Shared,
    caller: &Caller,
    session_id: &str,
    tenant_id: String,
    body: SessionBody,
    account: &Arc<AccountEntry>,
    before: Option<&SessionEntry>,
) -> Result<Session, Problem> {
    let mut errors = Vec::new();
    check_limits("limits", &body.limits, &mut errors);
    check_limits("pair_limits", &body.pair_limits, &mut errors);
    for (name, value) in [("max_in_flight", body.max_in_flight), ("tenant_weight", body.tenant_weight)] {
        if value.is_some_and(|value| value < 1) {
            errors.push(FieldError::new(format!("/{name}"), "invalid", "must be 1 or more"));
        }
    }
    let old = before.map(SessionEntry::record);
    let secrets = seal(
        edge,
        caller,
        &session_owner(session_id),
        body.secrets,
        old.as_ref().map(|old| &old.secrets[..]),
        &mut errors,
    );
    if !errors.is_empty() {
        return Err(Problem { errors, ..Problem::new(Kind::InvalidRequest) });
    }
    let moved = old.as_ref().is_some_and(|old| {
        old.account_id != body.account_id || old.provider_session_id != body.provider_session_id
    });
    Ok(Session {
        session_id: session_id.to_owned(),
        tenant_id,
        account_id: body.account_id,
        provider: account.record.provider,
        binding_epoch: old.as_ref().map_or(0, |old| old.binding_epoch) + i64::from(moved),
        provider_session_id: body.provider_session_id,
        phone_number: body.phone_number,
        secrets,
        limits: body.limits.into_iter().map(Into::into).collect(),
        pair_limits: body.pair_limits.into_iter().map(Into::into).collect(),
        max_in_flight: body.max_in_flight,
        in_doubt_policy: body.in_doubt_policy.map(Into::into).unwrap_or_default(),
        tenant_weight: body.tenant_weight,
        on_delete: body.on_delete.map_or(OnDelete::Unknown, |name| match name {
            OnDeleteName::Fail => OnDelete::Fail,
            OnDeleteName::Move => OnDelete::Move,
        }),
        settings: body.settings,
        updated_at: wall_ms(),
    })
}
