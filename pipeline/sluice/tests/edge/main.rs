//! The edge over real sockets: on the mock cluster what it answers and writes, on a real broker that it
//! survives one.

#![allow(clippy::unwrap_used, reason = "the world is a test, too")]

mod api;
mod bad_input;
mod manage;
mod outage;
mod webhooks;
mod world;
