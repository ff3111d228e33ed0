//! `sluice schemas`.

use sluice_kafka::registry::{Registry, subjects};
use sluice_schemas::topics::TABLE;

use super::args::{Cli, Schemas as Command};
use super::failure::Failure;
use super::output::{Format, Printer, table};
use crate::settings::Settings;

pub(super) async fn run(cli: &Cli, command: &Command) -> Result<(), Failure> {
    let settings = cli.settings()?;
    let names = settings.kafka.names();
    let report = match command {
        Command::Print { topic } => return print(&settings, topic.as_deref()),
        Command::Register => subjects::register(&open(&settings)?, &names).await,
        Command::Check => subjects::check(&open(&settings)?, &names).await,
    };
    let report = report.map_err(anyhow::Error::from)?;
    let text = |report: &Vec<subjects::Subject>| {
        let rows: Vec<Vec<String>> = report
            .iter()
            .map(|subject| {
                vec![
                    subject.subject.clone(),
                    format!("{:?}", subject.state).to_lowercase(),
                    subject.id.map_or_else(String::new, |id| id.to_string()),
                    subject.detail.clone().unwrap_or_default(),
                ]
            })
            .collect();
        table(&["SUBJECT", "STATE", "ID", "DETAIL"], &rows)
    };
    Printer::new(cli.output).print(&report, text).map_err(anyhow::Error::from)?;
    let wrong = report.iter().filter(|subject| !subject.is_right()).count();
    if wrong == 0 {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{wrong} subjects are not as they must be; `sluice schemas register` registers what is missing, and what is \
         incompatible was written by something else"
    )))
}

fn open(settings: &Settings) -> Result<Registry, Failure> {
    if settings.registry.url.is_none() {
        return Err(Failure::Usage(
            "registry.url is not set: schemas have fixed ids, and there is nothing to register".to_owned(),
        ));
    }
    Ok(Registry::open(&settings.registry).map_err(anyhow::Error::from)?)
}

fn print(settings: &Settings, topic: Option<&str>) -> Result<(), Failure> {
    let names = settings.kafka.names();
    let mut all = serde_json::Map::new();
    for spec in TABLE {
        let name = names.get(spec.topic);
        if topic.is_none_or(|wanted| wanted == spec.suffix || wanted == name) {
            let schema: serde_json::Value = serde_json::from_str(spec.schema).map_err(anyhow::Error::from)?;
            all.insert(names.subject(spec.topic), schema);
        }
    }
    if all.is_empty() {
        let topic = topic.unwrap_or_default();
        return Err(Failure::NotFound(format!(
            "there is no topic {topic}; `sluice topics print` lists them"
        )));
    }
    // One schema alone is what a generator wants as its input.
    let value = match all.values().next() {
        Some(only) if all.len() == 1 => only.clone(),
        _ => serde_json::Value::Object(all),
    };
    Ok(Printer::new(Format::Json).print(&value, |_| String::new()).map_err(anyhow::Error::from)?)
}
