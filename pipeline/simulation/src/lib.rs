//! The deterministic simulation: the real sender state machine, several owners of one ledger partition, and a world
//! in which everything goes wrong that can: crashes, freezes, hand-overs, late and lost appends, compaction, a
//! provider that answers what it likes. The laws are checked at each step and at rest.
//!
//! One seed is one run, the same every time. [`play`] plays one; [`campaign`] plays many.

pub mod campaign;

mod calls;
mod disk;
mod faults;
mod laws;
mod log;
mod owner;
mod plan;
mod provider;
mod rng;
mod topics;
mod world;

pub use sluice_core::sender::Planted;

use world::World;

/// One run that was played.
#[derive(Debug, Clone)]
pub struct Run {
    /// The law that broke first, if one did.
    pub broken: Option<String>,
    /// What happened, a line each; empty unless it was asked for.
    pub trace: Vec<String>,
}

/// Plays one seed, with one rule of the sender switched off if `planted` names it.
pub fn play(seed: u64, planted: Option<Planted>) -> Run {
    finish(World::new(seed, planted, false))
}

/// The same, and keeps a trace.
pub fn trace(seed: u64, planted: Option<Planted>) -> Run {
    finish(World::new(seed, planted, true))
}

fn finish(mut world: World) -> Run {
    world.play();
    Run { broken: world.broken, trace: world.trace.unwrap_or_default() }
}
