//! The pipeline on real Kafka, Cassandra and a schema registry, with the real binary as processes. The provider
//! is simulated over real HTTP, and its truth log counts.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "the world is a test, too")]

mod bad_input;
mod cli;
mod controls;
mod crash;
mod doubts;
mod end_to_end;
mod holds;
mod offsets;
mod operator;
mod outage;
mod processor;
mod producers;
mod query;
mod rebalance;
mod reducer;
mod replay;
mod resume;
#[allow(dead_code, unused_imports, reason = "the torture rig uses the rest")]
mod world;
