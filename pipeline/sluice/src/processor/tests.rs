//! The whole role on a Kafka inside the process.

use sluice_schemas::topics::Topic;
use sluice_schemas::{
    Connection, DeadLetter, DeadLetterReason, Facet, InboundWebhook, MessageStatus, Provider,
    ReceivedMessage, Session, SessionStatus, Source, Status,
};
use tokio::task::JoinHandle;

use super::*;
use crate::consume::testing::World;
use crate::sealing::Sealer;
use crate::settings::{Credentials, Settings as All};

const SESSION: &str = "s1";

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn start(world: &World, dead_window_records: usize) -> Running {
    let shutdown = CancellationToken::new();
    let metrics = Arc::new(Metrics::new().unwrap());
    let credentials = Credentials { active_key: String::new(), keys: Default::default() };
    let directory = Directory::new(Arc::new(Sealer::new(&credentials).unwrap()), metrics.clone());
    let session = Session {
        session_id: SESSION.into(),
        tenant_id: "acme".into(),
        account_id: "a".into(),
        provider: Provider::Wasender,
        ..Default::default()
    };
    directory.apply_session(SESSION, Some(session));
    directory.set_loaded();
    let deps = Deps {
        kafka: world.kafka().clone(),
        partitions: world.kafka().partitions,
        codecs: world.codecs.clone(),
        connectors: sluice_whatsapp::registry(),
        directory,
        metrics,
        readiness: Readiness::new(shutdown.clone()),
    };
    let settings = Settings { dead_ratio_max: 0.5, dead_window_records, ..All::default().processor };
    let token = shutdown.clone();
    Running { shutdown, task: tokio::spawn(async move { run(&settings, deps, token).await }) }
}

fn webhook(id: &str, body: &str) -> InboundWebhook {
    InboundWebhook {
        webhook_id: id.into(),
        provider: Provider::Wasender,
        session_id: Some(SESSION.into()),
        body: body.into(),
        received_at: 1_790_000_000_000,
        ..Default::default()
    }
}

fn receipt(id: &str, whatsapp_id: &str, status: u8) -> InboundWebhook {
    let body = serde_json::json!({
        "event": "messages.update", "timestamp": 1_789_999_999_000_i64,
        "data": {"key": {"id": whatsapp_id, "remoteJid": "15551234567@s.whatsapp.net", "fromMe": true},
                 "update": {"status": status}},
    });
    webhook(id, &body.to_string())
}

