//! The WhatsApp HTTP providers: one module per provider, and a simulated provider for each.
//!
//! A [`Connector`] is pure: it builds calls, classifies answers and reads webhooks. [`client`] makes the calls.

use std::sync::Arc;

pub mod baileys;
pub mod client;
pub mod connector;
pub mod json;
pub mod secret;
pub mod wasender;

pub use connector::{Connector, Registry};
pub use secret::Secret;

/// Every connector of this build.
pub fn registry() -> Registry {
    Registry::new(vec![Arc::new(wasender::Wasender)])
}
