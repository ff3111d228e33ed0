//! What operators and platforms ask for while messages wait.

use sluice_schemas::Status;
use sluice_testkit::eventually;

use crate::world::{LIMIT, Sent, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_a_cancel_ends_and_a_resume_releases() {
    let world = World::builder("controls").sessions(2).start().await;
    let mut pipeline = world.run("edge,sender");
    pipeline.ready().await;
    pipeline.owns("the sender takes all", |owned| owned == 8).await;
    world.control("s0", "pause").await;
    // The pause is in force once the answer came: everything behind it waits.
    let messages = world.messages(0..5, 2);
    for message in &messages {
        assert_eq!(world.post(message).await.unwrap().status().as_u16(), 202);
    }
    let (held, flowing): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.session == "s0");
    world.all_end(&flowing).await;
    eventually(LIMIT, "the held ones say so", || async {
        held.iter().all(|message| {
            let told = world.facts.of(message.id());
            told.iter().any(|(_, fact)| fact.wait_reason.as_deref() == Some("session_paused"))
        })
    })
    .await;
    assert!(world.accepted().iter().all(|entry| entry.session == "s1"), "a paused session sent");

    // Also of a message that is still to come.
    let early = Sent::numbered("s0", 100, 2);
    for id in [held[1].id(), early.id()] {
        world.control("s0", &format!("messages/{id}/cancel")).await;
    }
    assert_eq!(world.post(&early).await.unwrap().status().as_u16(), 202);
    let canceled = [held[1].clone(), early];
    world.all_end(&canceled).await;
    for message in &canceled {
        assert_eq!(world.facts.end_of(message.id()), Some(Status::Canceled), "{message:?}");
    }

    world.control("s0", "resume").await;
    world.all_end(&held).await;
    let sent: Vec<_> = world.accepted().into_iter().filter(|entry| entry.session == "s0").collect();
    let kept: Vec<_> = held.iter().filter(|message| message.id() != held[1].id()).collect();
    assert_eq!(sent.len(), kept.len());
    assert!(kept.iter().all(|message| sent.iter().any(|entry| entry.text == message.text)));
    world.chats_are_in_order(&held);
}
