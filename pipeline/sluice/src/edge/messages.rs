//! Sending, batches, canceling.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use serde::Serialize;
use sluice_schemas::{Command, OutboundCommand, ids};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Shared;
use super::incoming::{Ids, Incoming};
use super::records::{COMMAND_BYTES_MAX, Write};
use super::request::{Address, BatchLine, SendRequest};
use super::trace;
use super::writer::Sent;
use crate::api::problem::ProblemBody;
use crate::api::{Caller, Kind, Problem, json};
use crate::directory::SessionEntry;
use crate::settings::Scope;

/// A message was accepted: it stands in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The message, the same for the same session and key.
    #[schema(example = "9d59d6c6-fdc0-5ae7-a88d-4054d84997f2")]
    message_id: String,
    /// The session that sends it.
    #[schema(example = "demo-01")]
    session_id: String,
    /// The caller's key.
    #[schema(example = "order-1")]
    idempotency_key: String,
    /// Always `accepted`.
    #[schema(example = "accepted")]
    status: &'static str,
}

/// A line that has been handed over, or why not.
type SentLine = Result<(Sent, Accepted), Problem>;

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BatchAnswer {
    /// Lines accepted.
    accepted: usize,
    /// Lines not accepted.
    refused: usize,
    /// One result for each line that is not blank, in order.
    results: Vec<LineResult>,
}

/// What became of a line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LineResult {
    /// Number of the line, from 1.
    #[schema(example = 1)]
    line: usize,
    /// The message, if accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<Accepted>,
    /// Why not, if not. Status 503: send the line again with the same key.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// A cancel was taken: it stands in the log. Whether it came in time is told by the message's status.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CancelAnswer {
    /// The message.
    message_id: String,
    /// Its session.
    session_id: String,
    /// Always `cancel_requested`.
    #[schema(example = "cancel_requested")]
    status: &'static str,
}

/// Send a message.
///
/// 202 means that the request stands in the log: it survives any crash, and its status follows on
/// `messages.status`. The same key with the same body is the same message, however often it is posted.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/messages", tag = "messages", security(("token" = ["send"])),
    params(
        ("session_id" = String, Path, description = "The session that sends"),
        ("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters"),
    ),
    request_body = SendRequest,
    responses(
        (status = 202, body = Accepted, headers(("Location" = String, description = "Where to read the message"))),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn send(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let session = edge.session_for(&incoming.caller, Scope::Send, &session_id)?;
    let key = incoming.idempotency_key()?.to_owned();
    let traceparent = trace::parent(&incoming.headers);
    let body = incoming.body(edge.settings.body_bytes_max).await?;
    let (write, accepted) = prepare(&edge, &session, &key, json::read(&body)?, &traceparent)?;
    edge.writer.write(&write).await?;
    tracing::debug!(
        session_id = accepted.session_id,
        message_id = accepted.message_id,
        idempotency_key = accepted.idempotency_key,
        "accepted"
    );
    let location = format!("/v1/messages/{}", accepted.message_id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(accepted)).into_response())
}

