//! From requests to READ in the store and in `messages.state`.

use std::collections::HashMap;

use sluice_schemas::topics::Topic;
use sluice_schemas::{MessageState, Status};
use sluice_scylla::MessageStore;
use sluice_testkit::eventually;
use sluice_whatsapp::wasender::simulator::{SimulatorSettings, WebhookSettings};

use crate::world::{Follow, LIMIT, World};

/// Messages of each session.
const EACH: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_becomes_read_whatever_the_order_of_webhooks() {
    let webhooks = WebhookSettings {
        doubling: 0.2,
        disorder: 0.5,
        jitter_ms: 200,
        sent_after_ms: 20,
        delivered_after_ms: 40,
        read_after_ms: 60,
        ..WebhookSettings::default()
    };
    let provider = SimulatorSettings { webhooks: Some(webhooks), ..SimulatorSettings::default() };
    let world = World::builder("e2e").sessions(10).in_flight(4).with_store().provider(provider).start().await;
    let states: Follow<MessageState> = Follow::follow(
        &world.kafka,
        world.names.get(Topic::MessagesState),
        world.codecs.codec(Topic::MessagesState),
    );
    let mut pipeline = world.run("edge,sender,processor,reducer");
    pipeline.ready().await;
    let messages = world.messages(0..EACH, 20);

    // A part by the API, the rest as platforms write it.
    let (posted, produced) = messages.split_at(world.sessions.len() * 5);
    for message in posted {
        let answer = world.post(message).await.unwrap();
        assert_eq!(answer.status().as_u16(), 202);
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["message_id"], message.id().to_string());
    }
    world.produce(produced).await;

    world.all_end(&messages).await;
    eventually(LIMIT, "every state is READ", || async {
        let read = latest(&states).values().filter(|state| state.status == Status::Read).count();
        if read == messages.len() { Ok(()) } else { Err(format!("{read} read; {}", pipeline.last_lines())) }
    })
    .await;

    // The books balance.
    assert_eq!(world.laws_hold(&messages), 0, "without faults there are no doubles");
    let summary = world.provider.summary().total;
    assert_eq!((summary.accepted as usize, summary.refused), (messages.len(), 0));
    let latest = latest(&states);
    assert_eq!(latest.len(), messages.len(), "a state per message and no other");
    let store = MessageStore::connect(world.store.as_ref().unwrap()).await.unwrap();
    let ids: Vec<_> = messages.iter().map(|message| message.id().to_string()).collect();
    let mut rows = 0;
    for chunk in ids.chunks(200) {
        for row in store.messages_by_id(chunk).await.unwrap() {
            assert_eq!(row.status, Status::Read, "{row:?}");
            assert!(row.whatsapp_message_id.is_some() && row.accepted_at.is_some(), "{row:?}");
            assert!(!row.in_doubt && !row.possible_duplicate, "{row:?}");
            assert_eq!(
                row.revision, latest[&row.message_id].revision,
                "the topic and the store agree: {row:?}"
            );
            rows += 1;
        }
    }
    assert_eq!(rows, messages.len());
    pipeline.process.sigterm();
    assert_eq!(pipeline.process.wait_exit(LIMIT).await, 0);
}

/// The state of the highest revision of each message.
fn latest(states: &Follow<MessageState>) -> HashMap<String, MessageState> {
    let mut latest: HashMap<String, MessageState> = HashMap::new();
    for (_, state) in states.seen().iter() {
        match latest.get(&state.message_id) {
            Some(kept) if kept.revision >= state.revision => {}
            _ => {
                latest.insert(state.message_id.clone(), state.clone());
            }
        }
    }
    latest
}
