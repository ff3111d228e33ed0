//! The whole role on a Kafka inside the process and the in-memory store.

use std::collections::HashMap;
use std::time::Duration;

use sluice_schemas::topics::Topic;
use sluice_schemas::{
    DeadLetter, DeadLetterReason, MessageState, MessageStatus, ReceivedMessage, Source, Status,
};
use sluice_scylla::{MemorySettings, PageRequest};
use tokio::task::JoinHandle;

use super::*;
use crate::consume::testing::World;
use crate::settings::Settings as All;

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

fn store() -> MessageStore {
    MessageStore::memory(&MemorySettings::default()).unwrap()
}

fn start(world: &World, store: &MessageStore, batch_records_max: usize) -> Running {
    let shutdown = CancellationToken::new();
    let deps = Deps {
        kafka: world.kafka().clone(),
        codecs: world.codecs.clone(),
        store: store.clone(),
        metrics: Arc::new(Metrics::new().unwrap()),
        readiness: Readiness::new(shutdown.clone()),
    };
    let defaults = All::default().reducer;
    let settings = Settings {
        limits: Limits { batch_records_max, commit_interval_ms: 20, ..defaults.limits },
        reread_ms: 0,
        ..defaults
    };
    let token = shutdown.clone();
    Running { shutdown, task: tokio::spawn(async move { run(&settings, deps, token).await }) }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn fact(event: &str, message: Option<&str>, status: Status, at_ms: i64) -> MessageStatus {
    MessageStatus {
        event_id: event.into(),
        message_id: message.map(str::to_owned),
        session_id: SESSION.into(),
        tenant_id: Some("acme".into()),
        status,
        occurred_at: at_ms,
        observed_at: at_ms,
        source: if message.is_some() { Source::Sender } else { Source::Webhook },
        ..Default::default()
    }
}

/// The life of message `i`, in its natural order: the sender's facts name the message, receipts only its id in
/// WhatsApp.
fn life(i: usize, at_ms: i64) -> Vec<MessageStatus> {
    let message = format!("m{i}");
    let whatsapp = Some(format!("3EB{i}"));
    let of_sender =
        |status: Status, ms| fact(&format!("{i}/{}", status.as_str()), Some(&message), status, ms);
    let receipt = |status: Status, ms| MessageStatus {
        whatsapp_message_id: whatsapp.clone(),
        ..fact(&format!("{i}/{}", status.as_str()), None, status, ms)
    };
    vec![
        of_sender(Status::Accepted, at_ms),
        MessageStatus { whatsapp_message_id: whatsapp.clone(), ..of_sender(Status::Submitted, at_ms + 10) },
        receipt(Status::Sent, at_ms + 20),
        receipt(Status::Delivered, at_ms + 30),
        receipt(Status::Read, at_ms + 40),
    ]
}

async fn put(world: &World, fact: &MessageStatus) {
    world.put_record(Topic::MessagesStatus, SESSION, fact).await;
}

/// What a consumer that keeps the higher revision ends with.
fn kept(all: &[(sluice_kafka::record::Record, MessageState)]) -> HashMap<String, MessageState> {
    let mut kept: HashMap<String, MessageState> = HashMap::new();
    for (_, state) in all {
        match kept.get(&state.message_id) {
            Some(known) if known.revision > state.revision => {}
            _ => {
                kept.insert(state.message_id.clone(), state.clone());
            }
        }
    }
    kept
}

async fn until_read(world: &World, messages: usize) -> HashMap<String, MessageState> {
    let complete = |all: &[(sluice_kafka::record::Record, MessageState)]| {
        let kept = kept(all);
        kept.len() == messages
            && kept.values().all(|state| state.status == Status::Read && state.revision == 5)
    };
    kept(&world.read_until::<MessageState>(Topic::MessagesState, complete).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disordered_and_doubled_receipts_come_to_read_in_the_store_and_in_the_states() {
    const MESSAGES: usize = 20;
    let world = World::start();
    let store = store();
    let at_ms = now_ms() - 10_000;
    let mut facts: Vec<MessageStatus> = (0..MESSAGES).flat_map(|i| life(i, at_ms)).collect();
    facts.extend(facts.clone());
    // A fixed shuffle: 7 has no factor in common with 200, so every place is taken once.
    let shuffled: Vec<_> = (0..facts.len()).map(|i| facts[(i * 7 + 3) % facts.len()].clone()).collect();
    for fact in &shuffled {
        put(&world, fact).await;
    }
    let running = start(&world, &store, 16);
    let states = until_read(&world, MESSAGES).await;
    for i in 0..MESSAGES {
        let state = store.message(&format!("m{i}")).await.unwrap().expect("a row");
        assert_eq!(state, states[&format!("m{i}")], "the last state is what the store holds");
        assert_eq!((state.status, state.revision), (Status::Read, 5));
        assert_eq!(
            (state.accepted_at, state.submitted_at, state.sent_at, state.delivered_at, state.read_at),
            (Some(at_ms), Some(at_ms + 10), Some(at_ms + 20), Some(at_ms + 30), Some(at_ms + 40))
        );
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reducer_restarted_half_way_comes_to_the_same_rows() {
    const MESSAGES: usize = 30;
    let at_ms = now_ms() - 10_000;
    let facts: Vec<MessageStatus> = (0..MESSAGES).flat_map(|i| life(i, at_ms)).collect();

    let world = World::start();
    let restarted = store();
    let (first, second) = facts.split_at(facts.len() / 2);
    for fact in first {
        put(&world, fact).await;
    }
    let running = start(&world, &restarted, 4);
    world.read_until::<MessageState>(Topic::MessagesState, |all| all.len() >= 8).await;
    running.stop().await;
    for fact in second {
        put(&world, fact).await;
    }
    let running = start(&world, &restarted, 4);
    until_read(&world, MESSAGES).await;
    running.stop().await;

    let world = World::start();
    let straight = store();
    for fact in &facts {
        put(&world, fact).await;
    }
    let running = start(&world, &straight, 1_000);
    until_read(&world, MESSAGES).await;
    running.stop().await;
    for i in 0..MESSAGES {
        let id = format!("m{i}");
        assert_eq!(restarted.message(&id).await.unwrap(), straight.message(&id).await.unwrap(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_fact_is_a_dead_letter_and_the_next_goes_through() {
    let world = World::start();
    let store = store();
    let at_ms = now_ms() - 1_000;
    let good = fact("e", Some("m"), Status::Accepted, at_ms);
    let whole = world.codecs.codec::<MessageStatus>(Topic::MessagesStatus).encode(&good);
    let truncated = &whole[..whole.len() - 1];
    let unknown_schema = [&[0, 0, 0, 0xff, 0xff], &whole[5..]].concat();
    let wrong_magic = [&[1], &whole[1..]].concat();
    for value in [truncated, &unknown_schema, &wrong_magic] {
        world.put(Topic::MessagesStatus, SESSION, value).await;
    }
    put(&world, &MessageStatus { event_id: String::new(), ..good.clone() }).await;
    put(&world, &good).await;
    let running = start(&world, &store, 1_000);
    let letters = world.read_until::<DeadLetter>(Topic::DeadLetters, |all| all.len() >= 4).await;
    let mut reasons: Vec<_> =
        letters.iter().map(|(_, letter)| (letter.source_offset, letter.reason)).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            (0, DeadLetterReason::Undecodable),
            (1, DeadLetterReason::UnknownSchema),
            (2, DeadLetterReason::WrongMagic),
            (3, DeadLetterReason::MissingField),
        ]
    );
    let states = world.read_until::<MessageState>(Topic::MessagesState, |all| !all.is_empty()).await;
    assert_eq!(states[0].1.status, Status::Accepted);
    assert_eq!(states[0].0.key_str(), Some("m"));
    assert_eq!(states[0].0.header_str("sluice-event-type"), Some("ACCEPTED"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn received_messages_are_kept_once_however_often_they_come() {
    let world = World::start();
    let store = store();
    let message = ReceivedMessage {
        event_id: "e".into(),
        session_id: SESSION.into(),
        chat_id: "15557654321@s.whatsapp.net".into(),
        text: Some("hello".into()),
        received_at: now_ms(),
        ..Default::default()
    };
    for _ in 0..3 {
        world.put_record(Topic::MessagesReceived, SESSION, &message).await;
    }
    let running = start(&world, &store, 1_000);
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let page =
                store.received(SESSION, Some(&message.chat_id), &PageRequest::default()).await.unwrap();
            if !page.items.is_empty() {
                return page.items;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(found.await.expect("it comes"), std::slice::from_ref(&message));
    running.stop().await;
    let page = store.received(SESSION, None, &PageRequest::default()).await.unwrap();
    assert_eq!(page.items, [message]);
}
