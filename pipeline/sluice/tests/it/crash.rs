//! The sender dies with calls in flight.

use sluice_schemas::Status;
use sluice_testkit::eventually;
use sluice_whatsapp::wasender::simulator::{Fault, FaultRule, SimulatorSettings, WebhookSettings};

use crate::world::{LIMIT, Sent, World};

#[tokio::test(flavor = "multi_thread")]
async fn killed_twice_in_mid_flight_it_loses_nothing_and_explains_every_double() {
    // Half of the echoes never come, so that the policy, which is to send again, has to decide too.
    let webhooks = WebhookSettings { loss: 0.5, ..WebhookSettings::default() };
    let provider = SimulatorSettings { webhooks: Some(webhooks), ..SimulatorSettings::default() };
    let world = World::builder("crash").sessions(6).limit(10, 1_000).provider(provider).start().await;
    // Calls take long, so that a kill finds every session in one. And some go wrong by themselves.
    let faults = [
        (0.03, Fault::ResetAfterAccepting),
        (0.03, Fault::ResetBeforeAccepting),
        (0.03, Fault::Throttle { retry_after_s: 1 }),
        (0.03, Fault::Status { status: 500, body: None }),
        (1.0, Fault::Slow { ms: 150 }),
    ];
    for (seed, (probability, fault)) in (7..).zip(faults) {
        let rule = FaultRule { probability: Some(probability), seed, ..FaultRule::always(fault) };
        world.provider.add_fault(rule);
    }
    let mut around = world.run("edge,processor");
    around.ready().await;
    let messages = world.messages(0..25, 5);
    world.produce(&messages).await;
    for taken in [30, 70] {
        let mut sender = world.run("sender");
        world.provider_has_taken(taken).await;
        sender.process.kill9();
    }
    let sender = world.run("sender");
    world.all_end(&messages).await;
    eventually(LIMIT, "no doubt is left open", || async {
        sender.metric("sluice_in_doubt_open").await as usize == 0
    })
    .await;
    let doubles = world.laws_hold(&messages);
    assert!(world.doubts() > 0, "no kill found a call in flight");
    println!("{} attempts in doubt, {doubles} doubles", world.doubts());

    // What was sent under any of the owners is known to the last: the same key is not sent again.
    let taken = world.accepted().len();
    let again: Vec<_> = messages.iter().filter(|message| message.key == "key-0").cloned().collect();
    world.produce(&again).await;
    let changed = Sent { text: "another body".into(), ..again[0].clone() };
    world.produce(std::slice::from_ref(&changed)).await;
    let behind = world.messages(25..26, 5);
    world.produce(&behind).await;
    world.all_end(&behind).await;
    assert_eq!(world.accepted().len(), taken + behind.len(), "something was sent again");
    assert!(world.facts.statuses_of(changed.id()).contains(&Status::DuplicateConflict));
    world.no_rate_is_breached();
}
