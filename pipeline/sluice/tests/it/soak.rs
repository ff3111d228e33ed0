//! Senders come, go, die and freeze at random, for as long as is asked for. By hand:
//! `SLUICE_TEST_SOAK_S=300 cargo test -p sluice --test it soak -- --ignored --nocapture`

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_whatsapp::wasender::simulator::{Fault, FaultRule, SimulatorSettings, WebhookSettings};

use crate::world::{Role, World};

/// Senders at once, at most.
const SENDERS_MAX: usize = 3;
/// Messages that wait, about.
const BACKLOG: usize = 200;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a soak: takes as long as SLUICE_TEST_SOAK_S says, 60 s by default"]
async fn whatever_becomes_of_the_senders_the_laws_hold() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SLUICE_TEST_SOAK_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let webhooks = WebhookSettings { loss: 0.3, disorder: 0.3, doubling: 0.2, ..WebhookSettings::default() };
    let provider = SimulatorSettings { webhooks: Some(webhooks), ..SimulatorSettings::default() };
    let world = World::builder("soak").sessions(8).limit(10, 1_000).provider(provider).start().await;
    for (probability, fault) in [
        (0.02, Fault::ResetAfterAccepting),
        (0.02, Fault::ResetBeforeAccepting),
        (0.02, Fault::HangThenSent { ms: 4_000 }),
        (0.02, Fault::Throttle { retry_after_s: 1 }),
        (1.0, Fault::Slow { ms: 60 }),
    ] {
        let rule = FaultRule { probability: Some(probability), seed, ..FaultRule::always(fault) };
        world.provider.add_fault(rule);
    }
    let mut around = world.run("edge,processor");
    around.ready().await;
    let (mut senders, mut frozen): (Vec<Role>, Vec<Role>) = (vec![world.run("sender")], Vec::new());
    let mut messages = Vec::new();
    let end = Instant::now() + Duration::from_secs(number("SLUICE_TEST_SOAK_S").unwrap_or(60));
    while Instant::now() < end {
        // Enough that something is always under way, and no more than can be sent in a while.
        if messages.len() < world.accepted().len() + BACKLOG {
            let next = messages.len() / world.sessions.len();
            let more = world.messages(next..next + 10, 5);
            world.produce(&more).await;
            messages.extend(more);
        }
        // Somewhere in the middle of what is under way, whatever that is by then.
        let some = random.random_range(0..60);
        let target = (world.accepted().len() + some).min(messages.len() * 3 / 4);
        world.provider_has_taken(target).await;
        let one =
            |random: &mut StdRng, from: &mut Vec<Role>| from.swap_remove(random.random_range(0..from.len()));
        match random.random_range(0..5) {
            0 if !senders.is_empty() => one(&mut random, &mut senders).process.kill9(),
            1 if !senders.is_empty() => {
                let mut leaving = one(&mut random, &mut senders);
                leaving.process.sigterm();
                frozen.retain_mut(|role| role.process.exit_code().is_none());
                // It takes its time; when it is gone it is reaped with the rest.
                frozen.push(leaving);
            }
            2 if !senders.is_empty() => {
                let mut freezing = one(&mut random, &mut senders);
                freezing.process.sigstop();
                frozen.push(freezing);
            }
            3 if !frozen.is_empty() => {
                let mut thawing = one(&mut random, &mut frozen);
                if thawing.process.exit_code().is_none() {
                    thawing.process.sigcont();
                    senders.push(thawing);
                }
            }
            _ => {}
        }
        senders.retain_mut(|role| role.process.exit_code().is_none());
        if senders.len() < SENDERS_MAX {
            senders.push(world.run("sender"));
        }
    }
    for mut role in frozen.drain(..) {
        if role.process.exit_code().is_none() {
            role.process.sigcont();
            senders.push(role);
        }
    }
    senders.push(world.run("sender"));
    world.all_end(&messages).await;
    let doubles = world.laws_hold(&messages);
    println!("{} messages, {} attempts in doubt, {doubles} doubles", messages.len(), world.doubts());
}
