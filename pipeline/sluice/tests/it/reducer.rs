//! The reducer as a process, on a real log and a real store.

use std::collections::HashMap;

use sluice_kafka::clock::wall_ms;
use sluice_schemas::topics::Topic;
use sluice_schemas::{DeadLetter, DeadLetterReason, MessageState, MessageStatus, Source, Status};
use sluice_scylla::MessageStore;
use sluice_testkit::eventually;

use super::world::{Follow, LIMIT, TENANT, World};

const SESSION: &str = "s0";

/// The life of a message in its natural order. Receipts name it only by its id in WhatsApp.
fn life(n: usize, at_ms: i64) -> Vec<MessageStatus> {
    let fact = |status: Status, after_ms| MessageStatus {
        event_id: format!("{n}/{}", status.as_str()),
        session_id: SESSION.to_owned(),
        tenant_id: Some(TENANT.to_owned()),
        status,
        occurred_at: at_ms + after_ms,
        observed_at: at_ms + after_ms,
        ..MessageStatus::default()
    };
    let of_sender = |status, after_ms| MessageStatus {
        message_id: Some(format!("m{n}")),
        source: Source::Sender,
        ..fact(status, after_ms)
    };
    let receipt = |status, after_ms| MessageStatus {
        whatsapp_message_id: Some(format!("3EB{n}")),
        source: Source::Webhook,
        ..fact(status, after_ms)
    };
    vec![
        of_sender(Status::Accepted, 0),
        of_sender(Status::Submitted, 10),
        MessageStatus { whatsapp_message_id: Some(format!("3EB{n}")), ..of_sender(Status::ProviderId, 15) },
        receipt(Status::Sent, 20),
        receipt(Status::Delivered, 30),
        receipt(Status::Read, 40),
    ]
}

/// Facts of one life.
const FACTS: i64 = 6;

async fn put(world: &World, facts: &[MessageStatus]) {
    let codec = world.codecs.codec::<MessageStatus>(Topic::MessagesStatus);
    let partition = world.partition_of(SESSION);
    for fact in facts {
        let value = codec.encode(fact);
        world.write(Topic::MessagesStatus, partition, Some(SESSION.as_bytes()), Some(&value)).await;
    }
}

async fn store(world: &World) -> MessageStore {
    let settings = world.store.as_ref().expect("a world with a store");
    MessageStore::connect(settings).await.expect("the store answers")
}

/// Waits until every message is READ with all its facts, and gives the rows.
async fn rows(store: &MessageStore, messages: usize) -> Vec<MessageState> {
    let ids: Vec<String> = (0..messages).map(|n| format!("m{n}")).collect();
    eventually(LIMIT, "every message is READ in the store", || async {
        let states = store.messages_by_id(&ids).await.map_err(|error| error.to_string())?;
        let complete = |state: &&MessageState| state.status == Status::Read && state.revision == FACTS;
        let done = states.iter().filter(complete).count();
        if done == messages { Ok(states) } else { Err(format!("{done} of {messages}")) }
    })
    .await
}

