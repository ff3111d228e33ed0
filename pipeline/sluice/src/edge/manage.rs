//! Putting and deleting sessions and accounts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use sluice_kafka::clock::wall_ms;
use sluice_schemas::{Account, OnDelete, Provider, RateLimit, Session};
use utoipa::ToSchema;

use super::Shared;
use super::incoming::{Ids, Incoming};
use super::request::InDoubtPolicyName;
use crate::api::problem::{FieldError, ProblemBody};
use crate::api::{Caller, Kind, Problem, json};
use crate::directory::{AccountEntry, Directory, SessionEntry};
use crate::sealing::{self, Secret, account_owner, session_owner};
use crate::settings::Scope;

/// Longest id of a session or account, bytes.
const ID_BYTES_MAX: usize = 128;
/// How long an answer waits for this process's own view of what it wrote.
const VIEW_WAIT: Duration = Duration::from_secs(1);

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
    /// Credentials by name (`api_key`, `webhook_secret`): a text, which is sealed, or `env:NAME` or `file:/path`
    /// (operators only). Those not named stay as they are; null takes one away.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    secrets: BTreeMap<String, Option<Secret>>,
    /// Rate limits, all of which hold. None: those of the provider's connector.
    limits: Vec<LimitBody>,
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

/// What becomes of the backlog when a session moves to another account.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnDeleteName {
    /// Its messages become FAILED.
    Fail,
    /// Its messages move along.
    Move,
}

/// An account to put.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccountBody {
    /// Its tenant. Needed from an operator; from a tenant's token it is that tenant.
    tenant_id: Option<String>,
    /// The provider: `wasender`, …
    #[schema(required, example = "wasender")]
    provider: String,
    /// Base URL of the provider's API.
    #[schema(required, example = "https://www.wasenderapi.com/api")]
    base_url: String,
    /// Credentials by name (`personal_token`, `webhook_secret`), as those of a session.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    secrets: BTreeMap<String, Option<Secret>>,
    /// HTTP calls at once on this base URL, per sender process.
    #[schema(minimum = 1)]
    max_in_flight: Option<i32>,
    /// Provider settings.
    settings: BTreeMap<String, String>,
}

/// A session or account stands in the log as asked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Written {
    /// Its id.
    id: String,
    /// Its tenant.
    tenant_id: String,
    /// `created`, `updated` or `deleted`.
    #[schema(example = "updated")]
    status: &'static str,
    /// Of a session: rises when it moves to another account or provider session.
    #[serde(skip_serializing_if = "Option::is_none")]
    binding_epoch: Option<i64>,
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
    let tenant_id =
        tenant(&caller, body.tenant_id.as_deref(), before.as_ref().map(|s| &s.record.tenant_id[..]))?;
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
        directory.session(&session_id).is_some_and(|seen| seen.record.updated_at >= record.updated_at)
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
    let tenant_id = session.record.tenant_id.clone();
    edge.writer.write(&edge.records.session_gone(&session_id, &tenant_id)).await?;
    // Else a session put under this id later would begin paused.
    edge.writer.write(&edge.records.pause_gone(&session_id, &tenant_id)).await?;
    view(&edge.directory, |directory| directory.session(&session_id).is_none()).await;
    tracing::info!(session_id, caller = incoming.caller.name, "session deleted");
    Ok(Json(Written { id: session_id, tenant_id, status: "deleted", binding_epoch: None }).into_response())
}

