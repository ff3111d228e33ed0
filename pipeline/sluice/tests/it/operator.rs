//! What an operator does about single messages: in-doubt list and resolve, message trace.

use serde_json::Value;
use sluice_schemas::{InDoubtPolicy, Status};
use sluice_testkit::eventually;
use sluice_whatsapp::wasender::simulator::{Fault, FaultRule};

use crate::world::{LIMIT, Sent, Shell, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_the_doubts_and_settles_each_as_he_says() {
    let world = World::builder("operator").in_doubt(InDoubtPolicy::Hold).start().await;
    world.provider.add_fault(FaultRule { times: Some(3), ..FaultRule::always(Fault::ResetBeforeAccepting) });
    let sender = world.run("sender");
    let messages = world.messages(0..3, 3);
    let [sent, failed, again] = messages.as_slice() else { panic!("three messages") };
    world.produce(&messages).await;
    let shell = Shell::of(&world).await;
    let listed = eventually(LIMIT, "all three are listed", || async {
        let listed = shell.json(&["in-doubt", "list", "--session", "s0"]);
        if listed.as_array().map(Vec::len) == Some(3) { Ok(listed) } else { Err(listed) }
    })
    .await;
    assert_eq!(ids(&shell.json(&["in-doubt", "list"])), ids(&listed), "of all partitions");
    assert_eq!(shell.json(&["in-doubt", "list", "--older-than", "1d"]), Value::Array(Vec::new()));

    let resolve = |message: &Sent, rest: &[&str]| {
        let id = message.id().to_string();
        shell.sluice(&[&["in-doubt", "resolve", &id, "--session", "s0"], rest].concat())
    };
    let cases = [
        (sent, ["--as", "sent", "--provider-message-id", "4711"], Status::Submitted),
        (failed, ["--as", "failed", "--note", "asked them"], Status::Failed),
        (again, ["--as", "resend", "--note", "nothing came"], Status::Retrying),
    ];
    for (message, rest, settled) in cases {
        let answer = resolve(message, &[&rest[..], &["--wait", "-o", "json"]].concat());
        assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.json()["settled"], settled.as_str());
    }
    world.all_end(&messages).await;
    assert_eq!(world.facts.end_of(failed.id()), Some(Status::Failed));
    assert_eq!(world.facts.end_of(again.id()), Some(Status::Submitted));
    let texts: Vec<_> = world.accepted().into_iter().map(|entry| entry.text).collect();
    assert_eq!(texts, [again.text.as_str()], "only what was to be sent again was");
    let told = world.facts.of(sent.id());
    let told = told.iter().find(|(_, fact)| fact.provider_message_id.as_deref() == Some("4711"));
    assert!(told.is_some(), "the provider's id is on record");

    eventually(LIMIT, "nothing is in doubt any more", || async {
        shell.json(&["in-doubt", "list"]) == Value::Array(Vec::new())
    })
    .await;
    assert_eq!(sender.metric("sluice_in_doubt_resolved_total{how=\"operator\"}").await as usize, 3);
    assert_eq!(resolve(sent, &["--as", "failed"]).code, 4, "it is done");
    let stranger = Sent::numbered("s0", 99, 1);
    assert_eq!(resolve(&stranger, &["--as", "sent"]).code, 3);
    assert_eq!(resolve(sent, &["--as", "failed", "--provider-message-id", "1"]).code, 2);
    assert_eq!(resolve(sent, &["--as", "perhaps"]).code, 2);

    let id = again.id().to_string();
    let trace = shell.json(&["message", "trace", &id, "--session", "s0"]);
    let steps: Vec<(&str, &str)> = trace.as_array().expect("steps").iter().map(step).collect();
    for wanted in [
        ("outbound.requests", "SEND"),
        ("outbound.ledger", "CLAIMED"),
        ("outbound.ledger", "IN_DOUBT"),
        ("messages.status", "ACCEPTED"),
        ("messages.status", "IN_DOUBT"),
        ("messages.status", "RETRYING"),
        ("messages.status", "SUBMITTED"),
    ] {
        assert!(steps.contains(&wanted), "{wanted:?} is not in {steps:?}");
    }
    let details: String =
        trace.as_array().expect("steps").iter().map(|step| step["detail"].to_string()).collect();
    assert!(details.contains("source=OPERATOR") && details.contains("nothing came"), "{details}");
}

/// The messages listed, in order.
fn ids(list: &Value) -> Vec<Value> {
    list.as_array().expect("a list").iter().map(|one| one["message_id"].clone()).collect()
}

fn step(step: &Value) -> (&str, &str) {
    (step["topic"].as_str().expect("a topic"), step["what"].as_str().expect("what"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_finds_the_session_and_tells_the_story_in_order_of_time() {
    let world = World::builder("trace").with_store().start().await;
    let mut pipeline = world.run("edge,sender,processor,reducer");
    pipeline.ready().await;
    let message = Sent::numbered("s0", 0, 1);
    world.produce(std::slice::from_ref(&message)).await;
    let shell = Shell::of(&world).await;
    let id = message.id().to_string();
    let trace = eventually(LIMIT, "the story goes as far as READ", || async {
        let answer = shell.sluice(&["message", "trace", &id, "-o", "json"]);
        let trace = (answer.code == 0).then(|| answer.json());
        let read = |trace: &Value| {
            trace.as_array().expect("steps").iter().any(|one| step(one) == ("messages.state", "READ"))
        };
        trace.filter(read).ok_or(answer.stderr)
    })
    .await;
    let steps = trace.as_array().expect("steps");
    for wanted in
        ["outbound.requests", "outbound.ledger", "messages.status", "webhooks.inbound", "messages.state"]
    {
        assert!(steps.iter().any(|one| step(one).0 == wanted), "{wanted}: {trace}");
    }
    let times: Vec<_> = steps.iter().map(|one| one["at"].as_str().expect("a time")).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(
        steps.iter().any(|one| step(one) == ("messages.status", "READ")),
        "receipts that name it by another id"
    );

    let unknown = Sent::numbered("s0", 99, 1).id().to_string();
    assert_eq!(shell.sluice(&["message", "trace", &unknown]).code, 3);
    assert_eq!(shell.sluice(&["message", "trace", &unknown, "--session", "s0"]).code, 3);
    assert_eq!(shell.sluice(&["message", "trace", "no-uuid"]).code, 2);
}
