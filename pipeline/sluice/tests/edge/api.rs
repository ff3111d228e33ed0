//! Sends, batches, cancels.

use serde_json::json;
use sluice_schemas::placement::partition_for;
use sluice_schemas::topics::Topic;
use sluice_schemas::{Command, ContentType, InDoubtPolicy, Order, OutboundCommand, Priority, headers, ids};

use crate::world::{ACME, World, codec};

#[tokio::test(flavor = "multi_thread")]
async fn a_202_means_that_the_request_stands_in_the_log_under_its_session() {
    let world = World::start().await;
    world.seed().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = world
        .http
        .post(world.url("/v1/sessions/s1/messages"))
        .bearer_auth(ACME)
        .header("Idempotency-Key", "order-1")
        .header("traceparent", trace)
        .header("X-Request-Id", "req-7")
        .json(&json!({"to": "+15551234567", "text": "hi"}));
    let answer = world.call(request).await;

    let message_id = ids::message_id("s1", "order-1").to_string();
    let expected = json!({
        "message_id": message_id, "session_id": "s1", "idempotency_key": "order-1", "status": "accepted"
    });
    assert_eq!((answer.status, &answer.body), (202, &expected));
    assert_eq!(answer.header("location"), format!("/v1/messages/{message_id}"));
    assert_eq!(answer.header("x-request-id"), "req-7");

    let record = world.records(Topic::OutboundRequests, 1).await.remove(0);
    assert_eq!(record.key_str(), Some("s1"));
    assert_eq!(record.partition.number, partition_for(b"s1", 8));
    for (name, value) in [
        (headers::TENANT_ID, "acme"),
        (headers::SESSION_ID, "s1"),
        (headers::MESSAGE_ID, &message_id[..]),
        (headers::EVENT_TYPE, "SEND"),
        (headers::TRACEPARENT, trace),
    ] {
        assert_eq!(record.header_str(name), Some(value), "{name}");
    }
    let command: OutboundCommand = codec(&world, Topic::OutboundRequests).decode(&record).unwrap();
    let expected = OutboundCommand {
        command: Command::Send,
        session_id: "s1".into(),
        tenant_id: Some("acme".into()),
        idempotency_key: "order-1".into(),
        to: Some("+15551234567".into()),
        content_type: ContentType::Text,
        text: Some("hi".into()),
        ..Default::default()
    };
    assert_eq!(command, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_and_kind_of_content_comes_through() {
    let world = World::start().await;
    world.seed().await;
    let media = json!({"url": "https://example.com/a", "caption": "c"});
    let contents = [
        (json!({"type": "text", "text": "t"}), ContentType::Text),
        (json!({"type": "image", "media": media}), ContentType::Image),
        (json!({"type": "video", "media": media}), ContentType::Video),
        (
            json!({"type": "audio", "media": {"url": "https://example.com/a", "voice": true}}),
            ContentType::Audio,
        ),
        (
            json!({"type": "document", "media": {"provider_media_id": "9", "filename": "f"}}),
            ContentType::Document,
        ),
        (json!({"type": "sticker", "media": media}), ContentType::Sticker),
        (
            json!({"type": "location", "location": {"latitude": 1.5, "longitude": -2.5}}),
            ContentType::Location,
        ),
        (json!({"type": "contacts", "contacts": [{"name": "n", "phone": "+1555"}]}), ContentType::Contacts),
        (json!({"type": "poll", "poll": {"question": "q", "options": ["a", "b"]}}), ContentType::Poll),
        (
            json!({"type": "template", "template": {"name": "n", "language": "en", "components": []}}),
            ContentType::Template,
        ),
        (json!({"type": "interactive", "interactive": {"type": "button"}}), ContentType::Interactive),
    ];
    for (i, (content, _)) in contents.iter().enumerate() {
        let body = json!({
            "to": "120363000000000000@g.us", "content": content, "send_at": "2030-01-01T00:00:00Z",
            "expires_at": "2030-01-02T00:00:00Z", "priority": "high", "order": "none", "reply_to": "r",
            "mentions": ["+15551234567"], "in_doubt_policy": "hold", "max_attempts": 2, "campaign_id": "c",
            "labels": {"a": "b"}, "provider_options": {"o": "p"}
        });
        let answer = world.send("s1", &format!("k{i}"), body).await;
        assert_eq!(answer.status, 202, "{content} {answer:?}");
    }
    let codec = codec::<OutboundCommand>(&world, Topic::OutboundRequests);
    let records = world.records(Topic::OutboundRequests, contents.len()).await;
    for (record, (content, content_type)) in records.iter().zip(&contents) {
        let command = codec.decode(record).unwrap();
        assert_eq!(command.content_type, *content_type, "{content}");
        assert_eq!(command.send_at, Some(1_893_456_000_000));
        assert_eq!(command.expires_at, Some(1_893_542_400_000));
        assert_eq!((command.priority, command.order), (Priority::High, Order::None));
        assert_eq!((command.in_doubt_policy, command.max_attempts), (InDoubtPolicy::Hold, Some(2)));
        assert_eq!((command.labels["a"].as_str(), command.provider_options["o"].as_str()), ("b", "p"));
        assert_eq!(
            (command.reply_to.as_deref(), &command.mentions[..]),
            (Some("r"), &["+15551234567".to_owned()][..])
        );
        assert!(command.text.is_some() || command.media.is_some() || *content_type > ContentType::Sticker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_batch_has_its_own_result_and_the_log_keeps_their_order() {
    let world = World::start().await;
    world.seed().await;
    let line = |key: &str, text: &str| {
        json!({"idempotency_key": key, "to": "+15551234567", "text": text}).to_string()
    };
    let lines = [
        line("a", "1"),
        String::new(),
        r#"{"to": "+15551234567", "text": "no key"}"#.to_owned(),
        line("b", "2"),
        "{broken".to_owned(),
        r#"{"idempotency_key": "c", "to": "+15551234567", "text": "x", "colour": 1}"#.to_owned(),
        line("d", "3"),
    ];
    let request = world.http.post(world.url("/v1/sessions/s1/messages/batch")).bearer_auth(ACME);
    let answer = world.call(request.body(lines.join("\n"))).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((&answer.body["accepted"], &answer.body["refused"]), (&json!(3), &json!(3)));
    let results = answer.body["results"].as_array().unwrap();
    let told: Vec<_> = results
        .iter()
        .map(|result| {
            let problem = result["problem"]["type"].as_str().map(|name| name.rsplit(':').next().unwrap());
            (
                result["line"].as_u64().unwrap(),
                problem.or(result["accepted"]["idempotency_key"].as_str()).unwrap(),
            )
        })
        .collect();
    let expected = [
        (1, "a"),
        (3, "invalid-idempotency-key"),
        (4, "b"),
        (5, "invalid-request"),
        (6, "invalid-request"),
        (7, "d"),
    ];
    assert_eq!(told, expected);
    assert_eq!(results[4]["problem"]["errors"][0]["pointer"], "/colour");

    let codec = codec::<OutboundCommand>(&world, Topic::OutboundRequests);
    let records = world.records(Topic::OutboundRequests, 3).await;
    let keys: Vec<_> = records.iter().map(|record| codec.decode(record).unwrap().idempotency_key).collect();
    assert_eq!(keys, ["a", "b", "d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_its_limits() {
    let world = World::start_with(|settings| {
        settings.edge.batch_lines_max = 2;
        settings.edge.batch_bytes_max = 1_000;
    })
    .await;
    world.seed().await;
    let post = |body: String| {
        let request = world.http.post(world.url("/v1/sessions/s1/messages/batch")).bearer_auth(ACME);
        world.call(request.body(body))
    };
    post("{}\n{}\n{}\n".to_owned()).await.problem(413, "too-large");
    post("x".repeat(1_001)).await.problem(413, "too-large");
    post("\n \n".to_owned()).await.problem(400, "invalid-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_names_its_message() {
    let world = World::start().await;
    world.seed().await;
    let message_id = ids::message_id("s1", "k").to_string();
    let answer = world.post(ACME, &format!("/v1/sessions/s1/messages/{message_id}/cancel"), json!({})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.body["status"], "cancel_requested");
    let record = world.records(Topic::OutboundRequests, 1).await.remove(0);
    let command: OutboundCommand = codec(&world, Topic::OutboundRequests).decode(&record).unwrap();
    assert_eq!(command.command, Command::Cancel);
    assert_eq!(command.target_message_id.as_deref(), Some(&message_id[..]));
    assert!(!command.idempotency_key.is_empty());
    assert_eq!(record.header_str(headers::MESSAGE_ID), Some(&message_id[..]));
    world
        .post(ACME, "/v1/sessions/s1/messages/nonsense/cancel", json!({}))
        .await
        .problem(404, "unknown-message");
}

#[tokio::test]
async fn the_checked_in_openapi_description_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let checked_in = std::fs::read_to_string(path).unwrap_or_default();
    let made = sluice::api::openapi::document().unwrap();
    assert!(
        checked_in.trim_end() == made,
        "run: cargo run -p sluice -- openapi > pipeline/sluice/openapi.json"
    );
    let document: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}
