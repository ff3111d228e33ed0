//! The edge's part of the OpenAPI description.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, openapi};

use super::{accounts, control, messages, sessions};

/// Operations of the API.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(
        messages::send,
        messages::batch,
        messages::cancel,
        sessions::put_session,
        sessions::delete_session,
        accounts::put_account,
        accounts::delete_account,
        control::pause,
        control::resume,
        control::connect,
        control::disconnect,
    ),
    modifiers(&Token),
)]
pub struct Docs;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token of one tenant, or of an operator. Scopes: send, control, read, manage.",
            ))
            .build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}
