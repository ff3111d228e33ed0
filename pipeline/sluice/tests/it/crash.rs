//! The sender dies with calls in flight.

use sluice_whatsapp::wasender::simulator::{Fault, FaultRule, SimulatorSettings, WebhookSettings};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn killed_twice_in_mid_flight_it_loses_nothing_and_explains_every_double() {
    // Half of the echoes never come, so that the policy, which is to send again, has to decide too.
    let webhooks = WebhookSettings { loss: 0.5, ..WebhookSettings::default() };
    let provider = SimulatorSettings { webhooks: Some(webhooks), ..SimulatorSettings::default() };
    let world = World::builder("crash").sessions(6).limit(10, 1_000).provider(provider).start().await;
    // Calls take long, so that a kill finds every session in one.
    world.provider.add_fault(FaultRule::always(Fault::Slow { ms: 150 }));
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
    let doubles = world.laws_hold(&messages);
    println!("{doubles} doubles, {} of the provider", world.provider.summary().total.doubles);
    assert_eq!(sender.metric("sluice_in_doubt_open").await as usize, 0, "no doubt is left open");
}
