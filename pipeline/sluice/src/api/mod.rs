//! What every HTTP surface of Sluice shares: problems, authentication, request ids, limits, JSON bodies.

pub mod auth;
pub mod json;
pub mod layers;
pub mod openapi;
pub mod problem;

pub use auth::{Caller, Tokens};
pub use problem::{Kind, Problem};
