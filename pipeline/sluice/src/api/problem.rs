//! Errors of the HTTP surfaces: RFC 9457 `application/problem+json` with stable `type`s.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Every problem there is. Its `type` is `urn:sluice:problem:` and the name in kebab case; it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is not JSON, or not of this request's form.
    InvalidRequest,
    /// The `Idempotency-Key` is missing, empty, too long or not visible ASCII.
    InvalidIdempotencyKey,
    /// The body, batch or message is too large.
    TooLarge,
    /// The headers are too large.
    HeadersTooLarge,
    /// The body did not come in time.
    RequestTimeout,
    /// No bearer token, or one that is not known.
    Unauthorized,
    /// The token may not do this.
    Forbidden,
    /// No such session, or one of another tenant.
    UnknownSession,
    /// No such account, or one of another tenant.
    UnknownAccount,
    /// No such message.
    UnknownMessage,
    /// The message was accepted moments ago and cannot be read yet.
    NotYetVisible,
    /// No such route.
    NotFound,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The id is taken by another tenant.
    IdTaken,
    /// Sessions still refer to the account.
    AccountInUse,
    /// The webhook is not signed, or wrongly.
    WebhookRefused,
    /// No connector of this name in this build.
    UnknownProvider,
    /// The process has just started and does not know the sessions yet.
    Starting,
    /// Too many requests at once.
    Overloaded,
    /// Kafka or the store does not answer; nothing is known to be written: try again with the same key.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl Kind {
    /// Name in the `type`.
    pub const fn slug(self) -> &'static str {
        self.row().0
    }

    /// HTTP status.
    pub const fn status(self) -> StatusCode {
        self.row().1
    }

    /// Title, the same for every problem of the kind.
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidRequest => ("invalid-request", S::BAD_REQUEST, "The request is not valid"),
            Self::InvalidIdempotencyKey => {
                ("invalid-idempotency-key", S::BAD_REQUEST, "The idempotency key is missing or not valid")
            }
            Self::TooLarge => ("too-large", S::PAYLOAD_TOO_LARGE, "The request is too large"),
            Self::HeadersTooLarge => {
                ("headers-too-large", S::REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large")
            }
            Self::RequestTimeout => {
                ("request-timeout", S::REQUEST_TIMEOUT, "The request did not come in time")
            }
            Self::Unauthorized => ("unauthorized", S::UNAUTHORIZED, "A valid bearer token is needed"),
            Self::Forbidden => ("forbidden", S::FORBIDDEN, "The token may not do this"),
            Self::UnknownSession => ("unknown-session", S::NOT_FOUND, "There is no such session"),
            Self::UnknownAccount => ("unknown-account", S::NOT_FOUND, "There is no such account"),
            Self::UnknownMessage => ("unknown-message", S::NOT_FOUND, "There is no such message"),
            Self::NotYetVisible => ("not-yet-visible", S::NOT_FOUND, "The message cannot be read yet"),
            Self::NotFound => ("not-found", S::NOT_FOUND, "There is no such route"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", S::METHOD_NOT_ALLOWED, "The route does not take this method")
            }
            Self::IdTaken => ("id-taken", S::CONFLICT, "The id belongs to another tenant"),
            Self::AccountInUse => ("account-in-use", S::CONFLICT, "Sessions still refer to the account"),
            Self::WebhookRefused => {
                ("webhook-refused", S::UNAUTHORIZED, "The webhook is not signed as it must be")
            }
            Self::UnknownProvider => ("unknown-provider", S::NOT_FOUND, "There is no such provider"),
            Self::Starting => ("starting", S::SERVICE_UNAVAILABLE, "The service is starting"),
            Self::Overloaded => ("overloaded", S::SERVICE_UNAVAILABLE, "Too many requests at once"),
            Self::Unavailable => ("unavailable", S::SERVICE_UNAVAILABLE, "The service cannot do this now"),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "Something went wrong on our side"),
        }
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where: a JSON pointer (RFC 6901) into the body, `header:` and a name, or `query:` and a name.
    #[schema(example = "/content/media/url")]
    pub pointer: String,
    /// What, stable: `missing`, `unknown_field`, `wrong_type`, `invalid`, `too_long`, `not_allowed`, …
    #[schema(example = "missing")]
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

/// A problem (RFC 9457).
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Which.
    pub kind: Kind,
    /// What happened this time; never a secret, never another tenant's.
    pub detail: Option<String>,
    /// What is wrong with the request.
    pub errors: Vec<FieldError>,
    /// After how long to try again, seconds.
    pub retry_after_s: Option<u64>,
}

/// A problem as it is written.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Stable name of the problem, `urn:sluice:problem:…`.
    #[serde(rename = "type")]
    #[schema(rename = "type", example = "urn:sluice:problem:invalid-request")]
    pub type_: String,
    /// Title of the type.
    pub title: &'static str,
    /// HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// What happened this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What is wrong with the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem of `kind`.
    pub fn new(kind: Kind) -> Self {
        Self { kind, detail: None, errors: Vec::new(), retry_after_s: None }
    }

    /// With a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With one more thing that is wrong with the request.
    #[must_use]
    pub fn error(
        mut self,
        pointer: impl Into<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        self.errors.push(FieldError::new(pointer, code, detail));
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// As it is written.
    pub fn body(&self) -> ProblemBody {
        ProblemBody {
            type_: format!("urn:sluice:problem:{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            errors: self.errors.clone(),
        }
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self::new(kind)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (self.kind.status(), [(header::CONTENT_TYPE, content_type)], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
