//! Bad input of the edge: each has its named answer, and the edge goes on.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::world::{ACME, MANAGER, OTHER, READER, World};

fn with_key(request: RequestBuilder) -> RequestBuilder {
    request.bearer_auth(ACME).header("Idempotency-Key", "k")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_usable_key_is_refused() {
    let world = World::start().await;
    world.seed().await;
    let body = json!({"to": "+15551234567", "text": "hi"});
    let post = || world.http.post(world.url("/v1/sessions/s1/messages")).bearer_auth(ACME).json(&body);
    let missing = world.call(post()).await.problem(400, "invalid-idempotency-key");
    assert_eq!(missing, ("header:Idempotency-Key".into(), "missing".into()));
    let empty =
        world.call(post().header("Idempotency-Key", "")).await.problem(400, "invalid-idempotency-key");
    assert_eq!(empty.1, "missing");
    for bad in ["with space", "\u{7f}", &"x".repeat(256)] {
        let Ok(value) = reqwest::header::HeaderValue::from_bytes(bad.as_bytes()) else { continue };
        let answer = world.call(post().header("Idempotency-Key", value)).await;
        assert_eq!(answer.problem(400, "invalid-idempotency-key").1, "invalid", "{bad:?}");
    }
    assert_eq!(world.call(post().header("Idempotency-Key", "x".repeat(255))).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_body_is_refused_with_a_pointer_to_what_is_wrong() {
    let world = World::start().await;
    world.seed().await;
    let to = "+15551234567";
    let cases: &[(Value, &str, &str)] = &[
        (json!({"text": "hi"}), "/to", "missing"),
        (json!({"to": "12", "text": "hi"}), "/to", "invalid"),
        (json!({"to": "x@nowhere", "text": "hi"}), "/to", "invalid"),
        (json!({"to": 5, "text": "hi"}), "/to", "wrong_type"),
        (json!({"to": to}), "/text", "missing"),
        (json!({"to": to, "text": ""}), "/text", "missing"),
        (json!({"to": to, "text": "a", "content": {"type": "text", "text": "b"}}), "/text", "not_allowed"),
        (json!({"to": to, "text": "a", "colour": 1}), "/colour", "unknown_field"),
        (json!({"to": to, "content": {"media": {"url": "https://x/y"}}}), "/content/type", "missing"),
        (json!({"to": to, "content": {"type": "hologram"}}), "/content/type", "invalid"),
        (json!({"to": to, "content": {"type": "image"}}), "/content/media", "missing"),
        (json!({"to": to, "content": {"type": "image", "media": {}}}), "/content/media/url", "missing"),
        (
            json!({"to": to, "content": {"type": "image", "media": {"url": "ftp://x"}}}),
            "/content/media/url",
            "invalid",
        ),
        (
            json!({"to": to, "content": {"type": "image", "media": {"link": "x"}}}),
            "/content/media/link",
            "unknown_field",
        ),
        (
            json!({"to": to, "content": {"type": "text", "text": "a", "poll": {"question": "q", "options": []}}}),
            "/content/poll",
            "not_allowed",
        ),
        (
            json!({"to": to, "content": {"type": "poll", "poll": {"question": "q", "options": ["a"]}}}),
            "/content/poll/options",
            "invalid",
        ),
        (
            json!({"to": to, "content": {"type": "location", "location": {"latitude": 91, "longitude": 0}}}),
            "/content/location/latitude",
            "invalid",
        ),
        (
            json!({"to": to, "content": {"type": "contacts", "contacts": [{"phone": "+1"}]}}),
            "/content/contacts/0/name",
            "missing",
        ),
        (json!({"to": to, "text": "a", "send_at": "tomorrow"}), "/send_at", "invalid"),
        (
            json!({"to": to, "text": "a", "send_at": "2030-01-02T00:00:00Z", "expires_at": "2030-01-01T00:00:00Z"}),
            "/expires_at",
            "invalid",
        ),
        (json!({"to": to, "text": "a", "max_attempts": 0}), "/max_attempts", "invalid"),
        (json!({"to": to, "text": "a", "priority": "urgent"}), "/priority", "invalid"),
        (json!({"to": to, "text": "a", "labels": {"a": 1}}), "/labels/a", "wrong_type"),
        (json!({"to": to, "text": "a", "labels": {"a": "x".repeat(2_000)}}), "/labels", "too_long"),
    ];
    for (body, pointer, code) in cases {
        let answer = world.send("s1", "k", body.clone()).await;
        let told = answer.problem(400, "invalid-request");
        assert_eq!(told, ((*pointer).to_owned(), (*code).to_owned()), "{body}");
    }
    let post = || with_key(world.http.post(world.url("/v1/sessions/s1/messages")));
    for broken in ["", "{", "[]", "null", "{\"to\": \"\u{0}", "{\"to\":\"+15551234567\",\"text\":\"a\"} x"] {
        world.call(post().body(broken)).await.problem(400, "invalid-request");
    }
    world.call(post().body(vec![0xff, 0xfe, b'{'])).await.problem(400, "invalid-request");
    assert_eq!(
        world.send("s1", "k", json!({"to": to, "text": "good"})).await.status,
        202,
        "the edge goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let world = World::start().await;
    world.seed().await;
    let post = || with_key(world.http.post(world.url("/v1/sessions/s1/messages")));
    let large = json!({"to": "+15551234567", "text": "x".repeat(300_000)});
    world.call(post().json(&large)).await.problem(413, "too-large");
    // Within the body's limit, but not as a record.
    let just = json!({"to": "+15551234567", "text": "x".repeat(256 * 1024 - 100)});
    world.call(post().json(&just)).await.problem(413, "too-large");
    let headers = world.call(post().header("x-padding", "x".repeat(20_000)).json(&json!({}))).await;
    headers.problem(431, "headers-too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_gets_nothing_and_learns_nothing() {
    let world = World::start().await;
    world.seed().await;
    let body = json!({"to": "+15551234567", "text": "hi"});
    let post = |session: &str, token: Option<&str>| {
        let request = world.http.post(world.url(&format!("/v1/sessions/{session}/messages")));
        let request = request.header("Idempotency-Key", "k").json(&body);
        world.call(token.iter().fold(request, |request, token| request.bearer_auth(token)))
    };
    let none = post("s1", None).await;
    none.problem(401, "unauthorized");
    assert_eq!(none.header("www-authenticate"), "Bearer");
    post("s1", Some("wrong")).await.problem(401, "unauthorized");
    post("s1", Some(READER)).await.problem(403, "forbidden");
    post("nowhere", Some(ACME)).await.problem(404, "unknown-session");
    let foreign = post("o1", Some(ACME)).await;
    foreign.problem(404, "unknown-session");
    let unknown = post("nowhere", Some(ACME)).await;
    assert_eq!(foreign.body, unknown.body, "another tenant's session is as one that does not exist");
    assert_eq!(post("s1", Some(OTHER)).await.status, 404);
    assert_eq!(world.delete(MANAGER, "/v1/sessions/o1").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_or_method_that_does_not_exist_is_a_problem_too() {
    let world = World::start().await;
    world.call(world.http.get(world.url("/nowhere"))).await.problem(404, "not-found");
    world
        .call(world.http.get(world.url("/v1/sessions/s1/messages")))
        .await
        .problem(405, "method-not-allowed");
    world.post(ACME, "/v1/sessions/%ff/messages", json!({})).await.problem(404, "not-found");
}