async fn put(world: &World, webhook: &InboundWebhook) {
    world.put_record(Topic::WebhooksInbound, SESSION, webhook).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_a_dead_letter_and_the_next_goes_through() {
    let world = World::start();
    let whole =
        world.codecs.codec::<InboundWebhook>(Topic::WebhooksInbound).encode(&receipt("w0", "3EB0", 3));
    let truncated = &whole[..whole.len() - 3];
    let unknown_schema = [&[0, 0, 0, 0xff, 0xff], &whole[5..]].concat();
    let wrong_magic = [&[7], &whole[1..]].concat();
    for value in [truncated, &unknown_schema, &wrong_magic] {
        world.put(Topic::WebhooksInbound, SESSION, value).await;
    }
    put(&world, &webhook("w1", "{\"event\": \"messages.upd")).await;
    put(&world, &receipt("w2", "3EB1", 4)).await;
    let running = start(&world, 1_000);

    let letters = world.read_until::<DeadLetter>(Topic::DeadLetters, |all| all.len() >= 4).await;
    let mut found: Vec<_> = letters
        .iter()
        .map(|(_, letter)| (letter.source_offset, letter.reason, letter.value.clone()))
        .collect();
    found.sort_by_key(|(offset, ..)| *offset);
    let broken = world.codecs.codec::<InboundWebhook>(Topic::WebhooksInbound);
    let broken = broken.encode(&webhook("w1", "{\"event\": \"messages.upd"));
    assert_eq!(
        found,
        [
            (0, DeadLetterReason::Undecodable, Some(truncated.to_vec())),
            (1, DeadLetterReason::UnknownSchema, Some(unknown_schema)),
            (2, DeadLetterReason::WrongMagic, Some(wrong_magic)),
            (3, DeadLetterReason::UnparseableWebhook, Some(broken)),
        ]
    );
    let statuses = world.read_until::<MessageStatus>(Topic::MessagesStatus, |all| !all.is_empty()).await;
    assert_eq!(statuses[0].1.status, Status::Read);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_a_webhook_tells_goes_to_its_topic_on_the_sessions_partition() {
    let world = World::start();
    put(&world, &receipt("w1", "3EB0", 3)).await;
    let received = r#"{"event":"messages.received","timestamp":1789999999,"data":{"messages":{
        "key":{"id":"3EBX","fromMe":false,"remoteJid":"15557654321@s.whatsapp.net"},
        "message":{"conversation":"Hello"},"pushName":"Ada","messageTimestamp":1789999999}}}"#;
    put(&world, &webhook("w2", received)).await;
    let connected = r#"{"event":"session.status","timestamp":1789999999,"data":{"status":"connected"}}"#;
    put(&world, &webhook("w3", connected)).await;
    let older = r#"{"event":"session.status","timestamp":1789999000,"data":{"status":"disconnected"}}"#;
    put(&world, &webhook("w4", older)).await;
    let later = r#"{"event":"session.status","timestamp":1790000000,"data":{"status":"logged_out"}}"#;
    put(&world, &webhook("w5", later)).await;
    let running = start(&world, 1_000);

    let home = sluice_schemas::placement::partition_for(SESSION.as_bytes(), world.kafka().partitions);
    let statuses = world.read_until::<MessageStatus>(Topic::MessagesStatus, |all| !all.is_empty()).await;
    let (record, status) = &statuses[0];
    assert_eq!((record.partition.number, record.key_str()), (home, Some(SESSION)));
    assert_eq!(record.header_str("sluice-source"), Some("WEBHOOK"));
    assert_eq!(record.header_str("sluice-event-type"), Some("DELIVERED"));
    assert_eq!((status.source, status.tenant_id.as_deref()), (Source::Webhook, Some("acme")));
    assert_eq!(
        (status.webhook_id.as_deref(), status.whatsapp_message_id.as_deref()),
        (Some("w1"), Some("3EB0"))
    );

    let received = world.read_until::<ReceivedMessage>(Topic::MessagesReceived, |all| !all.is_empty()).await;
    assert_eq!((received[0].1.text.as_deref(), received[0].0.partition.number), (Some("Hello"), home));

    let connections = world.read_until::<SessionStatus>(Topic::SessionsStatus, |all| all.len() >= 2).await;
    let told: Vec<_> = connections.iter().map(|(_, status)| (status.facet, status.connection)).collect();
    let expected = [(Facet::Connection, Connection::Connected), (Facet::Connection, Connection::LoggedOut)];
    assert_eq!(told, expected, "a late webhook undoes nothing");
    assert_eq!(connections[0].0.key_str(), Some("s1/connection"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_processor_goes_on_behind_what_was_acknowledged() {
    let world = World::start();
    for i in 0..50 {
        put(&world, &receipt(&format!("w{i}"), &format!("3EB{i}"), 3)).await;
    }
    let running = start(&world, 1_000);
    world.read_until::<MessageStatus>(Topic::MessagesStatus, |all| all.len() >= 50).await;
    running.stop().await;

    let running = start(&world, 1_000);
    put(&world, &receipt("last", "3EBlast", 4)).await;
    let is_last = |status: &MessageStatus| status.webhook_id.as_deref() == Some("last");
    let statuses = world
        .read_until::<MessageStatus>(Topic::MessagesStatus, |all| {
            all.iter().any(|(_, status)| is_last(status))
        })
        .await;
    assert_eq!(statuses.len(), 51, "nothing that was committed is read again, and nothing is lost");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_of_a_webhook_has_the_same_event_ids() {
    let world = World::start();
    put(&world, &receipt("w1", "3EB0", 3)).await;
    put(&world, &receipt("w2", "3EB0", 3)).await;
    let running = start(&world, 1_000);
    let statuses = world.read_until::<MessageStatus>(Topic::MessagesStatus, |all| all.len() >= 2).await;
    assert_eq!(statuses[0].1.event_id, statuses[1].1.event_id);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_too_many_of_whose_records_die_ends() {
    let world = World::start();
    for i in 0..20 {
        put(&world, &webhook(&format!("w{i}"), "not json")).await;
    }
    let running = start(&world, 10);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), running.task).await;
    let error = ended.expect("it ends").unwrap().unwrap_err().to_string();
    assert!(error.contains("6 of the last 10 records") && error.contains("dead-letters list"), "{error}");
}
