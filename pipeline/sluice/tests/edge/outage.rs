//! Kafka goes away and comes back: 503 with `Retry-After`, not ready, still live, and then as before.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_kafka::settings::Settings as KafkaSettings;
use sluice_kafka::topics::Topics;
use sluice_schemas::topics::Topic;
use sluice_testkit::{OwnKafka, eventually};

use crate::world::{World, settings};

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_it_is_live_and_not_ready_and_asks_callers_to_come_again() {
    let mut settings = settings();
    // A port that nothing listens on: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    settings.kafka = KafkaSettings::single(&free.to_string());
    let world = World::open(settings).await;
    let answer = world.send("s1", "k", json!({"to": "+15551234567", "text": "hi"})).await;
    answer.problem(503, "starting");
    assert!(!answer.header("retry-after").is_empty());
    let hook = world.http.post(format!("{}/webhooks/wasender/s1", world.webhooks)).body("{}");
    world.call(hook).await.problem(503, "starting");
    world.readyz(503).await;
    assert_eq!(world.call(world.http.get(format!("{}/livez", world.admin))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_stopped_and_started_under_the_edge() {
    let kafka = OwnKafka::start().await;
    let mut settings = settings();
    settings.kafka = KafkaSettings::single(kafka.bootstrap());
    settings.deployment.check_durability = true;
    settings.edge.ack_timeout_ms = 2_000;
    settings.edge.request_timeout_ms = 4_000;
    let topics = Topics::open(&settings.kafka).unwrap();
    eventually(Duration::from_secs(60), "topics applied", || async { topics.apply().await }).await;
    let limit = Duration::from_millis(settings.edge.request_timeout_ms + 2_000);
    let world = World::open(settings).await;
    world.readyz(200).await;
    world.seed().await;
    let message = json!({"to": "+15551234567", "text": "hi"});
    assert_eq!(world.send("s1", "before", message.clone()).await.status, 202);

    kafka.stop().await;
    let since = Instant::now();
    let answer = world.send("s1", "during", message.clone()).await;
    assert!(since.elapsed() < limit, "answered within the request's time limit");
    answer.problem(503, "unavailable");
    assert!(!answer.header("retry-after").is_empty());
    let hook = || {
        let request = world.http.post(format!("{}/webhooks/wasender/s1", world.webhooks)).body("{}");
        request.header("X-Webhook-Signature", "hook-of-s1")
    };
    let refused = world.call(hook()).await;
    refused.problem(503, "unavailable");
    world.readyz(503).await;
    assert_eq!(world.call(world.http.get(format!("{}/livez", world.admin))).await.status, 200);

    kafka.start_again().await;
    world.readyz(200).await;
    let again = || async {
        let answer = world.send("s1", "during", message.clone()).await;
        (answer.status == 202).then_some(()).ok_or(answer.status)
    };
    eventually(Duration::from_secs(60), "the same send is accepted", again).await;
    assert_eq!(world.call(hook()).await.status, 200);

    // Nothing that was accepted is lost, and what was not known to be written may stand there too, never
    // else.
    let records = world.records(Topic::OutboundRequests, 2).await;
    let codec = world.deps.codecs.codec::<sluice_schemas::OutboundCommand>(Topic::OutboundRequests);
    let mut keys: Vec<_> =
        records.iter().map(|record| codec.decode(record).unwrap().idempotency_key).collect();
    keys.dedup();
    assert_eq!(keys, ["before", "during"]);
}