/// What a consumer of `messages.state` that keeps the higher revision holds.
fn kept(states: &Follow<MessageState>) -> HashMap<String, MessageState> {
    let mut kept: HashMap<String, MessageState> = HashMap::new();
    for (_, state) in states.seen().iter() {
        let known = kept.get(&state.message_id).map_or(0, |known| known.revision);
        if state.revision >= known {
            kept.insert(state.message_id.clone(), state.clone());
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn disordered_and_doubled_receipts_come_to_read() {
    const MESSAGES: usize = 40;
    let world = World::builder("reducer_order").with_store().start().await;
    let at_ms = wall_ms() - 10_000;
    let once: Vec<_> = (0..MESSAGES).flat_map(|n| life(n, at_ms)).collect();
    let twice = [once.clone(), once].concat();
    // 7 has no factor in common with 480, so every fact has its turn once.
    let shuffled: Vec<_> = (0..twice.len()).map(|i| twice[(i * 7 + 3) % twice.len()].clone()).collect();
    put(&world, &shuffled).await;

    let _reducer = world.run("reducer");
    let store = store(&world).await;
    let rows = rows(&store, MESSAGES).await;
    for row in &rows {
        assert_eq!(
            (row.accepted_at, row.submitted_at, row.sent_at, row.delivered_at, row.read_at),
            (Some(at_ms), Some(at_ms + 10), Some(at_ms + 20), Some(at_ms + 30), Some(at_ms + 40)),
            "{}",
            row.message_id
        );
    }
    let states = Follow::<MessageState>::follow(
        &world.kafka,
        world.names.get(Topic::MessagesState),
        world.codecs.codec(Topic::MessagesState),
    );
    eventually(LIMIT, "the states are those of the store", || async {
        let kept = kept(&states);
        rows.iter().all(|row| kept.get(&row.message_id) == Some(row))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_half_way_it_comes_to_the_same_rows() {
    const MESSAGES: usize = 60;
    let at_ms = wall_ms() - 10_000;
    let facts: Vec<_> = (0..MESSAGES).flat_map(|n| life(n, at_ms)).collect();

    let straight = World::builder("reducer_straight").with_store().start().await;
    put(&straight, &facts).await;
    let _reducer = straight.run("reducer");
    let expected = rows(&store(&straight).await, MESSAGES).await;

    // Small batches and rare commits: much is open when it dies.
    let broken = World::builder("reducer_killed")
        .with_store()
        .setting("reducer.limits.batch_records_max", 5)
        .setting("reducer.limits.commit_interval_ms", 500)
        .start()
        .await;
    put(&broken, &facts).await;
    let mut first = broken.run("reducer");
    let store = store(&broken).await;
    eventually(LIMIT, "it is on its way", || async {
        matches!(store.message("m5").await, Ok(Some(state)) if state.accepted_at.is_some())
    })
    .await;
    first.process.kill9();
    let _second = broken.run("reducer");
    assert_eq!(rows(&store, MESSAGES).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_fact_is_a_dead_letter_and_the_next_goes_through() {
    let world = World::builder("reducer_bad").with_store().start().await;
    let good = life(0, wall_ms() - 1_000);
    let whole = world.codecs.codec::<MessageStatus>(Topic::MessagesStatus).encode(&good[0]);
    let bad: [(Vec<u8>, DeadLetterReason); 3] = [
        (whole[..whole.len() - 1].to_vec(), DeadLetterReason::Undecodable),
        ([&[0, 0x7f, 0xff, 0xff, 0xff], &whole[5..]].concat(), DeadLetterReason::UnknownSchema),
        ([&[9], &whole[1..]].concat(), DeadLetterReason::WrongMagic),
    ];
    let partition = world.partition_of(SESSION);
    let mut expected = Vec::new();
    for (value, reason) in bad {
        let offset =
            world.write(Topic::MessagesStatus, partition, Some(SESSION.as_bytes()), Some(&value)).await;
        expected.push((offset, reason, Some(value)));
    }
    put(&world, &good).await;

    let _reducer = world.run("reducer");
    rows(&store(&world).await, 1).await;
    let letters = Follow::<DeadLetter>::follow(
        &world.kafka,
        world.names.get(Topic::DeadLetters),
        world.codecs.codec(Topic::DeadLetters),
    );
    eventually(LIMIT, "each bad fact is a dead letter", || async {
        let mut found: Vec<_> = letters
            .seen()
            .iter()
            .map(|(_, letter)| (letter.source_offset, letter.reason, letter.value.clone()))
            .collect();
        found.sort_by_key(|(offset, ..)| *offset);
        // The role is free to repeat a letter after a restart; it was not restarted here.
        if found == expected { Ok(()) } else { Err(found.len()) }
    })
    .await;
}
