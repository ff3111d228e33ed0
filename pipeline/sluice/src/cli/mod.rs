//! Commands: arguments in, an exit code out. `args` is the command line, each other file carries out commands.

pub(crate) mod args;
mod config;
mod dead_letters;
mod desk;
mod dev;
mod directory;
mod doctor;
pub(crate) mod failure;
mod in_doubt;
mod inside;
mod ledger;
mod messages;
pub(crate) mod output;
mod replay;
mod run;
mod schemas;
mod simulate;
mod store;
mod topics;
mod trace;
pub(crate) mod when;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command};
use self::failure::Failure;
use crate::settings::{self, Settings};

/// A second signal came while stopping.
pub(crate) const INTERRUPTED: u8 = 130;

/// Carries out the process's command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    carry_out(&cli).unwrap_or_else(|failure| {
        eprintln!("sluice: {failure}");
        ExitCode::from(failure.exit_code())
    })
}

fn carry_out(cli: &Cli) -> Result<ExitCode, Failure> {
    match &cli.command {
        Command::Run(args) => run::run(cli, args),
        Command::Dev(args) => dev::run(cli, args),
        Command::Config => config::run(cli),
        Command::Openapi => {
            let document = crate::api::openapi::document().map_err(anyhow::Error::from)?;
            output::Printer::raw(&format!("{document}\n")).map_err(anyhow::Error::from)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Topics(command) => finish(topics::run(cli, command)),
        Command::Schemas(command) => finish(schemas::run(cli, command)),
        Command::Store(command) => finish(store::run(cli, command)),
        Command::Session(command) => finish(directory::session(cli, command)),
        Command::Account(command) => finish(directory::account(cli, command)),
        Command::Send(args) => finish(messages::send(cli, args)),
        Command::Message(command) => finish(messages::message(cli, command)),
        Command::InDoubt(command) => finish(in_doubt::run(cli, command)),
        Command::DeadLetters(command) => finish(dead_letters::run(cli, command)),
        Command::Doctor => finish(doctor::run(cli)),
        Command::Simulate(args) => finish(simulate::run(args)),
    }
}

/// Runs a command to its end on a runtime of its own.
fn finish(command: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode, Failure> {
    runtime()?.block_on(command)?;
    Ok(ExitCode::SUCCESS)
}

impl Cli {
    /// Loads and checks the settings.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(settings::load(self.config.as_deref(), std::env::vars())?)
    }
}

impl From<settings::Error> for Failure {
    fn from(error: settings::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// A runtime for a command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("sluice").build();
    Ok(runtime.map_err(anyhow::Error::from)?)
}
