//! Kafka stops and starts under edge and sender.

use sluice_testkit::{OwnKafka, eventually};

use crate::world::{LIMIT, Sent, World};

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_nothing_is_accepted_and_afterwards_all_that_was_is_sent() {
    let kafka = OwnKafka::start().await;
    let world = World::builder("outage").sessions(3).limit(10, 1_000).on(&kafka).start().await;
    let mut pipeline = world.run("edge,sender,processor");
    pipeline.ready().await;
    // So many that the outage comes in the middle of sending them.
    let mut accepted = world.messages(0..30, 5);
    for message in &accepted {
        assert_eq!(world.post(message).await.unwrap().status().as_u16(), 202);
    }
    world.provider_has_taken(10).await;
    kafka.stop().await;
    pipeline.probed("/readyz", 503).await;
    assert_eq!(pipeline.probe("/livez").await, 200);
    let refused = Sent::numbered("s0", 1_000, 5);
    let answer = world.post(&refused).await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(answer.text().await.unwrap().contains("urn:sluice:problem:unavailable"));

    kafka.start_again().await;
    pipeline.probed("/readyz", 200).await;
    eventually(LIMIT, "the same message is accepted", || async {
        let answer = world.post(&refused).await.unwrap();
        if answer.status().as_u16() == 202 { Ok(()) } else { Err(answer.status()) }
    })
    .await;
    accepted.push(refused);
    world.all_end(&accepted).await;
    let doubles = world.laws_hold(&accepted);
    println!("{doubles} doubles");
    pipeline.process.sigterm();
    assert_eq!(pipeline.process.wait_exit(LIMIT).await, 0);
}
