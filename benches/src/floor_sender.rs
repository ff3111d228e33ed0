//! The bare floor of the sender: rdkafka consume → reqwest POST → rdkafka produce, nothing else. No ledger, no
//! order, no limits, no retry, no dedupe: what any program that does this job at all must spend.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use sluice_kafka::registry::Codecs;
use sluice_schemas::OutboundCommand;
use sluice_schemas::topics::Topic;
use tokio::sync::Semaphore;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    requests: String,
    #[arg(long)]
    results: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    url: String,
    #[arg(long)]
    ready_port: u16,
    #[arg(long)]
    concurrency: usize,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.bootstrap)
        .set("group.id", &args.group)
        .set("enable.auto.commit", "true")
        .set("auto.offset.reset", "earliest")
        .create()?;
    consumer.subscribe(&[&args.requests])?;
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &args.bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()?;
    let producer = Arc::new(producer);
    let client = reqwest::Client::builder().pool_max_idle_per_host(args.concurrency).build()?;
    let url: reqwest::Url = format!("{}/send-message", args.url).parse()?;
    let commands = Codecs::fixed().codec::<OutboundCommand>(Topic::OutboundRequests);
    let slots = Arc::new(Semaphore::new(args.concurrency));
    let results: Arc<str> = args.results.into();
    tokio::spawn(ready_when_assigned(args.ready_port));
    loop {
        let message = consumer.recv().await?;
        let command = commands.decode_bytes(message.payload().context("a request without a value")?, None)?;
        let key = message.key().map(<[u8]>::to_vec).unwrap_or_default();
        let slot = slots.clone().acquire_owned().await?;
        let (client, url, producer, results) =
            (client.clone(), url.clone(), producer.clone(), results.clone());
        tokio::spawn(async move {
            let body = format!(
                "{{\"to\":\"{}\",\"text\":\"{}\"}}",
                command.to.as_deref().unwrap_or_default(),
                command.text.as_deref().unwrap_or_default()
            );
            let answer = client
                .post(url)
                .header("authorization", "Bearer bench-key")
                .header("content-type", "application/json")
                .body(body)
                .send()
                .await;
            if let Ok(answer) = answer
                && let Ok(body) = answer.bytes().await
            {
                let record = BaseRecord::to(&results).key(&key).payload(&body[..]);
                if let Err((error, _)) = producer.send(record) {
                    eprintln!("result not produced: {error}");
                }
            }
            drop(slot);
        });
    }
}

/// A port that answers once the process runs; the bench waits for it.
async fn ready_when_assigned(port: u16) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let router = axum::Router::new().route("/readyz", axum::routing::get(|| async { "ready" }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(axum::serve(listener, router).await?)
}
