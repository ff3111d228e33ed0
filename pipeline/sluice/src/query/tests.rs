//! The reads over the in-memory store.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::Value;
use sluice_schemas::{LinkKind, MessageStatus, ReceivedMessage, Session, SessionStatus, Status};
use sluice_scylla::{MemorySettings, MessageStore};
use tower::ServiceExt as _;

use super::*;
use crate::api::auth::token_sha256;
use crate::sealing::Sealer;
use crate::settings::{Auth, Credentials, Scope, Token};

struct World {
    store: MessageStore,
    links: Links,
    routes: Router,
}

fn token(name: &str, tenant: &str, scopes: &[Scope]) -> Token {
    Token { name: name.into(), sha256: token_sha256(name), tenant_id: tenant.into(), scopes: scopes.to_vec() }
}

/// Tenants `acme` (session `a1`) and `other` (session `b1`), each with a token of its name.
fn world(visible_within: Duration) -> World {
    let store = MessageStore::memory(&MemorySettings::default()).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let credentials = Credentials { active_key: String::new(), keys: Default::default() };
    let directory = Directory::new(Arc::new(Sealer::new(&credentials).unwrap()), metrics.clone());
    for (session, tenant) in [("a1", "acme"), ("b1", "other")] {
        let record = Session { session_id: session.into(), tenant_id: tenant.into(), ..Default::default() };
        directory.apply_session(session, Some(record));
    }
    directory.set_loaded();
    let tokens = vec![
        token("acme", "acme", &[]),
        token("other", "other", &[]),
        token("ops", "*", &[]),
        token("sender", "acme", &[Scope::Send]),
    ];
    let links = Links::default();
    let deps = Deps {
        stores: Stores::of(store.clone()),
        directory,
        tokens: Arc::new(Tokens::new(&Auth { tokens })),
        links: links.clone(),
        metrics,
        visible_within,
    };
    World { store, links, routes: router(deps) }
}

impl World {
    async fn get(&self, token: &str, path: &str) -> (StatusCode, Value, HeaderMap) {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        let response = self.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap(), headers)
    }

    async fn problem(&self, token: &str, path: &str) -> (u16, String) {
        let (status, body, headers) = self.get(token, path).await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}: {body}");
        let name = body["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        (status.as_u16(), name)
    }

    async fn accept(&self, session: &str, tenant: &str, n: u128) -> String {
        let id = uuid::Uuid::from_u128(n).to_string();
        let now = chrono::Utc::now().timestamp_millis();
        let fact = MessageStatus {
            event_id: format!("e{n}"),
            message_id: Some(id.clone()),
            session_id: session.into(),
            tenant_id: Some(tenant.into()),
            status: Status::Accepted,
            occurred_at: now - 10_000 + n as i64,
            observed_at: now,
            ..Default::default()
        };
        self.store.record(&fact, now).await.unwrap();
        id
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_message_that_may_still_come_is_not_yet_visible_and_later_unknown() {
    let id = uuid::Uuid::from_u128(7);
    let path = format!("/v1/messages/{id}");
    let fresh = world(HOUR);
    let (status, body, headers) = fresh.get("acme", &path).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["type"], "urn:sluice:problem:not-yet-visible");
    assert_eq!(headers[header::RETRY_AFTER], "1");
    let over = world(Duration::ZERO);
    over.get("acme", &path).await;
    assert_eq!(over.problem("acme", &path).await, (404, "unknown-message".to_owned()));
    let malformed = fresh.problem("acme", "/v1/messages/nonsense").await;
    assert_eq!(malformed, (404, "unknown-message".to_owned()), "what is no id never comes");
}

