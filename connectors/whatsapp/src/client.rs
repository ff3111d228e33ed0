//! The HTTP client: one call, no redirects, no retries, no proxy from the environment, every ending told apart.
//!
//! What matters to the sender is whether bytes of a request may have reached the provider. A refused
//! connection, a failed DNS look-up or TLS handshake and a connect time-out are [`Answer::NotConnected`]:
//! surely not sent. Everything that breaks later is [`Answer::Broken`]: unknown.
//!
//! # The time between a claim and the first byte
//! A claim may be used only for a limited time, also after a slow connect. [`Client::call_if`] takes a check
//! that runs when the connection stands and the body is about to be written; hyper polls the body before it
//! flushes the head, so a check that says no leaves no byte on the wire. Calls without a body (GET, DELETE)
//! cannot be checked this way: for them `connect_timeout_ms` bounds the delay, so keep it below the claim's
//! time to live.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::connector::{Answer, HttpCall, Method};
use crate::secret::Secret;

/// Headers of an answer that connectors read. Kept only for answers outside 2xx.
const KEPT_HEADERS: [&str; 5] =
    ["content-type", "date", "retry-after", "x-ratelimit-reset", "x-ratelimit-remaining"];

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Limits of the client. Each is for one process and holds for every call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientSettings {
    /// DNS, TCP and TLS together, milliseconds. Must be below the claim's time to live.
    pub connect_timeout_ms: u64,
    /// The whole call, connect included, milliseconds.
    pub call_timeout_ms: u64,
    /// Largest body of an answer, bytes; a longer one is cut and the call is `Broken`.
    pub response_bytes_max: usize,
    /// Idle connections kept per host.
    pub idle_per_host_max: usize,
    /// How long an idle connection is kept, milliseconds. Keep it below the provider's own limit: a
    /// connection the provider closes while a request is being written leaves that request in doubt.
    pub idle_timeout_ms: u64,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 3_000,
            call_timeout_ms: 30_000,
            response_bytes_max: 256 * 1024,
            idle_per_host_max: 256,
            idle_timeout_ms: 20_000,
        }
    }
}

/// Why a client or a target cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The TLS or runtime parts of the client failed to start.
    #[error("the HTTP client cannot be built: {0}")]
    Build(#[source] reqwest::Error),
    /// `call_timeout_ms` must be longer than `connect_timeout_ms`.
    #[error("call_timeout_ms ({call_timeout_ms}) must be above connect_timeout_ms ({connect_timeout_ms})")]
    Timeouts {
        /// As set.
        call_timeout_ms: u64,
        /// As set.
        connect_timeout_ms: u64,
    },
    /// The base URL is not an absolute http or https URL.
    #[error("the base URL {0:?} is not an absolute http(s) URL")]
    BaseUrl(String),
    /// The credential cannot stand in a header. Its value is not shown.
    #[error("the credential holds characters that a header cannot carry")]
    Credential,
}

/// How a credential is written into a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthScheme {
    /// `Authorization: Bearer …`.
    Bearer,
    /// The bare credential in a header of this name, in lower case.
    Header(&'static str),
}

/// Where calls go and with which credential. Made once per session or account and reused: it keeps the
/// parsed URLs of its POST routes and the ready header.
pub struct Target {
    base_url: String,
    auth_name: HeaderName,
    auth_value: HeaderValue,
    /// URLs of POST routes met so far; sends use very few, without ids in them.
    urls: [OnceLock<(String, reqwest::Url)>; 4],
}

impl Target {
    /// A target at `base_url` (with or without a final slash), authenticated by `secret`.
    pub fn new(base_url: &str, scheme: AuthScheme, secret: &Secret) -> Result<Self, Error> {
        let base_url = base_url.trim_end_matches('/');
        let parsed = reqwest::Url::parse(base_url).map_err(|_| Error::BaseUrl(base_url.to_owned()))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(Error::BaseUrl(base_url.to_owned()));
        }
        let (auth_name, text) = match scheme {
            AuthScheme::Bearer => (reqwest::header::AUTHORIZATION, format!("Bearer {}", secret.expose())),
            AuthScheme::Header(name) => (
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Credential)?,
                secret.expose().to_owned(),
            ),
        };
        let mut auth_value = HeaderValue::try_from(text).map_err(|_| Error::Credential)?;
        auth_value.set_sensitive(true);
        Ok(Self { base_url: base_url.to_owned(), auth_name, auth_value, urls: Default::default() })
    }

    /// The base URL, without a final slash.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    fn url(&self, call: &HttpCall) -> Option<reqwest::Url> {
        let parse = || reqwest::Url::parse(&format!("{}{}", self.base_url, call.path)).ok();
        if call.method != Method::Post {
            return parse();
        }
        for slot in &self.urls {
            match slot.get() {
                Some((path, url)) if *path == call.path => return Some(url.clone()),
                Some(_) => {}
                None => {
                    let url = parse()?;
                    // Another call may have filled the slot meanwhile; the parsed URL is right all the same.
                    let _ = slot.set((call.path.clone(), url.clone()));
                    return Some(url);
                }
            }
        }
        parse()
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Asks, when the connection stands, whether the call may still be made. Must be quick and must not block.
pub type Check = Box<dyn Fn() -> bool + Send + Sync>;