/// Send up to 1,000 messages, one JSON object a line.
///
/// Each line is a send with its `idempotency_key`, and has its own result; lines that are accepted stand in
/// the log in their order. 503 only if Kafka took no line at all.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/messages/batch", tag = "messages", security(("token" = ["send"])),
    params(("session_id" = String, Path, description = "The session that sends")),
    request_body(content = BatchLine, content_type = "application/x-ndjson"),
    responses(
        (status = 200, body = BatchAnswer),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn batch(
    State(edge): State<Shared>,
    Ids(session_id): Ids<String>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let session = edge.session_for(&incoming.caller, Scope::Send, &session_id)?;
    let traceparent = trace::parent(&incoming.headers);
    let body = incoming.body(edge.settings.batch_bytes_max).await?;
    let lines = lines(&body, edge.settings.batch_lines_max)?;

    // Handed over in the order of the lines, then waited for together.
    let sent: Vec<(usize, SentLine)> = lines
        .into_iter()
        .map(|(number, line)| (number, send_line(&edge, &session, line, &traceparent)))
        .collect();
    let edge = &edge;
    let waits = sent.into_iter().map(|(line, sent)| async move {
        match wait(edge, sent).await {
            Ok(accepted) => (None, LineResult { line, accepted: Some(accepted), problem: None }),
            Err(problem) => {
                let body = problem.body();
                (Some(problem), LineResult { line, accepted: None, problem: Some(body) })
            }
        }
    });
    let (mut problems, results): (Vec<Option<Problem>>, Vec<LineResult>) =
        join_all(waits).await.into_iter().unzip();
    let accepted = problems.iter().filter(|problem| problem.is_none()).count();
    if problems
        .iter()
        .all(|problem| problem.as_ref().is_some_and(|problem| problem.kind == Kind::Unavailable))
    {
        return Err(problems.swap_remove(0).unwrap_or_else(|| Problem::new(Kind::Unavailable)));
    }
    Ok(Json(BatchAnswer { accepted, refused: results.len() - accepted, results }).into_response())
}

/// Cancel a message.
///
/// A cancel that comes before the message is kept. One that comes too late changes nothing.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/messages/{message_id}/cancel", tag = "messages",
    security(("token" = ["send"])),
    params(
        ("session_id" = String, Path, description = "The session that sends"),
        ("message_id" = String, Path, description = "The message"),
    ),
    responses(
        (status = 202, body = CancelAnswer),
        (status = 400, body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn cancel(
    State(edge): State<Shared>,
    Ids((session_id, message_id)): Ids<(String, String)>,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let session = edge.session_for(&incoming.caller, Scope::Send, &session_id)?;
    let message_id = Uuid::try_parse(&message_id)
        .map_err(|_| Problem::new(Kind::UnknownMessage).detail("a message_id is a UUID"))?
        .to_string();
    let command = OutboundCommand {
        command: Command::Cancel,
        session_id: session.session_id.to_string(),
        tenant_id: Some(session.tenant_id.to_string()),
        // A second cancel of the message is the same request.
        idempotency_key: format!("cancel:{message_id}"),
        target_message_id: Some(message_id.clone()),
        ..Default::default()
    };
    edge.writer.write(&edge.records.command(&command, &trace::parent(&incoming.headers))).await?;
    let answer = CancelAnswer { message_id, session_id, status: "cancel_requested" };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

fn prepare(
    edge: &Shared,
    session: &SessionEntry,
    key: &str,
    request: SendRequest,
    traceparent: &str,
) -> Result<(Write, Accepted), Problem> {
    let address =
        Address { session_id: &session.session_id, tenant_id: &session.tenant_id, idempotency_key: key };
    let command = request.into_command(address)?;
    let write = edge.records.command(&command, traceparent);
    if write.value.as_ref().is_some_and(|value| value.len() > COMMAND_BYTES_MAX) {
        let detail = format!("a message may have at most {COMMAND_BYTES_MAX} bytes as a record");
        return Err(Problem::new(Kind::TooLarge).detail(detail));
    }
    let accepted = Accepted {
        message_id: ids::message_id(&command.session_id, key).to_string(),
        session_id: command.session_id,
        idempotency_key: command.idempotency_key,
        status: "accepted",
    };
    Ok((write, accepted))
}

fn send_line(edge: &Shared, session: &SessionEntry, line: &[u8], traceparent: &str) -> SentLine {
    let line = BatchLine::read(line)?;
    let (write, accepted) = prepare(edge, session, &line.idempotency_key, line.message, traceparent)?;
    Ok((edge.writer.send(&write)?, accepted))
}

async fn wait(edge: &Shared, sent: SentLine) -> Result<Accepted, Problem> {
    let (sent, accepted) = sent?;
    edge.writer.acknowledged(sent).await?;
    Ok(accepted)
}

/// The lines that are not blank, numbered from 1.
fn lines(body: &[u8], lines_max: usize) -> Result<Vec<(usize, &[u8])>, Problem> {
    let mut lines = Vec::new();
    for (i, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if lines.len() == lines_max {
            return Err(
                Problem::new(Kind::TooLarge).detail(format!("a batch may have at most {lines_max} lines"))
            );
        }
        lines.push((i + 1, line));
    }
    if lines.is_empty() {
        return Err(Problem::new(Kind::InvalidRequest).error("", "missing", "the batch has no lines"));
    }
    Ok(lines)
}

impl super::Edge {
    /// The session, if the caller has the scope and may see it. Another tenant's session is as unknown as one
    /// that does not exist: ids can be guessed, and nobody is to learn who else is a customer.
    pub(super) fn session_for(
        &self,
        caller: &Caller,
        scope: Scope,
        session_id: &str,
    ) -> Result<std::sync::Arc<SessionEntry>, Problem> {
        caller.require(scope)?;
        self.loaded()?;
        self.directory
            .session(session_id)
            .filter(|session| caller.may_see(&session.tenant_id))
            .ok_or_else(|| Problem::new(Kind::UnknownSession))
    }

    /// Refuses while the directory is not loaded.
    pub(super) fn loaded(&self) -> Result<(), Problem> {
        if self.directory.is_loaded() {
            return Ok(());
        }
        Err(Problem::new(Kind::Starting)
            .detail("the sessions are being loaded")
            .retry_after_s(self.settings.retry_after_s))
    }
}
