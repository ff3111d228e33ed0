//! `sluice topics`.

use sluice_kafka::topics::{Format as Printed, Report, Topics, print};

use super::args::{Cli, TopicForm, Topics as Command};
use super::failure::Failure;
use super::output::{Format, Printer, table};

/// Name of the Strimzi `Kafka` resource that the printed topics belong to.
const STRIMZI_CLUSTER: &str = "kafka";

pub(super) async fn run(cli: &Cli, command: &Command) -> Result<(), Failure> {
    let settings = cli.settings()?;
    let reports = match command {
        Command::Print { format } => {
            let form = match (format, cli.output) {
                (TopicForm::Strimzi, _) => Printed::Strimzi { cluster: STRIMZI_CLUSTER.to_owned() },
                (TopicForm::Json, _) | (TopicForm::Table, Format::Json) => Printed::Json,
                (TopicForm::Table, Format::Text) => Printed::Table,
            };
            let text = print(&settings.kafka, &form).map_err(anyhow::Error::from)?;
            return Ok(Printer::raw(&text).map_err(anyhow::Error::from)?);
        }
        Command::Apply => open(&settings)?.apply().await,
        Command::Check => open(&settings)?.check().await,
    };
    let reports = reports.map_err(anyhow::Error::from)?;
    Printer::new(cli.output).print(&reports, |reports| text(reports)).map_err(anyhow::Error::from)?;
    let wrong = reports.iter().filter(|report| !report.is_right()).count();
    if wrong == 0 {
        return Ok(());
    }
    let remedy = match command {
        Command::Apply => "what is left needs an operator: a partition count is never changed",
        _ => "run `sluice topics apply`",
    };
    Err(Failure::Refused(format!("{wrong} topics are not as they must be; {remedy}")))
}

fn open(settings: &crate::settings::Settings) -> anyhow::Result<Topics> {
    Ok(Topics::open(&settings.kafka)?)
}

fn text(reports: &[Report]) -> String {
    let mut rows = Vec::new();
    for report in reports {
        let state = format!("{:?}", report.state).to_lowercase();
        rows.push(vec![report.topic.clone(), state, String::new()]);
        for difference in &report.differences {
            let what = format!("{}: {} → {}", difference.what, difference.found, difference.wanted);
            rows.push(vec![String::new(), String::new(), what]);
        }
    }
    table(&["TOPIC", "STATE", "DIFFERS (FOUND → WANTED)"], &rows)
}
