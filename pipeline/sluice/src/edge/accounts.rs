//! Putting and deleting accounts.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sluice_kafka::clock::wall_ms;
use sluice_schemas::Account;
use utoipa::ToSchema;

use super::Shared;
use super::incoming::{Ids, Incoming};
use super::manage::{Written, check_id, provider_named, seal, tenant, view};
use super::sessions::{LimitBody, check_limits};
use crate::api::problem::{FieldError, ProblemBody};
use crate::api::{Caller, Kind, Problem, json};
use crate::directory::AccountEntry;
use crate::sealing::{Secret, account_owner};
use crate::settings::Scope;

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
    /// Rate limits of the account, all of which hold; its sessions share each in equal parts. None: none.
    limits: Vec<LimitBody>,
    /// HTTP calls at once on this base URL, per sender process.
    #[schema(minimum = 1)]
    max_in_flight: Option<i32>,
    /// Provider settings.
    settings: BTreeMap<String, String>,
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
    check_limits("limits", &body.limits, &mut errors);
    let old = before.map(|before| &before.record.secrets[..]);
    let secrets = seal(edge, caller, &account_owner(account_id), body.secrets, old, &mut errors);
    match provider {
        Some(provider) if errors.is_empty() => Ok(Account {
            account_id: account_id.to_owned(),
            tenant_id,
            provider,
            base_url: body.base_url.trim_end_matches('/').to_owned(),
            secrets,
            limits: body.limits.into_iter().map(Into::into).collect(),
            max_in_flight: body.max_in_flight,
            settings: body.settings,
            updated_at: wall_ms(),
        }),
        _ => Err(Problem { errors, ..Problem::new(Kind::InvalidRequest) }),
    }
}
