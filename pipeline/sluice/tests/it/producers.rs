//! Platforms write requests themselves, in any language, with any partitioner.

use sluice_schemas::topics::Topic;
use sluice_schemas::{OutboundCommand, Status};
use sluice_testkit::eventually;

use crate::world::{LIMIT, Sent, World};

#[tokio::test(flavor = "multi_thread")]
async fn avro_on_any_partition_is_sent_once_from_the_right_one() {
    let world = World::builder("direct").sessions(2).start().await;
    let _sender = world.run("sender");
    let straight = world.messages(0..3, 3);
    world.produce(&straight).await;
    // A partitioner that is not Java's: the request lands where its session does not live, twice.
    let strayed = Sent::numbered("s1", 100, 3);
    let value = world.codecs.codec::<OutboundCommand>(Topic::OutboundRequests).encode(&strayed.command());
    let right = world.partition_of("s1");
    for wrong in [(right + 1) % 8, (right + 3) % 8] {
        world.write(Topic::OutboundRequests, wrong, Some(b"s1"), Some(&value)).await;
    }
    let all: Vec<_> = straight.into_iter().chain([strayed.clone()]).collect();
    world.all_end(&all).await;
    // Both copies have arrived where they belong: the second tells the status again.
    eventually(LIMIT, "the second copy is answered", || async {
        let told = world.facts.of(strayed.id());
        let ends = told.iter().filter(|(_, fact)| fact.status == Status::Submitted).count();
        let accepted = told.iter().filter(|(_, fact)| fact.status == Status::Accepted).count();
        if ends + accepted >= 3 { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(world.laws_hold(&all), 0);
    assert_eq!(world.accepted().len(), all.len());
    for (_, fact) in world.facts.seen().iter() {
        assert_eq!(fact.request_partition, Some(world.partition_of(&fact.session_id)), "{fact:?}");
    }
}