/// The [`Check`] said no: nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call was not made: its time had run out when the connection stood")]
pub struct Lapsed;

/// Makes calls. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    response_bytes_max: usize,
}

impl Client {
    /// A client with these limits.
    pub fn new(settings: &ClientSettings) -> Result<Self, Error> {
        if settings.call_timeout_ms <= settings.connect_timeout_ms {
            return Err(Error::Timeouts {
                call_timeout_ms: settings.call_timeout_ms,
                connect_timeout_ms: settings.connect_timeout_ms,
            });
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
            .timeout(Duration::from_millis(settings.call_timeout_ms))
            .pool_max_idle_per_host(settings.idle_per_host_max)
            .pool_idle_timeout(Duration::from_millis(settings.idle_timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(Error::Build)?;
        Ok(Self { http, response_bytes_max: settings.response_bytes_max })
    }

    /// Carries out `call`; gives the answer and the duration in milliseconds. `traceparent` is the W3C trace
    /// context to pass on.
    pub async fn call(&self, target: &Target, call: &HttpCall, traceparent: Option<&str>) -> (Answer, u64) {
        let body = call.body.clone().map(reqwest::Body::from);
        self.run(target, call, body, traceparent).await.unwrap_or_else(|Lapsed| {
            // Without a check nothing can lapse; if it ever did, nothing was sent.
            (Answer::NotConnected { detail: Lapsed.to_string() }, 0)
        })
    }

    /// Like [`Client::call`], but asks `check` once more before the first byte of a call with a body is
    /// written. See the module's text.
    pub async fn call_if(
        &self,
        target: &Target,
        call: &HttpCall,
        traceparent: Option<&str>,
        check: Check,
    ) -> Result<(Answer, u64), Lapsed> {
        let body = match &call.body {
            Some(data) => Some(reqwest::Body::wrap(Checked { data: Some(data.clone()), check })),
            None if check() => None,
            None => return Err(Lapsed),
        };
        self.run(target, call, body, traceparent).await
    }

    async fn run(
        &self,
        target: &Target,
        call: &HttpCall,
        body: Option<reqwest::Body>,
        traceparent: Option<&str>,
    ) -> Result<(Answer, u64), Lapsed> {
        let started = Instant::now();
        let answer = match self.request(target, call, body, traceparent) {
            Ok(request) => self.exchange(request).await?,
            Err(detail) => Answer::NotConnected { detail: detail.to_owned() },
        };
        Ok((answer, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)))
    }

    fn request(
        &self,
        target: &Target,
        call: &HttpCall,
        body: Option<reqwest::Body>,
        traceparent: Option<&str>,
    ) -> Result<reqwest::Request, &'static str> {
        let url = target.url(call).ok_or("the path of the call does not make a URL")?;
        let method = match call.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = reqwest::Request::new(method, url);
        let headers = request.headers_mut();
        headers.insert(target.auth_name.clone(), target.auth_value.clone());
        if body.is_some() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if let Some(value) = traceparent.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert("traceparent", value);
        }
        *request.body_mut() = body;
        Ok(request)
    }

    async fn exchange(&self, request: reqwest::Request) -> Result<Answer, Lapsed> {
        let mut response = match self.http.execute(request).await {
            Ok(response) => response,
            Err(error) if has_lapsed(&error) => return Err(Lapsed),
            Err(error) if error.is_connect() || error.is_builder() => {
                return Ok(Answer::NotConnected { detail: describe(error) });
            }
            Err(error) => return Ok(Answer::Broken { detail: describe(error), status: None }),
        };
        let status = response.status();
        let headers = if status.is_success() { BTreeMap::new() } else { kept(response.headers()) };
        let broken = |detail: String| Answer::Broken { detail, status: Some(status.as_u16()) };
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    if first.len() + rest.len() + chunk.len() > self.response_bytes_max {
                        return Ok(broken("the answer is longer than response_bytes_max".to_owned()));
                    }
                    if first.is_empty() {
                        first = chunk;
                    } else {
                        rest.extend_from_slice(&chunk);
                    }
                }
                Ok(None) => break,
                Err(error) => return Ok(broken(describe(error))),
            }
        }
        let body = if rest.is_empty() { first } else { [first, rest.freeze()].concat().into() };
        Ok(Answer::Http { status: status.as_u16(), headers, body })
    }
}

fn kept(headers: &HeaderMap) -> BTreeMap<String, String> {
    KEPT_HEADERS
        .iter()
        .filter_map(|name| {
            let value = headers.get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), value.to_owned()))
        })
        .collect()
}

fn has_lapsed(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.is::<Lapsed>())
}

/// An error and its causes in one line, without the URL (it may name a customer's host or id).
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    for cause in causes(&error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

/// A body that asks before it gives its bytes.
struct Checked {
    data: Option<Bytes>,
    check: Check,
}

impl http_body::Body for Checked {
    type Data = Bytes;
    type Error = Lapsed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Lapsed>>> {
        match self.data.take() {
            Some(data) if (self.check)() => Poll::Ready(Some(Ok(http_body::Frame::data(data)))),
            Some(_) => Poll::Ready(Some(Err(Lapsed))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests;
