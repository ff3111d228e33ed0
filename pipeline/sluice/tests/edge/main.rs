//! The edge over real sockets: on the mock cluster what it answers and writes, on a real broker that it survives one.

mod api;
mod bad_input;
mod manage;
mod outage;
mod webhooks;
mod world;
