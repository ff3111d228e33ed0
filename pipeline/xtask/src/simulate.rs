//! Plays the deterministic simulation in release: thousands of seeds in a debug build would take an hour.

use anyhow::Result;

use crate::project::{self, Project};

/// Seeds in every run of CI.
pub(crate) const SEEDS_IN_CI: u64 = 2_000;

/// Builds the simulation and runs it with `arguments`; an error when a law is broken.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    let mut command = project.cargo(["run", "--quiet", "--release", "--package", "sluice-simulation", "--"]);
    project::run(command.args(arguments))
}
