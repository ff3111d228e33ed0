//! What handlers take from a request: who calls, ids of the path, the body within its limit.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

use super::Shared;
use super::request::check_key;
use crate::api::{Caller, Kind, Problem};

/// Bytes read and thrown away after a body has gone over its limit, so that the caller can read the answer.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A request of a known caller, its body not read yet.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

impl FromRequest<Shared> for Incoming {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let caller = edge.tokens.authenticate(&parts.headers)?.clone();
        Ok(Self { caller, headers: parts.headers, body })
    }
}

/// The ids of the path.
#[derive(Debug)]
pub(super) struct Ids<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Ids<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Shared) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, edge).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(_) => Err(Problem::new(Kind::NotFound).detail("an id in the path is not UTF-8")),
        }
    }
}

impl Incoming {
    /// The idempotency key of the header.
    pub(super) fn idempotency_key(&self) -> Result<&str, Problem> {
        const POINTER: &str = "header:Idempotency-Key";
        let problem = Problem::new(Kind::InvalidIdempotencyKey);
        let Some(value) = self.headers.get("idempotency-key") else {
            let detail = "send the header Idempotency-Key: the same key and session is the same message";
            return Err(problem.error(POINTER, "missing", detail));
        };
        let key = value.to_str().unwrap_or("\u{0}").trim();
        check_key(key).map(|()| key).map_err(|detail| {
            problem.error(POINTER, if key.is_empty() { "missing" } else { "invalid" }, detail)
        })
    }

    /// The whole body, if it has at most `bytes_max`.
    pub(super) async fn body(self, bytes_max: usize) -> Result<Vec<u8>, Problem> {
        read_body(self.body, bytes_max).await
    }
}

/// Reads a body of at most `bytes_max`.
pub(super) async fn read_body(body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let mut read = Vec::new();
    let mut bytes = 0_usize;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::new(Kind::InvalidRequest).detail(format!("the body broke off: {error}"))
        })?;
        bytes = bytes.saturating_add(chunk.len());
        if bytes <= bytes_max {
            read.extend_from_slice(&chunk);
        } else if bytes > bytes_max.saturating_add(DRAIN_BYTES_MAX) {
            break;
        }
    }
    if bytes > bytes_max {
        return Err(
            Problem::new(Kind::TooLarge).detail(format!("the body may have at most {bytes_max} bytes"))
        );
    }
    Ok(read)
}
