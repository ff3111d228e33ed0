//! A small client of our own API: one connection, JSON in and out. Dev mode uses the API as anybody would.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A call takes no longer than this.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The connection cannot be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The request cannot be built.
    #[error("the request cannot be built: {0}")]
    Request(#[from] hyper::http::Error),
    /// The exchange broke off.
    #[error("the exchange broke off: {0}")]
    Exchange(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    Late,
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Method.
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    /// The idempotency key, if it needs one.
    pub(super) key: Option<String>,
    /// The body, if it has one.
    pub(super) body: Option<Value>,
}

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), key: None, body: None }
    }

    pub(super) fn put(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PUT, path: path.into(), key: None, body: Some(body) }
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self { method: Method::POST, path: path.into(), key: None, body: None }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    /// HTTP status.
    pub(super) status: u16,
    /// The body; null if it is no JSON.
    pub(super) body: Value,
}

/// A client with one connection, made anew when it is lost.
#[derive(Debug)]
pub(super) struct Http {
    address: SocketAddr,
    token: &'static str,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    pub(super) fn new(address: SocketAddr, token: &'static str) -> Self {
        Self { address, token, connection: None }
    }

    /// Makes a call.
    pub(super) async fn call(&mut self, call: &Call) -> Result<Reply, Error> {
        let answered = tokio::time::timeout(CALL_TIMEOUT, self.exchange(call)).await;
        let reply = answered.unwrap_or(Err(Error::Late));
        if reply.is_err() {
            self.connection = None;
        }
        reply
    }

    async fn exchange(&mut self, call: &Call) -> Result<Reply, Error> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = call.body.as_ref().map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)))?;
        let response = self.connected().await?.send_request(request).await?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok(Reply { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Error> {
        let mut live = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        live.ready().await?;
        Ok(self.connection.insert(live))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let failed = |source| Error::Connect { address: self.address, source };
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        // It ends with the connection; what goes wrong is told to the call.
        tokio::spawn(async move { driver.await.ok() });
        Ok(connection)
    }
}
