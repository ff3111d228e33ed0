//! `sluice config`.

use std::process::ExitCode;

use super::args::Cli;
use super::failure::Failure;
use super::output::Printer;
use crate::settings;

pub(super) fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let text = settings::masked_toml(&cli.settings()?).map_err(anyhow::Error::from)?;
    let tree: toml::Table = text.parse().map_err(anyhow::Error::from)?;
    Printer::new(cli.output).print(&tree, |_| text.clone()).map_err(anyhow::Error::from)?;
    Ok(ExitCode::SUCCESS)
}
