//! Runs the torture rig, which is a test of the binary that nobody runs by accident.

use std::process::Stdio;

use anyhow::Result;
use clap::Args;

use crate::project::{self, Project};

/// Of the rig: minutes of faults.
const MINUTES: &str = "SLUICE_TORTURE_MINUTES";
/// Of the rig: seed of the schedule.
const SEED: &str = "SLUICE_TORTURE_SEED";

/// How long, and which faults.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Minutes of faults, before the time to come to rest.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seed of schedule and load; random if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Build the pipeline optimised, which takes minutes the first time.
    #[arg(long)]
    release: bool,
}

impl Options {
    /// The run that goes with all tests: short, and another one each time.
    pub(crate) fn in_ci() -> Self {
        Self { minutes: 2.0, seed: None, release: false }
    }

    /// The command that runs it.
    pub(crate) fn command(&self, project: &Project) -> std::process::Command {
        let mut command = project.cargo(["test", "-p", "sluice", "--test", "torture"]);
        if self.release {
            command.arg("--release");
        }
        command.args(["--", "--ignored", "--nocapture"]).env(MINUTES, self.minutes.to_string());
        if let Some(seed) = self.seed {
            command.env(SEED, seed.to_string());
        }
        command.stdin(Stdio::null());
        command
    }
}

pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    project::run(&mut options.command(project))
}
