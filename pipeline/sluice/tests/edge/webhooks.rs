//! The webhook listener.

use serde_json::json;
use sluice_schemas::topics::Topic;
use sluice_schemas::{InboundWebhook, Provider, Signature, headers};

use crate::world::{Answer, OPS, World, codec};

async fn hook(world: &World, path: &str, secret: Option<&str>, body: &[u8]) -> Answer {
    let request = world.http.post(format!("{}{path}", world.webhooks)).body(body.to_vec());
    world
        .call(secret.iter().fold(request, |request, secret| request.header("X-Webhook-Signature", *secret)))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_200_means_that_the_webhook_stands_in_the_log_without_its_secrets() {
    let world = World::start().await;
    world.seed().await;
    let body = json!({"event": "messages.received", "sessionId": "key-of-s1", "data": {"a": 1}}).to_string();
    let path = "/webhooks/wasender/s1?token=abc&via=lb";
    let request = world.http.post(format!("{}{path}", world.webhooks)).body(body);
    let request =
        request.header("X-Webhook-Signature", "hook-of-s1").header("Content-Type", "application/json");
    assert_eq!(world.call(request.header("Cookie", "c=1")).await.status, 200);

    let record = world.records(Topic::WebhooksInbound, 1).await.remove(0);
    assert_eq!(record.key_str(), Some("s1"));
    assert_eq!(record.header_str(headers::SESSION_ID), Some("s1"));
    assert_eq!(record.header_str(headers::TENANT_ID), Some("acme"));
    assert!(record.header_str(headers::TRACEPARENT).is_some());
    let webhook: InboundWebhook = codec(&world, Topic::WebhooksInbound).decode(&record).unwrap();
    assert_eq!((webhook.provider, webhook.signature), (Provider::Wasender, Signature::SharedSecret));
    assert_eq!((webhook.session_id.as_deref(), webhook.account_id.as_deref()), (Some("s1"), Some("wa")));
    assert_eq!(webhook.query.as_deref(), Some("via=lb"));
    assert_eq!(webhook.headers.keys().collect::<Vec<_>>(), ["content-type"]);
    assert!(!webhook.spooled && webhook.received_at > 0 && !webhook.webhook_id.is_empty());
    let whole = format!("{webhook:?}{}", String::from_utf8_lossy(&webhook.body));
    assert!(!whole.contains("key-of-s1") && !whole.contains("hook-of-s1"), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_or_wrongly_signed_webhook_is_refused() {
    let world = World::start().await;
    world.seed().await;
    hook(&world, "/webhooks/wasender/s1", None, b"{}").await.problem(401, "webhook-refused");
    hook(&world, "/webhooks/wasender/s1", Some("hook-of-s2"), b"{}").await.problem(401, "webhook-refused");
    hook(&world, "/webhooks/wasender/s1", Some(""), b"{}").await.problem(401, "webhook-refused");
    hook(&world, "/webhooks/wasender/s1/wrong", None, b"{}").await.problem(401, "webhook-refused");
    hook(&world, "/webhooks/pigeon/s1", Some("hook-of-s1"), b"{}").await.problem(404, "unknown-provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_may_be_in_the_path_and_is_not_kept() {
    let world = World::start().await;
    world.seed().await;
    assert_eq!(
        hook(&world, "/webhooks/wasender/s1/hook-of-s1/messages-upsert", None, b"{}").await.status,
        200
    );
    let record = world.records(Topic::WebhooksInbound, 1).await.remove(0);
    let webhook: InboundWebhook = codec(&world, Topic::WebhooksInbound).decode(&record).unwrap();
    assert_eq!(webhook.path_suffix.as_deref(), Some("messages-upsert"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_before_the_present_one_is_good_during_rotation() {
    let world = World::start().await;
    world.seed().await;
    let body = json!({"account_id": "wa", "secrets": {"webhook_secret": "new", "webhook_secret_previous": "hook-of-s1"}});
    assert_eq!(world.put(OPS, "/v1/sessions/s1", body).await.status, 200);
    for secret in ["new", "hook-of-s1"] {
        assert_eq!(hook(&world, "/webhooks/wasender/s1", Some(secret), b"{}").await.status, 200, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_is_taken_and_left_to_the_processor() {
    let world = World::start().await;
    world.seed().await;
    assert_eq!(hook(&world, "/webhooks/wasender/s1", Some("hook-of-s1"), b"{\"event\": ").await.status, 200);
    let record = world.records(Topic::WebhooksInbound, 1).await.remove(0);
    let webhook: InboundWebhook = codec(&world, Topic::WebhooksInbound).decode(&record).unwrap();
    assert_eq!(webhook.body, b"{\"event\": ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_over_the_limit_is_refused() {
    let world = World::start_with(|settings| settings.edge.webhook_bytes_max = 1_000).await;
    world.seed().await;
    let refused = hook(&world, "/webhooks/wasender/s1", Some("hook-of-s1"), &[b'x'; 1_001]).await;
    refused.problem(413, "too-large");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_session_is_503_in_the_first_minutes_and_404_after() {
    let world = World::start().await;
    let early = hook(&world, "/webhooks/wasender/nowhere", Some("x"), b"{}").await;
    early.problem(503, "starting");
    assert!(!early.header("retry-after").is_empty());
    let world = World::start_with(|settings| settings.edge.unknown_session_grace_ms = 0).await;
    hook(&world, "/webhooks/wasender/nowhere", Some("x"), b"{}").await.problem(404, "unknown-session");
}
