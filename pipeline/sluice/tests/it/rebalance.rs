//! Several senders share the partitions.

use sluice_testkit::eventually;
use sluice_whatsapp::wasender::simulator::{Fault, FaultRule};

use crate::world::{LIMIT, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_joins_and_one_leaves_and_no_law_is_broken() {
    let world = World::builder("rebalance").sessions(8).limit(10, 1_000).start().await;
    world.provider.add_fault(FaultRule::always(Fault::Slow { ms: 50 }));
    let mut around = world.run("edge,processor");
    around.ready().await;
    let mut first = world.run("sender");
    first.owns("the first takes all", |owned| owned == 8).await;
    let messages = world.messages(0..60, 5);
    world.produce(&messages).await;
    world.provider_has_taken(40).await;
    let second = world.run("sender");
    second.owns("the second takes its share", |owned| owned == 4).await;
    first.owns("the first keeps its share", |owned| owned == 4).await;
    let before = world.accepted().len();
    assert!(before < messages.len(), "the hand-over came too late to show anything");
    first.process.sigterm();
    assert_eq!(first.process.wait_exit(LIMIT).await, 0);
    second.owns("the second takes the rest", |owned| owned == 8).await;
    world.all_end(&messages).await;
    let doubles = world.laws_hold(&messages);
    // A clean hand-over leaves nothing in doubt.
    assert_eq!((doubles, world.doubts()), (0, 0), "{}", second.last_lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_comes_back_after_another_has_fenced_sends_nothing() {
    let world = World::builder("frozen").sessions(8).limit(10, 1_000).start().await;
    world.provider.add_fault(FaultRule::always(Fault::Slow { ms: 100 }));
    let mut around = world.run("edge,processor");
    around.ready().await;
    let mut old = world.run("sender");
    old.owns("the old owner takes all", |owned| owned == 8).await;
    let messages = world.messages(0..40, 5);
    world.produce(&messages).await;
    world.provider_has_taken(40).await;
    old.process.sigstop();
    let new = world.run("sender");
    new.owns("the new owner takes all", |owned| owned == 8).await;
    world.all_end(&messages).await;
    let doubles = world.laws_hold(&messages);
    let taken = world.provider.truth(0).len();

    // It still holds all that was not sent when it froze, and claims. It may find out, and not send.
    old.process.sigcont();
    old.owns("the old owner knows that it lost them, and takes its share anew", |owned| owned == 4).await;
    new.owns("the new owner has given a share back", |owned| owned == 4).await;
    assert_eq!(world.provider.truth(0).len(), taken, "the old owner sent something");
    assert_eq!(world.laws_hold(&messages), doubles);

    // And both go on.
    let more = world.messages(40..42, 5);
    world.produce(&more).await;
    world.all_end(&more).await;
    let all: Vec<_> = messages.into_iter().chain(more).collect();
    eventually(LIMIT, "each of them once more", || async { world.accepted().len() == taken + 16 }).await;
    assert_eq!(world.laws_hold(&all), doubles);
}
