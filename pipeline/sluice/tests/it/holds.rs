//! Sessions that cannot send hold their own messages and nobody else's.

use sluice_schemas::{InDoubtPolicy, Status};
use sluice_testkit::eventually;

use crate::world::{LIMIT, Sent, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_session_is_held_while_nine_others_flow() {
    let world = World::builder("held").sessions(10).start().await;
    let mut pipeline = world.run("edge,sender,processor");
    pipeline.ready().await;
    pipeline.owns("the sender takes all", |owned| owned == 8).await;
    // The directory loads before the edge takes webhooks; the status comes by one.
    assert!(world.provider.set_status("s0", "logged_out"));
    eventually(LIMIT, "the disconnection is known", || async {
        let probe = Sent::numbered("s0", 1_000_000, 1);
        world.post(&probe).await.unwrap();
        let held = world.facts.of(probe.id()).iter().any(|(_, fact)| fact.status == Status::Held);
        if held { Ok(()) } else { Err(pipeline.last_lines()) }
    })
    .await;
    let messages = world.messages(0..20, 4);
    world.produce(&messages).await;
    let (held, flowing): (Vec<_>, Vec<_>) = messages.iter().cloned().partition(|m| m.session == "s0");
    world.all_end(&flowing).await;
    assert!(world.accepted().iter().all(|entry| entry.session != "s0"), "a held session sent");
    eventually(LIMIT, "the held ones say so", || async {
        held.iter().all(|message| {
            let told = world.facts.of(message.id());
            told.iter()
                .any(|(_, f)| f.status == Status::Held && f.wait_reason.as_deref() == Some("session_down"))
        })
    })
    .await;
    assert!(world.provider.set_status("s0", "connected"));
    world.all_end(&held).await;
    assert_eq!(world.laws_hold(&messages), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_session_that_appears_late_are_sent() {
    let world =
        World::builder("late").setting("sender.decisions.unknown_session_hold_ms", 60_000).start().await;
    let _sender = world.run("sender");
    let early: Vec<_> = (0..3).map(|n| Sent::numbered("late", n, 1)).collect();
    world.produce(&early).await;
    eventually(LIMIT, "they wait", || async {
        early.iter().all(|message| world.facts.statuses_of(message.id()).contains(&Status::Accepted))
    })
    .await;
    assert!(world.accepted().is_empty());
    world.put_session("late", InDoubtPolicy::Resend).await;
    world.all_end(&early).await;
    assert_eq!(world.laws_hold(&early), 0);
}
