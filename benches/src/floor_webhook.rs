//! The bare floor of the webhook edge: axum → rdkafka produce, 200 after the ack. No verification, no stripping,
//! no limits, no record around the body.

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    port: u16,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &args.bootstrap)
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .create()?;
    let topic: std::sync::Arc<str> = args.topic.into();
    let router = Router::new()
        .route("/webhooks/wasender/{session}", post(take))
        .route("/readyz", get(|| async { "ready" }))
        .with_state((producer, topic));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", args.port)).await?;
    Ok(axum::serve(listener, router).await?)
}

async fn take(
    State((producer, topic)): State<(FutureProducer, std::sync::Arc<str>)>,
    Path(session): Path<String>,
    body: Bytes,
) -> StatusCode {
    let record = FutureRecord::to(&topic).key(&session).payload(&body[..]);
    match producer.send(record, Timeout::After(std::time::Duration::from_secs(5))).await {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
