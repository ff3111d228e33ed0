//! The reads, one function a route.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use sluice_schemas::{MessageState, SessionStatus, Status};
use sluice_scylla::{MessageStore, Page, PageRequest};
use utoipa::{IntoParams, OpenApi};
use uuid::Uuid;

use super::view::{
    self, ErrorView, FacetView, MessagePage, MessageView, QrView, ReceivedPage, ReceivedView,
    SessionStatusPage, SessionStatusView,
};
use super::{Reads, cursor};
use crate::api::problem::{FieldError, ProblemBody};
use crate::api::{Caller, Kind, Problem};
use crate::settings::Scope;

/// Items of a page when no limit is given.
const LIMIT_DEFAULT: usize = 50;
/// What `Retry-After` says for a message that is not visible yet, seconds.
const NOT_YET_RETRY_S: u64 = 1;
/// What `Retry-After` says when the store does not answer, seconds.
const STORE_RETRY_S: u64 = 2;

/// The OpenAPI document of the reads.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(message, messages, received, session_statuses, session_status, qr),
    components(schemas(
        MessageView, ErrorView, MessagePage, ReceivedView, ReceivedPage, SessionStatusView, FacetView,
        SessionStatusPage, QrView, ProblemBody, FieldError
    )),
    tags((name = "reads", description = "What became of messages and sessions."))
)]
pub struct Docs;

/// A list of a session.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfSession {
    /// The session.
    session_id: String,
    /// Only this chat (received messages only), as `chat_id` says it.
    chat: Option<String>,
    /// Most items, 1 to 200.
    #[param(default = 50)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A list of a tenant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfTenant {
    /// The tenant; needed only with a token for all tenants.
    tenant_id: Option<String>,
    /// Most items, 1 to 200.
    #[param(default = 50)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A message