#[tokio::test]
async fn a_message_is_read_by_its_tenant_and_by_operators_only() {
    let world = world(HOUR);
    let id = world.accept("a1", "acme", 1).await;
    let path = format!("/v1/messages/{id}");
    for caller in ["acme", "ops"] {
        let (status, body, _) = world.get(caller, &path).await;
        assert_eq!((status, &body["status"]), (StatusCode::OK, &Value::from("ACCEPTED")), "{caller}");
        assert!(body["times"]["accepted"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(world.problem("other", &path).await, (404, "unknown-message".to_owned()));
    assert_eq!(world.problem("nobody", &path).await, (401, "unauthorized".to_owned()));
    assert_eq!(world.problem("sender", &path).await, (403, "forbidden".to_owned()));
    for list in ["messages", "received"] {
        let path = format!("/v1/{list}?session_id=a1");
        assert_eq!(world.problem("other", &path).await, (404, "unknown-session".to_owned()));
    }
    for path in ["/v1/session-status/a1", "/v1/session-status/a1/qr"] {
        assert_eq!(world.problem("other", path).await, (404, "unknown-session".to_owned()));
    }
    let foreign = world.problem("other", "/v1/session-status?tenant_id=acme").await;
    assert_eq!(foreign, (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn paging_shows_every_message_once_the_newest_first() {
    let world = world(HOUR);
    let mut expected = Vec::new();
    for n in 1..=25 {
        expected.push(world.accept("a1", "acme", n).await);
        world.accept("b1", "other", 1_000 + n).await;
    }
    expected.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/messages?session_id=a1&limit=10".to_owned();
    loop {
        let (status, body, _) = world.get("acme", &path).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        seen.extend(
            body["items"].as_array().unwrap().iter().map(|m| m["message_id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = body["next_cursor"].as_str() else { break };
        let foreign = format!("/v1/received?session_id=a1&cursor={cursor}");
        assert_eq!(world.problem("acme", &foreign).await, (400, "invalid-request".to_owned()));
        path = format!("/v1/messages?session_id=a1&limit=10&cursor={cursor}");
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_query_that_makes_no_sense_is_named() {
    let world = world(HOUR);
    for (query, pointer) in [
        ("messages?session_id=a1&limit=0", "query:limit"),
        ("messages?session_id=a1&limit=201", "query:limit"),
        ("messages?session_id=a1&cursor=%21", "query:cursor"),
        ("messages?session_id=a1&chat=x", "query:chat"),
        ("messages", "query:"),
        ("messages?session_id=a1&nonsense=1", "query:"),
    ] {
        let (status, body, _) = world.get("acme", &format!("/v1/{query}")).await;
        assert_eq!(
            (status.as_u16(), &body["errors"][0]["pointer"]),
            (400, &Value::from(pointer)),
            "{query}: {body}"
        );
    }
    let (status, body, _) = world.get("ops", "/v1/session-status").await;
    assert_eq!((status.as_u16(), &body["errors"][0]["pointer"]), (400, &Value::from("query:tenant_id")));
}

#[tokio::test]
async fn received_messages_of_one_chat_and_the_condition_of_a_session_are_read() {
    let world = world(HOUR);
    let now = chrono::Utc::now().timestamp_millis();
    for (event, chat, text) in [("r1", "c1", "one"), ("r2", "c2", "two")] {
        let message = ReceivedMessage {
            event_id: event.into(),
            session_id: "a1".into(),
            chat_id: chat.into(),
            text: Some(text.into()),
            received_at: now,
            ..Default::default()
        };
        world.store.record_received(&message, now).await.unwrap();
    }
    let (_, body, _) = world.get("acme", "/v1/received?session_id=a1&chat=c2").await;
    assert_eq!(body["items"].as_array().unwrap().len(), 1);
    assert_eq!(body["items"][0]["text"], "two");

    let status = SessionStatus {
        session_id: "a1".into(),
        tenant_id: Some("acme".into()),
        facet: sluice_schemas::Facet::Connection,
        connection: sluice_schemas::Connection::NeedScan,
        occurred_at: now,
        updated_at: now,
        ..Default::default()
    };
    world.store.record_session(&status, now).await.unwrap();
    let (_, body, _) = world.get("acme", "/v1/session-status/a1").await;
    assert_eq!(body["connection"], "NEED_SCAN");
    let (_, body, _) = world.get("acme", "/v1/session-status").await;
    assert_eq!(body["items"][0]["session_id"], "a1");
    let (_, body, _) = world.get("other", "/v1/session-status").await;
    assert_eq!(body["items"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_link_code_is_shown_while_it_works() {
    let world = world(HOUR);
    let path = "/v1/session-status/a1/qr";
    assert_eq!(world.problem("acme", path).await, (404, "not-yet-visible".to_owned()));
    let now = chrono::Utc::now().timestamp_millis();
    let link = |code: &str, expires_at| SessionLink {
        session_id: "a1".into(),
        kind: LinkKind::Qr,
        code: code.into(),
        created_at: now,
        expires_at: Some(expires_at),
    };
    world.links.apply(link("2@works", now + 60_000));
    let (status, body, _) = world.get("acme", path).await;
    assert_eq!(
        (status, &body["code"], &body["kind"]),
        (StatusCode::OK, &Value::from("2@works"), &Value::from("QR"))
    );
    world.links.apply(link("2@over", now - 1));
    assert_eq!(world.problem("acme", path).await, (404, "not-yet-visible".to_owned()));
}