/// Create an account or replace it.
#[utoipa::path(
    put, path = "/v1/accounts/{account_id}", tag = "accounts", security(("token" = ["manage"])),
    params(("account_id" = String, Path, description = "The account: 1 to 128 of A-Z a-z 0-9 . _ - : + @ ~")),
    request_body = AccountBody,
    responses(
        (status = 200, body = Written),
        (status = 201, body = Written),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn put_account(
    State(edge): State<Shared>,
    Ids(account_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let caller = incoming.caller.clone();
    caller.require(Scope::Manage)?;
    edge.loaded()?;
    check_id(&account_id)?;
    let body: AccountBody = json::read(&incoming.body(edge.settings.body_bytes_max).await?)?;
    let before = edge.directory.account(&account_id);
    let tenant_id =
        tenant(&caller, body.tenant_id.as_deref(), before.as_ref().map(|a| &a.record.tenant_id[..]))?;
    let record = account_record(&edge, &caller, &account_id, tenant_id, body, before.as_deref())?;
    edge.writer.write(&edge.records.account(&record)).await?;
    view(&edge.directory, |directory| {
        directory.account(&account_id).is_some_and(|seen| seen.record.updated_at >= record.updated_at)
    })
    .await;
    tracing::info!(account_id, caller = caller.name, "account put");
    let status =
        if before.is_some() { (StatusCode::OK, "updated") } else { (StatusCode::CREATED, "created") };
    let written =
        Written { id: account_id, tenant_id: record.tenant_id, status: status.1, binding_epoch: None };
    Ok((status.0, Json(written)).into_response())
}

/// Delete an account that no session refers to.
#[utoipa::path(
    delete, path = "/v1/accounts/{account_id}", tag = "accounts", security(("token" = ["manage"])),
    params(("account_id" = String, Path, description = "The account")),
    responses(
        (status = 200, body = Written),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete_account(
    State(edge): State<Shared>,
    Ids(account_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    incoming.caller.require(Scope::Manage)?;
    edge.loaded()?;
    let account = edge
        .directory
        .account(&account_id)
        .filter(|account| incoming.caller.may_see(&account.record.tenant_id))
        .ok_or_else(|| Problem::new(Kind::UnknownAccount))?;
    let sessions = edge.directory.sessions_of(&account_id);
    if !sessions.is_empty() {
        let detail = format!("{} sessions refer to it: move or delete them first", sessions.len());
        return Err(Problem::new(Kind::AccountInUse).detail(detail));
    }
    let tenant_id = account.record.tenant_id.clone();
    edge.writer.write(&edge.records.account_gone(&account_id, &tenant_id)).await?;
    view(&edge.directory, |directory| directory.account(&account_id).is_none()).await;
    tracing::info!(account_id, caller = incoming.caller.name, "account deleted");
    Ok(Json(Written { id: account_id, tenant_id, status: "deleted", binding_epoch: None }).into_response())
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
    for (i, limit) in body.limits.iter().enumerate() {
        if limit.count < 1 || limit.per_ms < 1 || limit.burst < 1 || limit.burst > limit.count {
            let detail = "count, per_ms and burst must be 1 or more, and burst at most count";
            errors.push(FieldError::new(format!("/limits/{i}"), "invalid", detail));
        }
    }
    for (name, value) in [("max_in_flight", body.max_in_flight), ("tenant_weight", body.tenant_weight)] {
        if value.is_some_and(|value| value < 1) {
            errors.push(FieldError::new(format!("/{name}"), "invalid", "must be 1 or more"));
        }
    }
    let old = before.map(|before| &before.record);
    let secrets = seal(
        edge,
        caller,
        &session_owner(session_id),
        body.secrets,
        old.map(|old| &old.secrets[..]),
        &mut errors,
    );
    if !errors.is_empty() {
        return Err(Problem { errors, ..Problem::new(Kind::InvalidRequest) });
    }
    let moved = old.is_some_and(|old| {
        old.account_id != body.account_id || old.provider_session_id != body.provider_session_id
    });
    Ok(Session {
        session_id: session_id.to_owned(),
        tenant_id,
        account_id: body.account_id,
        provider: account.record.provider,
        binding_epoch: old.map_or(0, |old| old.binding_epoch) + i64::from(moved),
        provider_session_id: body.provider_session_id,
        phone_number: body.phone_number,
        secrets,
        limits: body
            .limits
            .into_iter()
            .map(|limit| RateLimit { count: limit.count, per_ms: limit.per_ms, burst: limit.burst })
            .collect(),
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

fn account_record(
    edge: &Shared,
    caller: &Caller,
    account_id: &str,
    tenant_id: String,
    body: AccountBody,
    before: Option<&AccountEntry>,
) -> Result<Account, Problem> {
    let mut errors = Vec::new();
    let provider = provider_named(&body.provider).filter(|provider| edge.connectors.get(*provider).is_some());
    if provider.is_none() {
        errors.push(FieldError::new(
            "/provider",
            "unknown_provider",
            "this build has no connector of this name",
        ));
    }
    let is_url = ["https://", "http://"].iter().any(|scheme| {
        body.base_url
            .strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', '@']))
    });
    if !is_url {
        let detail = "the base URL must begin with https:// or http:// and have no user, query or fragment";
        errors.push(FieldError::new("/base_url", "invalid", detail));
    }
    if body.max_in_flight.is_some_and(|value| value < 1) {
        errors.push(FieldError::new("/max_in_flight", "invalid", "must be 1 or more"));
    }
    let old = before.map(|before| &before.record.secrets[..]);
    let secrets = seal(edge, caller, &account_owner(account_id), body.secrets, old, &mut errors);
    match provider {
        Some(provider) if errors.is_empty() => Ok(Account {
            account_id: account_id.to_owned(),
            tenant_id,
            provider,
            base_url: body.base_url.trim_end_matches('/').to_owned(),
            secrets,
            max_in_flight: body.max_in_flight,
            settings: body.settings,
            updated_at: wall_ms(),
        }),
        _ => Err(Problem { errors, ..Problem::new(Kind::InvalidRequest) }),
    }
}

/// The credentials of a record: those given sealed or referred to, those not named as they were.
fn seal(
    edge: &Shared,
    caller: &Caller,
    owner: &str,
    given: BTreeMap<String, Option<Secret>>,
    before: Option<&[sluice_schemas::Secret]>,
    errors: &mut Vec<FieldError>,
) -> Vec<sluice_schemas::Secret> {
    let kept = before.unwrap_or_default().iter().filter(|secret| !given.contains_key(&secret.name));
    let mut secrets: Vec<_> = kept.cloned().collect();
    for (name, value) in given {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let pointer = format!("/secrets/{}", name.replace('~', "~0").replace('/', "~1"));
        if sealing::is_reference(value.expose()) {
            // A tenant could otherwise have our files and variables sent to a server of its own.
            if !caller.is_operator() {
                errors.push(FieldError::new(pointer, "not_allowed", "only operators may give references"));
                continue;
            }
            let reference = Some(value.expose().to_owned());
            secrets.push(sluice_schemas::Secret { name, reference, ..Default::default() });
            continue;
        }
        match edge.sealer.seal(owner, &name, &value) {
            Ok(sealed) => secrets.push(sealed),
            Err(error) => errors.push(FieldError::new(pointer, "cannot_seal", error.to_string())),
        }
    }
    secrets
}

/// The tenant of what is put: an operator names it, a tenant's token is it; what exists keeps its own for ever.
fn tenant(caller: &Caller, given: Option<&str>, before: Option<&str>) -> Result<String, Problem> {
    const POINTER: &str = "/tenant_id";
    let tenant_id = match (&caller.tenant_id, given.filter(|id| !id.is_empty()), before) {
        (Some(own), Some(given), _) if own != given => {
            return Err(Problem::new(Kind::Forbidden).error(
                POINTER,
                "not_allowed",
                "the token acts for another tenant",
            ));
        }
        (Some(own), _, _) => own.as_str(),
        (None, Some(given), _) => given,
        (None, None, Some(before)) => before,
        (None, None, None) => {
            let detail = "an operator must say whose it is";
            return Err(Problem::new(Kind::InvalidRequest).error(POINTER, "missing", detail));
        }
    };
    match before {
        Some(before) if before != tenant_id => Err(Problem::new(Kind::IdTaken)),
        _ => Ok(tenant_id.to_owned()),
    }
}

fn check_id(id: &str) -> Result<(), Problem> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:+@~".contains(&byte);
    if !id.is_empty() && id.len() <= ID_BYTES_MAX && id.bytes().all(is_good) {
        return Ok(());
    }
    let detail = "an id has 1 to 128 characters of A-Z a-z 0-9 . _ - : + @ ~";
    Err(Problem::new(Kind::InvalidRequest).error("path:id", "invalid", detail))
}

/// The provider of this name, in any case.
pub(super) fn provider_named(name: &str) -> Option<Provider> {
    let known = Provider::ALL.iter().copied().filter(|provider| *provider != Provider::Unknown);
    known.into_iter().find(|provider| provider.as_str().eq_ignore_ascii_case(name))
}

/// Waits a moment until this process sees what it wrote, so that the caller's next request does too. What was
/// written stands in the log either way.
pub(super) async fn view(directory: &Directory, holds: impl Fn(&Directory) -> bool) {
    if tokio::time::timeout(VIEW_WAIT, directory.until(holds)).await.is_err() {
        tracing::warn!("the directory is behind what was written");
    }
}
