//! The sluice binary: roles, settings, telemetry, commands and the one-process dev mode.

pub mod cli;
mod dead_letters;
pub mod processor;
pub mod query;
