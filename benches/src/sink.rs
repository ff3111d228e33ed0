//! The provider side of the sender bench: answers a send at once, checks each message off, notes its latency.
//!
//! The text of a message is `n:produced_us`; the sink trusts nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::post;

/// What arrived.
#[derive(Debug, Default)]
struct Arrived {
    seen: Vec<bool>,
    count: usize,
    twice: usize,
    latencies_us: Vec<u64>,
}

/// The sink.
#[derive(Debug, Clone)]
pub(crate) struct Sink {
    arrived: Arc<Mutex<Arrived>>,
    port: u16,
}

/// The text of message `n`, stamped now.
pub(crate) fn text(n: usize) -> String {
    format!("{n}:{}", now_us())
}

/// The wall clock, µs.
pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(0))
}

impl Sink {
    /// Serves on a free port until the process ends.
    pub(crate) async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let sink = Self { arrived: Arc::default(), port: listener.local_addr()?.port() };
        let router = Router::new().route("/api/send-message", post(take)).with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(sink)
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port)
    }

    /// Expects `count` messages from now on.
    pub(crate) fn expect(&self, count: usize) {
        *self.lock() = Arrived { seen: vec![false; count], ..Arrived::default() };
    }

    /// Waits until all are in; then each must have come once.
    pub(crate) async fn all(&self, limit: Duration) -> Result<Vec<u64>> {
        let end = Instant::now() + limit;
        loop {
            {
                let arrived = self.lock();
                if arrived.count == arrived.seen.len() {
                    ensure!(arrived.twice == 0, "{} messages came twice", arrived.twice);
                    return Ok(arrived.latencies_us.clone());
                }
                let (count, expected) = (arrived.count, arrived.seen.len());
                ensure!(Instant::now() < end, "only {count} of {expected} messages arrived in {limit:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(sink): State<Sink>, body: String) -> Answer {
    let mut arrived = sink.lock();
    if let Some((n, at)) = read_text(&body)
        && n < arrived.seen.len()
    {
        if std::mem::replace(&mut arrived.seen[n], true) {
            arrived.twice += 1;
        } else {
            arrived.count += 1;
            arrived.latencies_us.push(now_us().saturating_sub(at));
        }
    }
    let id = arrived.count;
    drop(arrived);
    answer(id)
}

/// An answer as Wasender gives it.
pub(crate) type Answer = ([(&'static str, &'static str); 1], String);

/// Number and stamp of the message in a call's body.
pub(crate) fn read_text(body: &str) -> Option<(usize, u64)> {
    let (_, rest) = body.split_once("\"text\":\"")?;
    let (n, at) = rest.split_once('"')?.0.split_once(':')?;
    Some((n.parse().ok()?, at.parse().ok()?))
}

/// Says that a message was taken, under this id.
pub(crate) fn answer(id: usize) -> Answer {
    let body =
        format!("{{\"success\":true,\"data\":{{\"msgId\":{id},\"jid\":\"+1\",\"status\":\"in_progress\"}}}}");
    ([("content-type", "application/json")], body)
}
