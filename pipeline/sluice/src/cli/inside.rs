//! The API inside the command's own process: a command validates, seals and writes exactly as a request over HTTP
//! does, because it is one, only without a socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::{Router, body};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::failure::Failure;
use crate::api::auth::token_sha256;
use crate::deps::Deps;
use crate::edge::Edge;
use crate::lifecycle::{Error, Lifecycle};
use crate::query;
use crate::settings::{Settings, Token};

/// How long Kafka, the registry and the directory may take to answer a command.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time to end what was begun.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The API, acting for all tenants.
pub(super) struct Inside {
    /// What commands share with roles.
    pub(super) deps: Deps,
    routes: Router,
    token: String,
    running: tokio::task::JoinHandle<Result<(), Error>>,
    shutdown: CancellationToken,
}

impl Inside {
    /// Opens it and waits until the directory has been read.
    ///
    /// # Errors
    /// If Kafka or the registry does not answer in time, or the topics are not as they must be.
    pub(super) async fn open(mut settings: Settings) -> Result<Self, Failure> {
        let token = Uuid::new_v4().to_string();
        settings.auth.tokens = vec![Token {
            name: "cli".to_owned(),
            sha256: token_sha256(&token),
            tenant_id: "*".to_owned(),
            scopes: Vec::new(),
        }];
        // Beside a running process nothing may be listened on that it needs.
        settings.admin.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bootstrap = settings.kafka.bootstrap_servers.clone();
        let mut life = Lifecycle::new(STOP_TIMEOUT);
        let shutdown = life.shutdown();
        let opening = async {
            let deps = Deps::open(settings, &mut life).await?;
            let routes = Edge::open(&deps)?.routes().merge(query::router(query::Deps::of(&deps)));
            anyhow::Ok((deps, routes))
        };
        let no_answer = || {
            Failure::Failed(anyhow::anyhow!(
                "no answer from Kafka ({bootstrap}) or the schema registry within {} s; `sluice doctor` finds out \
                 which and why",
                START_TIMEOUT.as_secs()
            ))
        };
        let opened = tokio::time::timeout(START_TIMEOUT, opening).await;
        let (deps, routes) = opened.map_err(|_| no_answer())??;
        let mut running = tokio::spawn(life.run());
        tokio::select! {
            () = deps.directory.loaded() => {}
            ended = &mut running => {
                return Err(Failure::Failed(match ended {
                    Ok(Err(error)) => error.into(),
                    Ok(Ok(())) => anyhow::anyhow!("stopped before the directory was read"),
                    Err(error) => error.into(),
                }));
            }
            () = tokio::time::sleep(START_TIMEOUT) => return Err(no_answer()),
        }
        Ok(Self { deps, routes, token, running, shutdown })
    }

    /// Makes a request.
    ///
    /// # Errors
    /// The problem that the API answers with.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Value, Failure> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = call.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let body = call.body.map_or_else(Body::empty, |bytes| Body::from(bytes.to_vec()));
        let request = request.body(body).map_err(|error| Failure::Usage(error.to_string()))?;
        let response = match self.routes.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status();
        let bytes =
            body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await.map_err(anyhow::Error::from)?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() { Ok(value) } else { Err(failure(status, &value)) }
    }

    /// Ends what runs, so that nothing sent is left unacknowledged.
    pub(super) async fn close(self) {
        self.shutdown.cancel();
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.running).await;
    }
}

/// One request.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    /// HTTP method.
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: &'a str,
    /// The header of that name.
    pub(super) idempotency_key: Option<&'a str>,
    /// JSON body.
    pub(super) body: Option<&'a [u8]>,
}

/// The failure that a problem is, with everything the problem says.
fn failure(status: StatusCode, problem: &Value) -> Failure {
    let text = |pointer: &str| problem.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut message = text("/title").to_owned();
    if !text("/detail").is_empty() {
        message = format!("{message}: {}", text("/detail"));
    }
    for error in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        message = format!("{message}\n  {}: {}", part("pointer"), part("detail"));
    }
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound(message),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Failure::Usage(message),
        StatusCode::CONFLICT | StatusCode::FORBIDDEN => Failure::Refused(message),
        _ => Failure::Failed(anyhow::anyhow!("{message}")),
    }
}

/// A path segment with everything escaped that does not stand for itself (RFC 3986, unreserved characters).
pub(super) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_becomes_the_exit_code_that_stands_for_it_and_says_all_it_says() {
        let problem = serde_json::json!({"title": "Bad", "detail": "why",
            "errors": [{"pointer": "/to", "code": "missing", "detail": "must be given"}]});
        let failed = failure(StatusCode::BAD_REQUEST, &problem);
        assert_eq!(failed.exit_code(), 2);
        assert_eq!(failed.to_string(), "Bad: why\n  /to: must be given");
        for (status, code) in [(404, 3), (409, 4), (403, 4), (503, 1), (500, 1)] {
            assert_eq!(
                failure(StatusCode::from_u16(status).unwrap(), &problem).exit_code(),
                code,
                "{status}"
            );
        }
    }

    #[test]
    fn an_id_cannot_leave_its_path_segment() {
        assert_eq!(segment("a/b?c#d é"), "a%2Fb%3Fc%23d%20%C3%A9");
    }
}
