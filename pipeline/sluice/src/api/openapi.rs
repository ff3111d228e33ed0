//! The OpenAPI description of the HTTP surfaces, made from the code.

use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(info(title = "Sluice", description = "Sends WhatsApp messages and tells what became of them."))]
struct Base;

/// The whole description as JSON.
///
/// # Errors
/// If it cannot be written; a test writes it.
pub fn document() -> serde_json::Result<String> {
    Base::openapi().to_pretty_json()
}
