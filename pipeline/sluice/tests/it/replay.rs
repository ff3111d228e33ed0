//! Dead letters go back to where they came from, and nothing is sent twice by it.

use serde_json::Value;
use sluice_kafka::clock::wall_ms;
use sluice_kafka::dead_letters::{REPLAY_COUNT, REPLAY_OF};
use sluice_schemas::topics::Topic;
use sluice_schemas::{DeadLetter, DeadLetterReason, OutboundCommand, headers};
use sluice_testkit::eventually;

use crate::world::{Follow, LIMIT, Sent, Shell, TENANT, World};

/// The letter of a request that died, for a cause that is removed by now.
async fn bury(world: &World, message: &Sent, reason: DeadLetterReason) {
    let letter = DeadLetter {
        source_topic: world.names.get(Topic::OutboundRequests).to_owned(),
        source_partition: world.partition_of(&message.session),
        key: Some(message.session.clone().into_bytes()),
        value: Some(world.codecs.codec(Topic::OutboundRequests).encode(&message.command())),
        headers: [
            (headers::TENANT_ID.to_owned(), TENANT.to_owned()),
            ("x-own".to_owned(), "kept".to_owned()),
        ]
        .into(),
        role: "sender".to_owned(),
        reason,
        session_id: Some(message.session.clone()),
        dead_at: wall_ms(),
        ..DeadLetter::default()
    };
    let value = world.codecs.codec(Topic::DeadLetters).encode(&letter);
    world.write(Topic::DeadLetters, 0, Some(message.session.as_bytes()), Some(&value)).await;
}

fn replayed(answer: &Value) -> usize {
    answer["replayed"].as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_request_is_sent_once_however_often_it_is_replayed() {
    let world = World::builder("replay").sessions(2).start().await;
    let sender = world.run("sender");
    let (sent, never) = (Sent::numbered("s0", 0, 1), Sent::numbered("s1", 0, 1));
    world.produce(std::slice::from_ref(&sent)).await;
    world.all_end(std::slice::from_ref(&sent)).await;
    bury(&world, &sent, DeadLetterReason::Undecodable).await;
    bury(&world, &never, DeadLetterReason::UnknownSchema).await;
    let shell = Shell::of(&world).await;

    let dry = shell.json(&["dead-letters", "replay", "--all", "--dry-run"]);
    assert_eq!(replayed(&dry), 2);
    for (filter, count) in [
        (["--session", "s1"], 1),
        (["--tenant", TENANT], 2),
        (["--tenant", "other"], 0),
        (["--reason", "unknown_schema"], 1),
        (["--topic", "outbound.requests"], 2),
        (["--topic", "webhooks.inbound"], 0),
        (["--since", "1h"], 2),
        (["--until", "1h"], 0),
    ] {
        let list = shell.json(&[&["dead-letters", "list"][..], &filter].concat());
        assert_eq!(list.as_array().map(Vec::len), Some(count), "{filter:?}");
        let dry = shell.json(&[&["dead-letters", "replay", "--dry-run"][..], &filter].concat());
        assert_eq!(replayed(&dry), count, "{filter:?}");
    }
    assert_eq!(shell.sluice(&["dead-letters", "replay"]).code, 2, "all only when asked for");
    assert_eq!(shell.sluice(&["dead-letters", "replay", "0/999"]).code, 3);
    assert_eq!(shell.sluice(&["dead-letters", "replay", "0/0", "--all"]).code, 2);
    assert_eq!(world.accepted().len(), 1, "nothing so far was more than looking");

    for _ in 0..2 {
        assert_eq!(replayed(&shell.json(&["dead-letters", "replay", "--all", "--rate", "1000"])), 2);
    }
    world.all_end(std::slice::from_ref(&never)).await;
    eventually(LIMIT, "the replays of known keys are recognised", || async {
        sender.metric("sluice_duplicate_requests_total{kind=\"same\"}").await as usize == 3
    })
    .await;
    let texts: Vec<_> = world.accepted().into_iter().map(|entry| entry.text).collect();
    assert_eq!(texts, [sent.text, never.text]);

    let requests: Follow<OutboundCommand> = Follow::follow(
        &world.kafka,
        world.names.get(Topic::OutboundRequests),
        world.codecs.codec(Topic::OutboundRequests),
    );
    eventually(LIMIT, "each replay says where it comes from", || async {
        let seen = requests.seen();
        let replays = seen.iter().filter(|(record, _)| {
            let origin = record.header_str(REPLAY_OF).unwrap_or_default();
            origin.starts_with(world.names.get(Topic::DeadLetters))
                && record.header_str(REPLAY_COUNT) == Some("1")
                && record.header_str("x-own") == Some("kept")
        });
        let count = replays.count();
        if count == 4 { Ok(()) } else { Err(count) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_again_and_again_is_replayed_no_more() {
    let world = World::builder("replay_limit").start().await;
    world.write(Topic::WebhooksInbound, 0, Some(b"s0"), Some(&[9, 9])).await;
    let _processor = world.run("processor");
    let shell = Shell::of(&world).await;
    let newest = |deaths: usize| {
        let shell = &shell;
        eventually(LIMIT, "it is dead again", move || async move {
            let list = shell.json(&["dead-letters", "list"]);
            let letters = list.as_array().cloned().unwrap_or_default();
            letters.get(deaths - 1).cloned().ok_or(letters.len())
        })
    };
    for replays in 0..2 {
        let letter = newest(replays + 1).await;
        assert_eq!(letter["replay_count"], replays);
        let place = letter["place"].as_str().expect("a place");
        let answer = shell.json(&["dead-letters", "replay", place, "--replays-max", "2"]);
        assert_eq!(replayed(&answer), 1);
    }
    let last = newest(3).await;
    let place = last["place"].as_str().expect("a place");
    let answer = shell.json(&["dead-letters", "replay", place, "--replays-max", "2"]);
    assert_eq!(replayed(&answer), 0);
    assert_eq!(answer["left_out"][0]["place"], place);
}
