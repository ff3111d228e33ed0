//! `sluice run`.

use std::process::ExitCode;
use std::time::Duration;

use super::INTERRUPTED;
use super::args::{Cli, RunArgs};
use super::failure::Failure;
use crate::deps::Deps;
use crate::lifecycle::{self, Lifecycle};
use crate::roles;
use crate::settings::{self, Role, Settings};
use crate::telemetry::logs;

pub(super) fn run(cli: &Cli, args: &RunArgs) -> Result<ExitCode, Failure> {
    let mut settings = cli.settings()?;
    settings.roles = roles_of(&args.roles)?;
    // Other roles may mean other listeners in use.
    settings::check(&settings).map_err(settings::Error::Check)?;
    logs::init(&settings.log).map_err(|error| Failure::Usage(error.to_string()))?;
    super::runtime()?.block_on(live(settings))
}

fn roles_of(names: &[String]) -> Result<Vec<Role>, Failure> {
    let parsed: Result<Vec<Role>, _> = names.iter().map(|name| name.trim().parse()).collect();
    let mut roles = parsed.map_err(|error| Failure::Usage(error.to_string()))?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

async fn live(settings: Settings) -> Result<ExitCode, Failure> {
    let mut life = Lifecycle::new(Duration::from_millis(settings.deployment.stop_timeout_ms));
    let second_signal = tokio::spawn(lifecycle::signals(life.shutdown()));
    let running = async {
        let deps = Deps::open(settings, &mut life).await?;
        roles::start(&deps, &mut life).await?;
        tracing::info!(roles = ?deps.settings.roles, "running");
        life.run().await?;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = running => {
            ended?;
            Ok(ExitCode::SUCCESS)
        }
        signalled = second_signal => {
            signalled.map_err(anyhow::Error::from)?.map_err(anyhow::Error::from)?;
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}
