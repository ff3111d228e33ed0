//! What cannot be a message is named, kept, and stops nobody.

use sluice_schemas::topics::Topic;
use sluice_schemas::{DeadLetter, DeadLetterReason, OutboundCommand, Status};
use sluice_testkit::eventually;

use crate::world::{Follow, LIMIT, Sent, World};

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_named_and_the_good_ones_behind_them_are_sent() {
    let world = World::builder("bad").sessions(1).start().await;
    let letters: Follow<DeadLetter> = Follow::follow(
        &world.kafka,
        world.names.get(Topic::DeadLetters),
        world.codecs.codec(Topic::DeadLetters),
    );
    let _sender = world.run("sender");
    let codec = world.codecs.codec::<OutboundCommand>(Topic::OutboundRequests);
    let partition = world.partition_of("s0");
    let good = Sent::numbered("s0", 0, 1);
    let encoded = codec.encode(&good.command());

    let truncated = encoded[..encoded.len() - 4].to_vec();
    let mut unknown_schema = encoded.clone();
    unknown_schema[1..5].copy_from_slice(&0x7fff_0000_u32.to_be_bytes());
    let mut wrong_magic = encoded.clone();
    wrong_magic[0] = 7;
    let keyless = codec.encode(&OutboundCommand { idempotency_key: String::new(), ..good.command() });
    let homeless = codec.encode(&OutboundCommand { session_id: String::new(), ..good.command() });
    let oversize = OutboundCommand { text: Some("x".repeat(262_144)), ..good.command() };
    let oversize = codec.encode(&OutboundCommand { idempotency_key: "big".into(), ..oversize });
    let bad: [(&[u8], DeadLetterReason); 6] = [
        (&truncated, DeadLetterReason::Undecodable),
        (&unknown_schema, DeadLetterReason::UnknownSchema),
        (&wrong_magic, DeadLetterReason::WrongMagic),
        (&keyless, DeadLetterReason::MissingKey),
        (&homeless, DeadLetterReason::MissingField),
        (&oversize, DeadLetterReason::TooLarge),
    ];
    let mut expected = Vec::new();
    for (value, reason) in bad {
        let offset = world.write(Topic::OutboundRequests, partition, Some(b"s0"), Some(value)).await;
        expected.push((offset, reason));
    }
    // A tombstone is no request; a record without a key is one, for its session is in its value.
    let offset = world.write(Topic::OutboundRequests, partition, Some(b"s0"), None).await;
    expected.push((offset, DeadLetterReason::MissingField));
    world.write(Topic::OutboundRequests, partition, None, Some(&encoded)).await;

    // Decodable and unusable: these tell a status.
    let nobody = Sent { session: "nobody".into(), ..Sent::numbered("s0", 1, 1) };
    let stranger = Sent::numbered("s0", 2, 1);
    let foreign = codec.encode(&OutboundCommand { tenant_id: Some("other".into()), ..stranger.command() });
    let nowhere = Sent { to: "no number".into(), ..Sent::numbered("s0", 3, 1) };
    world.write(Topic::OutboundRequests, partition, Some(b"s0"), Some(&foreign)).await;
    world.produce(&[nobody.clone(), nowhere.clone()]).await;
    let behind = Sent::numbered("s0", 4, 1);
    world.produce(std::slice::from_ref(&behind)).await;

    world.all_end(&[good.clone(), behind.clone(), nobody.clone(), stranger.clone(), nowhere.clone()]).await;
    for (message, code) in
        [(&nobody, "unknown_session"), (&stranger, "tenant_mismatch"), (&nowhere, "bad_recipient")]
    {
        let told = world.facts.of(message.id());
        let failed = told.iter().find(|(_, fact)| fact.status == Status::Failed);
        let found = failed.and_then(|(_, fact)| fact.error.as_ref()).map(|error| error.code.as_str());
        assert_eq!(found, Some(code), "{told:?}");
    }
    assert_eq!(world.facts.end_of(good.id()), Some(Status::Submitted));
    assert_eq!(world.facts.end_of(behind.id()), Some(Status::Submitted));
    let sent: Vec<_> = world.accepted().into_iter().map(|entry| entry.text).collect();
    assert_eq!(sent, [good.text, behind.text], "nothing else was sent");

    eventually(LIMIT, "every bad record has its letter", || async {
        let count = letters.seen().len();
        if count >= expected.len() { Ok(()) } else { Err(count) }
    })
    .await;
    let mut named: Vec<_> =
        letters.seen().iter().map(|(_, letter)| (letter.source_offset, letter.reason)).collect();
    named.sort_unstable_by_key(|(offset, _)| *offset);
    assert_eq!(named, expected);
    for (_, letter) in letters.seen().iter() {
        assert_eq!(letter.source_topic, world.names.get(Topic::OutboundRequests));
        assert_eq!((letter.source_partition, letter.role.as_str()), (partition, "sender"));
        assert!(!letter.detail.is_empty(), "{letter:?}");
    }
    let kept = letters
        .seen()
        .iter()
        .find(|(_, l)| l.reason == DeadLetterReason::WrongMagic)
        .map(|(_, l)| l.value.clone());
    assert_eq!(kept, Some(Some(wrong_magic)), "the bytes are kept whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_most_requests_are_dead_the_sender_ends_and_leaves_the_rest_uncommitted() {
    const BAD: usize = 20;
    let world = World::builder("dead_ratio").setting("sender.dead_window_records", 10).start().await;
    let letters: Follow<DeadLetter> = Follow::follow(
        &world.kafka,
        world.names.get(Topic::DeadLetters),
        world.codecs.codec(Topic::DeadLetters),
    );
    let partition = world.partition_of("s0");
    for _ in 0..BAD {
        world.write(Topic::OutboundRequests, partition, Some(b"s0"), Some(&[9, 9])).await;
    }
    let good = Sent::numbered("s0", 0, 1);
    world.produce(std::slice::from_ref(&good)).await;
    let mut sender = world.run("sender");
    assert_ne!(sender.process.wait_exit(LIMIT).await, 0);
    let log = sender.process.log_text();
    assert!(log.contains("6 of the last 10 records became dead letters"), "{}", sender.last_lines());
    assert!(world.accepted().is_empty(), "what is behind waits for an operator");

    // Once an operator has looked, and allows them, each has its letter and the good one goes.
    let _sender = world.run_with("sender", &[("sender.dead_ratio_max", "1.0")]);
    world.all_end(std::slice::from_ref(&good)).await;
    eventually(LIMIT, "every bad request has its letter", || async {
        let seen = letters.seen();
        let places: std::collections::BTreeSet<_> = seen.iter().map(|(_, l)| l.source_offset).collect();
        if places.len() == BAD { Ok(()) } else { Err(places.len()) }
    })
    .await;
}
