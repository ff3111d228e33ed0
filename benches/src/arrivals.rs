//! A provider that writes down which message came when, and through which sender.
//!
//! Messages are numbered `session * PER_SESSION + k`.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;

use crate::sink::{Answer, answer, now_us, read_text};

/// Numbers of one session.
pub(crate) const PER_SESSION: usize = 1_000_000;

/// One call, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) session: usize,
    pub(crate) number: usize,
    /// Wall µs at which its request was produced.
    pub(crate) produced_us: u64,
    /// Wall µs at which the call came.
    pub(crate) at_us: u64,
    /// The key it came with; each sender has one of its own.
    pub(crate) key: Arc<str>,
}

/// The provider.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    all: Arc<Mutex<Vec<Arrival>>>,
    port: u16,
}

impl Arrivals {
    /// One that answers at once.
    pub(crate) async fn start() -> Result<Self> {
        Self::serve(post(take)).await
    }

    /// One that takes calls and never answers.
    pub(crate) async fn start_hung() -> Result<Self> {
        Self::serve(post(hang)).await
    }

    async fn serve(send: axum::routing::MethodRouter<Self>) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let arrivals = Self { all: Arc::default(), port: listener.local_addr()?.port() };
        let router = Router::new().route("/api/send-message", send).with_state(arrivals.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(arrivals)
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port)
    }

    /// Everything that came so far, in the order it came.
    pub(crate) fn all(&self) -> Vec<Arrival> {
        self.lock().clone()
    }

    /// How many came.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn note(&self, headers: &HeaderMap, body: &str) -> usize {
        let key = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut all = self.lock();
        if let Some((number, produced_us)) = read_text(body) {
            all.push(Arrival {
                session: number / PER_SESSION,
                number,
                produced_us,
                at_us: now_us(),
                key: key.into(),
            });
        }
        all.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arrival>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(arrivals): State<Arrivals>, headers: HeaderMap, body: String) -> Answer {
    answer(arrivals.note(&headers, &body))
}

async fn hang(State(arrivals): State<Arrivals>, headers: HeaderMap, body: String) -> Answer {
    arrivals.note(&headers, &body);
    std::future::pending().await
}
