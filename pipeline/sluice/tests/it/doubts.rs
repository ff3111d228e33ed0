//! Attempts in doubt wait for what the webhooks know.

use sluice_kafka::clock::wall_ms;
use sluice_schemas::Status;
use sluice_testkit::eventually;
use sluice_whatsapp::wasender::simulator::{Fault, FaultRule};

use crate::world::{LIMIT, Sent, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_not_decided_before_the_webhooks_of_its_time_are_processed() {
    let world = World::builder("watermark")
        .setting("sender.watermark.interval_ms", 100)
        .setting("sender.watermark.warn_after_ms", 500)
        .start()
        .await;
    // It is taken, and the answer is lost: only its echo, which the edge writes down, tells so.
    world.provider.add_fault(FaultRule { times: Some(1), ..FaultRule::always(Fault::ResetAfterAccepting) });
    let mut sender = world.run("edge,sender");
    sender.ready().await;
    let message = Sent::numbered("s0", 0, 1);
    world.produce(std::slice::from_ref(&message)).await;
    let decide_at = eventually(LIMIT, "the attempt is in doubt", || async {
        let told = world.facts.of(message.id());
        told.iter().find(|(_, fact)| fact.status == Status::InDoubt).and_then(|(_, fact)| fact.wait_until)
    })
    .await;

    // The policy is to send again. The time comes, and passes, and the processor does not run.
    eventually(LIMIT, "the sender says what it waits for", || async {
        let late = wall_ms() > decide_at + 3_000;
        let behind = sender.metric("sluice_watermark_behind").await;
        let waited = sender.metric("sluice_watermark_wait_seconds").await;
        let warned = sender.process.log_text().contains("wait for the processor");
        if late && behind >= 1.0 && waited > 0.0 && warned {
            Ok(())
        } else {
            Err((late, behind, waited, warned))
        }
    })
    .await;
    assert_eq!(world.accepted().len(), 1, "decided on ignorance");
    assert_eq!(world.facts.statuses_of(message.id()).last(), Some(&Status::InDoubt));

    let _processor = world.run("processor");
    world.all_end(std::slice::from_ref(&message)).await;
    assert_eq!(world.facts.end_of(message.id()), Some(Status::Submitted), "the echo is the evidence");
    assert_eq!(world.accepted().len(), 1, "and nothing was sent twice");
    eventually(LIMIT, "nothing waits any more", || async {
        sender.metric("sluice_watermark_behind").await as u64 == 0
            && sender.metric("sluice_in_doubt_open").await as u64 == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_webhook_a_doubt_waits_for_no_processor() {
    let world = World::builder("watermark_none").start().await;
    // It never arrived, and no processor ever ran here: there is nothing to wait for.
    world.provider.add_fault(FaultRule { times: Some(1), ..FaultRule::always(Fault::ResetBeforeAccepting) });
    let _sender = world.run("sender");
    let message = Sent::numbered("s0", 0, 1);
    world.produce(std::slice::from_ref(&message)).await;
    world.all_end(std::slice::from_ref(&message)).await;
    assert_eq!(world.facts.end_of(message.id()), Some(Status::Submitted));
    assert!(
        world.facts.statuses_of(message.id()).contains(&Status::InDoubt),
        "sent again with the doubt on record"
    );
}
