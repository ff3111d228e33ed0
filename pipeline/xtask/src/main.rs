//! Project chores, the same here and in CI. `cargo xtask --help` lists them.

mod check;
mod corpus;
mod generate;
mod project;
mod servers;
mod simulate;
mod test;
mod tools;
mod torture;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::project::Project;

/// Project chores of Sluice.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check what a change must keep: format, lints, house rules, licences, generated files, the Helm chart.
    Check {
        /// Only these checks; all if none is named.
        only: Vec<check::Name>,
    },
    /// Build, start Kafka, a CQL server and a schema registry, run every test, print the totals.
    ///
    /// When no test is named, a short torture run and the simulation go with them.
    ///
    /// Servers named by SLUICE_TEST_KAFKA, SLUICE_TEST_CQL and SLUICE_TEST_REGISTRY, or kept by `servers up`, are
    /// used instead of new ones.
    Test {
        /// Passed to `cargo test`, for example `-p sluice-kafka` or `-- a_name`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the whole pipeline under load while processes, broker, provider and links fail on a seeded schedule, and
    /// read the books at the end. Fails if a law is broken, and says for which messages.
    Torture(torture::Options),
    /// Keep test servers running, so that tests run by hand start faster.
    Servers {
        #[command(subcommand)]
        action: servers::Action,
    },
    /// Write the generated files.
    Generate {
        /// Write nothing; fail if a file is not current.
        #[arg(long)]
        check: bool,
    },
    /// Play the sender on random schedules of everything that can go wrong, and check its laws.
    #[command(disable_help_flag = true)]
    Simulate {
        /// `--seeds N`, `--from F`, `--seed S` to replay one with its trace, `--planted NAME|all`; or `--help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the connectors over a folder of captured provider samples and print what each came to.
    Corpus {
        /// The folder with the samples and their index.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let project = Project::find()?;
    match cli.chore {
        Chore::Check { only } => check::run(&project, &only),
        Chore::Test { arguments } => test::run(&project, &arguments),
        Chore::Torture(options) => torture::run(&project, &options),
        Chore::Servers { action } => servers::run(action),
        Chore::Generate { check: false } => generate::write(&project),
        Chore::Generate { check: true } => generate::check(&project),
        Chore::Simulate { arguments } => simulate::run(&project, &arguments),
        Chore::Corpus { dir } => corpus::run(&project, &dir),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