///
/// What is known of it, folded from all its facts. Right after a 202 the answer may be `not-yet-visible` with
/// `Retry-After`.
#[utoipa::path(get, path = "/v1/messages/{id}", tag = "reads", security(("token" = ["read"])),
    params(("id" = String, Path, description = "message_id of the 202")),
    responses((status = 200, body = MessageView),
        (status = 404, description = "not-yet-visible (with Retry-After) or unknown-message", body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn message(
    State(reads): State<Arc<Reads>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<MessageView>, Problem> {
    let caller = reads.caller(&headers)?;
    let id = Uuid::try_parse(&id)
        .map_err(|_| Problem::new(Kind::UnknownMessage).detail("message ids are UUIDs"))?
        .to_string();
    let store = reads.store().await?;
    let found = reads.timed("message", store.message(&id)).await?;
    // A message of which only receipts are known has not been accepted as far as anybody can see.
    match found.filter(|state| state.status != Status::Unknown) {
        Some(state) if reads.may_see_message(caller, &state) => Ok(Json(state.into())),
        Some(_) => Err(Kind::UnknownMessage.into()),
        None if reads.is_fresh(&id) => Err(Problem::new(Kind::NotYetVisible)
            .detail("if the message was accepted just now, ask again; else it does not exist")
            .retry_after_s(NOT_YET_RETRY_S)),
        None => Err(Kind::UnknownMessage.into()),
    }
}

/// Messages of a session, newest first
#[utoipa::path(get, path = "/v1/messages", tag = "reads", security(("token" = ["read"])), params(OfSession),
    responses((status = 200, body = MessagePage), (status = 400, body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 404, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn messages(
    State(reads): State<Arc<Reads>>,
    headers: HeaderMap,
    query: Result<Query<OfSession>, QueryRejection>,
) -> Result<Json<MessagePage>, Problem> {
    let caller = reads.caller(&headers)?;
    let query = checked(query)?;
    if query.chat.is_some() {
        return Err(bad_query("chat", "unknown_field", "only /v1/received takes a chat"));
    }
    reads.require_session(caller, &query.session_id)?;
    let list = format!("messages/{}", query.session_id);
    let request = page_request(&list, query.limit, query.cursor.as_deref())?;
    let store = reads.store().await?;
    let page = reads.timed("messages", store.messages(&query.session_id, &request)).await?;
    let next_cursor = next_cursor(&list, &page);
    Ok(Json(MessagePage { items: page.items.into_iter().map(MessageView::from).collect(), next_cursor }))
}

/// Received messages and echoes of a session, newest first
#[utoipa::path(get, path = "/v1/received", tag = "reads", security(("token" = ["read"])), params(OfSession),
    responses((status = 200, body = ReceivedPage), (status = 400, body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 404, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn received(
    State(reads): State<Arc<Reads>>,
    headers: HeaderMap,
    query: Result<Query<OfSession>, QueryRejection>,
) -> Result<Json<ReceivedPage>, Problem> {
    let caller = reads.caller(&headers)?;
    let query = checked(query)?;
    reads.require_session(caller, &query.session_id)?;
    let chat = query.chat.as_deref();
    let list = format!("received/{}/{}", query.session_id, chat.unwrap_or_default());
    let request = page_request(&list, query.limit, query.cursor.as_deref())?;
    let store = reads.store().await?;
    let page = reads.timed("received", store.received(&query.session_id, chat, &request)).await?;
    let next_cursor = next_cursor(&list, &page);
    Ok(Json(ReceivedPage { items: page.items.into_iter().map(ReceivedView::from).collect(), next_cursor }))
}

/// Condition of a tenant's sessions
#[utoipa::path(get, path = "/v1/session-status", tag = "reads", security(("token" = ["read"])), params(OfTenant),
    responses((status = 200, body = SessionStatusPage), (status = 400, body = ProblemBody),
        (status = 401, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn session_statuses(
    State(reads): State<Arc<Reads>>,
    headers: HeaderMap,
    query: Result<Query<OfTenant>, QueryRejection>,
) -> Result<Json<SessionStatusPage>, Problem> {
    let caller = reads.caller(&headers)?;
    let query = checked(query)?;
    let tenant = match (&caller.tenant_id, query.tenant_id) {
        (Some(own), None) => own.clone(),
        (Some(own), Some(asked)) if *own == asked => asked,
        (Some(_), Some(_)) => {
            return Err(Problem::new(Kind::Forbidden).detail("the token is of another tenant"));
        }
        (None, Some(asked)) => asked,
        (None, None) => {
            return Err(bad_query("tenant_id", "missing", "a token for all tenants must name one"));
        }
    };
    let list = format!("session-status/{tenant}");
    let request = page_request(&list, query.limit, query.cursor.as_deref())?;
    let store = reads.store().await?;
    let page = reads.timed("sessions", store.sessions(&tenant, &request)).await?;
    let next_cursor = next_cursor(&list, &page);
    let items = page
        .items
        .iter()
        .filter_map(|facets| facets.first().map(|first| SessionStatusView::of(&first.session_id, facets)))
        .collect();
    Ok(Json(SessionStatusPage { items, next_cursor }))
}

/// Condition of a session
#[utoipa::path(get, path = "/v1/session-status/{session}", tag = "reads", security(("token" = ["read"])),
    params(("session" = String, Path, description = "The session")),
    responses((status = 200, body = SessionStatusView), (status = 401, body = ProblemBody),
        (status = 404, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(super) async fn session_status(
    State(reads): State<Arc<Reads>>,
    headers: HeaderMap,
    Path(session): Path<String>,
) -> Result<Json<SessionStatusView>, Problem> {
    let caller = reads.caller(&headers)?;
    reads.require_session(caller, &session)?;
    let store = reads.store().await?;
    let facets: Vec<SessionStatus> = reads.timed("session", store.session(&session)).await?;
    Ok(Json(SessionStatusView::of(&session, &facets)))
}

/// The code to link a session with a phone
#[utoipa::path(get, path = "/v1/session-status/{session}/qr", tag = "reads", security(("token" = ["read"])),
    params(("session" = String, Path, description = "The session")),
    responses((status = 200, body = QrView), (status = 401, body = ProblemBody),
        (status = 404, description = "unknown-session, or not-yet-visible when there is no code now",
         body = ProblemBody)))]
pub(super) async fn qr(
    State(reads): State<Arc<Reads>>,
    headers: HeaderMap,
    Path(session): Path<String>,
) -> Result<Json<QrView>, Problem> {
    let caller = reads.caller(&headers)?;
    reads.require_session(caller, &session)?;
    let now_ms = chrono::Utc::now().timestamp_millis();
    let link = reads.deps.links.get(&session, now_ms).ok_or_else(|| {
        Problem::new(Kind::NotYetVisible)
            .detail("there is no code that works now; connect the session and ask again")
            .retry_after_s(NOT_YET_RETRY_S)
    })?;
    Ok(Json(QrView {
        session_id: link.session_id,
        kind: link.kind.as_str().to_owned(),
        code: link.code,
        created_at: view::time(link.created_at),
        expires_at: link.expires_at.map(view::time),
    }))
}

impl Reads {
    fn caller(&self, headers: &HeaderMap) -> Result<&Caller, Problem> {
        let caller = self.deps.tokens.authenticate(headers)?;
        caller.require(Scope::Read)?;
        Ok(caller)
    }

    /// The tenant of a message is on its facts; for one whose facts do not say it, the session's.
    fn may_see_message(&self, caller: &Caller, state: &MessageState) -> bool {
        match &state.tenant_id {
            Some(tenant) => caller.may_see(tenant),
            None => self.require_session(caller, &state.session_id).is_ok(),
        }
    }

    /// Refuses a session that is not there or is another tenant's: the answer is the same.
    fn require_session(&self, caller: &Caller, session_id: &str) -> Result<(), Problem> {
        if caller.is_operator() {
            return Ok(());
        }
        if !self.deps.directory.is_loaded() {
            return Err(Problem::new(Kind::Starting).retry_after_s(STORE_RETRY_S));
        }
        match self.deps.directory.session(session_id) {
            Some(session) if caller.may_see(&session.tenant_id) => Ok(()),
            _ => Err(Kind::UnknownSession.into()),
        }
    }

    fn is_fresh(&self, id: &str) -> bool {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).is_fresh(id, Instant::now())
    }

    /// The store, connecting to it if that has not been done yet.
    async fn store(&self) -> Result<MessageStore, Problem> {
        self.deps.stores.open().await.map_err(|error| self.refusal("connect", &error))
    }

    /// Waits for a store operation and measures it.
    async fn timed<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, sluice_scylla::Error>>,
    ) -> Result<T, Problem> {
        let start = Instant::now();
        let result = work.await;
        let seconds = self.deps.metrics.store_seconds.with_label_values(&[operation]);
        seconds.observe(start.elapsed().as_secs_f64());
        result.map_err(|error| self.refusal(operation, &error))
    }

    /// The answer that an error of the store is.
    fn refusal(&self, operation: &'static str, error: &sluice_scylla::Error) -> Problem {
        if matches!(error, sluice_scylla::Error::Cursor) {
            return bad_cursor();
        }
        self.deps.metrics.store_errors.with_label_values(&[operation]).inc();
        tracing::warn!(operation, %error, "the store did not answer a read");
        if error.is_transient() {
            Problem::new(Kind::Unavailable)
                .detail("the message store does not answer")
                .retry_after_s(STORE_RETRY_S)
        } else {
            Kind::Internal.into()
        }
    }
}

fn checked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|Query(query)| query)
        .map_err(|error| Problem::new(Kind::InvalidRequest).error("query:", "invalid", error.body_text()))
}

fn bad_query(name: &str, code: &'static str, detail: &str) -> Problem {
    Problem::new(Kind::InvalidRequest).error(format!("query:{name}"), code, detail)
}

fn bad_cursor() -> Problem {
    bad_query("cursor", "invalid", &cursor::Invalid.to_string())
}

fn page_request(list: &str, limit: Option<usize>, cursor: Option<&str>) -> Result<PageRequest, Problem> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=sluice_scylla::LIMIT_MAX).contains(&limit) {
        let detail = format!("1 to {}", sluice_scylla::LIMIT_MAX);
        return Err(bad_query("limit", "invalid", &detail));
    }
    let cursor = match cursor {
        None => None,
        Some(text) => {
            let position = cursor::decode(list, text).map_err(|_| bad_cursor())?;
            Some(String::from_utf8(position).map_err(|_| bad_cursor())?)
        }
    };
    Ok(PageRequest { limit, cursor })
}

fn next_cursor<T>(list: &str, page: &Page<T>) -> Option<String> {
    page.next.as_deref().map(|position| cursor::encode(list, position.as_bytes()))
}
