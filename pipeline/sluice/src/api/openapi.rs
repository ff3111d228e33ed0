//! The OpenAPI description of the HTTP surfaces, made from the code.

use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice",
        description = "Sends WhatsApp messages through HTTP providers and tells what became of them. Every error is \
                       RFC 9457 problem+json with a stable type. Every answer has X-Request-Id."
    ),
    tags(
        (name = "messages", description = "Sending and canceling"),
        (name = "sessions", description = "Sender identities (WhatsApp numbers)"),
        (name = "accounts", description = "Credentials and base URLs at providers"),
    )
)]
struct Base;

/// The whole description as JSON: the API's and the reads'.
///
/// # Errors
/// If it cannot be written; a test writes it.
pub fn document() -> serde_json::Result<String> {
    let mut document = Base::openapi();
    document.merge(crate::edge::Docs::openapi());
    document.merge(crate::query::Docs::openapi());
    document.to_pretty_json()
}
