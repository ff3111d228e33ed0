//! `sluice dev` as a user meets it, on free ports.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::dev::demo::{self, Show};
use sluice::dev::{self, Dev, Ports, SETTINGS, TOKEN};
use sluice::lifecycle::Lifecycle;
use sluice::settings;
use sluice_testkit::{EphemeralPrefix, eventually, patient, unique};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A dev process on free ports.
struct Running {
    dev: Dev,
    shutdown: CancellationToken,
    components: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.components.await.expect("dev stopped");
    }
}

/// With nothing but itself.
fn alone() -> dev::Options {
    dev::Options {
        settings: settings::load_over(SETTINGS, None, []).expect("the settings of dev load"),
        kafka: None,
        registry: None,
        scylla: None,
        ports: Ports::Any,
    }
}

async fn start(options: dev::Options) -> Running {
    let mut life = Lifecycle::new(Duration::from_secs(10));
    let dev = Dev::start(options, &mut life).await.expect("dev starts");
    let shutdown = life.shutdown();
    let components = tokio::spawn(async move { life.run().await.expect("dev stops in good order") });
    Running { dev, shutdown, components }
}

async fn demo_balances(dev: &Dev) {
    let options = demo::Options { messages: 60, seed: 1, settle_within: patient(Duration::from_secs(90)) };
    let report = demo::run(dev, options, Show::Nothing).await.expect("the demo runs");
    assert!(report.findings.is_empty(), "{}", report.text);
    assert!(report.text.contains("The books balance"), "{}", report.text);
}

async fn get(http: &reqwest::Client, url: &str) -> Value {
    let answer = http.get(url).bearer_auth(TOKEN).send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_of_the_printed_line_is_read() {
    let running = start(alone()).await;
    let dev = &running.dev;
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
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_of_a_demo_with_faults_balance() {
    let running = start(alone()).await;
    demo_balances(&running.dev).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_balance_on_real_servers_too() {
    let (kafka, registry, cql) =
        tokio::join!(sluice_testkit::kafka(), sluice_testkit::registry(), sluice_testkit::cql());
    let prefix = EphemeralPrefix::new("dev");
    let mut options = alone();
    options.settings.kafka.topic_prefix = prefix.as_str().to_owned();
    options.settings.kafka.group_prefix = prefix.as_str().to_owned();
    options.settings.store.keyspace = unique("dev");
    options.kafka = Some(kafka.bootstrap().to_owned());
    options.registry = Some(registry);
    options.scylla = Some(vec![cql]);
    let running = start(options).await;
    demo_balances(&running.dev).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut options = dev::Options { ports: Ports::Usual, ..alone() };
    options.settings.edge.listen = taken.local_addr().expect("an address");
    let mut life = Lifecycle::new(Duration::from_secs(10));
    let error = Dev::start(options, &mut life).await.expect_err("the port is taken");
    assert!(format!("{error:#}").starts_with("edge.listen: cannot listen on 127.0.0.1:"), "{error:#}");
}
