//! What every request of a listener goes through: id, header limit, in-flight limit, time limit, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::problem::{Kind, Problem};
use crate::telemetry::metrics::Metrics;

/// Names one request in answers and logs.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id taken over from a caller, bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The limits of a listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Name of the listener, for metrics.
    pub listener: &'static str,
    /// Largest sum of header names and values, bytes.
    pub header_bytes_max: usize,
    /// Requests at once.
    pub in_flight_max: usize,
    /// A request is answered within this time.
    pub request_timeout: Duration,
    /// What `Retry-After` says when there are too many at once, seconds.
    pub retry_after_s: u64,
}

#[derive(Debug)]
struct Guard {
    limits: Limits,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

/// `router` with the limits around it, and problems for routes it does not have.
pub fn around(router: Router, limits: Limits, metrics: Arc<Metrics>) -> Router {
    let guard = Arc::new(Guard { permits: Semaphore::new(limits.in_flight_max), limits, metrics });
    router
        .fallback(|| async { Problem::new(Kind::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::new(Kind::MethodNotAllowed) })
        .layer(middleware::from_fn_with_state(guard, pass))
}

async fn pass(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();

    let listener = guard.limits.listener;
    let in_flight = guard.metrics.http_in_flight.with_label_values(&[listener]);
    in_flight.inc();
    let mut response = admit(&guard, request, next).await;
    in_flight.dec();

    response.headers_mut().insert(REQUEST_ID, id);
    let metrics = &guard.metrics;
    metrics.http_requests.with_label_values(&[listener, &route, response.status().as_str()]).inc();
    metrics
        .http_request_seconds
        .with_label_values(&[listener, &route])
        .observe(start.elapsed().as_secs_f64());
    response
}

async fn admit(guard: &Guard, request: Request, next: Next) -> Response {
    let limits = &guard.limits;
    let header_bytes: usize = request.headers().iter().map(|(k, v)| k.as_str().len() + v.len()).sum();
    if header_bytes > limits.header_bytes_max {
        return Problem::new(Kind::HeadersTooLarge)
            .detail(format!("the headers have {header_bytes} bytes; at most {}", limits.header_bytes_max))
            .into_response();
    }
    let Ok(_permit) = guard.permits.try_acquire() else {
        return Problem::new(Kind::Overloaded).retry_after_s(limits.retry_after_s).into_response();
    };
    match tokio::time::timeout(limits.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(Kind::RequestTimeout)
            .detail(format!("not done within {} ms", limits.request_timeout.as_millis()))
            .into_response(),
    }
}

fn request_id(request: &Request) -> HeaderValue {
    let usable = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    request.headers().get(&REQUEST_ID).filter(usable).cloned().unwrap_or_else(|| {
        // A UUID is always a valid header value.
        HeaderValue::from_str(&Uuid::now_v7().to_string()).unwrap_or(HeaderValue::from_static("-"))
    })
}
