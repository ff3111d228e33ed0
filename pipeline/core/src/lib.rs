//! Every decision Sluice makes, with no IO, no clock and no runtime: inputs in, effects out.
//!
//! Time and randomness are arguments. What may not be here: tokio, rdkafka, reqwest, scylla, any clock.

pub mod content;
pub mod fold;
pub mod outcome;
pub mod pool;
pub mod recipient;
pub mod sender;
pub mod time;
