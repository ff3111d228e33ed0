//! A read-only schema registry for programs on this machine: the part of the Confluent API with which a
//! producer or consumer finds the schemas of this build. Registering a schema that is there already gives its
//! id; nothing else can be registered.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use sluice_kafka::registry::fixed_entries;
use sluice_schemas::topics::Names;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Ending;

/// Media type of the answers.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Every subject has one version.
const VERSION: u32 = 1;

/// One subject.
#[derive(Debug, Clone)]
struct Entry {
    id: u32,
    subject: String,
    schema: &'static str,
}

type Entries = Arc<Vec<Entry>>;

/// Serves the schemas of this build until `shutdown`.
///
/// # Errors
/// If the listener fails.
pub(super) async fn serve(listener: TcpListener, names: Arc<Names>, shutdown: CancellationToken) -> Ending {
    axum::serve(listener, router(&names)).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    Ok(())
}

fn router(names: &Names) -> Router {
    let entries: Entries =
        Arc::new(fixed_entries(names).map(|(id, subject, schema)| Entry { id, subject, schema }).collect());
    Router::new()
        .route("/", get(|| async { answer(json!({})) }))
        .route("/schemas/types", get(|| async { answer(json!(["AVRO"])) }))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/versions", get(versions_of_id))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(look_up))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version))
        .route("/config", get(|| async { answer(json!({"compatibilityLevel": "FULL_TRANSITIVE"})) }))
        .route(
            "/config/{subject}",
            get(|| async { answer(json!({"compatibilityLevel": "FULL_TRANSITIVE"})) }),
        )
        .route("/mode", get(|| async { answer(json!({"mode": "READONLY"})) }))
        .fallback(|| async { error(StatusCode::NOT_FOUND, 404, "HTTP 404 Not Found") })
        .with_state(entries)
}

fn answer(body: Value) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], body.to_string()).into_response()
}

/// Error codes are Confluent's: clients act on them.
fn error(status: StatusCode, code: u32, message: &str) -> Response {
    let body = json!({"error_code": code, "message": message}).to_string();
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
}

fn no_subject() -> Response {
    error(StatusCode::NOT_FOUND, 40401, "Subject not found.")
}

fn no_schema() -> Response {
    error(StatusCode::NOT_FOUND, 40403, "Schema not found")
}

async fn subjects(State(entries): State<Entries>) -> Response {
    answer(entries.iter().map(|entry| entry.subject.as_str()).collect())
}

async fn by_id(State(entries): State<Entries>, Path(id): Path<u32>) -> Response {
    let found = entries.iter().find(|entry| entry.id == id);
    found.map_or_else(no_schema, |entry| answer(json!({"schema": entry.schema})))
}

async fn versions_of_id(State(entries): State<Entries>, Path(id): Path<u32>) -> Response {
    match entries.iter().find(|entry| entry.id == id) {
        Some(entry) => answer(json!([{"subject": entry.subject, "version": VERSION}])),
        None => no_schema(),
    }
}

async fn versions(State(entries): State<Entries>, Path(subject): Path<String>) -> Response {
    let known = entries.iter().any(|entry| entry.subject == subject);
    if known { answer(json!([VERSION])) } else { no_subject() }
}

async fn version(
    State(entries): State<Entries>,
    Path((subject, version)): Path<(String, String)>,
) -> Response {
    let Some(entry) = entries.iter().find(|entry| entry.subject == subject) else { return no_subject() };
    if version != "latest" && version != VERSION.to_string() {
        return error(StatusCode::NOT_FOUND, 40402, "Version not found.");
    }
    answer(json!({"subject": subject, "version": VERSION, "id": entry.id, "schema": entry.schema}))
}

async fn look_up(
    State(entries): State<Entries>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let Some(entry) = entries.iter().find(|entry| entry.subject == subject) else { return no_subject() };
    if !is_same(entry, &body) {
        return no_schema();
    }
    answer(json!({"subject": subject, "version": VERSION, "id": entry.id, "schema": entry.schema}))
}

async fn register(
    State(entries): State<Entries>,
    Path(subject): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    match entries.iter().find(|entry| entry.subject == subject) {
        Some(entry) if is_same(entry, &body) => answer(json!({"id": entry.id})),
        _ => error(
            StatusCode::UNPROCESSABLE_ENTITY,
            42205,
            "this registry is read-only and has the schemas of this build of sluice; use a registry of your \
             own with --registry URL",
        ),
    }
}

/// Whether the body's schema is the entry's, documentation aside.
fn is_same(entry: &Entry, body: &Value) -> bool {
    let given = body.get("schema").and_then(Value::as_str).and_then(bare);
    given.is_some() && given == bare(entry.schema)
}

fn bare(schema: &str) -> Option<Value> {
    let mut value: Value = serde_json::from_str(schema).ok()?;
    strip_docs(&mut value);
    Some(value)
}

fn strip_docs(value: &mut Value) {
    match value {
        Value::Object(object) => {
            // A field may well be named doc; the documentation is a text.
            if object.get("doc").is_some_and(Value::is_string) {
                object.remove("doc");
            }
            object.values_mut().for_each(strip_docs);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_docs),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn call(method: &str, path: &str, body: Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(Body::from(body.to_string())).unwrap();
        let response = router(&Names::default()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_producer_finds_the_schema_of_its_topic_by_subject_and_by_id() {
        let (status, latest) =
            call("GET", "/subjects/wa.outbound.requests-value/versions/latest", Value::Null).await;
        assert_eq!(status, 200);
        let (status, by_id) = call("GET", &format!("/schemas/ids/{}", latest["id"]), Value::Null).await;
        assert_eq!((status, &by_id["schema"]), (200, &latest["schema"]));
        assert!(latest["schema"].as_str().unwrap().contains("OutboundCommand"));
    }

    #[tokio::test]
    async fn a_client_that_registers_what_is_there_gets_its_id_and_nothing_else_is_taken() {
        let path = "/subjects/wa.outbound.requests-value/versions";
        let (_, latest) = call("GET", &format!("{path}/latest"), Value::Null).await;
        let (status, registered) = call("POST", path, json!({"schema": latest["schema"]})).await;
        assert_eq!((status, &registered["id"]), (200, &latest["id"]));
        let (status, refused) = call("POST", path, json!({"schema": "\"string\""})).await;
        assert_eq!((status, &refused["error_code"]), (422, &json!(42205)));
        let (status, unknown) =
            call("POST", "/subjects/wa.outbound.requests-value", json!({"schema": "\"string\""})).await;
        assert_eq!((status, &unknown["error_code"]), (404, &json!(40403)));
    }
}
