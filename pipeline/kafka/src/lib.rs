//! Sluice's only door to Kafka and to the schema registry.
//!
//! Nothing of rdkafka's is in the public interface but error values. Every client runs on threads of its own;
//! no call here blocks a runtime's worker.

pub mod clock;
pub mod dead_letters;
pub mod frontier;
pub mod group;
mod mailbox;
pub mod mock;
pub mod owner;
pub mod producer;
pub mod progress;
pub mod record;
pub mod registry;
mod repeats;
mod served;
pub mod settings;
pub mod table;
pub mod tail;
pub mod topics;
