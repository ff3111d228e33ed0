//! The provider's routes.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::hooks;
use super::send::{pause, send};
use super::session::Session;
use super::settings::SessionSettings;
use super::world::{Sent, World};

/// From `connect` to a scanned QR code, milliseconds.
const SCAN_MS: u64 = 500;

/// Entries of a page of message logs.
const PAGE: usize = 15;

pub(super) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/send-message", post(send))
        .route("/messages/{id}/info", get(info))
        .route("/messages/read", post(acknowledged))
        .route("/messages/{id}", put(edit).delete(revoke))
        .route("/send-presence-update", post(acknowledged))
        .route("/status", get(session_status))
        .route("/user", get(user))
        .route("/on-whatsapp/{phone}", get(on_whatsapp))
        .route("/whatsapp-sessions", get(list).post(create))
        .route("/whatsapp-sessions/{id}", get(one))
        .route("/whatsapp-sessions/{id}/connect", post(connect))
        .route("/whatsapp-sessions/{id}/disconnect", post(disconnect))
        .route("/whatsapp-sessions/{id}/restart", post(restart))
        .route("/whatsapp-sessions/{id}/qrcode", get(qr_code))
        .route("/whatsapp-sessions/{id}/message-logs", get(logs))
        .fallback(|| async { answer(404, json!({"success": false, "message": "Route not found."})) })
}

pub(super) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(super) fn answer(code: u16, body: Value) -> Response {
    (status(code), Json(body)).into_response()
}

pub(super) fn invalid(problems: &[(&str, &str)]) -> Response {
    let errors: serde_json::Map<String, Value> =
        problems.iter().map(|(field, problem)| ((*field).to_owned(), json!([problem]))).collect();
    answer(422, json!({"success": false, "message": "Validation failed", "errors": errors}))
}

/// A recipient as WhatsApp writes it.
pub(super) fn jid(to: &str) -> String {
    if to.contains('@') { to.to_owned() } else { format!("{}@s.whatsapp.net", to.trim_start_matches('+')) }
}

/// Why a request gets no further: an answer, small enough to be an error.
#[derive(Debug)]
pub(super) struct Refusal(u16, Value);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        answer(self.0, self.1)
    }
}

/// What a route gives.
type Answered = Result<Response, Refusal>;

fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or_else(|| Refusal(401, json!({"success": false, "message": "API key is required"})))
}

fn wrong_key() -> Refusal {
    Refusal(401, json!({"success": false, "message": "Invalid API key"}))
}

/// The session of the key; an account token is refused here.
pub(super) fn session(world: &World, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
    world.session_of_key(token(headers)?).ok_or_else(wrong_key)
}

/// The session in the path, for an account token; a session's key is refused here.
fn managed(world: &World, headers: &HeaderMap, id: &str) -> Result<Arc<Session>, Refusal> {
    account(world, headers)?;
    world
        .session(id)
        .ok_or_else(|| Refusal(404, json!({"success": false, "message": "WhatsApp session not found"})))
}

fn account(world: &World, headers: &HeaderMap) -> Result<(), Refusal> {
    let token = token(headers)?;
    if world.settings.personal_tokens.iter().any(|known| known == token) { Ok(()) } else { Err(wrong_key()) }
}

fn not_found() -> Refusal {
    Refusal(404, json!({"success": false, "error": "Message not found"}))
}

fn message_of(world: &World, headers: &HeaderMap, id: &str) -> Result<Sent, Refusal> {
    let session = session(world, headers)?;
    id.parse().ok().and_then(|id| world.message(&session, id)).ok_or_else(not_found)
}

async fn info(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let sent = message_of(&world, &headers, &id)?;
    if super::world::unix_ms() < sent.at_ms + world.settings.info_delay_ms {
        return Err(not_found());
    }
    let key = json!({"id": sent.whatsapp_id, "fromMe": true, "remoteJid": sent.remote_jid});
    let data = json!({"remoteJid": sent.remote_jid, "id": sent.whatsapp_id, "msgId": sent.msg_id, "key": key,
        "message": sent.message, "messageTimestamp": (sent.at_ms / 1_000).to_string(), "status": sent.status});
    Ok(answer(200, json!({"success": true, "data": data})))
}

async fn edit(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Answered {
    let sent = message_of(&world, &headers, &id)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(text) = body.get("text").and_then(Value::as_str) else {
        return Ok(invalid(&[("text", "The text field is required.")]));
    };
    world.change(sent.msg_id, |sent| sent.message = json!({"conversation": text}));
    let data = json!({"msgId": sent.msg_id, "jid": sent.to, "status": "in_progress"});
    Ok(answer(200, json!({"success": true, "data": data})))
}

async fn revoke(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let sent = message_of(&world, &headers, &id)?;
    world.change(sent.msg_id, |sent| sent.message = json!({"protocolMessage": {"type": 0}}));
    Ok(answer(200, json!({"success": true, "message": "Message deleted successfully"})))
}

/// Read marks and presence: nothing to remember of them.
async fn acknowledged(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Answered {
    session(&world, &headers)?;
    Ok(match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Object(_)) => answer(200, json!({"success": true, "data": null})),
        _ => invalid(&[("body", "The body must be a JSON object.")]),
    })
}

