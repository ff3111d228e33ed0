//! The sluice binary: roles, settings, telemetry, commands and the one-process dev mode.
//!
//! A library too, so that tests, benches and `dev` run the very functions the binary runs: each role has a
//! `run` that takes what it depends on and a shutdown token. [`deps`] makes what roles share, [`roles`]
//! starts them, [`cli`] is all that `main` calls.

pub mod api;
pub mod brokers;
pub mod cli;
mod consume;
mod dead_letters;
pub mod deps;
pub mod dev;
pub mod directory;
pub mod edge;
pub mod lifecycle;
pub mod processor;
pub mod query;
pub mod reducer;
pub mod roles;
pub mod sealing;
pub mod sender;
pub mod settings;
pub mod stores;
pub mod telemetry;
