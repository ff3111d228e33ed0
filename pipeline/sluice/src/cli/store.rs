//! `sluice store`.

use serde_json::json;

use super::args::{Cli, Store as Command};
use super::failure::Failure;
use super::output::{Printer, table};

pub(super) async fn run(cli: &Cli, command: &Command) -> Result<(), Failure> {
    let settings = cli.settings()?.store;
    let printer = Printer::new(cli.output);
    match command {
        Command::Migrate => {
            let migrated = sluice_scylla::migrate(&settings).await.map_err(anyhow::Error::from)?;
            let rows: Vec<Vec<String>> = migrated
                .iter()
                .map(|one| {
                    let state = if one.applied_now { "applied" } else { "was there" };
                    vec![one.name.to_owned(), state.to_owned()]
                })
                .collect();
            let value: Vec<_> = migrated
                .iter()
                .map(|one| json!({"name": one.name, "applied_now": one.applied_now}))
                .collect();
            printer.print(&value, |_| table(&["MIGRATION", "STATE"], &rows))
        }
        Command::Check => {
            match sluice_scylla::check(&settings).await {
                Ok(()) => {}
                Err(
                    error @ (sluice_scylla::Error::NotMigrated { .. }
                    | sluice_scylla::Error::MigrationChanged { .. }),
                ) => {
                    return Err(Failure::Refused(error.to_string()));
                }
                Err(error) => return Err(Failure::Failed(error.into())),
            }
            let value = json!({"keyspace": settings.keyspace, "state": "right"});
            printer.print(&value, |_| format!("keyspace {} has every migration", settings.keyspace))
        }
    }
    .map_err(|error| Failure::Failed(error.into()))
}