async fn session_status(State(world): State<Arc<World>>, headers: HeaderMap) -> Answered {
    // Not wrapped in success/data, as with the provider.
    Ok(answer(200, json!({"status": session(&world, &headers)?.status()})))
}

async fn user(State(world): State<Arc<World>>, headers: HeaderMap) -> Answered {
    let session = session(&world, &headers)?;
    Ok(answer(200, json!({"success": true, "data": {"id": &*session.id, "name": &*session.id}})))
}

async fn on_whatsapp(State(world): State<Arc<World>>, headers: HeaderMap) -> Answered {
    session(&world, &headers)?;
    Ok(answer(200, json!({"success": true, "data": {"exists": true}})))
}

fn shown(session: &Session) -> Value {
    json!({"id": &*session.id, "name": &*session.id, "status": session.status().to_uppercase(),
        "webhook_url": session.webhook_url, "webhook_enabled": session.webhook_url.is_some(),
        "api_key": session.api_key, "webhook_secret": session.webhook_secret})
}

async fn list(State(world): State<Arc<World>>, headers: HeaderMap) -> Answered {
    account(&world, &headers)?;
    let all: Vec<Value> = world.all_sessions().iter().map(|session| shown(session)).collect();
    Ok(answer(200, json!({"success": true, "data": all})))
}

async fn create(State(world): State<Arc<World>>, headers: HeaderMap, Json(body): Json<Value>) -> Answered {
    account(&world, &headers)?;
    let Some(name) = body.get("name").and_then(Value::as_str) else {
        return Ok(invalid(&[("name", "The name field is required.")]));
    };
    let id = world.next_msg_id();
    let protected = body.get("account_protection").and_then(Value::as_bool).unwrap_or(true);
    let session = world.add_session(SessionSettings {
        api_key: format!("key-{name}-{id}"),
        session_id: id.to_string(),
        webhook_url: body.get("webhook_url").and_then(Value::as_str).map(str::to_owned),
        webhook_secret: world.whatsapp_id(id),
        plan: protected.then_some(super::settings::Plan::Protected),
        status: Some("disconnected".to_owned()),
        ..SessionSettings::default()
    });
    Ok(answer(200, json!({"success": true, "data": shown(&session)})))
}

async fn one(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let session = managed(&world, &headers, &id)?;
    Ok(answer(200, json!({"success": true, "data": shown(&session)})))
}

fn qr(session: &Session) -> String {
    format!("2@{}-simulated", session.id)
}

async fn connect(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let session = managed(&world, &headers, &id)?;
    if session.is_connected() {
        let message = "Session already initialized or connecting...";
        return Ok(answer(
            200,
            json!({"success": true, "data": {"status": "CONNECTED", "message": message}}),
        ));
    }
    World::set_status(&world, &id, "need_scan");
    let code = qr(&session);
    hooks::event(&world, &session, "qrcode.updated", json!({"qr": code}));
    let later = Arc::clone(&world);
    tokio::spawn(async move {
        // Somebody scans it.
        pause(&later, SCAN_MS).await;
        World::set_status(&later, &id, "connected");
    });
    Ok(answer(200, json!({"success": true, "data": {"status": "NEED_SCAN", "qrCode": code}})))
}

async fn disconnect(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    managed(&world, &headers, &id)?;
    World::set_status(&world, &id, "disconnected");
    Ok(answer(200, json!({"success": true, "data": {"status": "DISCONNECTED"}})))
}

async fn restart(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    if managed(&world, &headers, &id)?.is_connected() {
        return Ok(answer(200, json!({"success": true, "message": "Session restarted successfully."})));
    }
    Err(Refusal(
        400,
        json!({"success": false, "error": "WhatsApp session is not connected. Cannot restart."}),
    ))
}

async fn qr_code(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let session = managed(&world, &headers, &id)?;
    Ok(answer(200, json!({"success": true, "data": {"qrCode": qr(&session)}})))
}

async fn logs(State(world): State<Arc<World>>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let session = managed(&world, &headers, &id)?;
    let entries: Vec<Value> = world
        .newest(&session, PAGE)
        .into_iter()
        .map(|sent| {
            json!({"id": sent.msg_id.to_string(), "whatsapp_session_id": &*session.id, "to": sent.to,
                "content": sent.message.to_string(), "status": if sent.status >= 2 { "sent" } else { "in_progress" },
                "failed_reason": null, "created_at": sent.at_ms})
        })
        .collect();
    Ok(answer(200, json!({"success": true, "data": {"current_page": 1, "per_page": PAGE, "data": entries}})))
}
