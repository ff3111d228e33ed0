//! `sluice dev` as a user meets it, on free ports.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::dev::demo::{self, Show};
use sluice::dev::{self, Dev, Ports, SETTINGS, TOKEN};
use sluice::lifecycle::Lifecycle;
use sluice::settings;
use sluice_testkit::{eventually, patient};

/// A dev process on free ports; its components stop when the returned task is told to.
async fn start() -> (Dev, tokio::task::JoinHandle<()>, tokio_util::sync::CancellationToken) {
    let options = dev::Options {
        settings: settings::load_over(SETTINGS, None, []).expect("the settings of dev load"),
        kafka: None,
        registry: None,
        scylla: None,
        ports: Ports::Any,
    };
    let mut life = Lifecycle::new(Duration::from_secs(10));
    let dev = Dev::start(options, &mut life).await.expect("dev starts");
    let shutdown = life.shutdown();
    let running = tokio::spawn(async move { life.run().await.expect("dev stops in good order") });
    (dev, running, shutdown)
}

async fn get(http: &reqwest::Client, url: &str) -> Value {
    let answer = http.get(url).bearer_auth(TOKEN).send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_the_printed_line_is_read() {
    let (dev, running, shutdown) = start().await;
    let http = reqwest::Client::new();
    let api = format!("http://{}/v1", dev.addresses.api);
    let sent = http
        .post(format!("{api}/sessions/demo-01/messages"))
        .bearer_auth(TOKEN)
        .header("idempotency-key", "hello-1")
        .json(&json!({"to": "+15551234567", "text": "hi"}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(sent.status(), 202);
    let url = format!("{api}/messages/{}", sluice_schemas::ids::message_id("demo-01", "hello-1"));
    eventually(Duration::from_secs(10), "the message is READ", || async {
        let message = get(&http, &url).await;
        if message["status"] == "READ" { Ok(()) } else { Err(message) }
    })
    .await;
    let taken: Vec<_> = dev.simulator.truth(0).into_iter().map(|entry| entry.text).collect();
    assert_eq!(taken, ["hi"], "the provider got it once");

    let schemas = format!("{}/subjects/wa.outbound.requests-value/versions/latest", dev.addresses.registry);
    let schema = get(&http, &schemas).await;
    assert!(schema["schema"].as_str().is_some_and(|text| text.contains("OutboundCommand")), "{schema}");
    shutdown.cancel();
    running.await.expect("dev stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_of_a_demo_with_faults_balance() {
    let (dev, running, shutdown) = start().await;
    let options = demo::Options { messages: 60, seed: 1, settle_within: patient(Duration::from_secs(90)) };
    let report = demo::run(&dev, options, Show::Nothing).await.expect("the demo runs");
    assert!(report.findings.is_empty(), "{}", report.text);
    assert!(report.text.contains("The books balance"), "{}", report.text);
    shutdown.cancel();
    running.await.expect("dev stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut settings = settings::load_over(SETTINGS, None, []).expect("the settings of dev load");
    settings.edge.listen = taken.local_addr().expect("an address");
    let options = dev::Options { settings, kafka: None, registry: None, scylla: None, ports: Ports::Usual };
    let mut life = Lifecycle::new(Duration::from_secs(10));
    let error = Dev::start(options, &mut life).await.expect_err("the port is taken");
    assert!(format!("{error:#}").starts_with("edge.listen: cannot listen on 127.0.0.1:"), "{error:#}");
}
