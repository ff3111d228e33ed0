//! The reads as a process, on a real store.

use serde_json::Value;
use sluice_kafka::clock::wall_ms;
use sluice_schemas::{MessageStatus, Status};
use sluice_scylla::MessageStore;
use uuid::Uuid;

use super::world::{OPS, TENANT, World};

async fn get(world: &World, path: &str) -> (u16, Value, Option<String>) {
    let url = format!("http://{}{path}", world.ports.query);
    let response = world.http.get(url).bearer_auth(OPS).send().await.expect("an answer");
    let status = response.status().as_u16();
    let retry =
        response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    (status, response.json().await.expect("JSON"), retry)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_session_are_paged_and_a_fresh_one_is_not_yet_visible() {
    let world = World::builder("query").with_store().start().await;
    let settings = world.store.as_ref().expect("a store");
    let store = MessageStore::connect(settings).await.expect("the store answers");
    let now = wall_ms();
    let mut expected = Vec::new();
    for n in 0..30_u128 {
        let id = Uuid::from_u128(n + 1).to_string();
        let fact = MessageStatus {
            event_id: format!("e{n}"),
            message_id: Some(id.clone()),
            session_id: "s0".to_owned(),
            tenant_id: Some(TENANT.to_owned()),
            status: Status::Accepted,
            occurred_at: now - 1_000 + n as i64,
            observed_at: now,
            ..MessageStatus::default()
        };
        store.record(&fact, now).await.expect("kept");
        expected.insert(0, id);
    }
    let mut query = world.run("query");
    query.ready().await;

    let mut seen = Vec::new();
    let mut path = "/v1/messages?session_id=s0&limit=7".to_owned();
    loop {
        let (status, body, _) = get(&world, &path).await;
        assert_eq!(status, 200, "{body}");
        let items = body["items"].as_array().expect("items");
        seen.extend(items.iter().map(|item| item["message_id"].as_str().expect("an id").to_owned()));
        let Some(cursor) = body["next_cursor"].as_str() else { break };
        path = format!("/v1/messages?session_id=s0&limit=7&cursor={cursor}");
    }
    assert_eq!(seen, expected);

    let (status, body, _) = get(&world, &format!("/v1/messages/{}", expected[0])).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("ACCEPTED")));
    let (status, body, retry) = get(&world, &format!("/v1/messages/{}", Uuid::from_u128(99))).await;
    assert_eq!((status, body["type"].as_str()), (404, Some("urn:sluice:problem:not-yet-visible")));
    assert_eq!(retry.as_deref(), Some("1"));
}
