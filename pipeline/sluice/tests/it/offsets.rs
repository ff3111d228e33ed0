//! The position in the ledger against offsets of the group that were reset or lost.

use sluice_kafka::group::{GroupConsumer, Options};
use sluice_kafka::record::Partition;
use sluice_kafka::settings::{Membership, Settings};
use sluice_schemas::topics::Topic;
use sluice_testkit::eventually;

use crate::world::{LIMIT, Role, Sent, World};

const SAME: &str = "sluice_duplicate_requests_total{kind=\"same\"}";
/// Requests taken in before the offsets are tampered with.
const BEFORE: usize = 20;

/// Sends some messages, and stops the sender when all is settled and committed.
async fn world_with_history(name: &'static str) -> World {
    let world = World::builder(name).start().await;
    let mut sender = world.run("sender");
    let messages = world.messages(0..BEFORE, 4);
    world.produce(&messages).await;
    world.all_end(&messages).await;
    sender.process.sigterm();
    assert_eq!(sender.process.wait_exit(LIMIT).await, 0);
    assert_eq!(world.accepted().len(), BEFORE);
    world
}

/// Sets the committed offsets of the (empty) sender group.
async fn set_offsets(world: &World, offset: i64) {
    let alone = Settings { membership: Membership::Alone, ..world.kafka.clone() };
    let topic = world.names.get(Topic::OutboundRequests);
    let member = GroupConsumer::join(&alone, "sender", &[topic], Options::default()).expect("a member");
    let offsets: Vec<_> =
        (0..world.kafka.partitions).map(|n| (Partition::new(topic.to_owned(), n), offset)).collect();
    let wanted: Vec<_> = offsets.iter().map(|(partition, _)| partition.clone()).collect();
    eventually(LIMIT, "the offsets are set", || async {
        let answered = member.control().commit(offsets.clone()).await;
        let now = member.control().committed(wanted.clone()).await;
        let set = now.is_ok_and(|now| now.iter().all(|(_, at)| *at == Some(offset)));
        if set { Ok(()) } else { Err(format!("{answered:?}")) }
    })
    .await;
    member.close().await;
}

/// Sends one message more; how many requests the sender read that it knew already.
async fn read_again(world: &World, sender: &Role, n: usize) -> usize {
    let behind = Sent::numbered("s0", n, 4);
    world.produce(std::slice::from_ref(&behind)).await;
    world.all_end(std::slice::from_ref(&behind)).await;
    sender.metric(SAME).await as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_were_reset_lead_to_nothing_being_read_again_unless_an_operator_allows_it() {
    let world = world_with_history("offsets_reset").await;
    set_offsets(&world, 0).await;
    let mut sender = world.run("sender");
    assert_eq!(read_again(&world, &sender, BEFORE).await, 0, "the ledger knows how far it was");
    assert_eq!(world.accepted().len(), BEFORE + 1);
    sender.process.sigterm();
    assert_eq!(sender.process.wait_exit(LIMIT).await, 0);

    set_offsets(&world, 0).await;
    let sender = world.run_with("sender", &[("sender.rewind_allowed", "true")]);
    assert_eq!(read_again(&world, &sender, BEFORE + 1).await, BEFORE + 1, "an operator asked for it");
    assert_eq!(world.accepted().len(), BEFORE + 2, "and still nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_are_lost_lead_to_nothing_being_read_again() {
    let world = world_with_history("offsets_lost").await;
    // A group without any offset.
    let fresh = format!("{}fresh-", world.kafka.group_prefix);
    let sender = world.run_with("sender", &[("kafka.group_prefix", &fresh)]);
    assert_eq!(read_again(&world, &sender, BEFORE).await, 0);
    assert_eq!(world.accepted().len(), BEFORE + 1);
}
