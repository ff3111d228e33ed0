//! The processor as a process, on a real log.

use sluice_kafka::clock::wall_ms;
use sluice_schemas::topics::Topic;
use sluice_schemas::{DeadLetter, DeadLetterReason, InboundWebhook, Provider, Status, placement};
use sluice_testkit::eventually;

use super::world::{Follow, LIMIT, TENANT, World};

const SESSION: &str = "s0";

fn webhook(id: usize, body: String) -> InboundWebhook {
    InboundWebhook {
        webhook_id: format!("w{id}"),
        provider: Provider::Wasender,
        session_id: Some(SESSION.to_owned()),
        body: body.into_bytes(),
        received_at: wall_ms(),
        ..InboundWebhook::default()
    }
}

fn receipt(id: usize, status: u8) -> InboundWebhook {
    let body = serde_json::json!({
        "event": "messages.update", "timestamp": wall_ms(),
        "data": {"key": {"id": format!("3EB{id}"), "remoteJid": "15551234567@s.whatsapp.net", "fromMe": true},
                 "update": {"status": status}},
    });
    webhook(id, body.to_string())
}

async fn put(world: &World, value: &[u8]) -> i64 {
    let partition = placement::partition_for(SESSION.as_bytes(), world.kafka.partitions);
    world.write(Topic::WebhooksInbound, partition, Some(SESSION.as_bytes()), Some(value)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_webhook_is_a_dead_letter_and_the_next_goes_through() {
    let world = World::builder("processor_bad").start().await;
    let codec = world.codecs.codec::<InboundWebhook>(Topic::WebhooksInbound);
    let whole = codec.encode(&receipt(0, 3));
    let bad: [(Vec<u8>, DeadLetterReason); 4] = [
        (
            codec.encode(&webhook(1, "{\"event\": \"messages.upd".to_owned())),
            DeadLetterReason::UnparseableWebhook,
        ),
        (whole[..whole.len() - 2].to_vec(), DeadLetterReason::Undecodable),
        ([&[0, 0x7f, 0xff, 0xff, 0xff], &whole[5..]].concat(), DeadLetterReason::UnknownSchema),
        ([&[9], &whole[1..]].concat(), DeadLetterReason::WrongMagic),
    ];
    let mut expected = Vec::new();
    for (value, reason) in bad {
        let offset = put(&world, &value).await;
        expected.push((offset, reason, Some(value)));
    }
    put(&world, &codec.encode(&receipt(2, 4))).await;

    let _processor = world.run("processor");
    eventually(LIMIT, "the webhook behind the broken ones is told", || async {
        world.facts.seen().iter().any(|(_, fact)| {
            fact.whatsapp_message_id.as_deref() == Some("3EB2")
                && fact.status == Status::Read
                && fact.tenant_id.as_deref() == Some(TENANT)
        })
    })
    .await;
    let letters = Follow::<DeadLetter>::follow(
        &world.kafka,
        world.names.get(Topic::DeadLetters),
        world.codecs.codec(Topic::DeadLetters),
    );
    eventually(LIMIT, "each broken one is a dead letter with its bytes", || async {
        let mut found: Vec<_> = letters
            .seen()
            .iter()
            .map(|(_, letter)| (letter.source_offset, letter.reason, letter.value.clone()))
            .collect();
        found.sort_by_key(|(offset, ..)| *offset);
        if found == expected { Ok(()) } else { Err(found.len()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_it_tells_every_webhook_and_repeats_only_whole_facts() {
    const WEBHOOKS: usize = 2_000;
    let world = World::builder("processor_killed")
        .setting("processor.limits.batch_records_max", 20)
        .setting("processor.limits.commit_interval_ms", 500)
        .start()
        .await;
    let codec = world.codecs.codec::<InboundWebhook>(Topic::WebhooksInbound);
    for chunk in (0..WEBHOOKS).collect::<Vec<_>>().chunks(100) {
        let values: Vec<_> = chunk.iter().map(|id| codec.encode(&receipt(*id, 3))).collect();
        futures::future::join_all(values.iter().map(|value| put(&world, value))).await;
    }
    let mut first = world.run("processor");
    eventually(LIMIT, "it is on its way", || async { world.facts.seen().len() > 200 }).await;
    first.process.kill9();
    let _second = world.run("processor");
    eventually(LIMIT, "every webhook is told", || async {
        let seen = world.facts.seen();
        let told: std::collections::HashSet<_> =
            seen.iter().filter_map(|(_, fact)| fact.whatsapp_message_id.clone()).collect();
        if told.len() == WEBHOOKS { Ok(()) } else { Err(told.len()) }
    })
    .await;
    let seen = world.facts.seen();
    let events: std::collections::HashSet<_> = seen.iter().map(|(_, fact)| &fact.event_id).collect();
    assert_eq!(events.len(), WEBHOOKS, "a repeat has the event id of the first");
}
